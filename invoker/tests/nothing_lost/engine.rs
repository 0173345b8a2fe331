//! Containers that are cheap and do as the arguments say: a server inside the daemon's process, so that they
//! die with it, as real ones do.
//!
//! | argument | what `/run` does |
//! | --- | --- |
//! | `sleep_ms` | answers after so long |
//! | `answer` | answers this JSON instead of the arguments |
//! | `bytes` | answers with a text of that length |
//! | `numbers` | answers with that many numbers of the form 1e9 |
//! | `status` | answers with that HTTP status |
//!
//! Each `/run` appends the activation's id to a file before anything else: that is the user's code.

use async_trait::async_trait;
use axum::Router;
use axum::body::Bytes as Body;
use axum::http::StatusCode;
use axum::routing::post;
use ffs_invoker::container::{
    Address, Container, ContainerEngine, ContainerId, ContainerSpec, Error, Exit, LogRequest, Logs,
    SharedMemory, SliceLimits,
};
use proto::id::InstanceId;
use proto::unit::Bytes;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

#[derive(Debug)]
pub(crate) struct StandInEngine {
    runs: Arc<File>,
    containers: Mutex<HashMap<ContainerId, CancellationToken>>,
}

impl StandInEngine {
    /// Runs are noted in the file `runs`.
    pub(crate) fn new(runs: &Path) -> Self {
        let runs = File::options().create(true).append(true).open(runs).unwrap();
        Self {
            runs: Arc::new(runs),
            containers: Mutex::default(),
        }
    }

    pub(crate) fn count(&self) -> usize {
        self.containers.lock().unwrap().len()
    }

    fn end_of(&self, id: &ContainerId) -> Option<CancellationToken> {
        self.containers.lock().unwrap().get(id).cloned()
    }
}

async fn run(runs: Arc<File>, body: Body) -> (StatusCode, String) {
    let body: Value = serde_json::from_slice(&body).unwrap();
    let id = body["activation_id"].as_str().unwrap();
    (&*runs).write_all(format!("{id}\n").as_bytes()).unwrap();
    let arguments = &body["value"];
    if let Some(sleep) = arguments["sleep_ms"].as_u64() {
        tokio::time::sleep(Duration::from_millis(sleep)).await;
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
impl ContainerEngine for StandInEngine {
    fn name(&self) -> &'static str {
        "stand-in"
    }

    async fn sweep(&self) -> Result<(), Error> {
        let all = std::mem::take(&mut *self.containers.lock().unwrap());
        all.into_values().for_each(|end| end.cancel());
        Ok(())
    }

    async fn start(&self, spec: &ContainerSpec) -> Result<Container, Error> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let runs = Arc::clone(&self.runs);
        let router = Router::new()
            .route("/init", post(|| async { "{}" }))
            .route("/run", post(move |body| run(runs, body)))
            .layer(axum::extract::DefaultBodyLimit::disable());
        let end = CancellationToken::new();
        let (id, ended) = (ContainerId(spec.name.clone()), end.clone());
        tokio::spawn(async move {
            tokio::select! {
                served = async { axum::serve(listener, router).await } => served.unwrap(),
                () = ended.cancelled() => {}
            }
        });
        self.containers.lock().unwrap().insert(id.clone(), end);
        Ok(Container {
            id,
            name: spec.name.clone(),
            address: Address::Tcp(address),
        })
    }

    async fn limit(&self, _: &ContainerId, _: SliceLimits) -> Result<(), Error> {
        Ok(())
    }

    async fn remove(&self, id: &ContainerId) -> Result<(), Error> {
        if let Some(end) = self.containers.lock().unwrap().remove(id) {
            end.cancel();
        }
        Ok(())
    }

    async fn pause(&self, _: &ContainerId) -> Result<(), Error> {
        Ok(())
    }

    async fn resume(&self, _: &ContainerId) -> Result<(), Error> {
        Ok(())
    }

    async fn ended(&self, id: &ContainerId) -> Exit {
        if let Some(end) = self.end_of(id) {
            end.cancelled().await;
        }
        Exit::default()
    }

    async fn logs(&self, _: &ContainerId, request: LogRequest) -> Logs {
        tokio::time::sleep(Duration::from_millis(2)).await;
        let line = format!("2026-01-01T00:00:00.000000000Z stdout: {}", request.activation);
        Logs {
            lines: vec![line],
            failed: false,
        }
    }

    fn lane_owner(&self, _: u32) -> Option<u32> {
        None
    }

    fn limits_slices(&self) -> bool {
        false
    }

    async fn create_shared_memory(&self, _: &InstanceId, _: Bytes, _: u32) -> Result<SharedMemory, Error> {
        unreachable!("no pipelines here")
    }

    async fn remove_shared_memory(&self, _: &SharedMemory) -> Result<(), Error> {
        unreachable!("no pipelines here")
    }
}
