//! The process inside: narrows what it may do, step by step, and becomes the program.

use super::{Error, view};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl::{set_no_new_privs, set_pdeathsig};
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{Gid, Uid, setgroups, sethostname, setresgid, setresuid};
use proto::ffs::sandbox::{Namespaces, Sandbox};
use std::convert::Infallible;
use std::io::{Error as IoError, ErrorKind};
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Variable that carries the description from the process outside.
pub(super) const DESCRIPTION: &str = "FFS_SANDBOX";

/// As `docker run --ulimit nofile=1024:1024` (L-10).
const OPEN_FILES: u64 = 1024;

pub(super) fn run() -> Result<Infallible, Error> {
    let description = std::env::var(DESCRIPTION)
        .map_err(|error| Error::Description(IoError::new(ErrorKind::InvalidInput, error)))?;
    let sandbox: Sandbox =
        serde_json::from_str(&description).map_err(|error| Error::Description(error.into()))?;
    // Whoever is outside is our only parent, and has one thread: this signal means that it is gone.
    set_pdeathsig(Signal::SIGKILL).map_err(Error::system("be told of its parent's end"))?;
    for group in &sandbox.cgroups {
        let file = group.join("cgroup.procs");
        std::fs::write(&file, "0").map_err(Error::file("join the control group", file.clone()))?;
    }
    if let Some(namespaces) = &sandbox.namespaces {
        enter(namespaces)?;
    }
    if sandbox.nice != 0 {
        rustix::process::nice(sandbox.nice).map_err(Error::system("lower its priority"))?;
    }
    setrlimit(Resource::RLIMIT_NOFILE, OPEN_FILES, OPEN_FILES)
        .map_err(Error::system("limit its open files"))?;
    setrlimit(Resource::RLIMIT_CORE, 0, 0).map_err(Error::system("leave out core files"))?;
    umask(Mode::from_bits_truncate(0o022));
    if let Some(user) = sandbox.user {
        become_user(user)?;
    }
    set_no_new_privs().map_err(Error::system("give up new privileges"))?;
    SigSet::empty()
        .thread_set_mask()
        .map_err(Error::system("unblock signals"))?;
    // Forgotten when the user changed.
    set_pdeathsig(Signal::SIGKILL).map_err(Error::system("be told of its parent's end"))?;
    let error = Command::new(&sandbox.program)
        .args(&sandbox.arguments)
        .env_clear()
        .envs(&sandbox.env)
        .exec();
    Err(Error::file("run", &sandbox.program)(error))
}

fn enter(namespaces: &Namespaces) -> Result<(), Error> {
    let mut flags = CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWIPC | CloneFlags::CLONE_NEWUTS;
    if !namespaces.network {
        flags |= CloneFlags::CLONE_NEWNET;
    }
    unshare(flags).map_err(Error::system("make namespaces of its own"))?;
    sethostname("container").map_err(Error::system("name itself"))?;
    view::enter(namespaces)
}

fn become_user(user: u32) -> Result<(), Error> {
    let (uid, gid) = (Uid::from_raw(user), Gid::from_raw(user));
    setgroups(&[]).map_err(Error::system("leave its groups"))?;
    setresgid(gid, gid, gid).map_err(Error::system("change its group"))?;
    setresuid(uid, uid, uid).map_err(Error::system("change its user"))
}
