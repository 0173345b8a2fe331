//! Containers that answer `/run` with its arguments, of an engine that is away, hangs or is full when it is told to be.

use crate::stand_in_engine::{Containers, Deed, fails};
use async_trait::async_trait;
use axum::Json;
use axum::extract::State;
use axum::routing::post;
use ffs_invoker::container::{ContainerId, ContainerSpec, Error};
use futures::future::BoxFuture;
use serde_json::{Value, json};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use tokio::net::TcpListener;
use tokio::sync::watch;

pub(crate) type StandInEngine = crate::stand_in_engine::StandInEngine<Echoes>;

#[derive(Debug)]
pub(crate) struct Echoes {
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
    /// False: `/run` waits.
    pub(crate) answers: watch::Sender<bool>,
}

pub(crate) fn engine() -> StandInEngine {
    StandInEngine::new(Echoes {
        away: AtomicBool::new(false),
        hangs: AtomicBool::new(false),
        full: AtomicBool::new(false),
        pauses: AtomicBool::new(true),
        starts: watch::Sender::new(true),
        asked: AtomicUsize::new(0),
        answers: watch::Sender::new(true),
    })
}

async fn run(State(mut answers): State<watch::Receiver<bool>>, Json(body): Json<Value>) -> Json<Value> {
    // The test may be over.
    let _ = answers.wait_for(|answers| *answers).await;
    Json(body["value"].clone())
}

#[async_trait]
impl Containers for Echoes {
    async fn ready(&self) -> Result<(), Error> {
        if self.hangs.load(Ordering::Relaxed) {
            std::future::pending().await
        }
        match self.away.load(Ordering::Relaxed) {
            true => Err(fails("asked for", "any")),
            false => Ok(()),
        }
    }

    async fn asked(&self, spec: &ContainerSpec) -> Result<(), Error> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        // The test may be over.
        let _ = self.starts.subscribe().wait_for(|starts| *starts).await;
        match self.away.load(Ordering::Relaxed) || self.full.load(Ordering::Relaxed) {
            true => Err(fails("started", &spec.name)),
            false => Ok(()),
        }
    }

    fn serve(&self, _: usize, listener: TcpListener) -> BoxFuture<'static, ()> {
        let proxy = axum::Router::new()
            .route("/init", post(|| async { Json(json!({ "ok": true })) }))
            .route("/run", post(run))
            .with_state(self.answers.subscribe());
        Box::pin(async move { axum::serve(listener, proxy).await.unwrap() })
    }

    fn done(&self, deed: Deed, id: &ContainerId) -> Result<(), Error> {
        match deed == Deed::Pause && !self.pauses.load(Ordering::Relaxed) {
            true => Err(fails("paused", &id.0)),
            false => Ok(()),
        }
    }
}
