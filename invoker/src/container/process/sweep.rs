//! What a killed daemon left: found by notes that it took in its own directory, and removed.

use super::cgroups;
use super::shared_memory::Instances;
use super::{ProcessConfig, running};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How often and how long a launcher's end is waited for.
const ENDING: (u32, Duration) = (500, Duration::from_millis(5));
/// File with the directories of control groups, one a line.
const GROUPS: &str = "cgroups";
/// File with a launcher's pid and start time.
const LAUNCHER: &str = "launcher";

/// Notes where control groups are made, besides where they were made before.
pub(super) fn note_groups(directory: &Path, groups: &[PathBuf]) -> std::io::Result<()> {
    let mut all: BTreeSet<PathBuf> = noted_groups(directory).into_iter().collect();
    all.extend(groups.iter().cloned());
    let lines: String = all.iter().map(|group| format!("{}\n", group.display())).collect();
    std::fs::write(directory.join(GROUPS), lines)
}

fn noted_groups(directory: &Path) -> Vec<PathBuf> {
    let text = std::fs::read_to_string(directory.join(GROUPS)).unwrap_or_default();
    text.lines().map(PathBuf::from).collect()
}

/// Notes which process is a container's launcher.
pub(super) fn note_launcher(container: &Path, pid: u32) -> std::io::Result<()> {
    match started(pid.cast_signed()) {
        Some(time) => std::fs::write(container.join(LAUNCHER), format!("{pid} {time}")),
        None => Ok(()), // it has ended already
    }
}

/// Removes all that is there: processes, control groups, mounts, shared memory, directories.
pub(super) fn sweep(config: &ProcessConfig, name: &str, instances: &Instances) -> std::io::Result<()> {
    let containers = entries(&config.directory.join("c"))?;
    let launchers: Vec<_> = containers
        .iter()
        .filter_map(|container| noted_launcher(container))
        .collect();
    for launcher in &launchers {
        launcher.signal(Signal::SIGTERM);
    }
    for launcher in &launchers {
        launcher.wait();
    }
    for group in noted_groups(&config.directory) {
        cgroups::sweep(&group, name)?;
    }
    instances.sweep()?;
    for directory in containers.into_iter().chain(entries(&config.scratch)?) {
        running::remove_directory(&directory)?;
    }
    Ok(())
}

fn entries(directory: &Path) -> std::io::Result<Vec<PathBuf>> {
    std::fs::read_dir(directory)?
        .map(|entry| Ok(entry?.path()))
        .collect()
}

/// A process, told apart from a later one with the same number.
struct Launcher {
    pid: i32,
    started: u64,
}

fn noted_launcher(container: &Path) -> Option<Launcher> {
    let text = std::fs::read_to_string(container.join(LAUNCHER)).ok()?;
    let (pid, started) = text.trim().split_once(' ')?;
    Some(Launcher {
        pid: pid.parse().ok().filter(|pid| *pid > 1)?,
        started: started.parse().ok()?,
    })
}

impl Launcher {
    fn is_there(&self) -> bool {
        started(self.pid) == Some(self.started)
    }

    fn signal(&self, signal: Signal) {
        if self.is_there() {
            let _ = kill(Pid::from_raw(self.pid), signal);
        }
    }

    /// Until it has ended; one that does not is killed, and takes what is inside with it.
    fn wait(&self) {
        let (times, pause) = ENDING;
        for _ in 0..times {
            if !self.is_there() {
                return;
            }
            std::thread::sleep(pause);
        }
        self.signal(Signal::SIGKILL);
    }
}

/// When a process was started, in ticks since the machine's start; none if it is gone or only a zombie.
fn started(pid: i32) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // `pid (name) state …`; a name may hold anything, parentheses too. Fields are counted from 1.
    let (_, rest) = text.rsplit_once(") ")?;
    let mut fields = rest.split(' ');
    let is_zombie = fields.next()? == "Z";
    (!is_zombie).then(|| fields.nth(18)?.parse().ok()).flatten()
}
