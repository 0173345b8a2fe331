//! What the launcher is told: the sandbox of a container, from what the container is to be.

use super::Inner;
use super::cgroups::Group;
use super::prepare::{PLAIN_USER, Prepared};
use super::running::Directories;
use crate::container::{ContainerSpec, LaneSpec, SliceAccess};
use proto::ffs::sandbox::{Mount, Namespaces, Sandbox};
use proto::unit::Bytes;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Names inside a view of its own.
const CONFIG: &str = "/ffs/config";
const RUN: &str = "/ffs/run";

/// Who it runs as; none: the daemon's own user.
pub(super) fn user(prepared: &Prepared, spec: &ContainerSpec) -> Option<u32> {
    let wanted = spec.lane.as_ref().map_or(PLAIN_USER, |lane| lane.uid);
    prepared.isolation.user.is_ok().then_some(wanted)
}

fn slice(spec: &ContainerSpec) -> Option<&SliceAccess> {
    spec.lane.as_ref().and_then(|lane| lane.slice.as_ref())
}

/// The action's limit, or the slice's if that is less.
pub(super) fn memory(spec: &ContainerSpec) -> Bytes {
    let slice = slice(spec)
        .and_then(|slice| slice.simulated)
        .map(|limits| limits.memory);
    slice.map_or(spec.memory, |slice| slice.min(spec.memory))
}

pub(super) fn sandbox(
    inner: &Inner,
    prepared: &Prepared,
    spec: &ContainerSpec,
    directories: &Directories,
    group: &Group,
) -> Sandbox {
    let has_view = prepared.isolation.namespaces.is_ok();
    Sandbox {
        program: inner.config.runtime.clone(),
        arguments: Vec::new(),
        env: environment(prepared, spec, directories, has_view),
        cgroups: group.directories(),
        thaw: group
            .freezer()
            .map(|freezer| (freezer.file, freezer.thaw.to_owned())),
        user: user(prepared, spec),
        nice: nice(prepared, spec),
        namespaces: has_view.then(|| namespaces(inner, prepared, spec, directories)),
    }
}

fn namespaces(
    inner: &Inner,
    prepared: &Prepared,
    spec: &ContainerSpec,
    directories: &Directories,
) -> Namespaces {
    let mount = |from: &Path, to: &str, writable: bool| Mount {
        from: from.to_owned(),
        to: to.into(),
        writable,
    };
    let mut mounts = vec![
        mount(&directories.scratch, "/tmp", true),
        mount(&directories.own.join("s"), RUN, true),
    ];
    if let Some(LaneSpec {
        config_layer,
        shared_memory,
        ..
    }) = &spec.lane
    {
        mounts.extend(config_layer.as_ref().map(|layer| mount(layer, CONFIG, false)));
        mounts.extend(
            shared_memory
                .as_ref()
                .map(|memory| mount(Path::new(&memory.handle), "/dev/shm", true)),
        );
    }
    Namespaces {
        network: spec.lane.as_ref().is_none_or(|lane| lane.network),
        root: inner.config.directory.join("root"),
        readable: prepared.readable.clone(),
        devices: if slice(spec).is_some_and(|slice| slice.simulated.is_none()) {
            gpu_devices()
        } else {
            Vec::new()
        },
        mounts,
    }
}

/// Nodes of NVIDIA's driver; which slice they lead to, `CUDA_VISIBLE_DEVICES` says.
fn gpu_devices() -> Vec<PathBuf> {
    let nodes = |directory: &str| {
        let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).collect::<Vec<_>>()
    };
    let named = |path: &PathBuf| {
        path.file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with("nvidia"))
    };
    let mut found: Vec<_> = nodes("/dev")
        .into_iter()
        .filter(|path| named(path) && !path.is_dir())
        .collect();
    found.extend(nodes("/dev/nvidia-caps"));
    found
}

fn environment(
    prepared: &Prepared,
    spec: &ContainerSpec,
    directories: &Directories,
    has_view: bool,
) -> BTreeMap<String, String> {
    let text = |path: &Path| path.to_string_lossy().into_owned();
    let (run, temporary) = match has_view {
        true => (PathBuf::from(RUN), PathBuf::from("/tmp")),
        false => (directories.own.join("s"), directories.scratch.clone()),
    };
    let mut env = BTreeMap::from([
        (
            "PATH".to_owned(),
            "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned(),
        ),
        ("LANG".to_owned(), "C.UTF-8".to_owned()),
        ("HOME".to_owned(), text(&temporary)),
        ("TMPDIR".to_owned(), text(&temporary)),
        // Libraries ask who they run as, and there is no entry for it in /etc/passwd.
        ("USER".to_owned(), "ffs".to_owned()),
        ("LOGNAME".to_owned(), "ffs".to_owned()),
    ]);
    match slice(spec) {
        Some(SliceAccess {
            simulated: Some(_), ..
        }) => {
            // One compute thread, so that split and unsplit results agree bit for bit.
            for name in ["OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"] {
                env.insert(name.to_owned(), "1".to_owned());
            }
        }
        Some(SliceAccess {
            uuid,
            simulated: None,
        }) => {
            for name in ["CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES"] {
                env.insert(name.to_owned(), uuid.to_string());
            }
        }
        None => {}
    }
    env.extend(spec.env.clone());
    if let Some(layer) = spec.lane.as_ref().and_then(|lane| lane.config_layer.as_ref()) {
        let config = if has_view { CONFIG.to_owned() } else { text(layer) };
        env.insert("FFS_CONFIG".to_owned(), config);
    }
    env.insert("FFS_LISTEN".to_owned(), text(&run.join("http")));
    env.insert("FFS_LIFELINE".to_owned(), "stdin".to_owned());
    env.insert("FFS_PYTHON".to_owned(), text(&prepared.python));
    env
}

/// What stands for a small slice where CPU time cannot be limited: each step of niceness is a fifth
/// less time beside others.
fn nice(prepared: &Prepared, spec: &ContainerSpec) -> i32 {
    let cpus = slice(spec)
        .and_then(|slice| slice.simulated)
        .map(|limits| limits.cpus);
    match cpus {
        Some(cpus) if prepared.isolation.cpu.is_err() => {
            let host = std::thread::available_parallelism().map_or(1, std::num::NonZero::get) as f64;
            ((host / cpus).ln() / 1.25_f64.ln()).round().clamp(0.0, 19.0) as i32
        }
        _ => 0,
    }
}
