//! How long a waiting end looks again and again before it goes to sleep.
//!
//! Waking a sleeper costs microseconds, a look costs nanoseconds. Whoever waited shortly so far will do so again,
//! so the length is learned from the waits before, and bounded: an idle ring costs at most one [`LONGEST`].

use std::time::{Duration, Instant};

/// Longest adaptive spin. About the price of falling asleep and being woken on a slow machine.
const LONGEST: Duration = Duration::from_micros(50);
/// A wait counts at most this much, so that one idle hour is forgotten after a few short waits.
const COUNTED: Duration = Duration::from_micros(400);
/// Every n-th hopeless wait spins all the same: two ends that wake each other look slow to each other.
const PROBE_ONE_IN: u32 = 16;
/// Looks between two readings of the clock.
const LOOKS: u32 = 32;

/// How an end of a ring waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Spin {
    /// Spins as long as the last waits took, at most 50 µs; never where only one CPU is available.
    #[default]
    Adaptive,
    /// Sleeps at once.
    Never,
    /// Spins up to this long before it sleeps; never where only one CPU is available.
    UpTo(Duration),
}

/// What one end has learned about its waits.
#[derive(Debug)]
pub(crate) struct Spinner {
    mode: Spin,
    several_cpus: bool,
    /// Moving average of the waits, in nanoseconds.
    usual: u64,
    dice: u32,
}

impl Spinner {
    pub(crate) fn new() -> Self {
        // Affinity and CPU quota both count: a lane on half a CPU would spin its own peer's time away.
        let several_cpus =
            !cfg!(loom) && std::thread::available_parallelism().is_ok_and(|cpus| cpus.get() > 1);
        Self {
            mode: Spin::default(),
            several_cpus,
            usual: LONGEST.as_nanos() as u64 / 2,
            dice: std::process::id() | 1,
        }
    }

    pub(crate) fn set(&mut self, mode: Spin) {
        self.mode = mode;
    }

    /// Looks a few times without a reading of the clock, which costs more than the looks.
    pub(crate) fn glance(&mut self, ready: &impl Fn() -> bool) -> bool {
        let seen = self.several_cpus && self.mode != Spin::Never && look(ready);
        if seen {
            self.learn(Duration::ZERO);
        }
        seen
    }

    /// Looks until `ready` or until spinning does not pay any more; says whether it was `ready`.
    pub(crate) fn spin(
        &mut self,
        started: Instant,
        until: Option<Instant>,
        ready: &impl Fn() -> bool,
    ) -> bool {
        let limit = self.limit();
        if limit.is_zero() {
            return false;
        }
        let mut waited = Duration::ZERO;
        loop {
            if look(ready) {
                self.learn(waited); // as of the last reading: another one would hold up what was waited for
                return true;
            }
            let now = Instant::now();
            waited = now - started;
            if waited >= limit || until.is_some_and(|until| now >= until) {
                return false;
            }
        }
    }

    /// Counts a wait that is over, slept through or not.
    pub(crate) fn learn(&mut self, waited: Duration) {
        if self.mode == Spin::Adaptive && self.several_cpus {
            let waited = waited.min(COUNTED).as_nanos() as u64;
            self.usual = self.usual - self.usual / 8 + waited / 8;
        }
    }

    fn limit(&mut self) -> Duration {
        match self.mode {
            _ if !self.several_cpus => Duration::ZERO,
            Spin::Never => Duration::ZERO,
            Spin::UpTo(limit) => limit,
            Spin::Adaptive => {
                let usual = Duration::from_nanos(self.usual);
                if usual <= LONGEST {
                    (usual * 2 + Duration::from_micros(2)).min(LONGEST)
                } else if self.throw_dice() {
                    LONGEST
                } else {
                    Duration::ZERO
                }
            }
        }
    }

    /// True one time in [`PROBE_ONE_IN`]. Not every 16th time: both ends would then miss each other for ever.
    fn throw_dice(&mut self) -> bool {
        self.dice ^= self.dice << 13; // xorshift32
        self.dice ^= self.dice >> 17;
        self.dice ^= self.dice << 5;
        self.dice.is_multiple_of(PROBE_ONE_IN)
    }
}

fn look(ready: &impl Fn() -> bool) -> bool {
    for _ in 0..LOOKS {
        if ready() {
            return true;
        }
        std::hint::spin_loop();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spinner(mode: Spin, several_cpus: bool) -> Spinner {
        Spinner {
            mode,
            several_cpus,
            usual: LONGEST.as_nanos() as u64 / 2,
            dice: 1,
        }
    }

    #[test]
    fn nobody_spins_on_one_cpu_or_when_told_not_to() {
        for mode in [Spin::Adaptive, Spin::Never, Spin::UpTo(Duration::from_secs(1))] {
            assert_eq!(spinner(mode, false).limit(), Duration::ZERO);
        }
        assert_eq!(spinner(Spin::Never, true).limit(), Duration::ZERO);
    }

    #[test]
    fn long_waits_teach_it_to_sleep_at_once_but_for_a_rare_probe() {
        let mut spinner = spinner(Spin::Adaptive, true);
        for _ in 0..64 {
            spinner.learn(Duration::from_secs(1));
        }
        let limits: Vec<_> = (0..1600).map(|_| spinner.limit()).collect();
        let probes = limits.iter().filter(|limit| **limit == LONGEST).count();
        assert!((50..=200).contains(&probes), "{probes} probes");
        assert_eq!(
            limits.iter().filter(|limit| limit.is_zero()).count(),
            1600 - probes
        );
    }

    #[test]
    fn no_adaptive_spin_is_longer_than_its_bound() {
        let mut spinner = spinner(Spin::Adaptive, true);
        for usual in [0, 1_000, 25_000, 49_999, 50_001, 400_000] {
            spinner.usual = usual;
            assert!(spinner.limit() <= LONGEST);
        }
        spinner.usual = 1_000;
        assert_eq!(spinner.limit(), Duration::from_micros(4));
    }
}
