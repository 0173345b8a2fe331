//! Docker, by way of its socket.
//!
//! ```text
//!  create ── describe ── arguments     what `docker run` would say, as a document; its outcomes
//!            └─ devices              how a slice of a real GPU comes in
//!  pull                                images, each once
//!  watch ── known                      how containers end
//!  log_file ── segments                what activations wrote
//!  removal, shared_memory, sockets     what else is made, and that all of it goes
//!  call                                one request: time-out, log line, outages
//!  look                                what Docker says of itself
//! ```
//! The containers are the original's (contract chapter 6.1), whose command line it replaces. Pausing goes by the
//! API as well, whatever `use-runc` says: the original uses `runc` for speed only, which the API has (L-22).

mod arguments;
mod call;
mod create;
mod describe;
mod devices;
mod image;
mod known;
mod log_file;
mod look;
mod pull;
mod removal;
mod segments;
mod settings;
mod shared_memory;
mod sockets;
mod watch;

pub use self::arguments::ArgumentError;
pub use self::devices::DeviceAccess;
pub use self::look::{About, look};
pub use self::settings::{DockerSettings, Timeouts};

use self::arguments::ExtraArguments;
use self::call::{CallError, call, call_through_outages};
use self::known::{Containers, Known};
use super::{
    Container, ContainerEngine, ContainerId, ContainerSpec, Error, Exit, LogRequest, Logs, SharedMemory,
    SliceLimits,
};
use async_trait::async_trait;
use bollard::Docker;
use bollard::models::ContainerUpdateBody;
use proto::id::InstanceId;
use proto::unit::Bytes;
use std::collections::BTreeSet;
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

/// Short, so that a component of a few milliseconds is slowed down as a long one is.
const CPU_PERIOD_US: i64 = 20_000;
/// The kernel takes no less.
const LEAST_QUOTA_US: i64 = 1000;
/// Containers pass through to what is theirs, and list nothing.
const PASSAGE: u32 = 0o711;

#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("Docker's socket {} cannot be used: is Docker installed, does it run, and may this user open the socket?", path.display())]
    Socket {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("Docker at {} did not answer when it was asked for its version", path.display())]
    Version {
        path: PathBuf,
        #[source]
        source: super::Cause,
    },
    #[error(transparent)]
    Argument(#[from] ArgumentError),
    #[error("the directory {} for containers' sockets cannot be made", path.display())]
    Directory {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
}

/// Runs containers by Docker.
#[derive(Debug)]
pub struct DockerEngine {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    docker: Docker,
    settings: DockerSettings,
    extra: ExtraArguments,
    /// See `sockets.rs`.
    sockets: PathBuf,
    limits_slices: bool,
    devices: DeviceAccess,
    /// Of creations at once (L-02); none: no limit.
    runs: Option<Semaphore>,
    pulls: pull::Pulls,
    containers: Containers,
    /// Names of what is being started.
    starting: Mutex<BTreeSet<String>>,
    /// The same as tasks.
    starts: TaskTracker,
}

impl DockerEngine {
    /// Asks Docker for its version (L-01), and begins to listen for how containers end. `sockets` is a
    /// directory of this daemon's alone, at the same place on the host; it is made if need be.
    ///
    /// # Errors
    /// Docker cannot be reached, or the settings cannot be used.
    pub async fn open(settings: DockerSettings, sockets: PathBuf) -> Result<Self, OpenError> {
        let extra = ExtraArguments::parse(&settings.extra_args)?;
        let (docker, about) = look::connect(&settings).await?;
        let made = DirBuilder::new().recursive(true).mode(PASSAGE).create(&sockets);
        made.map_err(|source| OpenError::Directory {
            path: sockets.clone(),
            source,
        })?;
        let limits_slices = look::limits_slices(&about);
        let devices = settings.devices.with(&about);
        info!(
            version = about.server_version.as_deref().unwrap_or("unknown"),
            api = %docker.client_version(),
            limits_slices,
            ?devices,
            "Docker engine"
        );
        let inner = Arc::new(Inner {
            docker,
            extra,
            sockets,
            limits_slices,
            devices,
            runs: (settings.parallel_runs > 0).then(|| Semaphore::new(settings.parallel_runs)),
            pulls: pull::Pulls::default(),
            containers: Containers::default(),
            starting: Mutex::default(),
            starts: TaskTracker::new(),
            settings,
        });
        tokio::spawn(watch::watch(Arc::downgrade(&inner)));
        tokio::spawn(removal::reconcile(Arc::downgrade(&inner)));
        Ok(Self { inner })
    }

    /// Removes containers with our prefix that this engine does not know of; it is done now and then anyway
    /// (L-28).
    pub async fn remove_unknown(&self) {
        self.inner.remove_unknown().await;
    }
}

impl Inner {
    fn note_start(&self, name: &str) {
        self.starting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(name.to_owned());
    }

    fn is_starting(&self, name: &str) -> bool {
        self.starting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .contains(name)
    }

    fn known(&self, id: &ContainerId, operation: &'static str) -> Result<Arc<Known>, Error> {
        self.containers.find(id).ok_or_else(|| Error::Failed {
            operation,
            name: id.to_string(),
            source: "it is gone".into(),
        })
    }
}

fn failed(operation: &'static str, name: &str) -> impl FnOnce(CallError) -> Error {
    let name = name.to_owned();
    move |source| Error::Failed {
        operation,
        name,
        source: source.into(),
    }
}

#[async_trait]
impl ContainerEngine for DockerEngine {
    fn name(&self) -> &'static str {
        "docker"
    }

    async fn sweep(&self) -> Result<(), Error> {
        self.inner.sweep().await
    }

    async fn ready(&self) -> Result<(), Error> {
        // Asked every second: no line for each.
        let answer = self.inner.docker.ping().await;
        answer
            .map(|_| ())
            .map_err(|error| failed("started", "of any kind")(error.into()))
    }

    async fn start(&self, spec: &ContainerSpec) -> Result<Container, Error> {
        if spec.concurrency > 1 && spec.lane.is_none() && self.inner.settings.collects_logs {
            warn!(
                container = spec.name,
                concurrency = spec.concurrency,
                "logs of activations that run at the same time in one container can mix"
            );
        }
        self.inner.start(spec).await
    }

    async fn limit(&self, id: &ContainerId, limits: SliceLimits) -> Result<(), Error> {
        let known = self.inner.known(id, "limited")?;
        let body = ContainerUpdateBody {
            cpu_period: Some(CPU_PERIOD_US),
            cpu_quota: Some(((limits.cpus * CPU_PERIOD_US as f64).round() as i64).max(LEAST_QUOTA_US)),
            ..ContainerUpdateBody::default()
        };
        let limit = self.inner.settings.timeouts.inspect;
        let updated = call_through_outages("update", &known.name, limit, || {
            self.inner.docker.update_container(&id.0, body.clone())
        });
        updated.await.map(|_| ()).map_err(failed("limited", &known.name))
    }

    async fn remove(&self, id: &ContainerId) -> Result<(), Error> {
        self.inner.remove(id).await
    }

    async fn pause(&self, id: &ContainerId) -> Result<(), Error> {
        let known = self.inner.known(id, "paused")?;
        // Also if it fails: nobody knows how far it came.
        known.is_paused.store(true, Ordering::Relaxed);
        let request = self.inner.docker.pause_container(&id.0);
        let paused = call("pause", &known.name, self.inner.settings.timeouts.pause, request).await;
        paused.map_err(failed("paused", &known.name))
    }

    async fn resume(&self, id: &ContainerId) -> Result<(), Error> {
        let known = self.inner.known(id, "resumed")?;
        let request = self.inner.docker.unpause_container(&id.0);
        let resumed = call(
            "unpause",
            &known.name,
            self.inner.settings.timeouts.unpause,
            request,
        )
        .await;
        resumed.map_err(failed("resumed", &known.name))?;
        known.is_paused.store(false, Ordering::Relaxed);
        Ok(())
    }

    async fn ended(&self, id: &ContainerId) -> Exit {
        match self.inner.containers.find(id) {
            Some(known) => known.ended().await,
            None => Exit::default(),
        }
    }

    async fn logs(&self, id: &ContainerId, request: LogRequest) -> Logs {
        if !self.inner.settings.collects_logs {
            return Logs::default();
        }
        match self.inner.containers.find(id) {
            Some(known) => log_file::collect(&known.log, request).await,
            None => Logs::unreadable(),
        }
    }

    fn lane_owner(&self, uid: u32) -> Option<u32> {
        nix::unistd::geteuid().is_root().then_some(uid)
    }

    fn limits_slices(&self) -> bool {
        self.inner.limits_slices
    }

    async fn create_shared_memory(
        &self,
        instance: &InstanceId,
        size: Bytes,
        uid: u32,
    ) -> Result<SharedMemory, Error> {
        let Inner { docker, settings, .. } = &*self.inner;
        let owner = describe::owner(settings);
        let created = shared_memory::create(docker, &owner, instance, size, uid, &settings.timeouts).await;
        Ok(SharedMemory {
            instance: instance.clone(),
            handle: created.map_err(failed("given shared memory", instance.as_str()))?,
        })
    }

    async fn remove_shared_memory(&self, memory: &SharedMemory) -> Result<(), Error> {
        let Inner { docker, settings, .. } = &*self.inner;
        let removed = shared_memory::remove(docker, &memory.handle, &settings.timeouts).await;
        removed.map_err(failed("relieved of its shared memory", memory.instance.as_str()))
    }
}
