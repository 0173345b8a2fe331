//! Unix sockets of what has no network and no config layer: BUILDDAG and profiling.
//!
//! A directory of the container's own is bound into it; its proxy listens there. Docker resolves the path on
//! the host, so an invoker in a container needs it at the same place.

use crate::container::{ContainerSpec, LaneSpec};
use sha2::{Digest, Sha256};
use std::fs::DirBuilder;
use std::os::unix::fs::{DirBuilderExt, chown};
use std::path::{Path, PathBuf};

/// Where the container sees the directory.
pub(super) const INSIDE: &str = "/ffs/run";
pub(super) const NAME: &str = "http";

pub(super) fn is_used(lane: &LaneSpec) -> bool {
    !lane.network && lane.config_layer.is_none()
}

/// A container's directory; its name is short, since sockets' paths may not be long.
pub(super) fn directory(sockets: &Path, name: &str) -> PathBuf {
    let hash = Sha256::digest(name.as_bytes());
    let digits: String = hash.iter().take(6).map(|byte| format!("{byte:02x}")).collect();
    sockets.join(digits)
}

/// Makes the container's directory if it needs one.
pub(super) fn make(sockets: &Path, spec: &ContainerSpec) -> std::io::Result<()> {
    let Some(lane) = spec.lane.as_ref().filter(|lane| is_used(lane)) else {
        return Ok(());
    };
    let own = directory(sockets, &spec.name);
    DirBuilder::new().mode(0o700).create(&own)?;
    chown(&own, Some(lane.uid), Some(lane.uid))
}

/// The socket's path as we see it.
pub(super) fn path(sockets: &Path, name: &str) -> PathBuf {
    directory(sockets, name).join(NAME)
}

/// Removes the container's directory, if it had one.
pub(super) fn remove(sockets: &Path, name: &str) {
    remove_directory(&directory(sockets, name));
}

/// Removes those of an earlier process.
pub(super) fn sweep(sockets: &Path) {
    for entry in std::fs::read_dir(sockets).into_iter().flatten().flatten() {
        remove_directory(&entry.path());
    }
}

fn remove_directory(directory: &Path) {
    match std::fs::remove_dir_all(directory) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            tracing::warn!(%error, directory = %directory.display(), "directory of a socket left behind");
        }
        _ => {}
    }
}
