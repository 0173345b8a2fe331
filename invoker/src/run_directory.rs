//! Where one daemon keeps what must not outlive the machine: sockets, config layers, mounts.
//!
//! It is held by a lock, so that a second daemon does not sweep away what the first one runs.

use std::fs::{DirBuilder, File, TryLockError};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use tokio::net::UnixListener;

/// Containers pass through to what is theirs, and list nothing.
const PASSAGE: u32 = 0o711;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the run directory {} cannot be used", path.display())]
    Unusable {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("the run directory {} is in use by another daemon: give each daemon an id or a name of its own", path.display())]
    InUse { path: PathBuf },
}

/// Ours until it is dropped.
#[derive(Debug)]
pub struct RunDirectory {
    path: PathBuf,
    _lock: File,
}

impl RunDirectory {
    /// Makes the directory if it is not there.
    ///
    /// # Errors
    /// If it cannot be made or written, or another daemon holds it.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let unusable = |source| Error::Unusable {
            path: path.to_owned(),
            source,
        };
        DirBuilder::new()
            .recursive(true)
            .mode(PASSAGE)
            .create(path)
            .map_err(unusable)?;
        let path = path.canonicalize().map_err(unusable)?;
        let lock = File::create(path.join("lock")).map_err(unusable)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path, _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(Error::InUse { path }),
            Err(TryLockError::Error(source)) => Err(unusable(source)),
        }
    }

    /// For [`crate::pipeline::config_layer::ConfigLayers`].
    pub fn layers(&self) -> PathBuf {
        self.path.join("layers")
    }

    /// For sockets that the Docker engine hands into containers.
    pub fn docker_engine(&self) -> PathBuf {
        self.path.join("docker")
    }

    /// For the process engine.
    pub fn process_engine(&self) -> PathBuf {
        self.path.join("process")
    }
}

/// Listens on a Unix socket to which only the group of `uid` can connect; none: only the daemon's own user.
///
/// # Errors
/// If the socket cannot be made.
pub fn bind(path: &Path, uid: Option<u32>) -> std::io::Result<UnixListener> {
    let listener = UnixListener::bind(path)?;
    let mode = if uid.is_some() { 0o660 } else { 0o600 };
    chown(path, None, uid)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
    Ok(listener)
}

/// Where a daemon of this name keeps it unless it is told: in memory, and short enough for sockets.
pub fn default_path(daemon: &str, is_root: bool, xdg_runtime_dir: Option<&Path>, state: &Path) -> PathBuf {
    match xdg_runtime_dir {
        _ if is_root => Path::new("/run/ffs-invoker").join(daemon),
        Some(directory) => directory.join("ffs-invoker").join(daemon),
        None => state.join("run"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_daemons_never_hold_the_same_directory() {
        let parent = tempfile::tempdir().expect("a directory");
        let path = parent.path().join("run/invoker0");
        let first = RunDirectory::open(&path).expect("free");
        let error = RunDirectory::open(&path).expect_err("held");
        assert!(
            error.to_string().contains("is in use by another daemon"),
            "{error}"
        );
        drop(first);
        RunDirectory::open(&path).expect("free again");
    }

    #[test]
    fn a_path_that_is_no_directory_is_named() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let error = RunDirectory::open(&file.path().join("run")).expect_err("no directory");
        assert!(
            error.to_string().contains(&*file.path().to_string_lossy()),
            "{error}"
        );
    }

    #[test]
    fn ordinary_users_have_it_where_the_session_keeps_such_things() {
        let (state, session) = (Path::new("/state"), Path::new("/run/user/7"));
        assert_eq!(
            default_path("i0", true, Some(session), state),
            Path::new("/run/ffs-invoker/i0")
        );
        assert_eq!(
            default_path("i0", false, Some(session), state),
            Path::new("/run/user/7/ffs-invoker/i0")
        );
        assert_eq!(default_path("i0", false, None, state), Path::new("/state/run"));
    }
}
