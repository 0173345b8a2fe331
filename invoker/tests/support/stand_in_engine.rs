//! Stands in for Docker where a test needs containers that start at once, do not start, or do not answer.
//! Each container is an action proxy on a free port: `/init` is answered well, `/run` with its arguments.

use async_trait::async_trait;
use axum::Json;
use axum::extract::State;
use axum::routing::post;
use ffs_invoker::container::{
    Address, Container, ContainerEngine, ContainerId, ContainerSpec, Error, Exit, LogRequest, Logs,
    SharedMemory, SliceLimits,
};
use proto::id::InstanceId;
use proto::unit::Bytes;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

#[derive(Debug)]
pub(crate) struct StandInEngine {
    /// Whether the daemon behind the engine answers at all.
    pub(crate) away: AtomicBool,
    /// Whether it takes questions and never answers.
    pub(crate) hangs: AtomicBool,
    /// Whether it answers, and starts nothing.
    pub(crate) full: AtomicBool,
    /// Whether containers can be paused.
    pub(crate) pauses: AtomicBool,
    /// False: starting waits.
    pub(crate) starts: watch::Sender<bool>,
    /// Containers asked for so far.
    pub(crate) asked: AtomicUsize,
    /// Containers started so far.
    pub(crate) started: AtomicUsize,
    /// False: `/run` waits.
    pub(crate) answers: watch::Sender<bool>,
    containers: Mutex<BTreeMap<String, CancellationToken>>,
}

impl Default for StandInEngine {
    fn default() -> Self {
        Self {
            away: AtomicBool::new(false),
            hangs: AtomicBool::new(false),
            full: AtomicBool::new(false),
            pauses: AtomicBool::new(true),
            starts: watch::Sender::new(true),
            asked: AtomicUsize::new(0),
            started: AtomicUsize::new(0),
            answers: watch::Sender::new(true),
            containers: Mutex::default(),
        }
    }
}

impl StandInEngine {
    fn ended(&self, id: &ContainerId) -> CancellationToken {
        let containers = self.containers.lock().unwrap();
        containers.get(&id.0).cloned().unwrap_or_else(|| {
            let ended = CancellationToken::new();
            ended.cancel();
            ended
        })
    }

    fn fails(&self, operation: &'static str, name: &str) -> Error {
        Error::Failed {
            operation,
            name: name.to_owned(),
            source: "no such file or directory: docker.sock".into(),
        }
    }
}

async fn run(State(mut answers): State<watch::Receiver<bool>>, Json(body): Json<Value>) -> Json<Value> {
    // The test may be over.
    let _ = answers.wait_for(|answers| *answers).await;
    Json(body["value"].clone())
}

#[async_trait]
impl ContainerEngine for StandInEngine {
    fn name(&self) -> &'static str {
        "stand-in"
    }

    async fn sweep(&self) -> Result<(), Error> {
        let all = std::mem::take(&mut *self.containers.lock().unwrap());
        all.values().for_each(CancellationToken::cancel);
        Ok(())
    }

    async fn ready(&self) -> Result<(), Error> {
        if self.hangs.load(Ordering::Relaxed) {
            std::future::pending().await
        }
        match self.away.load(Ordering::Relaxed) {
            true => Err(self.fails("asked for", "any")),
            false => Ok(()),
        }
    }

    async fn start(&self, spec: &ContainerSpec) -> Result<Container, Error> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        // The test may be over.
        let _ = self.starts.subscribe().wait_for(|starts| *starts).await;
        if self.away.load(Ordering::Relaxed) || self.full.load(Ordering::Relaxed) {
            return Err(self.fails("started", &spec.name));
        }
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = Address::Tcp(listener.local_addr().unwrap());
        let proxy = axum::Router::new()
            .route("/init", post(|| async { Json(json!({ "ok": true })) }))
            .route("/run", post(run))
            .with_state(self.answers.subscribe());
        let ended = CancellationToken::new();
        let gone = ended.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = gone.cancelled() => {}
                _ = axum::serve(listener, proxy) => {}
            }
        });
        self.started.fetch_add(1, Ordering::Relaxed);
        self.containers.lock().unwrap().insert(spec.name.clone(), ended);
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
        if let Some(ended) = self.containers.lock().unwrap().remove(&id.0) {
            ended.cancel();
        }
        Ok(())
    }

    async fn pause(&self, id: &ContainerId) -> Result<(), Error> {
        match self.pauses.load(Ordering::Relaxed) {
            true => Ok(()),
            false => Err(self.fails("paused", &id.0)),
        }
    }

    async fn resume(&self, _: &ContainerId) -> Result<(), Error> {
        Ok(())
    }

    async fn ended(&self, id: &ContainerId) -> Exit {
        StandInEngine::ended(self, id).cancelled().await;
        Exit::default()
    }

    async fn logs(&self, _: &ContainerId, _: LogRequest) -> Logs {
        Logs::default()
    }

    fn lane_owner(&self, _: u32) -> Option<u32> {
        None
    }

    fn limits_slices(&self) -> bool {
        false
    }

    async fn create_shared_memory(&self, _: &InstanceId, _: Bytes, _: u32) -> Result<SharedMemory, Error> {
        Err(self.fails("given", "shared memory"))
    }

    async fn remove_shared_memory(&self, _: &SharedMemory) -> Result<(), Error> {
        Ok(())
    }
}
