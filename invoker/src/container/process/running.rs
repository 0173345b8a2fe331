//! One container, from its launcher's start to its removal.

use super::cgroups::Group;
use super::output::Output;
use super::prepare::{PLAIN_USER, Prepared, launch};
use super::{Inner, socket, sweep};
use crate::container::logs::Stream;
use crate::container::{
    ContainerId, ContainerSpec, Error, Exit, LaneSpec, LogRequest, Logs, SliceAccess, SliceLimits,
};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use proto::ffs::sandbox::{Mount, Namespaces, Sandbox};
use proto::unit::Bytes;
use std::collections::BTreeMap;
use std::fs::DirBuilder;
use std::os::unix::fs::{DirBuilderExt, chown};
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::UnixStream;
use tokio::process::{Child, ChildStdin};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// As `docker run --pids-limit` (L-10).
const PROCESSES: u32 = 1024;
/// For the launcher to end everything once it is told to.
const END_LIMIT: Duration = Duration::from_secs(5);
/// For what a container wrote before it ended to arrive.
const LAST_WORDS_LIMIT: Duration = Duration::from_millis(500);
/// Between looks whether the container listens: at first, and when it takes long.
const LOOK: Duration = Duration::from_millis(1);
const LOOK_LATER: Duration = Duration::from_millis(20);

/// Names inside a view of its own.
const CONFIG: &str = "/ffs/config";
const RUN: &str = "/ffs/run";

#[derive(Debug)]
pub(super) struct Running {
    name: String,
    directory: PathBuf,
    scratch: PathBuf,
    group: Group,
    output: Arc<Output>,
    /// Both streams have ended.
    silent: CancellationToken,
    end: CancellationToken,
    exit: watch::Receiver<Option<Exit>>,
    /// Held open as long as the container is wanted; the kernel closes it when the daemon dies.
    _lifeline: ChildStdin,
}

impl Running {
    pub(super) async fn spawn(
        inner: &Inner,
        prepared: &Prepared,
        id: &ContainerId,
        spec: &ContainerSpec,
    ) -> std::io::Result<Self> {
        let directories = Directories::make(inner, prepared, id, spec)?;
        let group = inner.cgroups.create(&id.0, memory(spec), PROCESSES)?;
        let sandbox = sandbox(inner, prepared, spec, &directories, &group);
        let mut child = launch(&inner.config, &sandbox).await?;
        let missing = || std::io::Error::other("a pipe to the container is missing");
        let lifeline = child.stdin.take().ok_or_else(missing)?;
        let (stdout, stderr) = (
            child.stdout.take().ok_or_else(missing)?,
            child.stderr.take().ok_or_else(missing)?,
        );
        if let Some(pid) = child.id() {
            sweep::note_launcher(&directories.own, pid)?;
        }
        let output = Arc::new(Output::new(
            usize::try_from(inner.config.log_capacity.0).unwrap_or(usize::MAX),
        ));
        let silent = CancellationToken::new();
        let captured = (Arc::clone(&output), silent.clone());
        tokio::spawn(async move {
            let (output, silent) = captured;
            tokio::join!(
                output.capture(Stream::Stdout, stdout),
                output.capture(Stream::Stderr, stderr)
            );
            silent.cancel();
        });
        let end = CancellationToken::new();
        let (tell, exit) = watch::channel(None);
        tokio::spawn({
            let (end, memory) = (end.clone(), group.memory_watch());
            async move {
                let (code, signal) = attend(child, end).await;
                let out_of_memory = memory.was_exceeded();
                tell.send_replace(Some(Exit {
                    code,
                    signal,
                    out_of_memory,
                }));
            }
        });
        let (directory, scratch) = directories.keep();
        Ok(Self {
            name: spec.name.clone(),
            directory,
            scratch,
            group,
            output,
            silent,
            end,
            exit,
            _lifeline: lifeline,
        })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn socket(&self) -> PathBuf {
        socket(&self.directory)
    }

    /// Until the container's proxy can be connected to.
    pub(super) async fn listens(&self, limit: Duration) -> Result<(), Error> {
        let socket = self.socket();
        let connect = async {
            let mut look = LOOK;
            while UnixStream::connect(&socket).await.is_err() {
                tokio::time::sleep(look).await;
                look = (look + look / 16).min(LOOK_LATER);
            }
        };
        tokio::select! {
            biased;
            exit = self.ended() => {
                // Why it ended may still be in the pipe.
                let _ = tokio::time::timeout(LAST_WORDS_LIMIT, self.silent.cancelled()).await;
                let reason = self.output.last_words().unwrap_or_else(|| exit.to_string());
                Err(Error::EndedEarly { name: self.name.clone(), reason })
            }
            connected = tokio::time::timeout(limit, connect) => {
                connected.map_err(|_| Error::TimedOut { name: self.name.clone(), limit })
            }
        }
    }

    pub(super) async fn ended(&self) -> Exit {
        let mut exit = self.exit.clone();
        match exit.wait_for(Option::is_some).await {
            Ok(exit) => exit.clone().unwrap_or_default(),
            Err(_) => Exit::default(),
        }
    }

    pub(super) async fn logs(&self, request: LogRequest) -> Logs {
        self.output.collect(request).await
    }

    pub(super) fn limit(&self, limits: SliceLimits) -> std::io::Result<()> {
        self.group.set_cpus(limits.cpus)
    }

    /// Without a freezer the container goes on; it is idle anyway.
    pub(super) fn pause(&self) -> std::io::Result<()> {
        self.group
            .freezer()
            .map_or(Ok(()), |freezer| std::fs::write(&freezer.file, freezer.freeze))
    }

    pub(super) fn resume(&self) -> std::io::Result<()> {
        self.group
            .freezer()
            .map_or(Ok(()), |freezer| std::fs::write(&freezer.file, freezer.thaw))
    }

    /// Ends everything in it; afterwards nothing of it is left.
    pub(super) async fn remove(self: Arc<Self>) -> std::io::Result<()> {
        self.end.cancel();
        self.ended().await;
        let gone = tokio::task::spawn_blocking(move || {
            self.group.remove()?;
            for directory in [&self.directory, &self.scratch] {
                remove_directory(directory)?;
            }
            Ok(())
        });
        gone.await.map_err(std::io::Error::other)?
    }
}

/// Waits for the launcher, and ends it when that is asked for.
async fn attend(mut child: Child, end: CancellationToken) -> (Option<i32>, Option<i32>) {
    let status = tokio::select! {
        status = child.wait() => status,
        () = end.cancelled() => {
            if let Some(pid) = child.id() {
                // Not reaped yet, so the number is still its own.
                let _ = kill(Pid::from_raw(pid.cast_signed()), Signal::SIGTERM);
            }
            match tokio::time::timeout(END_LIMIT, child.wait()).await {
                Ok(status) => status,
                Err(_) => {
                    // What is inside is told of its parent's end, and dies too.
                    let _ = child.start_kill();
                    child.wait().await
                }
            }
        }
    };
    status.map_or((None, None), how)
}

/// The launcher ends as what was inside ended: with 128 and its number after a signal.
fn how(status: ExitStatus) -> (Option<i32>, Option<i32>) {
    use std::os::unix::process::ExitStatusExt;
    let signal = status.signal().or_else(|| {
        status
            .code()
            .map(|code| code - 128)
            .filter(|n| (1..=64).contains(n))
    });
    (status.code(), signal)
}

/// A container's directories on the host, until it is known that it starts.
struct Directories {
    own: PathBuf,
    scratch: PathBuf,
    is_kept: bool,
}

impl Directories {
    fn make(
        inner: &Inner,
        prepared: &Prepared,
        id: &ContainerId,
        spec: &ContainerSpec,
    ) -> std::io::Result<Self> {
        let made = Self {
            own: inner.config.directory.join("c").join(&id.0),
            scratch: inner.config.scratch.join(&id.0),
            is_kept: false,
        };
        let user = user(prepared, spec);
        DirBuilder::new().mode(super::PASSAGE).create(&made.own)?;
        for directory in [made.own.join("s"), made.scratch.clone()] {
            DirBuilder::new().mode(0o700).create(&directory)?;
            chown(&directory, user, user)?;
        }
        Ok(made)
    }

    fn keep(mut self) -> (PathBuf, PathBuf) {
        self.is_kept = true;
        (std::mem::take(&mut self.own), std::mem::take(&mut self.scratch))
    }
}

impl Drop for Directories {
    fn drop(&mut self) {
        if !self.is_kept {
            for directory in [&self.own, &self.scratch] {
                if let Err(error) = remove_directory(directory) {
                    tracing::warn!(%error, directory = %directory.display(), "directory left behind");
                }
            }
        }
    }
}

pub(super) fn remove_directory(directory: &Path) -> std::io::Result<()> {
    match std::fs::remove_dir_all(directory) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn user(prepared: &Prepared, spec: &ContainerSpec) -> Option<u32> {
    let wanted = spec.lane.as_ref().map_or(PLAIN_USER, |lane| lane.uid);
    prepared.isolation.user.is_ok().then_some(wanted)
}

fn slice(spec: &ContainerSpec) -> Option<&SliceAccess> {
    spec.lane.as_ref().and_then(|lane| lane.slice.as_ref())
}

/// The action's limit, or the slice's if that is less.
fn memory(spec: &ContainerSpec) -> Bytes {
    let slice = slice(spec)
        .and_then(|slice| slice.simulated)
        .map(|limits| limits.memory);
    slice.map_or(spec.memory, |slice| slice.min(spec.memory))
}

fn sandbox(
    inner: &Inner,
    prepared: &Prepared,
    spec: &ContainerSpec,
    directories: &Directories,
    group: &Group,
) -> Sandbox {
    let has_view = prepared.isolation.namespaces.is_ok();
    Sandbox {
        program: inner.config.runtime.clone(),
        arguments: Vec::new(),
        env: environment(prepared, spec, directories, has_view),
        cgroups: group.directories(),
        thaw: group
            .freezer()
            .map(|freezer| (freezer.file, freezer.thaw.to_owned())),
        user: user(prepared, spec),
        nice: nice(prepared, spec),
        namespaces: has_view.then(|| namespaces(inner, prepared, spec, directories)),
    }
}

fn namespaces(
    inner: &Inner,
    prepared: &Prepared,
    spec: &ContainerSpec,
    directories: &Directories,
) -> Namespaces {
    let mount = |from: &Path, to: &str, writable: bool| Mount {
        from: from.to_owned(),
        to: to.into(),
        writable,
    };
    let mut mounts = vec![
        mount(&directories.scratch, "/tmp", true),
        mount(&directories.own.join("s"), RUN, true),
    ];
    if let Some(LaneSpec {
        config_layer,
        shared_memory,
        ..
    }) = &spec.lane
    {
        mounts.extend(config_layer.as_ref().map(|layer| mount(layer, CONFIG, false)));
        mounts.extend(
            shared_memory
                .as_ref()
                .map(|memory| mount(Path::new(&memory.handle), "/dev/shm", true)),
        );
    }
    Namespaces {
        network: spec.lane.as_ref().is_none_or(|lane| lane.network),
        root: inner.config.directory.join("root"),
        readable: prepared.readable.clone(),
        devices: if slice(spec).is_some_and(|slice| slice.simulated.is_none()) {
            gpu_devices()
        } else {
            Vec::new()
        },
        mounts,
    }
}

/// Nodes of NVIDIA's driver; which slice they lead to, `CUDA_VISIBLE_DEVICES` says.
fn gpu_devices() -> Vec<PathBuf> {
    let nodes = |directory: &str| {
        let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).collect::<Vec<_>>()
    };
    let named = |path: &PathBuf| {
        path.file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with("nvidia"))
    };
    let mut found: Vec<_> = nodes("/dev")
        .into_iter()
        .filter(|path| named(path) && !path.is_dir())
        .collect();
    found.extend(nodes("/dev/nvidia-caps"));
    found
}

fn environment(
    prepared: &Prepared,
    spec: &ContainerSpec,
    directories: &Directories,
    has_view: bool,
) -> BTreeMap<String, String> {
    let text = |path: &Path| path.to_string_lossy().into_owned();
    let (run, temporary) = match has_view {
        true => (PathBuf::from(RUN), PathBuf::from("/tmp")),
        false => (directories.own.join("s"), directories.scratch.clone()),
    };
    let mut env = BTreeMap::from([
        (
            "PATH".to_owned(),
            "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned(),
        ),
        ("LANG".to_owned(), "C.UTF-8".to_owned()),
        ("HOME".to_owned(), text(&temporary)),
        ("TMPDIR".to_owned(), text(&temporary)),
        // Libraries ask who they run as, and there is no entry for it in /etc/passwd.
        ("USER".to_owned(), "ffs".to_owned()),
        ("LOGNAME".to_owned(), "ffs".to_owned()),
    ]);
    match slice(spec) {
        Some(SliceAccess {
            simulated: Some(_), ..
        }) => {
            // One compute thread, so that split and unsplit results agree bit for bit.
            for name in ["OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"] {
                env.insert(name.to_owned(), "1".to_owned());
            }
        }
        Some(SliceAccess {
            uuid,
            simulated: None,
        }) => {
            for name in ["CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES"] {
                env.insert(name.to_owned(), uuid.to_string());
            }
        }
        None => {}
    }
    env.extend(spec.env.clone());
    if let Some(layer) = spec.lane.as_ref().and_then(|lane| lane.config_layer.as_ref()) {
        let config = if has_view { CONFIG.to_owned() } else { text(layer) };
        env.insert("FFS_CONFIG".to_owned(), config);
    }
    env.insert("FFS_LISTEN".to_owned(), text(&run.join("http")));
    env.insert("FFS_LIFELINE".to_owned(), "stdin".to_owned());
    env.insert("FFS_PYTHON".to_owned(), text(&prepared.python));
    env
}

/// What stands for a small slice where CPU time cannot be limited: each step of niceness is a fifth
/// less time beside others.
fn nice(prepared: &Prepared, spec: &ContainerSpec) -> i32 {
    let cpus = slice(spec)
        .and_then(|slice| slice.simulated)
        .map(|limits| limits.cpus);
    match cpus {
        Some(cpus) if prepared.isolation.cpu.is_err() => {
            let host = std::thread::available_parallelism().map_or(1, std::num::NonZero::get) as f64;
            ((host / cpus).ln() / 1.25_f64.ln()).round().clamp(0.0, 19.0) as i32
        }
        _ => 0,
    }
}
