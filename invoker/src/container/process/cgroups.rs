//! Control groups, versions 1 and 2: limits on memory, CPU and processes, and the freezer.
//!
//! ```text
//!  <the daemon's own group>/<name of the engine>/<container>      in each hierarchy that is needed
//! ```
//! Groups are made below the daemon's own, so that limits set on the daemon hold for its containers.
//! What is not permitted is left out and said; see `isolation`.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use proto::unit::Bytes;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Short, so that a lane with a small quota is not held up for long at a time.
const PERIOD_MICROSECONDS: u64 = 20_000;
/// The kernel takes no smaller quota.
const LEAST_QUOTA_MICROSECONDS: u64 = 1_000;
/// How often and how long emptying a group is waited for: its processes are dying.
const EMPTYING: (u32, Duration) = (400, Duration::from_millis(5));

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Controller {
    Cpu,
    Memory,
    Pids,
    Freezer,
}

impl Controller {
    const ALL: [Self; 4] = [Self::Cpu, Self::Memory, Self::Pids, Self::Freezer];

    fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Memory => "memory",
            Self::Pids => "pids",
            Self::Freezer => "freezer",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

/// Where a controller's groups can be made.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    version: Version,
    /// The daemon's own group.
    own: PathBuf,
}

/// The engine's part of each hierarchy.
#[derive(Debug)]
pub(super) struct Cgroups {
    name: String,
    places: BTreeMap<Controller, Place>,
    /// Why a controller is not used.
    refused: BTreeMap<Controller, String>,
}

impl Cgroups {
    /// Finds out which controllers may be used, and makes the engine's groups.
    pub(super) fn open(name: &str) -> Self {
        let read = |file: &str| std::fs::read_to_string(file).unwrap_or_default();
        Self::open_at(
            name,
            find(&read("/proc/self/mountinfo"), &read("/proc/self/cgroup")),
        )
    }

    fn open_at(name: &str, found: BTreeMap<Controller, Place>) -> Self {
        let mut cgroups = Self {
            name: name.to_owned(),
            places: BTreeMap::new(),
            refused: BTreeMap::new(),
        };
        for controller in Controller::ALL {
            let outcome = match found.get(&controller) {
                Some(place) => cgroups.prepare(controller, place).map(|()| place.clone()),
                None => Err("it is not mounted, or not handed down to this process's group".to_owned()),
            };
            match outcome {
                Ok(place) => {
                    cgroups.places.insert(controller, place);
                }
                Err(reason) => {
                    cgroups.refused.insert(controller, reason);
                }
            }
        }
        cgroups
    }

    /// Why a controller is not used; none: it is.
    pub(super) fn refusal(&self, controller: Controller) -> Option<&str> {
        self.refused.get(&controller).map(String::as_str)
    }

    /// The engine's group in each hierarchy, by which a later start finds what this one leaves.
    pub(super) fn directories(&self) -> Vec<PathBuf> {
        let mut all: Vec<_> = self
            .places
            .values()
            .map(|place| place.own.join(&self.name))
            .collect();
        all.sort();
        all.dedup();
        all
    }

    fn prepare(&self, controller: Controller, place: &Place) -> Result<(), String> {
        let directory = place.own.join(&self.name);
        let made = std::fs::create_dir_all(&directory);
        made.map_err(|error| format!("{} cannot be made: {error}", directory.display()))?;
        if place.version == Version::Two && controller != Controller::Freezer {
            hand_down(controller, &place.own, Some(&self.name))?;
            hand_down(controller, &directory, None)?;
        }
        Ok(())
    }

    /// Makes the groups of one container, with what is fixed from its start.
    pub(super) fn create(&self, container: &str, memory: Bytes, processes: u32) -> std::io::Result<Group> {
        let mut group = Group::default();
        for (controller, place) in &self.places {
            let directory = place.own.join(&self.name).join(container);
            // From here on dropping the group removes it.
            group
                .parts
                .insert(*controller, (place.version, directory.clone()));
            make(&directory)?;
        }
        group.set_memory(memory)?;
        if let Some((_, directory)) = group.parts.get(&Controller::Pids) {
            write(&directory.join("pids.max"), &processes.to_string())?;
        }
        Ok(group)
    }

    /// Removes the engine's groups, if nothing is left in them.
    pub(super) fn close(&self) {
        for directory in self.directories() {
            // A container is still there, or another thread was quicker: the next start sweeps.
            let _ = std::fs::remove_dir(directory);
        }
    }
}

/// Kills what is in the groups below a directory that an earlier engine made, and removes them all.
/// Directories that cannot be an engine's groups are left alone.
pub(super) fn sweep(directory: &Path, name: &str) -> std::io::Result<()> {
    let is_ours = directory.file_name().is_some_and(|last| last == name);
    if !is_ours || !directory.join("cgroup.procs").exists() {
        return Ok(());
    }
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            empty(&entry.path())?;
        }
    }
    empty(directory)
}

/// The groups of one container. Dropped, they are removed.
#[derive(Debug, Default)]
pub(super) struct Group {
    parts: BTreeMap<Controller, (Version, PathBuf)>,
}

impl Group {
    /// What a process writes itself into.
    pub(super) fn directories(&self) -> Vec<PathBuf> {
        let mut all: Vec<_> = self
            .parts
            .values()
            .map(|(_, directory)| directory.clone())
            .collect();
        all.sort();
        all.dedup();
        all
    }

    fn set_memory(&self, memory: Bytes) -> std::io::Result<()> {
        let (limit, swap) = match self.parts.get(&Controller::Memory) {
            Some((Version::One, d)) => (
                d.join("memory.limit_in_bytes"),
                (d.join("memory.memsw.limit_in_bytes"), memory.0),
            ),
            Some((Version::Two, d)) => (d.join("memory.max"), (d.join("memory.swap.max"), 0)),
            None => return Ok(()),
        };
        write(&limit, &memory.0.to_string())?;
        // Absent where the kernel does not count swap.
        if swap.0.exists() {
            write(&swap.0, &swap.1.to_string())?;
        }
        Ok(())
    }

    /// Puts a CPU quota in force.
    pub(super) fn set_cpus(&self, cpus: f64) -> std::io::Result<()> {
        let quota = ((cpus * PERIOD_MICROSECONDS as f64) as u64).max(LEAST_QUOTA_MICROSECONDS);
        match self.parts.get(&Controller::Cpu) {
            Some((Version::One, directory)) => {
                write(
                    &directory.join("cpu.cfs_period_us"),
                    &PERIOD_MICROSECONDS.to_string(),
                )?;
                write(&directory.join("cpu.cfs_quota_us"), &quota.to_string())
            }
            Some((Version::Two, directory)) => write(
                &directory.join("cpu.max"),
                &format!("{quota} {PERIOD_MICROSECONDS}"),
            ),
            None => Ok(()),
        }
    }

    /// What counts the processes in it that were killed for want of memory.
    pub(super) fn memory_watch(&self) -> MemoryWatch {
        MemoryWatch(
            self.parts
                .get(&Controller::Memory)
                .map(|(version, directory)| match version {
                    Version::One => directory.join("memory.oom_control"),
                    Version::Two => directory.join("memory.events"),
                }),
        )
    }

    /// The freezer's file, and what stops and wakes what is in the group.
    pub(super) fn freezer(&self) -> Option<Freezer> {
        let (version, directory) = self.parts.get(&Controller::Freezer)?;
        Some(match version {
            Version::One => Freezer {
                file: directory.join("freezer.state"),
                freeze: "FROZEN",
                thaw: "THAWED",
            },
            Version::Two => Freezer {
                file: directory.join("cgroup.freeze"),
                freeze: "1",
                thaw: "0",
            },
        })
    }

    /// Kills what is left in it and removes it.
    pub(super) fn remove(&self) -> std::io::Result<()> {
        self.directories()
            .iter()
            .try_for_each(|directory| empty(directory))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Err(error) = self.remove() {
            tracing::warn!(%error, groups = ?self.directories(), "control groups left behind");
        }
    }
}

/// The file of a group's events; none where memory is not limited.
#[derive(Debug)]
pub(super) struct MemoryWatch(Option<PathBuf>);

impl MemoryWatch {
    /// Whether a process in the group has been killed for want of memory.
    pub(super) fn was_exceeded(&self) -> bool {
        let text = self
            .0
            .as_ref()
            .and_then(|file| std::fs::read_to_string(file).ok())
            .unwrap_or_default();
        let kills = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
        kills
            .and_then(|count| count.trim().parse::<u64>().ok())
            .is_some_and(|count| count > 0)
    }
}

#[derive(Clone, Debug)]
pub(super) struct Freezer {
    pub(super) file: PathBuf,
    pub(super) freeze: &'static str,
    pub(super) thaw: &'static str,
}

/// Kills what is in a group until it can be removed; one that is gone already is removed.
fn empty(directory: &Path) -> std::io::Result<()> {
    let (times, pause) = EMPTYING;
    let mut tries = 0;
    loop {
        match std::fs::remove_dir(directory) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(error) if error.kind() == std::io::ErrorKind::ResourceBusy && tries < times => {}
            outcome => return outcome,
        }
        tries += 1;
        kill_all(directory);
        std::thread::sleep(pause);
    }
}

fn kill_all(directory: &Path) {
    // What is frozen by version 1 does not die; what has neither file is not frozen.
    for (file, thaw) in [("freezer.state", "THAWED"), ("cgroup.kill", "1")] {
        let file = directory.join(file);
        if file.exists() {
            let _ = std::fs::write(file, thaw);
        }
    }
    let processes = std::fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
    for process in processes
        .lines()
        .filter_map(|line| line.trim().parse::<i32>().ok())
        .filter(|pid| *pid > 1)
    {
        let _ = kill(Pid::from_raw(process), Signal::SIGKILL);
    }
}

/// As the standard library's, with the file's name in the error.
fn write(file: &Path, text: &str) -> std::io::Result<()> {
    std::fs::write(file, text).map_err(|error| named(file, &error))
}

fn make(directory: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(directory).map_err(|error| named(directory, &error))
}

fn named(path: &Path, error: &std::io::Error) -> std::io::Error {
    std::io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// Lets a version 2 group's children use a controller. A group that has processes of its own may not;
/// then this process moves into a leaf beside the engine's group.
fn hand_down(controller: Controller, directory: &Path, leaf: Option<&str>) -> Result<(), String> {
    let enable = || {
        std::fs::write(
            directory.join("cgroup.subtree_control"),
            format!("+{}", controller.name()),
        )
    };
    let outcome = match (enable(), leaf) {
        (Err(error), Some(name)) if error.kind() == std::io::ErrorKind::ResourceBusy => {
            let leaf = directory.join(format!("{name}-daemon"));
            std::fs::create_dir_all(&leaf)
                .and_then(|()| std::fs::write(leaf.join("cgroup.procs"), "0"))
                .and_then(|()| enable())
        }
        (outcome, _) => outcome,
    };
    outcome.map_err(|error| {
        format!(
            "{} cannot hand {} down: {error}",
            directory.display(),
            controller.name()
        )
    })
}

/// Where each controller's groups of this process are, from the text of `mountinfo` and `cgroup`.
fn find(mounts: &str, own: &str) -> BTreeMap<Controller, Place> {
    let mut found = BTreeMap::new();
    for mount in mounts.lines().filter_map(HierarchyMount::parse) {
        let Some(own) = own.lines().find_map(|line| mount.own_group(line)) else {
            continue;
        };
        for controller in Controller::ALL {
            let offers = match mount.version {
                Version::One => mount.controllers.split(',').any(|name| name == controller.name()),
                Version::Two => offers(&own, controller),
            };
            // A controller is in one hierarchy; if it is mounted twice, either will do.
            if offers {
                let place = Place {
                    version: mount.version,
                    own: own.clone(),
                };
                found.entry(controller).or_insert(place);
            }
        }
    }
    found
}

fn offers(own: &Path, controller: Controller) -> bool {
    let controllers = std::fs::read_to_string(own.join("cgroup.controllers")).unwrap_or_default();
    let has = |name: &str| controllers.split_whitespace().any(|each| each == name);
    match controller {
        // Not a controller of version 2, but a part of every group that is not the root.
        Controller::Freezer => has(Controller::Memory.name()),
        Controller::Cpu | Controller::Memory | Controller::Pids => has(controller.name()),
    }
}

struct HierarchyMount<'a> {
    version: Version,
    /// Of version 1: which ones, between commas.
    controllers: &'a str,
    /// The group that is mounted.
    root: &'a str,
    point: &'a Path,
}

impl<'a> HierarchyMount<'a> {
    /// `36 31 0:33 / /sys/fs/cgroup/memory rw,relatime shared:9 - cgroup cgroup rw,memory`
    fn parse(line: &'a str) -> Option<Self> {
        let (left, right) = line.split_once(" - ")?;
        let mut left = left.split(' ').skip(3);
        let (root, point) = (left.next()?, Path::new(left.next()?));
        let mut right = right.split(' ');
        let (kind, options) = (right.next()?, right.nth(1)?);
        let version = match kind {
            "cgroup" => Version::One,
            "cgroup2" => Version::Two,
            _ => return None,
        };
        Some(Self {
            version,
            controllers: options,
            root,
            point,
        })
    }

    /// The directory of this process's group, if a line of `/proc/self/cgroup` is about this hierarchy.
    fn own_group(&self, line: &str) -> Option<PathBuf> {
        let (_, rest) = line.split_once(':')?;
        let (controllers, path) = rest.split_once(':')?;
        let is_it = match self.version {
            Version::Two => controllers.is_empty(),
            Version::One => {
                let mounted = |name: &str| self.controllers.split(',').any(|other| other == name);
                !controllers.is_empty() && controllers.split(',').all(mounted)
            }
        };
        // In a container the mounted group is the container's, and so is the path's beginning.
        let below = Path::new(path).strip_prefix(self.root).unwrap_or(Path::new(""));
        is_it.then(|| self.point.join(below))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPLIT: &str = "\
32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime shared:9 - cgroup cgroup rw,memory
39 31 0:36 / /sys/fs/cgroup/pids rw,relatime - cgroup cgroup rw,pids
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
23 22 0:5 / /proc rw - proc proc rw";

    #[test]
    fn each_controller_of_version_1_has_a_place_of_its_own() {
        let found = find(SPLIT, "8:pids:/\n4:memory:/a/b\n2:cpuacct:/\n1:cpu:/\n0::/");
        assert_eq!(
            place(&found, Controller::Memory),
            Some(Path::new("/sys/fs/cgroup/memory/a/b"))
        );
        assert_eq!(
            place(&found, Controller::Cpu),
            Some(Path::new("/sys/fs/cgroup/cpu"))
        );
        assert_eq!(
            place(&found, Controller::Pids),
            Some(Path::new("/sys/fs/cgroup/pids"))
        );
        assert_eq!(place(&found, Controller::Freezer), None);
    }

    #[test]
    fn controllers_that_are_mounted_together_share_one() {
        let mounts = "33 32 0:30 / /sys/fs/cgroup/cpu,cpuacct rw shared:10 - cgroup cgroup rw,cpu,cpuacct";
        let found = find(mounts, "4:cpu,cpuacct:/user.slice");
        assert_eq!(
            place(&found, Controller::Cpu),
            Some(Path::new("/sys/fs/cgroup/cpu,cpuacct/user.slice"))
        );
    }

    #[test]
    fn in_a_container_the_mounted_group_is_the_own_one() {
        let mounts = "35 31 0:32 /docker/ab12 /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory";
        let found = find(mounts, "4:memory:/docker/ab12");
        assert_eq!(
            place(&found, Controller::Memory),
            Some(Path::new("/sys/fs/cgroup/memory"))
        );
    }

    #[test]
    fn version_2_is_used_for_what_is_handed_down_to_the_own_group() {
        let root = tempfile::tempdir().expect("a directory");
        let own = root.path().join("system.slice/ffs.service");
        std::fs::create_dir_all(&own).expect("made");
        std::fs::write(own.join("cgroup.controllers"), "cpu memory pids\n").expect("written");
        std::fs::write(own.join("cgroup.freeze"), "0\n").expect("written");
        let mounts = format!(
            "41 31 0:38 / {} rw - cgroup2 cgroup2 rw,nsdelegate",
            root.path().display()
        );
        let found = find(&mounts, "0::/system.slice/ffs.service");
        for controller in Controller::ALL {
            assert_eq!(place(&found, controller), Some(own.as_path()), "{controller:?}");
        }
    }

    #[test]
    fn what_version_2_does_not_hand_down_is_refused_and_said() {
        let root = tempfile::tempdir().expect("a directory");
        std::fs::write(root.path().join("cgroup.controllers"), "\n").expect("written");
        let mounts = format!("41 31 0:38 / {} rw - cgroup2 cgroup2 rw", root.path().display());
        let cgroups = Cgroups::open_at("ffs-test", find(&mounts, "0::/"));
        for controller in Controller::ALL {
            let reason = cgroups.refusal(controller).expect("refused");
            assert!(reason.contains("not handed down"), "{reason}");
        }
        let group = cgroups.create("c1", Bytes::mib(64), 16).expect("nothing to make");
        assert_eq!(group.directories(), Vec::<PathBuf>::new());
        group.set_cpus(0.5).expect("nothing to limit");
    }

    /// Plain files stand for the kernel's: what is written, where.
    #[test]
    fn limits_of_version_2_are_written_as_the_kernel_reads_them() {
        let directory = tempfile::tempdir().expect("a directory");
        std::fs::write(directory.path().join("memory.swap.max"), "max").expect("written");
        let part = || (Version::Two, directory.path().to_owned());
        let group = std::mem::ManuallyDrop::new(Group {
            parts: BTreeMap::from([(Controller::Memory, part()), (Controller::Cpu, part())]),
        });
        group.set_memory(Bytes::mib(64)).expect("written");
        group.set_cpus(0.171).expect("written");
        let read = |name: &str| std::fs::read_to_string(directory.path().join(name)).expect(name);
        assert_eq!(
            (read("memory.max"), read("memory.swap.max")),
            ("67108864".into(), "0".into())
        );
        assert_eq!(read("cpu.max"), "3420 20000");
        std::fs::write(
            directory.path().join("memory.events"),
            "low 0\noom 3\noom_kill 2\n",
        )
        .expect("written");
        assert!(group.memory_watch().was_exceeded());
    }

    #[test]
    fn a_quota_is_never_smaller_than_the_kernel_takes() {
        let directory = tempfile::tempdir().expect("a directory");
        let parts = BTreeMap::from([(Controller::Cpu, (Version::Two, directory.path().to_owned()))]);
        let group = std::mem::ManuallyDrop::new(Group { parts });
        group.set_cpus(0.001).expect("written");
        let text = std::fs::read_to_string(directory.path().join("cpu.max")).expect("written");
        assert_eq!(text, "1000 20000");
    }

    fn place(found: &BTreeMap<Controller, Place>, controller: Controller) -> Option<&Path> {
        found.get(&controller).map(|place| place.own.as_path())
    }
}
