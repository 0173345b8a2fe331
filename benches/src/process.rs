//! What a process has used, as `/proc` tells it.

use std::time::Duration;

/// Ticks a second of the times in `/proc`: fixed for user space on Linux.
const USER_HZ: u64 = 100;

/// CPU time of a process, and of the children that it has waited for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cpu {
    pub own: Duration,
    pub children: Duration,
}

impl Cpu {
    /// Of a process; nothing if it is gone.
    pub fn of(process: u32) -> Option<Self> {
        let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
        let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
        let ticks = |at: usize| -> Option<u64> { fields.get(at)?.parse().ok() };
        let time = |a, b| Some(Duration::from_millis((ticks(a)? + ticks(b)?) * 1000 / USER_HZ));
        Some(Self {
            own: time(11, 12)?,
            children: time(13, 14)?,
        })
    }
}

/// A figure of `/proc/N/status` in KiB, such as `VmRSS` or `VmHWM`.
pub fn memory_kib(process: u32, name: &str) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    line.trim().trim_end_matches(" kB").parse().ok()
}

/// Makes `VmHWM` begin anew at what is resident now.
///
/// # Errors
/// If the process is gone, or is somebody else's.
pub fn forget_peak(process: u32) -> std::io::Result<()> {
    std::fs::write(format!("/proc/{process}/clear_refs"), "5")
}
