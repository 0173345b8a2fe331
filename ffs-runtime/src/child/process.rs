//! The operating system's side of the Python process: start, reap, kill with all its descendants.
//!
//! As a container's first process, the runtime inherits every orphan; elsewhere it asks for them,
//! so that whatever the user's code starts can be found and ended.

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use std::ffi::OsStr;
use std::fmt;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use tokio::signal::unix::{Signal as Signals, SignalKind, signal};
use tokio::sync::oneshot;

/// Variable with the number of the process's end of the socket pair.
const SOCKET_VARIABLE: &str = "FFS_CHILD_FD";

/// A Python process that has just been started.
#[derive(Debug)]
pub struct Process {
    /// Also the id of its process group.
    pub pid: Pid,
    pub socket: UnixStream,
    pub stdout: OwnedFd,
    pub stderr: OwnedFd,
    pub ended: oneshot::Receiver<Exit>,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    Code(i32),
    Signal(i32),
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit code {code}"),
            Self::Signal(number) => write!(f, "signal {number}"),
        }
    }
}

impl Process {
    /// Starts `python -m FluidFaaS.child` in a process group of its own, without the variables
    /// `hidden`, and reaps it and every orphan from then on.
    ///
    /// # Errors
    /// The interpreter cannot be started, or the system is out of what this needs.
    pub fn start(python: &OsStr, hidden: &[&str]) -> std::io::Result<Self> {
        nix::sys::prctl::set_child_subreaper(true)?;
        let children = signal(SignalKind::child())?;
        let (socket, theirs) = UnixStream::pair()?;
        socket.set_nonblocking(true)?;
        fcntl(&theirs, FcntlArg::F_SETFD(FdFlag::empty()))?;
        let mut command = Command::new(python);
        command
            .args(["-m", "FluidFaaS.child"])
            .env(SOCKET_VARIABLE, theirs.as_raw_fd().to_string());
        for name in hidden {
            command.env_remove(name);
        }
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0);
        let mut child = command.spawn()?;
        drop(theirs);
        let pid = Pid::from_raw(child.id().cast_signed());
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let (tell, ended) = oneshot::channel();
        tokio::spawn(reap(pid, children, tell));
        Ok(Self {
            pid,
            socket,
            stdout: stdout.expect("it was asked to be a pipe").into(),
            stderr: stderr.expect("it was asked to be a pipe").into(),
            ended,
        })
    }
}

/// Waits for every child and orphan; says how the one that counts has ended.
async fn reap(pid: Pid, mut children: Signals, tell: oneshot::Sender<Exit>) {
    let mut tell = Some(tell);
    loop {
        while let Ok(Some((ended, exit))) = reap_one() {
            if ended == pid
                && let Some(tell) = tell.take()
            {
                let _ = tell.send(exit);
            }
        }
        if children.recv().await.is_none() {
            return;
        }
    }
}

/// One process that has ended; `None` if all that are left still run.
fn reap_one() -> Result<Option<(Pid, Exit)>, Errno> {
    loop {
        return match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, code)) => Ok(Some((pid, Exit::Code(code)))),
            Ok(WaitStatus::Signaled(pid, signal, _)) => Ok(Some((pid, Exit::Signal(signal as i32)))),
            Ok(WaitStatus::StillAlive) => Ok(None),
            Ok(_) | Err(Errno::EINTR) => continue,
            Err(error) => Err(error),
        };
    }
}

/// Kills the process's group; what left the group is found by [`sweep`].
pub fn kill_group(pid: Pid) {
    let _ = killpg(pid, Signal::SIGKILL);
}

/// Kills the group of `pid`, then every descendant as it becomes our child; returns when none is left.
pub async fn sweep(pid: Pid) {
    let Ok(mut children) = signal(SignalKind::child()) else {
        return;
    };
    kill_group(pid);
    loop {
        for child in children_of(Pid::this()) {
            let _ = kill(child, Signal::SIGKILL);
        }
        loop {
            match reap_one() {
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(_) => return, // ECHILD: there is none
            }
        }
        children.recv().await;
    }
}

/// Every process whose parent is `parent`, from `/proc/<pid>/stat`.
fn children_of(parent: Pid) -> Vec<Pid> {
    let Ok(processes) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    let parent = parent.to_string();
    processes
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|pid: &i32| {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            // The name is in parentheses and may hold anything; state and parent follow it.
            stat.rsplit_once(')')
                .and_then(|(_, rest)| rest.split_ascii_whitespace().nth(1))
                == Some(&parent)
        })
        .map(Pid::from_raw)
        .collect()
}
