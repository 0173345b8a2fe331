//! The files that a container sees: a root of its own, put together from parts of the host's.

use super::Error;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::unistd::{chdir, pivot_root};
use proto::ffs::sandbox::Namespaces;
use std::fs::{DirBuilder, File, Permissions};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, symlink};
use std::path::{Component, Path, PathBuf};

/// Programs and libraries, where a system has them.
const SYSTEM: [&str; 9] = [
    "/bin", "/sbin", "/usr", "/lib", "/lib32", "/lib64", "/libx32", "/etc", "/opt",
];
/// The devices of every container.
const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];
const DEVICE_LINKS: [(&str, &str); 4] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
];

/// Puts the new root together, in a mount namespace of our own, and enters it.
pub(super) fn enter(namespaces: &Namespaces) -> Result<(), Error> {
    let root = namespaces.root.as_path();
    mount(
        None::<&str>,
        "/",
        None::<&str>,
        MsFlags::MS_REC | MsFlags::MS_PRIVATE,
        None::<&str>,
    )
    .map_err(Error::system("keep its mounts to itself"))?;
    file_system("tmpfs", root, MsFlags::MS_NODEV, Some("mode=0755,size=1m"))?;
    for path in SYSTEM {
        show(root, Path::new(path))?;
    }
    let nothing_special = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    file_system("proc", &directory(root, "/proc")?, nothing_special, None)?;
    file_system(
        "sysfs",
        &directory(root, "/sys")?,
        nothing_special | MsFlags::MS_RDONLY,
        None,
    )?;
    devices(root, &namespaces.devices)?;
    let shared = directory(root, "/dev/shm")?;
    file_system(
        "tmpfs",
        &shared,
        MsFlags::MS_NOSUID | MsFlags::MS_NODEV,
        Some("mode=1777,size=64m"),
    )?;
    for shown in &namespaces.mounts {
        bind(&shown.from, &directory(root, &shown.to)?, shown.writable)?;
    }
    // Last, for what is to be read may lie in the host's /tmp.
    let mut readable: Vec<&PathBuf> = namespaces.readable.iter().collect();
    readable.sort(); // a directory comes before what is in it
    for path in readable {
        show(root, path)?;
    }
    // The mount point of the old root is the new root itself, so that no directory is needed for it.
    chdir(root).map_err(Error::file("enter", root))?;
    pivot_root(".", ".").map_err(Error::file("make its root", root))?;
    umount2(".", MntFlags::MNT_DETACH).map_err(Error::system("leave the host's root"))?;
    chdir("/").map_err(Error::system("enter its root"))?;
    // Nothing is written to the root any more but through the mounts above.
    let again = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY | MsFlags::MS_NODEV;
    mount(None::<&str>, "/", None::<&str>, again, None::<&str>).map_err(Error::system("protect its root"))
}

fn devices(root: &Path, more: &[PathBuf]) -> Result<(), Error> {
    let dev = directory(root, "/dev")?;
    let usual = DEVICES.iter().map(|name| Path::new("/dev").join(name));
    for device in usual.filter(|device| device.exists()).chain(more.iter().cloned()) {
        let place = below(root, &device);
        if let Some(parent) = device.parent() {
            directory(root, parent)?;
        }
        File::create(&place).map_err(Error::file("make", &place))?;
        mount(
            Some(&device),
            &place,
            None::<&str>,
            MsFlags::MS_BIND,
            None::<&str>,
        )
        .map_err(Error::file("show the device", &device))?;
    }
    for (name, target) in DEVICE_LINKS {
        symlink(target, dev.join(name)).map_err(Error::file("link", dev.join(name)))?;
    }
    Ok(())
}

/// Shows a part of the host under its own name, read-only; a link as a link.
fn show(root: &Path, path: &Path) -> Result<(), Error> {
    let place = below(root, path);
    let Ok(kind) = path.symlink_metadata() else {
        return Ok(()); // not every system has every directory
    };
    if place.symlink_metadata().is_ok() {
        return Ok(()); // shown already, as a part of another
    }
    if let Some(parent) = path.parent() {
        directory(root, parent)?;
    }
    if kind.is_symlink() {
        let target = std::fs::read_link(path).map_err(Error::file("read the link", path))?;
        return symlink(target, &place).map_err(Error::file("link", path));
    }
    if kind.is_dir() {
        directory(root, path)?;
    } else {
        File::create(&place).map_err(Error::file("make", &place))?;
    }
    bind(path, &place, false)
}

/// Makes a directory and those above it in the new root; what is there is left alone.
fn directory(root: &Path, path: impl AsRef<Path>) -> Result<PathBuf, Error> {
    let place = below(root, path.as_ref());
    // Not what the umask leaves of it: every user passes through.
    let mut sofar = root.to_owned();
    for part in place.strip_prefix(root).unwrap_or(&place).components() {
        sofar.push(part);
        if !sofar.exists() {
            DirBuilder::new()
                .mode(0o755)
                .create(&sofar)
                .map_err(Error::file("make", &sofar))?;
            std::fs::set_permissions(&sofar, Permissions::from_mode(0o755))
                .map_err(Error::file("open", &sofar))?;
        }
    }
    Ok(place)
}

/// `path`, seen from the new root; `..` leads nowhere.
fn below(root: &Path, path: &Path) -> PathBuf {
    let parts = path
        .components()
        .filter(|part| matches!(part, Component::Normal(_)));
    parts.fold(root.to_owned(), |place, part| place.join(part))
}

fn bind(from: &Path, to: &Path, writable: bool) -> Result<(), Error> {
    let show = Error::file("show", from);
    mount(
        Some(from),
        to,
        None::<&str>,
        MsFlags::MS_BIND | MsFlags::MS_REC,
        None::<&str>,
    )
    .map_err(show)?;
    let mut flags = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    if !writable {
        flags |= MsFlags::MS_RDONLY;
    }
    mount(None::<&str>, to, None::<&str>, flags, None::<&str>).map_err(Error::file("protect", from))
}

fn file_system(kind: &'static str, place: &Path, flags: MsFlags, options: Option<&str>) -> Result<(), Error> {
    mount(Some(kind), place, Some(kind), flags, options).map_err(Error::file(
        match kind {
            "proc" => "mount its processes at",
            "sysfs" => "mount the system's description at",
            _ => "mount memory at",
        },
        place,
    ))
}
