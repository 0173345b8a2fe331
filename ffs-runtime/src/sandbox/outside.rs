//! The process outside of the sandbox: starts the one inside, and ends it.

use super::{Error, INSIDE, inside};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl::set_child_subreaper;
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, setsid};
use proto::ffs::sandbox::Sandbox;
use std::io::BufRead;
use std::os::fd::AsFd;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

/// The invoker is gone: what is inside may end by itself for so long.
const GRACE: Duration = Duration::from_millis(700);

pub(super) fn run() -> Result<ExitCode, Error> {
    let mut line = String::new();
    std::io::stdin()
        .lock()
        .read_line(&mut line)
        .map_err(Error::Description)?;
    let sandbox: Sandbox = serde_json::from_str(&line).map_err(|error| Error::Description(error.into()))?;
    setsid().map_err(Error::system("begin a session of its own"))?;
    // Without a PID namespace, whoever forks twice becomes our child instead of escaping.
    set_child_subreaper(true).map_err(Error::system("become the parent of its orphans"))?;
    let mut signals = SigSet::empty();
    for signal in [Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGINT] {
        signals.add(signal);
    }
    signals.thread_block().map_err(Error::system("block signals"))?;
    let signals = SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
        .map_err(Error::system("watch signals"))?;
    if sandbox.namespaces.is_some() {
        unshare(CloneFlags::CLONE_NEWPID).map_err(Error::system("make a PID namespace"))?;
    }
    let inside = start(&line)?;
    watch(inside, &signals, &sandbox)
}

fn start(description: &str) -> Result<Pid, Error> {
    let program = std::env::current_exe().map_err(Error::system("find its own program"))?;
    let child = Command::new(&program)
        .args(["sandbox", INSIDE])
        .env_clear()
        .env(inside::DESCRIPTION, description)
        .spawn()
        .map_err(Error::file("start", &program))?;
    Ok(Pid::from_raw(child.id().cast_signed()))
}

/// Until nothing inside is left, for whatever reason.
fn watch(inside: Pid, signals: &SignalFd, sandbox: &Sandbox) -> Result<ExitCode, Error> {
    let stdin = std::io::stdin();
    // From when on nothing is waited for any more.
    let mut deadline: Option<Instant> = None;
    loop {
        if let Some(code) = reap(inside) {
            end_the_rest();
            return Ok(code);
        }
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        if left == Some(Duration::ZERO) {
            end(inside, sandbox);
            return Ok(ExitCode::from(128 + Signal::SIGKILL as u8));
        }
        let timeout = left.map_or(PollTimeout::NONE, |left| {
            PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX)
        });
        let mut events = vec![PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
        if deadline.is_none() {
            events.push(PollFd::new(stdin.as_fd(), PollFlags::POLLIN));
        }
        match poll(&mut events, timeout) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(Error::system("wait")(error)),
        }
        // Nothing is ever said on standard input: readable means that the invoker is gone.
        let is_alone = events.get(1).is_some_and(|stdin| stdin.any() != Some(false));
        while let Ok(Some(signal)) = signals.read_signal() {
            if signal.ssi_signo != Signal::SIGCHLD as u32 {
                deadline = Some(Instant::now());
            }
        }
        if is_alone && deadline.is_none() {
            thaw(sandbox);
            deadline = Some(Instant::now() + GRACE);
        }
    }
}

/// Reaps whatever has ended; the exit code once it is the process inside.
fn reap(inside: Pid) -> Option<ExitCode> {
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, code)) if pid == inside => {
                return Some(ExitCode::from(u8::try_from(code).unwrap_or(1)));
            }
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid == inside => {
                return Some(ExitCode::from(128 + signal as u8));
            }
            Ok(WaitStatus::StillAlive) | Err(_) => return None,
            Ok(_) => {}
        }
    }
}

/// Kills what is inside. The first process of a PID namespace takes all others with it.
fn end(inside: Pid, sandbox: &Sandbox) {
    thaw(sandbox);
    // It is not reaped yet, so the number is still its own.
    let _ = kill(inside, Signal::SIGKILL);
    let _ = waitpid(inside, None);
    end_the_rest();
}

/// Kills the orphans that have become our children, and theirs, until there are none.
fn end_the_rest() {
    loop {
        for child in children() {
            let _ = kill(child, Signal::SIGKILL);
        }
        if waitpid(None, None) == Err(Errno::ECHILD) {
            return;
        }
    }
}

fn children() -> Vec<Pid> {
    let own = std::process::id();
    let numbers = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let numbers = numbers.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let is_ours = |pid: &i32| {
        let status = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // `pid (name) state ppid …`; a name may hold anything, parentheses too.
        let parent = status
            .rsplit_once(") ")
            .and_then(|(_, rest)| rest.split(' ').nth(1));
        parent.and_then(|parent| parent.parse::<u32>().ok()) == Some(own)
    };
    numbers.filter(is_ours).map(Pid::from_raw).collect()
}

/// A frozen process takes no signal.
fn thaw(sandbox: &Sandbox) {
    if let Some((file, text)) = &sandbox.thaw {
        // The group may have been removed, or never frozen.
        let _ = std::fs::write(file, text);
    }
}
