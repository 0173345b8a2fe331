//! Memory and CPU of this process, under Prometheus' usual names.

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{Counter, IntGauge};
use std::fs;

/// What `/proc/self` says when it is asked.
#[derive(Debug)]
pub(super) struct Usage {
    resident: IntGauge,
    cpu: Counter,
}

impl Usage {
    pub(super) fn new() -> Self {
        let resident = IntGauge::new("process_resident_memory_bytes", "Resident memory size in bytes.");
        let cpu = Counter::new(
            "process_cpu_seconds_total",
            "Total user and system CPU time spent in seconds.",
        );
        Self {
            resident: resident.expect("a valid name"),
            cpu: cpu.expect("a valid name"),
        }
    }
}

impl Collector for Usage {
    fn desc(&self) -> Vec<&Desc> {
        [self.resident.desc(), self.cpu.desc()].concat()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        if let Some(bytes) = resident_bytes() {
            self.resident.set(bytes);
        }
        let spent = cpu_seconds() - self.cpu.get();
        if spent > 0.0 {
            self.cpu.inc_by(spent);
        }
        [self.resident.collect(), self.cpu.collect()].concat()
    }
}

/// Line `VmRSS:    12345 kB`.
fn resident_bytes() -> Option<i64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: i64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

fn cpu_seconds() -> f64 {
    let Ok(usage) = nix::sys::resource::getrusage(nix::sys::resource::UsageWho::RUSAGE_SELF) else {
        return 0.0;
    };
    let seconds = |time: nix::sys::time::TimeVal| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6;
    seconds(usage.user_time()) + seconds(usage.system_time())
}
