//! The tmpfs of an instance: mounted for it alone, or names of its own in the host's `/dev/shm`.

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use proto::id::InstanceId;
use proto::unit::Bytes;
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

const HOST: &str = "/dev/shm";

/// One directory per instance: the mount point, or a sign that there may be names of it.
#[derive(Debug)]
pub(super) struct Instances {
    directory: PathBuf,
}

impl Instances {
    pub(super) fn new(directory: PathBuf) -> Self {
        Self { directory }
    }

    /// Makes room for an instance's rings; with a mount of its own if `owner` can be given one.
    pub(super) fn create(
        &self,
        instance: &InstanceId,
        size: Bytes,
        owner: Option<u32>,
    ) -> std::io::Result<PathBuf> {
        let place = self.directory.join(instance.as_str());
        DirBuilder::new().mode(0o700).create(&place)?;
        let Some(uid) = owner else { return Ok(place) };
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
        let options = format!("size={},mode=0700,uid={uid},gid={uid}", size.0);
        if let Err(error) = mount(
            Some("tmpfs"),
            &place,
            Some("tmpfs"),
            flags,
            Some(options.as_str()),
        ) {
            std::fs::remove_dir(&place)?;
            return Err(error.into());
        }
        Ok(place)
    }

    /// Removes an instance's memory; what is gone already is success.
    pub(super) fn remove(&self, place: &Path) -> std::io::Result<()> {
        match umount2(place, MntFlags::MNT_DETACH) {
            // Not a mount point, or not there.
            Ok(())
            | Err(nix::errno::Errno::EINVAL | nix::errno::Errno::ENOENT | nix::errno::Errno::EPERM) => {}
            Err(error) => return Err(error.into()),
        }
        if let Some(instance) = place.file_name().and_then(|name| name.to_str()) {
            self.remove_names(instance)?;
        }
        match std::fs::remove_dir(place) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Removes all instances, of a killed daemon as a rule.
    pub(super) fn sweep(&self) -> std::io::Result<()> {
        for place in self.all()? {
            self.remove(&place)?;
        }
        Ok(())
    }

    fn all(&self) -> std::io::Result<Vec<PathBuf>> {
        std::fs::read_dir(&self.directory)?
            .map(|entry| Ok(entry?.path()))
            .collect()
    }

    /// `ffs-<instance>-<ring>`. An instance may be called `i-1` and another one `i-1-2`.
    fn remove_names(&self, instance: &str) -> std::io::Result<()> {
        let prefix = |instance: &str| format!("ffs-{instance}-");
        let others: Vec<String> = self
            .all()?
            .iter()
            .filter_map(|place| Some(prefix(place.file_name()?.to_str()?)))
            .filter(|other| other.starts_with(&prefix(instance)) && *other != prefix(instance))
            .collect();
        let Ok(names) = std::fs::read_dir(HOST) else {
            return Ok(());
        };
        for name in names.flatten() {
            let text = name.file_name().to_string_lossy().into_owned();
            let is_own =
                text.starts_with(&prefix(instance)) && !others.iter().any(|other| text.starts_with(other));
            if is_own && let Err(error) = std::fs::remove_file(name.path()) {
                match error.kind() {
                    // Gone by itself, or another user's with a name that only looks like it.
                    std::io::ErrorKind::NotFound | std::io::ErrorKind::PermissionDenied => {}
                    _ => return Err(error),
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_mount_an_instances_names_are_removed_and_no_others() {
        let directory = tempfile::tempdir().expect("a directory");
        let instances = Instances::new(directory.path().to_owned());
        let id = |suffix: &str| -> InstanceId {
            format!("t{}{suffix}", std::process::id()).parse().expect("an id")
        };
        let (short, long) = (id(""), id("-2"));
        let short_place = instances.create(&short, Bytes::mib(1), None).expect("made");
        let long_place = instances.create(&long, Bytes::mib(1), None).expect("made");
        let rings: Vec<_> = [&short, &long]
            .map(|instance| Path::new(HOST).join(format!("ffs-{instance}-r0")))
            .into_iter()
            .inspect(|ring| std::fs::write(ring, b"").expect("written"))
            .collect();

        instances.remove(&short_place).expect("removed");
        assert_eq!(
            rings.iter().map(|ring| ring.exists()).collect::<Vec<_>>(),
            [false, true]
        );
        instances.remove(&long_place).expect("removed");
        instances.remove(&long_place).expect("gone already");
        assert!(!rings[1].exists());
    }
}
