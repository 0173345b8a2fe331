//! Containers that tell what they were asked: the answer to `/run` is that request and the `/init` before.

use async_trait::async_trait;
use axum::Json;
use axum::routing::post;
use ffs_invoker::container::{
    Address, Container, ContainerEngine, ContainerId, ContainerSpec, Error, Exit, LogRequest, Logs,
    SharedMemory, SliceLimits,
};
use proto::id::InstanceId;
use proto::unit::Bytes;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

#[derive(Debug, Default)]
pub(crate) struct Probe {
    /// Containers started so far.
    pub(crate) started: AtomicUsize,
    /// What every activation writes.
    pub(crate) lines: Mutex<Vec<String>>,
    containers: Mutex<BTreeMap<String, CancellationToken>>,
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
impl ContainerEngine for Probe {
    fn name(&self) -> &'static str {
        "probe"
    }

    async fn sweep(&self) -> Result<(), Error> {
        let all = std::mem::take(&mut *self.containers.lock().unwrap());
        all.values().for_each(CancellationToken::cancel);
        Ok(())
    }

    async fn start(&self, spec: &ContainerSpec) -> Result<Container, Error> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = Address::Tcp(listener.local_addr().unwrap());
        let gone = CancellationToken::new();
        let ended = gone.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = ended.cancelled() => {}
                _ = axum::serve(listener, proxy()) => {}
            }
        });
        self.started.fetch_add(1, Ordering::Relaxed);
        self.containers.lock().unwrap().insert(spec.name.clone(), gone);
        Ok(Container {
            id: ContainerId(spec.name.clone()),
            name: spec.name.clone(),
            address,
        })
    }

    async fn limit(&self, _: &ContainerId, _: SliceLimits) -> Result<(), Error> {
        Ok(())
    }

    async fn remove(&self, id: &ContainerId) -> Result<(), Error> {
        if let Some(gone) = self.containers.lock().unwrap().remove(&id.0) {
            gone.cancel();
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
        let gone = self.containers.lock().unwrap().get(&id.0).cloned();
        if let Some(gone) = gone {
            gone.cancelled().await;
        }
        Exit::default()
    }

    async fn logs(&self, _: &ContainerId, _: LogRequest) -> Logs {
        Logs {
            lines: self.lines.lock().unwrap().clone(),
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
