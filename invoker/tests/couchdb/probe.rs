//! Containers that tell what they were asked: the answer to `/run` is that request and the `/init` before.

use crate::stand_in_engine::Containers;
use async_trait::async_trait;
use axum::Json;
use axum::routing::post;
use ffs_invoker::container::{LogRequest, Logs};
use futures::future::BoxFuture;
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};
use tokio::net::TcpListener;

#[derive(Debug, Default)]
pub(crate) struct Probe {
    /// What every activation writes.
    pub(crate) lines: Mutex<Vec<String>>,
}

/// `/run` answers with its request and the `/init` before, or, told by the argument `answer`, with that.
fn proxy() -> axum::Router {
    let initialized: Arc<Mutex<Value>> = Arc::default();
    let kept = Arc::clone(&initialized);
    let init = move |Json(body): Json<Value>| async move {
        *kept.lock().unwrap() = body["value"].clone();
        Json(json!({"ok": true}))
    };
    let run = move |Json(body): Json<Value>| async move {
        let told = body["value"]["answer"].clone();
        let init = initialized.lock().unwrap().clone();
        Json(if told.is_null() {
            json!({"init": init, "run": body})
        } else {
            told
        })
    };
    axum::Router::new()
        .route("/init", post(init))
        .route("/run", post(run))
        .layer(axum::extract::DefaultBodyLimit::disable())
}

#[async_trait]
impl Containers for Probe {
    fn serve(&self, _: usize, listener: TcpListener) -> BoxFuture<'static, ()> {
        Box::pin(async move { axum::serve(listener, proxy()).await.unwrap() })
    }

    async fn logs(&self, _: &LogRequest) -> Logs {
        Logs {
            lines: self.lines.lock().unwrap().clone(),
            failed: false,
        }
    }
}
