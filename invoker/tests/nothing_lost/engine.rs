//! Containers that are cheap and do as the arguments say: a server inside the daemon's process, so that they
//! die with it, as real ones do.
//!
//! | argument | what `/run` does |
//! | --- | --- |
//! | `sleep_ms` | answers after so long |
//! | `gate` | answers once there is a file of this name |
//! | `answer` | answers this JSON instead of the arguments |
//! | `bytes` | answers with a text of that length |
//! | `numbers` | answers with that many numbers of the form 1e9 |
//! | `status` | answers with that HTTP status |
//!
//! Each `/run` appends the activation's id to a file before anything else: that is the user's code.

use crate::stand_in_engine::Containers;
use async_trait::async_trait;
use axum::Router;
use axum::body::Bytes as Body;
use axum::http::StatusCode;
use axum::routing::post;
use ffs_invoker::container::{LogRequest, Logs};
use futures::future::BoxFuture;
use serde_json::{Value, json};
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;

pub(crate) type StandInEngine = crate::stand_in_engine::StandInEngine<Cheap>;

#[derive(Debug)]
pub(crate) struct Cheap {
    runs: Arc<File>,
}

/// Runs are noted in the file `runs`.
pub(crate) fn engine(runs: &Path) -> StandInEngine {
    let runs = File::options().create(true).append(true).open(runs).unwrap();
    StandInEngine::new(Cheap { runs: Arc::new(runs) })
}

async fn run(runs: Arc<File>, body: Body) -> (StatusCode, String) {
    let body: Value = serde_json::from_slice(&body).unwrap();
    let id = body["activation_id"].as_str().unwrap();
    (&*runs).write_all(format!("{id}\n").as_bytes()).unwrap();
    let arguments = &body["value"];
    if let Some(sleep) = arguments["sleep_ms"].as_u64() {
        tokio::time::sleep(Duration::from_millis(sleep)).await;
    }
    if let Some(gate) = arguments["gate"].as_str() {
        while !Path::new(gate).exists() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    let status = arguments["status"].as_u64().unwrap_or(200);
    let status = StatusCode::from_u16(u16::try_from(status).unwrap()).unwrap();
    let answer = match (
        &arguments["answer"],
        arguments["bytes"].as_u64(),
        arguments["numbers"].as_u64(),
    ) {
        (_, Some(bytes), _) => json!({ "text": "x".repeat(usize::try_from(bytes).unwrap()) }).to_string(),
        (_, _, Some(numbers)) => {
            let numbers = vec!["1e9"; usize::try_from(numbers).unwrap()].join(",");
            format!("{{\"numbers\":[{numbers}]}}")
        }
        (Value::Null, None, None) => arguments.to_string(),
        (answer, None, None) => answer.to_string(),
    };
    (status, answer)
}

#[async_trait]
impl Containers for Cheap {
    fn serve(&self, _: usize, listener: TcpListener) -> BoxFuture<'static, ()> {
        let runs = Arc::clone(&self.runs);
        let router = Router::new()
            .route("/init", post(|| async { "{}" }))
            .route("/run", post(move |body| run(runs, body)))
            .layer(axum::extract::DefaultBodyLimit::disable());
        Box::pin(async move { axum::serve(listener, router).await.unwrap() })
    }

    async fn logs(&self, request: &LogRequest) -> Logs {
        tokio::time::sleep(Duration::from_millis(2)).await;
        let line = format!("2026-01-01T00:00:00.000000000Z stdout: {}", request.activation);
        Logs {
            lines: vec![line],
            failed: false,
        }
    }
}
