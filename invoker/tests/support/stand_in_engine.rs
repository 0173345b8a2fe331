//! Stands in for Docker where a test needs containers that start at once, do not start, or do not answer: each
//! is a server on a free port inside the test. What they do is the test's business.

use async_trait::async_trait;
use ffs_invoker::container::{
    Address, Container, ContainerEngine, ContainerId, ContainerSpec, Error, Exit, LogRequest, Logs,
    SharedMemory, SliceLimits,
};
use futures::future::BoxFuture;
use proto::id::InstanceId;
use proto::unit::Bytes;
use std::collections::HashMap;
use std::ops::Deref;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// What is done to a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Deed {
    Start,
    Pause,
    Resume,
    Remove,
    Logs,
}

/// What containers are like.
#[async_trait]
pub(crate) trait Containers: std::fmt::Debug + Send + Sync + 'static {
    /// Whether the engine answers.
    async fn ready(&self) -> Result<(), Error> {
        Ok(())
    }

    /// Before a container starts; an error keeps it from it.
    async fn asked(&self, _: &ContainerSpec) -> Result<(), Error> {
        Ok(())
    }

    /// Answers in container number `container`, until dropped.
    fn serve(&self, container: usize, listener: TcpListener) -> BoxFuture<'static, ()>;

    /// An error makes a pause fail, and nothing else.
    fn done(&self, _: Deed, _: &ContainerId) -> Result<(), Error> {
        Ok(())
    }

    async fn logs(&self, _: &LogRequest) -> Logs {
        Logs::default()
    }
}

#[derive(Debug)]
pub(crate) struct StandInEngine<C> {
    containers: C,
    /// Containers started so far. They are numbered from 1, and their numbers are their ids.
    pub(crate) started: AtomicUsize,
    running: Mutex<HashMap<ContainerId, CancellationToken>>,
}

impl<C> Deref for StandInEngine<C> {
    type Target = C;

    fn deref(&self) -> &C {
        &self.containers
    }
}

impl<C> StandInEngine<C> {
    pub(crate) fn new(containers: C) -> Self {
        Self {
            containers,
            started: AtomicUsize::new(0),
            running: Mutex::default(),
        }
    }

    /// Containers that run.
    pub(crate) fn count(&self) -> usize {
        self.running().len()
    }

    fn running(&self) -> MutexGuard<'_, HashMap<ContainerId, CancellationToken>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What Docker might say.
pub(crate) fn fails(operation: &'static str, name: &str) -> Error {
    Error::Failed {
        operation,
        name: name.to_owned(),
        source: "no such file or directory: docker.sock".into(),
    }
}

#[async_trait]
impl<C: Containers> ContainerEngine for StandInEngine<C> {
    fn name(&self) -> &'static str {
        "stand-in"
    }

    async fn sweep(&self) -> Result<(), Error> {
        self.running().drain().for_each(|(_, running)| running.cancel());
        Ok(())
    }

    async fn ready(&self) -> Result<(), Error> {
        self.containers.ready().await
    }

    async fn start(&self, spec: &ContainerSpec) -> Result<Container, Error> {
        self.containers.asked(spec).await?;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = Address::Tcp(listener.local_addr().unwrap());
        let number = self.started.fetch_add(1, Ordering::Relaxed) + 1;
        let (id, running) = (ContainerId(number.to_string()), CancellationToken::new());
        let server = self.containers.serve(number, listener);
        tokio::spawn(running.clone().run_until_cancelled_owned(server));
        self.running().insert(id.clone(), running);
        let _ = self.containers.done(Deed::Start, &id);
        Ok(Container {
            id,
            name: spec.name.clone(),
            address,
        })
    }

    async fn limit(&self, _: &ContainerId, _: SliceLimits) -> Result<(), Error> {
        Ok(())
    }

    async fn remove(&self, id: &ContainerId) -> Result<(), Error> {
        let _ = self.containers.done(Deed::Remove, id);
        if let Some(running) = self.running().remove(id) {
            running.cancel();
        }
        Ok(())
    }

    async fn pause(&self, id: &ContainerId) -> Result<(), Error> {
        self.containers.done(Deed::Pause, id)
    }

    async fn resume(&self, id: &ContainerId) -> Result<(), Error> {
        let _ = self.containers.done(Deed::Resume, id);
        Ok(())
    }

    async fn ended(&self, id: &ContainerId) -> Exit {
        let running = self.running().get(id).cloned();
        if let Some(running) = running {
            running.cancelled().await;
        }
        Exit::default()
    }

    async fn logs(&self, id: &ContainerId, request: LogRequest) -> Logs {
        let _ = self.containers.done(Deed::Logs, id);
        self.containers.logs(&request).await
    }

    fn lane_owner(&self, _: u32) -> Option<u32> {
        None
    }

    fn limits_slices(&self) -> bool {
        false
    }

    async fn create_shared_memory(&self, _: &InstanceId, _: Bytes, _: u32) -> Result<SharedMemory, Error> {
        unreachable!("there are no pipelines in these tests")
    }

    async fn remove_shared_memory(&self, _: &SharedMemory) -> Result<(), Error> {
        unreachable!("there are no pipelines in these tests")
    }
}
