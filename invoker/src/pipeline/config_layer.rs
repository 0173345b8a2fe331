//! The config layer: one directory of documents per instance, mounted read-only in its lanes.
//!
//! A file is written under a temporary name, synced and renamed, so that a lane sees the old file
//! or the new one. What the documents say is decided elsewhere; the socket `control`, which lies
//! beside them, is served by [`super::control`].

use proto::ffs::assignment::AssignmentDocument;
use proto::ffs::dag::DagDocument;
use proto::ffs::migs::MigsDocument;
use proto::ffs::profile::ProfileDocument;
use proto::ffs::ranking::RankingDocument;
use proto::ffs::state::StateDocument;
use proto::id::InstanceId;
use serde::Serialize;
use std::fs::{DirBuilder, File, Permissions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

/// Others may pass through to what is theirs, and list nothing.
const PASSAGE: u32 = 0o711;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the directory {path} of config layers could not be made")]
    Root {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("the config layer of instance {instance} could not be made: {path}")]
    Write {
        instance: InstanceId,
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("the config layer {path} could not be removed")]
    Remove {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
}

/// Everything that a new layer holds.
#[derive(Clone, Copy, Debug)]
pub struct Documents<'a> {
    pub dag: &'a DagDocument,
    pub profile: &'a ProfileDocument,
    pub ranking: &'a RankingDocument,
    pub assignment: &'a AssignmentDocument,
    pub migs: &'a MigsDocument,
    pub state: &'a StateDocument,
    /// Body of `/init`, for lanes other than the head.
    pub init: &'a [u8],
}

/// The directory below which one daemon keeps its layers. It lies in memory.
#[derive(Debug)]
pub struct ConfigLayers {
    root: PathBuf,
}

impl ConfigLayers {
    /// Opens `root`, which is the daemon's alone, and removes what a killed one left there.
    ///
    /// # Errors
    /// If the directory cannot be made or emptied.
    pub fn open(root: PathBuf) -> Result<Self, Error> {
        let made = DirBuilder::new().recursive(true).mode(PASSAGE).create(&root);
        let entries = made.and_then(|()| std::fs::read_dir(&root)?.collect::<Result<Vec<_>, _>>());
        let entries = match entries {
            Ok(entries) => entries,
            Err(source) => return Err(Error::Root { path: root, source }),
        };
        for entry in entries {
            remove(&entry.path())?;
        }
        Ok(Self { root })
    }

    /// Makes the layer of one instance, readable by `uid` alone (none: by the daemon's own user).
    ///
    /// # Errors
    /// If a file cannot be written; then nothing of the layer is left.
    pub fn create(
        &self,
        instance: &InstanceId,
        uid: Option<u32>,
        documents: &Documents<'_>,
    ) -> Result<ConfigLayer, Error> {
        let path = self.root.join(instance.as_str());
        let mode = if uid.is_some() { 0o750 } else { 0o700 };
        let made = DirBuilder::new().mode(mode).create(&path);
        if let Err(source) = made {
            return Err(Error::Write {
                instance: instance.clone(),
                path,
                source,
            });
        }
        // From here on the directory is ours: dropping the layer removes it.
        let layer = ConfigLayer {
            instance: instance.clone(),
            path,
            uid,
            removed: false,
        };
        chown(&layer.path, None, uid).map_err(|source| layer.error("", source))?;
        layer.write("dag.json", documents.dag)?;
        layer.write("profile.json", documents.profile)?;
        layer.write("ranking.json", documents.ranking)?;
        layer.write("assignment.json", documents.assignment)?;
        layer.write("migs.json", documents.migs)?;
        layer.write_state(documents.state)?;
        layer.put("init.json", documents.init, Reader::Owner)?;
        Ok(layer)
    }
}

/// One instance's layer. Dropped, it is removed.
#[derive(Debug)]
pub struct ConfigLayer {
    instance: InstanceId,
    path: PathBuf,
    uid: Option<u32>,
    removed: bool,
}

/// Who may read a file besides root.
#[derive(Clone, Copy)]
enum Reader {
    /// The instance's group: as good as its user, and the file stays the daemon's.
    Group,
    /// The instance's user, to whom the file belongs.
    Owner,
}

impl ConfigLayer {
    /// What is mounted at `/ffs/config`.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the control socket is to be.
    pub fn control(&self) -> PathBuf {
        self.path.join("control")
    }

    /// Where lanes are to get weights.
    pub fn weights(&self) -> PathBuf {
        self.path.join("weights")
    }

    /// Replaces who runs what, and the slices beside it.
    ///
    /// # Errors
    /// If a file cannot be written; the old one is then still there.
    pub fn write_assignment(
        &self,
        assignment: &AssignmentDocument,
        migs: Option<&MigsDocument>,
    ) -> Result<(), Error> {
        if let Some(migs) = migs {
            self.write("migs.json", migs)?;
        }
        self.write("assignment.json", assignment)
    }

    /// # Errors
    /// If the file cannot be written; the old one is then still there.
    pub fn write_state(&self, state: &StateDocument) -> Result<(), Error> {
        self.write("state", state)
    }

    /// Removes the directory and all in it; what is already gone is success.
    ///
    /// # Errors
    /// If something in it cannot be removed.
    pub fn remove(mut self) -> Result<(), Error> {
        self.removed = true;
        remove(&self.path)
    }

    fn write(&self, name: &str, document: &impl Serialize) -> Result<(), Error> {
        let mut bytes = serde_json::to_vec(document).map_err(|e| self.error(name, e.into()))?;
        bytes.push(b'\n');
        self.put(name, &bytes, Reader::Group)
    }

    fn put(&self, name: &str, bytes: &[u8], reader: Reader) -> Result<(), Error> {
        let (uid, mode) = match reader {
            Reader::Group if self.uid.is_some() => (None, 0o440),
            Reader::Group => (None, 0o400),
            Reader::Owner => (self.uid, 0o400),
        };
        let write = || -> std::io::Result<()> {
            let mut file = tempfile::Builder::new()
                .prefix(".")
                .permissions(Permissions::from_mode(mode))
                .tempfile_in(&self.path)?;
            file.write_all(bytes)?;
            chown(file.path(), uid, self.uid)?;
            file.as_file().sync_all()?;
            file.persist(self.path.join(name))?;
            File::open(&self.path)?.sync_all()
        };
        write().map_err(|source| self.error(name, source))
    }

    fn error(&self, name: &str, source: std::io::Error) -> Error {
        Error::Write {
            instance: self.instance.clone(),
            path: self.path.join(name),
            source,
        }
    }
}

impl Drop for ConfigLayer {
    fn drop(&mut self) {
        if !self.removed
            && let Err(error) = remove(&self.path)
        {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "config layer left behind"
            );
        }
    }
}

fn remove(path: &Path) -> Result<(), Error> {
    let removed = match std::fs::symlink_metadata(path) {
        Ok(what) if what.is_dir() => std::fs::remove_dir_all(path),
        Ok(_) => std::fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::Remove {
            path: path.to_owned(),
            source: error,
        }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::sample::{INIT, sample, state};
    use proto::ffs::state::Desired;
    use std::os::unix::fs::MetadataExt;
    use std::sync::atomic::{AtomicBool, Ordering};

    #[test]
    fn a_layer_holds_every_document_and_is_gone_with_its_instance() {
        let root = tempfile::tempdir().expect("a directory");
        let layers = ConfigLayers::open(root.path().join("layers")).expect("writable");
        let layer = create(&layers, "i-1").expect("written");

        let read = |name: &str| std::fs::read(layer.path().join(name)).expect(name);
        let documents = sample();
        assert_eq!(
            serde_json::from_slice::<DagDocument>(&read("dag.json")).expect("dag"),
            documents.dag
        );
        for name in [
            "profile.json",
            "ranking.json",
            "assignment.json",
            "migs.json",
            "state",
        ] {
            serde_json::from_slice::<serde_json::Value>(&read(name)).expect(name);
        }
        assert_eq!(read("init.json"), INIT);
        assert_eq!(names(layer.path()).len(), 7, "no temporary file is left");

        let path = layer.path().to_owned();
        layer.remove().expect("removed");
        assert!(!path.exists());
    }

    #[test]
    fn only_the_instances_user_may_read_its_layer() {
        let root = tempfile::tempdir().expect("a directory");
        let layers = ConfigLayers::open(root.path().join("layers")).expect("writable");
        let uid = nix::unistd::geteuid().is_root().then_some(200_123);
        let documents = sample();
        let instance = "i-1".parse().expect("an id");
        let layer = layers
            .create(&instance, uid, &documents.documents())
            .expect("written");

        let init = std::fs::metadata(layer.path().join("init.json")).expect("there");
        assert_eq!(init.mode() & 0o777, 0o400);
        let directory = std::fs::metadata(layer.path()).expect("there");
        assert_eq!(directory.mode() & 0o007, 0);
        let dag = std::fs::metadata(layer.path().join("dag.json")).expect("there");
        assert_eq!(dag.mode() & 0o222, 0);
        if let Some(uid) = uid {
            assert_eq!((init.uid(), init.gid()), (uid, uid));
            assert_eq!((dag.uid(), dag.gid()), (0, uid));
            assert_eq!((directory.uid(), directory.gid()), (0, uid));
        }
    }

    #[test]
    fn a_reader_never_sees_half_a_state() {
        let root = tempfile::tempdir().expect("a directory");
        let layers = ConfigLayers::open(root.path().join("layers")).expect("writable");
        let layer = create(&layers, "i-1").expect("written");
        let path = layer.path().join("state");
        let done = AtomicBool::new(false);

        std::thread::scope(|scope| {
            let reader = scope.spawn(|| {
                let mut last = 0;
                let mut reads = 0;
                while !done.load(Ordering::Acquire) || reads == 0 {
                    let bytes = std::fs::read(&path).expect("always there");
                    let state: StateDocument = serde_json::from_slice(&bytes).expect("always whole");
                    assert!(state.epoch >= last, "{} after {last}", state.epoch);
                    last = state.epoch;
                    reads += 1;
                }
            });
            for epoch in 2..300 {
                let lanes = vec!["s0l0".parse().expect("a lane"); (epoch % 50) as usize];
                let state = StateDocument {
                    lanes: Some(lanes),
                    ..state(epoch, Desired::Drain)
                };
                layer.write_state(&state).expect("written");
            }
            done.store(true, Ordering::Release);
            reader.join().expect("the reader saw only whole files");
        });
    }

    #[test]
    fn two_instances_never_share_a_layer() {
        let root = tempfile::tempdir().expect("a directory");
        let layers = ConfigLayers::open(root.path().join("layers")).expect("writable");
        let first = create(&layers, "i-1").expect("written");
        let error = create(&layers, "i-1").expect_err("it is there");
        assert!(error.to_string().contains("instance i-1"), "{error}");
        assert!(
            first.path().join("dag.json").exists(),
            "the first one is untouched"
        );
    }

    #[test]
    fn what_a_killed_daemon_left_is_removed_at_start() {
        let root = tempfile::tempdir().expect("a directory");
        let path = root.path().join("layers");
        let layers = ConfigLayers::open(path.clone()).expect("writable");
        std::mem::forget(create(&layers, "i-1").expect("written"));
        std::fs::write(path.join("stray"), b"").expect("written");

        ConfigLayers::open(path.clone()).expect("swept");

        assert_eq!(names(&path), Vec::<String>::new());
    }

    #[test]
    fn a_place_that_cannot_be_written_is_named() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let root = file.path().join("layers");
        let error = ConfigLayers::open(root.clone()).expect_err("a file is no directory");
        assert_eq!(
            error.to_string(),
            format!(
                "the directory {} of config layers could not be made",
                root.display()
            )
        );
    }

    #[test]
    fn a_full_disk_leaves_nothing_behind() {
        let Some(disk) = SmallDisk::mount() else {
            eprintln!("skipped: a file system of 32 KiB cannot be mounted here");
            return;
        };
        let layers = ConfigLayers::open(disk.path().join("layers")).expect("room for a directory");
        let documents = sample();
        let instance = "i-1".parse().expect("an id");
        let init = vec![b'x'; 100_000];
        let too_large = Documents {
            init: &init,
            ..documents.documents()
        };

        let error = layers.create(&instance, None, &too_large).expect_err("full");

        assert!(error.to_string().ends_with("layers/i-1/init.json"), "{error}");
        assert_eq!(names(&disk.path().join("layers")), Vec::<String>::new());
    }

    fn create(layers: &ConfigLayers, instance: &str) -> Result<ConfigLayer, Error> {
        let documents = sample();
        layers.create(&instance.parse().expect("an id"), None, &documents.documents())
    }

    fn names(directory: &Path) -> Vec<String> {
        std::fs::read_dir(directory)
            .expect("readable")
            .map(|entry| {
                entry
                    .expect("readable")
                    .file_name()
                    .to_string_lossy()
                    .into_owned()
            })
            .collect()
    }

    /// A tmpfs of 32 KiB.
    struct SmallDisk {
        directory: tempfile::TempDir,
    }

    impl SmallDisk {
        fn mount() -> Option<Self> {
            use nix::mount::{MsFlags, mount};
            let directory = tempfile::tempdir().expect("a directory");
            let size = Some("size=32k");
            mount(
                Some("tmpfs"),
                directory.path(),
                Some("tmpfs"),
                MsFlags::empty(),
                size,
            )
            .ok()?;
            Some(Self { directory })
        }

        fn path(&self) -> &Path {
            self.directory.path()
        }
    }

    impl Drop for SmallDisk {
        fn drop(&mut self) {
            nix::mount::umount(self.path()).expect("it was mounted");
        }
    }
}
