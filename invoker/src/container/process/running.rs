//! One container, from its launcher's start to its removal.

use super::cgroups::Group;
use super::output::Output;
use super::prepare::{Prepared, launch};
use super::{Inner, describe, socket, sweep};
use crate::container::logs::Stream;
use crate::container::{ContainerId, ContainerSpec, Error, Exit, LogRequest, Logs, SliceLimits};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
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
        let group = inner.cgroups.create(&id.0, describe::memory(spec), PROCESSES)?;
        let sandbox = describe::sandbox(inner, prepared, spec, &directories, &group);
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
pub(super) struct Directories {
    pub(super) own: PathBuf,
    pub(super) scratch: PathBuf,
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
        let user = describe::user(prepared, spec);
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
