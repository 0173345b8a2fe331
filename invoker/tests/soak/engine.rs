//! What stands behind the invoker: where lanes are found and killed, and what may be left of them.

use super::docker_engine::Docker;
use super::support::daemon::{python, runtime};
use stand_in_controller::invoker::InvokerSettings;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

#[derive(Clone, Copy, Debug)]
pub(crate) enum EngineKind {
    Process,
    Docker,
}

pub(crate) enum Engine {
    Process,
    Docker(Mutex<Docker>),
}

impl Engine {
    pub(crate) fn start(kind: EngineKind) -> Self {
        match kind {
            EngineKind::Process => Self::Process,
            EngineKind::Docker => {
                let images = super::support::daemon::root().join("scripts/images");
                let made = std::process::Command::new(images).arg("ffs/python").status();
                assert!(made.unwrap().success(), "ffs/python is not made");
                Self::Docker(Mutex::new(Docker::start(&["ffs/python"])))
            }
        }
    }

    pub(crate) fn settings(&self, settings: InvokerSettings) -> InvokerSettings {
        let text = |path: &Path| path.display().to_string();
        match self {
            Self::Process => settings
                .with("CONFIG_ffs_engine", "process")
                .with("CONFIG_ffs_python", &text(python()))
                .with("CONFIG_ffs_runtime", &text(runtime())),
            Self::Docker(docker) => {
                let docker = docker.lock().unwrap();
                settings
                    .with("CONFIG_ffs_dockerSocket", &text(&docker.socket()))
                    .with("CONFIG_ffs_dockerContainers", &text(&docker.containers()))
            }
        }
    }

    /// SIGKILL for a lane, by Docker or for one of its processes as `which` says; whether it was there.
    pub(crate) fn kill(&self, folder: &Path, instance: &str, lane: &str, which: u8) -> bool {
        match self {
            Self::Docker(docker) if which.is_multiple_of(2) => {
                let of = format!("name=_{instance}_{lane}$");
                let docker = docker.lock().unwrap();
                let found = docker
                    .command(&["ps", "--quiet", "--filter", &of])
                    .output()
                    .unwrap();
                let found = String::from_utf8(found.stdout).unwrap();
                let Some(id) = found.lines().next() else {
                    return false;
                };
                let killed = docker.command(&["kill", id]).output().unwrap();
                killed.status.success()
            }
            Self::Process | Self::Docker(_) => {
                // The launcher or container's own process, the proxy, the interpreter.
                let lanes = processes(folder, instance, lane);
                let Some(count) = NonZero::new(lanes.len()) else {
                    return false;
                };
                let pid = nix::unistd::Pid::from_raw(lanes[usize::from(which / 2) % count]);
                nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).is_ok()
            }
        }
    }

    /// Its Docker dies and comes back.
    pub(crate) fn restart(&self) {
        let Self::Docker(docker) = self else {
            panic!("there is no Docker")
        };
        let mut docker = docker.lock().unwrap();
        docker.kill();
        docker.go_on();
    }

    /// Whatever there is of containers, shared memory and config layers; `folder` is the invoker's.
    pub(crate) fn remains(&self, folder: &Path) -> Vec<String> {
        let run = folder.join("run/invoker0");
        let mut found = entries(&run.join("layers"));
        match self {
            Self::Process => {
                found.extend(entries(&run.join("process/c")));
                found.extend(entries(&run.join("process/shm")));
                found.extend(entries(&folder.join("state/invoker0/scratch")));
                found.extend(mounts(folder));
            }
            Self::Docker(docker) => {
                let docker = docker.lock().unwrap();
                for arguments in [
                    ["ps", "--all", "--quiet"].as_slice(),
                    &["volume", "ls", "--quiet"],
                ] {
                    let listed = docker.command(arguments).output().unwrap();
                    let listed = String::from_utf8(listed.stdout).unwrap();
                    found.extend(listed.lines().map(|line| format!("{}: {line}", arguments[0])));
                }
                found.extend(entries(&run.join("docker")));
            }
        }
        found
    }
}

/// The processes of a lane, by their view of the config layer and their environment; the youngest last.
fn processes(folder: &Path, instance: &str, lane: &str) -> Vec<i32> {
    let layer = folder.join(format!("run/invoker0/layers/{instance} /ffs/config "));
    let layer = layer.display().to_string();
    let named = format!("FFS_LANE={lane}");
    let mut found: Vec<i32> = std::fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid: &i32| {
            let of = |file: &str| std::fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
            let is_lane = of("environ")
                .split(|byte| *byte == 0)
                .any(|variable| variable == named.as_bytes());
            is_lane && String::from_utf8_lossy(&of("mountinfo")).contains(&layer)
        })
        .collect();
    found.sort_unstable();
    found
}

fn entries(directory: &Path) -> Vec<String> {
    let paths = std::fs::read_dir(directory).into_iter().flatten().flatten();
    paths.map(|entry| entry.path().display().to_string()).collect()
}

fn mounts(folder: &Path) -> Vec<String> {
    let all = std::fs::read_to_string("/proc/mounts").unwrap();
    let of = |line: &str| {
        let place = line.split(' ').nth(1).map(PathBuf::from)?;
        place.starts_with(folder).then(|| line.to_owned())
    };
    all.lines().filter_map(of).collect()
}
