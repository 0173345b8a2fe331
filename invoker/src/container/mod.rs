//! The edge to containers: one trait, two engines.
//!
//! An engine starts what it is told to start and says how it ended. Which container runs what is
//! decided elsewhere.

pub mod docker;
pub mod process;
pub mod action_proxy;
pub mod logs;

pub use logs::log_line;

use async_trait::async_trait;
use proto::id::{ActivationId, InstanceId, SliceUuid};
use proto::unit::Bytes;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// A container to be started.
#[derive(Clone, Debug)]
pub struct ContainerSpec {
    /// `wsk<invoker>_<n>_<namespace>_<action>`; unique among the daemon's containers.
    pub name: String,
    pub labels: BTreeMap<String, String>,
    pub image: Image,
    /// Memory limit.
    pub memory: Bytes,
    /// Most `/run` at once.
    pub concurrency: u32,
    pub env: BTreeMap<String, String>,
    /// What sits on a slice: a lane of a pipeline, BUILDDAG or profiling.
    pub lane: Option<LaneSpec>,
}

/// What a container is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// Runtime kind, `python:3.11`, or `blackbox`.
    pub kind: String,
    /// Image name; for managed kinds the one of the runtimes manifest.
    pub name: String,
    /// Whether the image may have to be pulled first.
    pub pull: bool,
}

/// The part of a [`ContainerSpec`] that ordinary containers do not have.
#[derive(Clone, Debug)]
pub struct LaneSpec {
    /// Mounted read-only at `/ffs/config`; none for BUILDDAG and profiling.
    pub config_layer: Option<PathBuf>,
    /// Mounted at `/dev/shm`.
    pub shared_memory: Option<SharedMemory>,
    /// User and group that the lane runs as.
    pub uid: u32,
    /// Whether it may open connections; only the head does.
    pub network: bool,
    pub slice: Option<SliceAccess>,
}

/// The slice that a lane computes on.
#[derive(Clone, Debug)]
pub struct SliceAccess {
    pub uuid: SliceUuid,
    /// Limits that stand for the slice where it is simulated; none on a real GPU.
    pub simulated: Option<SliceLimits>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SliceLimits {
    pub cpus: f64,
    pub memory: Bytes,
}

/// The private tmpfs of one instance.
#[derive(Clone, Debug)]
pub struct SharedMemory {
    pub instance: InstanceId,
    /// What the engine calls it: a Docker volume's name, or a directory.
    pub handle: String,
}

/// A container that runs.
#[derive(Clone, Debug)]
pub struct Container {
    pub id: ContainerId,
    pub name: String,
    pub address: Address,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContainerId(pub String);

impl std::fmt::Display for ContainerId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where a container's action proxy listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

/// How a container ended; with neither code nor signal it was gone before anyone asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exit {
    pub code: Option<i32>,
    pub signal: Option<i32>,
    pub out_of_memory: bool,
}

impl std::fmt::Display for Exit {
    /// `the container ended with signal 9`: part of a sentence that users see.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.out_of_memory, self.signal, self.code) {
            (true, _, _) => f.write_str("the container was killed because it exceeded its memory"),
            (false, Some(signal), _) => write!(f, "the container ended with signal {signal}"),
            (false, None, Some(code)) => write!(f, "the container ended with code {code}"),
            (false, None, None) => f.write_str("the container ended"),
        }
    }
}

/// What one activation wrote.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Logs {
    /// In the shape of the activation record: `<time, 30 columns> stdout: text`.
    pub lines: Vec<String>,
    /// Whether lines were left out or could not be read: the container must not be used again.
    pub failed: bool,
}

/// Which logs to take.
#[derive(Clone, Copy, Debug)]
pub struct LogRequest {
    /// Whose: several may run in one container.
    pub activation: ActivationId,
    pub limit: Bytes,
    /// Wait for both sentinels; else take what is there.
    pub sentinels: bool,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("image {image} of kind {kind} cannot run here: {reason}")]
    Image {
        kind: String,
        image: String,
        reason: String,
    },
    /// A user's image that Docker could not get (E-13).
    #[error("Failed to pull container image '{image}'.")]
    NotPulled { image: String },
    /// There is nothing to execute in the image (E-14).
    #[error("executable file not found in image {image}")]
    NoExecutable { image: String },
    #[error("container {name} could not be {operation}")]
    Failed {
        operation: &'static str,
        name: String,
        #[source]
        source: Cause,
    },
    #[error("container {name} ended before it listened: {reason}")]
    EndedEarly { name: String, reason: String },
    #[error("container {name} did not listen within {limit:?}")]
    TimedOut { name: String, limit: Duration },
}

/// The operating system's or the client library's own error.
pub type Cause = Box<dyn std::error::Error + Send + Sync>;

/// Runs containers. Real: Docker. Without Docker: `process.rs`, a sandboxed child process.
#[async_trait]
pub trait ContainerEngine: Send + Sync + std::fmt::Debug {
    /// `docker` or `process`.
    fn name(&self) -> &'static str;

    /// Removes every container, tmpfs and volume that carries this daemon's label.
    async fn sweep(&self) -> Result<(), Error>;

    /// Whether containers could be started now, as far as it can be told without starting one.
    async fn ready(&self) -> Result<(), Error> {
        Ok(())
    }

    /// Returns once the container runs; one that does not is removed again. Whether its server listens already
    /// is up to the engine: `/init` is tried until it does (C-40).
    /// A simulated slice's memory limit is in force; its CPU quota is not yet.
    async fn start(&self, spec: &ContainerSpec) -> Result<Container, Error>;

    /// Puts a simulated slice's CPU quota in force: interpreter start and imports are over.
    async fn limit(&self, id: &ContainerId, limits: SliceLimits) -> Result<(), Error>;

    /// Kills and removes; removing what is already gone is success.
    async fn remove(&self, id: &ContainerId) -> Result<(), Error>;

    async fn pause(&self, id: &ContainerId) -> Result<(), Error>;
    async fn resume(&self, id: &ContainerId) -> Result<(), Error>;

    /// Waits until the container has ended by itself or was removed.
    async fn ended(&self, id: &ContainerId) -> Exit;

    /// What an activation wrote; each line is given out once.
    async fn logs(&self, id: &ContainerId, request: LogRequest) -> Logs;

    /// Who a lane runs as that is told to run as `uid`; none: the daemon's own user, for want of
    /// permission to change it. Files of the config layer belong to that user.
    fn lane_owner(&self, uid: u32) -> Option<u32>;

    /// Whether limits of simulated slices are enforced; if not, what is measured on them is marked.
    fn limits_slices(&self) -> bool;

    /// A tmpfs of its own for one instance, readable by `uid` alone.
    async fn create_shared_memory(
        &self,
        instance: &InstanceId,
        size: Bytes,
        uid: u32,
    ) -> Result<SharedMemory, Error>;
    async fn remove_shared_memory(&self, memory: &SharedMemory) -> Result<(), Error>;
}
