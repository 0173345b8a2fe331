//! Containers without a container daemon: sandboxed child processes.
//!
//! `ffs-runtime sandbox` becomes the container; this is the side that starts it, limits it, listens
//! to what it writes and sees to its end. What is not permitted here (namespaces, control groups,
//! other users) is left out and said once; [`Isolation`] knows.
//!
//! ```text
//!  <directory>/c/<container>/s/http     where its proxy listens
//!              shm/<instance>           an instance's tmpfs
//!              root                     where containers put their view of the files together
//!  <scratch>/<container>                its /tmp
//! ```

mod cgroups;
mod describe;
mod isolation;
mod output;
mod prepare;
mod python;
mod running;
mod shared_memory;
mod sweep;

pub use isolation::Isolation;

use super::{
    Address, Cause, Container, ContainerEngine, ContainerId, ContainerSpec, Error, Exit, Image, LogRequest,
    Logs, SharedMemory, SliceLimits,
};
use async_trait::async_trait;
use cgroups::Cgroups;
use prepare::Prepared;
use proto::id::InstanceId;
use proto::unit::Bytes;
use rand::RngExt;
use running::Running;
use sha2::{Digest, Sha256};
use shared_memory::Instances;
use std::collections::BTreeMap;
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::OnceCell;

/// Longest path of a Unix socket, without the final zero.
const LONGEST_SOCKET_PATH: usize = 107;
/// Containers pass through to what is theirs, and list nothing.
const PASSAGE: u32 = 0o711;

/// What the engine works with.
#[derive(Clone, Debug)]
pub struct ProcessConfig {
    /// The `ffs-runtime` program.
    pub runtime: PathBuf,
    /// The interpreter of actions: a path, or a name to be found in `PATH`.
    pub python: PathBuf,
    /// The engine's alone, in memory, and short: sockets lie in it.
    pub directory: PathBuf,
    /// The containers' `/tmp`; on a disk.
    pub scratch: PathBuf,
    /// Files and directories that actions may read besides the system and the interpreter.
    pub readable: Vec<PathBuf>,
    /// How long a container may take until it listens.
    pub start_limit: Duration,
    /// Most output of one stream that is kept until it is asked for.
    pub log_capacity: Bytes,
}

impl ProcessConfig {
    /// With `ffs-runtime` beside the running program and the `python3` of `PATH`.
    pub fn new(directory: PathBuf, scratch: PathBuf) -> Self {
        let beside = std::env::current_exe()
            .ok()
            .and_then(|own| Some(own.parent()?.join("ffs-runtime")));
        Self {
            runtime: beside.unwrap_or_else(|| "ffs-runtime".into()),
            python: "python3".into(),
            directory,
            scratch,
            readable: Vec::new(),
            start_limit: Duration::from_secs(60),
            // The largest log limit, and some more, so that going beyond it is seen.
            log_capacity: Bytes::mib(11),
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("the process engine's directory {} cannot be made", path.display())]
    Directory {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error(
        "the process engine's directory {} is too long: sockets in it would have paths of {length} bytes, and \
         {LONGEST_SOCKET_PATH} are possible", path.display()
    )]
    PathTooLong { path: PathBuf, length: usize },
}

/// Runs containers as sandboxed processes.
#[derive(Debug)]
pub struct ProcessEngine {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    config: ProcessConfig,
    /// Of the engine's control groups.
    name: String,
    cgroups: Cgroups,
    instances: Instances,
    prepared: OnceCell<Prepared>,
    containers: Mutex<BTreeMap<ContainerId, Arc<Running>>>,
}

impl ProcessEngine {
    /// Finds out what is permitted on this machine. That there is no interpreter is said, and said
    /// again by each start; it may be installed meanwhile.
    ///
    /// # Errors
    /// If the engine's directories cannot be used.
    pub async fn open(mut config: ProcessConfig) -> Result<Self, OpenError> {
        for (path, mode) in [
            (config.directory.clone(), PASSAGE),
            (config.directory.join("c"), PASSAGE),
            (config.directory.join("shm"), PASSAGE),
            (config.directory.join("root"), 0o700),
            (config.scratch.clone(), PASSAGE),
        ] {
            let made = DirBuilder::new().recursive(true).mode(mode).create(&path);
            made.map_err(|source| OpenError::Directory { path, source })?;
        }
        for path in [&mut config.directory, &mut config.scratch] {
            *path = path.canonicalize().map_err(|source| OpenError::Directory {
                path: path.clone(),
                source,
            })?;
        }
        let length = socket(&config.directory.join("c").join(new_id().0))
            .as_os_str()
            .len();
        if length > LONGEST_SOCKET_PATH {
            let path = config.directory;
            return Err(OpenError::PathTooLong { path, length });
        }
        let name = group_name(&config.directory);
        let cgroups = Cgroups::open(&name);
        let noted = sweep::note_groups(&config.directory, &cgroups.directories());
        noted.map_err(|source| OpenError::Directory {
            path: config.directory.clone(),
            source,
        })?;
        let inner = Inner {
            name,
            cgroups,
            instances: Instances::new(config.directory.join("shm")),
            prepared: OnceCell::new(),
            containers: Mutex::default(),
            config,
        };
        match inner.prepared().await {
            Ok(prepared) => {
                tracing::info!(isolation = %prepared.isolation, "process engine");
                for shortcoming in prepared.isolation.shortcomings() {
                    tracing::warn!(shortcoming, "process engine");
                }
            }
            Err(reason) => tracing::warn!(reason, "process engine"),
        }
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// What is in force here.
    ///
    /// # Errors
    /// A sentence, if nothing can run at all, for want of an interpreter as a rule.
    pub async fn isolation(&self) -> Result<&Isolation, String> {
        Ok(&self.inner.prepared().await?.isolation)
    }
}

impl Inner {
    async fn prepared(&self) -> Result<&Prepared, String> {
        self.prepared
            .get_or_try_init(|| Prepared::find(&self.config, &self.cgroups))
            .await
    }

    fn with_containers<T>(&self, use_them: impl FnOnce(&mut BTreeMap<ContainerId, Arc<Running>>) -> T) -> T {
        use_them(&mut self.containers.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn find(&self, id: &ContainerId) -> Option<Arc<Running>> {
        self.with_containers(|containers| containers.get(id).cloned())
    }

    async fn start(self: &Arc<Self>, spec: &ContainerSpec) -> Result<Container, Error> {
        check_image(&spec.image)?;
        let prepared = self
            .prepared()
            .await
            .map_err(|reason| cannot_run(&spec.image, reason))?;
        let id = new_id();
        let running = Running::spawn(self, prepared, &id, spec)
            .await
            .map_err(|source| Error::Failed {
                operation: "started",
                name: spec.name.clone(),
                source: source.into(),
            })?;
        let running = Arc::new(running);
        self.with_containers(|containers| containers.insert(id.clone(), Arc::clone(&running)));
        // Whoever gives up waiting gives up the container.
        let unfinished = Unfinished {
            inner: Arc::clone(self),
            id: Some(id.clone()),
        };
        match running.listens(self.config.start_limit).await {
            Ok(()) => {
                unfinished.finish();
                Ok(Container {
                    id,
                    name: spec.name.clone(),
                    address: Address::Unix(running.socket()),
                })
            }
            Err(error) => {
                self.remove(&id).await?;
                Err(error)
            }
        }
    }

    /// Goes on to its end even if the caller gives up waiting.
    async fn remove(self: &Arc<Self>, id: &ContainerId) -> Result<(), Error> {
        let Some(running) = self.with_containers(|containers| containers.remove(id)) else {
            return Ok(());
        };
        let name = running.name().to_owned();
        let removal = tokio::spawn(async move { running.remove().await }).await;
        removal
            .map_err(Cause::from)
            .and_then(|outcome| outcome.map_err(Cause::from))
            .map_err(|source| Error::Failed {
                operation: "removed",
                name,
                source,
            })
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.cgroups.close();
    }
}

/// A container whose start is being waited for.
struct Unfinished {
    inner: Arc<Inner>,
    id: Option<ContainerId>,
}

impl Unfinished {
    fn finish(mut self) {
        self.id = None;
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if let Some(id) = self.id.take() {
            let inner = Arc::clone(&self.inner);
            tokio::spawn(async move { inner.remove(&id).await });
        }
    }
}

#[async_trait]
impl ContainerEngine for ProcessEngine {
    fn name(&self) -> &'static str {
        "process"
    }

    async fn sweep(&self) -> Result<(), Error> {
        let own: Vec<_> = self
            .inner
            .with_containers(|containers| containers.keys().cloned().collect());
        for id in own {
            self.inner.remove(&id).await?;
        }
        let inner = Arc::clone(&self.inner);
        let swept =
            tokio::task::spawn_blocking(move || sweep::sweep(&inner.config, &inner.name, &inner.instances))
                .await;
        swept
            .map_err(Cause::from)
            .and_then(|outcome| outcome.map_err(Cause::from))
            .map_err(|source| Error::Failed {
                operation: "swept away",
                name: self.inner.config.directory.display().to_string(),
                source,
            })
    }

    async fn start(&self, spec: &ContainerSpec) -> Result<Container, Error> {
        self.inner.start(spec).await
    }

    async fn limit(&self, id: &ContainerId, limits: SliceLimits) -> Result<(), Error> {
        self.on(id, "limited", |running| running.limit(limits))
    }

    async fn remove(&self, id: &ContainerId) -> Result<(), Error> {
        self.inner.remove(id).await
    }

    async fn pause(&self, id: &ContainerId) -> Result<(), Error> {
        self.on(id, "paused", Running::pause)
    }

    async fn resume(&self, id: &ContainerId) -> Result<(), Error> {
        self.on(id, "resumed", Running::resume)
    }

    async fn ended(&self, id: &ContainerId) -> Exit {
        match self.inner.find(id) {
            Some(running) => running.ended().await,
            None => Exit::default(),
        }
    }

    async fn logs(&self, id: &ContainerId, request: LogRequest) -> Logs {
        match self.inner.find(id) {
            Some(running) => running.logs(request).await,
            None => Logs::unreadable(),
        }
    }

    fn lane_owner(&self, uid: u32) -> Option<u32> {
        let prepared = self.inner.prepared.get()?;
        prepared.isolation.user.is_ok().then_some(uid)
    }

    fn limits_slices(&self) -> bool {
        self.inner
            .prepared
            .get()
            .is_some_and(|prepared| prepared.isolation.limits_slices())
    }

    async fn create_shared_memory(
        &self,
        instance: &InstanceId,
        size: Bytes,
        uid: u32,
    ) -> Result<SharedMemory, Error> {
        let failed = |source: Cause| Error::Failed {
            operation: "given shared memory",
            name: instance.to_string(),
            source,
        };
        let prepared = self
            .inner
            .prepared()
            .await
            .map_err(|reason| failed(reason.into()))?;
        let owner = prepared.isolation.namespaces.is_ok().then_some(uid);
        let place = self
            .inner
            .instances
            .create(instance, size, owner)
            .map_err(|error| failed(error.into()))?;
        Ok(SharedMemory {
            instance: instance.clone(),
            handle: place.to_string_lossy().into_owned(),
        })
    }

    async fn remove_shared_memory(&self, memory: &SharedMemory) -> Result<(), Error> {
        let removed = self.inner.instances.remove(Path::new(&memory.handle));
        removed.map_err(|error| Error::Failed {
            operation: "relieved of its shared memory",
            name: memory.instance.to_string(),
            source: error.into(),
        })
    }
}

impl ProcessEngine {
    fn on(
        &self,
        id: &ContainerId,
        operation: &'static str,
        act: impl FnOnce(&Running) -> std::io::Result<()>,
    ) -> Result<(), Error> {
        let failed = |name: String, source: Cause| Error::Failed {
            operation,
            name,
            source,
        };
        let running = self
            .inner
            .find(id)
            .ok_or_else(|| failed(id.to_string(), "it is gone".into()))?;
        act(&running).map_err(|error| failed(running.name().to_owned(), error.into()))
    }
}

/// Only what our own Python runtime can be runs here (there are no images).
fn check_image(image: &Image) -> Result<(), Error> {
    // `registry.example:5000/ffs/python-torch:1.0` is `ffs/python-torch`.
    let is_ours = image.name.rsplit_once("ffs/").is_some_and(|(registry, rest)| {
        (registry.is_empty() || registry.ends_with('/')) && rest.starts_with("python")
    });
    if image.kind.starts_with("python:") || is_ours {
        return Ok(());
    }
    let reason = "without Docker only the kinds python:… and the images ffs/python… run; others need the Docker engine";
    Err(cannot_run(image, reason))
}

fn cannot_run(image: &Image, reason: impl Into<String>) -> Error {
    Error::Image {
        kind: image.kind.clone(),
        image: image.name.clone(),
        reason: reason.into(),
    }
}

fn new_id() -> ContainerId {
    let number = rand::rng().random::<u64>() >> 16;
    ContainerId(format!("{number:012x}"))
}

/// Where the proxy of the container with this directory listens.
fn socket(directory: &Path) -> PathBuf {
    directory.join("s").join("http")
}

/// The same at each start with the same directory, and no other engine's.
fn group_name(directory: &Path) -> String {
    let hash = Sha256::digest(directory.as_os_str().as_encoded_bytes());
    let digits: String = hash.iter().take(6).map(|byte| format!("{byte:02x}")).collect();
    format!("ffs-{digits}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_python_runs_without_docker() {
        let check = |kind: &str, name: &str| {
            check_image(&Image {
                kind: kind.to_owned(),
                name: name.to_owned(),
                pull: false,
            })
        };
        for (kind, name) in [
            ("python:3.11", "openwhisk/action-python-v3.11:latest"),
            ("python:default", ""),
            ("blackbox", "ffs/python"),
            ("blackbox", "ffs/python-torch:1.0"),
            ("blackbox", "registry.example:5000/ffs/python:latest"),
        ] {
            assert!(check(kind, name).is_ok(), "{kind} {name}");
        }
        for (kind, name) in [
            ("nodejs:20", "openwhisk/action-nodejs-v20"),
            ("blackbox", "jane/python"),
            ("blackbox", "jane/jffs/python"),
            ("blackbox", "ffs/java"),
        ] {
            let error = check(kind, name).expect_err(name);
            assert!(error.to_string().contains("need the Docker engine"), "{error}");
        }
    }

    #[tokio::test]
    async fn a_directory_too_long_for_sockets_is_refused_with_the_reason() {
        let parent = tempfile::tempdir().expect("a directory");
        let directory = parent.path().join("x".repeat(100));
        let config = ProcessConfig::new(directory, parent.path().join("scratch"));
        let error = ProcessEngine::open(config).await.expect_err("too long");
        assert!(error.to_string().contains("107 are possible"), "{error}");
    }

    #[test]
    fn engines_with_different_directories_have_different_groups() {
        let names = ["/run/a", "/run/b"].map(|path| group_name(Path::new(path)));
        assert_ne!(names[0], names[1]);
        assert_eq!(names[0], group_name(Path::new("/run/a")));
    }
}
