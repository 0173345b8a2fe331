//! What the invoker's process engine tells `ffs-runtime sandbox` on its standard input: one line.
//!
//! The launcher becomes the container: it enters the sandbox and turns into `program`. What follows
//! on standard input is nothing; its end is the end of the container.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Sandbox {
    pub program: PathBuf,
    pub arguments: Vec<String>,
    /// The whole environment.
    pub env: BTreeMap<String, String>,
    /// Directories of the control groups that it joins.
    pub cgroups: Vec<PathBuf>,
    /// A file, and what is written to it so that a paused container can be killed.
    pub thaw: Option<(PathBuf, String)>,
    /// User and group to run as; none: the launcher's own.
    pub user: Option<u32>,
    /// Added to the niceness.
    pub nice: i32,
    /// None where namespaces are not permitted.
    pub namespaces: Option<Namespaces>,
}

/// The container's own view of the machine.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Namespaces {
    /// Whether it has the host's network; else it has no interface at all.
    pub network: bool,
    /// An empty directory, over which the new root is put together.
    pub root: PathBuf,
    /// Files and directories shown read-only under their own names.
    pub readable: Vec<PathBuf>,
    /// Device nodes besides those of every container.
    pub devices: Vec<PathBuf>,
    /// What else it sees, besides `/proc`, `/sys`, `/dev` and a `/dev/shm` of its own.
    pub mounts: Vec<Mount>,
}

/// A directory shown under another name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Mount {
    pub from: PathBuf,
    pub to: PathBuf,
    pub writable: bool,
}
