//! Whether components take as long as was reckoned with.
//!
//! Source: ours. Of each component on each kind of slice the times of executions that served activations are
//! collected in windows, one after the other. A window takes one time per `window / runs`, so that it spans at
//! least `window` (less one of its parts) and a short disturbance cannot fill it. When it has `runs` of them,
//! its median stands against the time that is reckoned with: if the larger is more than `factor` times the
//! smaller, and the two are [`LEAST`] apart, the median holds from then on. The next windows are held against
//! that, so what passes is found to have passed. A median, because up to half of a window may be outliers.

use crate::instant::Instant;
use proto::id::{ComponentId, ProfileName};
use std::collections::BTreeMap;
use std::time::Duration;

/// Differences below this decide nothing: they are noise, and no plan hangs on them.
pub const LEAST: Duration = Duration::from_millis(1);

/// When what was seen takes the place of what was reckoned with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DriftSettings {
    /// How many times as long, or as short; above 1.
    pub factor: f64,
    /// Executions in a window; 0: nothing is observed.
    pub runs: u32,
    /// Time that a window spans at least.
    pub window: Duration,
}

impl Default for DriftSettings {
    fn default() -> Self {
        Self {
            factor: 1.5,
            runs: 30,
            window: Duration::from_secs(10),
        }
    }
}

/// A full window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    pub p50: Duration,
    pub p95: Duration,
    pub runs: u32,
}

/// The windows that are being filled.
#[derive(Debug, Default)]
pub struct Drift {
    windows: BTreeMap<(ProfileName, ComponentId), Window>,
}

#[derive(Debug)]
struct Window {
    times: Vec<Duration>,
    last: Instant,
}

impl Drift {
    /// Adds one execution of a component on a kind of slice; `reckoned` is what is reckoned with. Returns what
    /// was seen if that is to hold from now on.
    pub fn see(
        &mut self,
        component: &ComponentId,
        kind: &ProfileName,
        took: Duration,
        reckoned: Duration,
        now: Instant,
        settings: &DriftSettings,
    ) -> Option<Seen> {
        let runs = settings.runs as usize;
        if runs == 0 {
            return None;
        }
        let key = (kind.clone(), component.clone());
        let window = self.windows.entry(key).or_insert_with(|| Window {
            times: Vec::with_capacity(runs),
            last: now,
        });
        if !window.times.is_empty() && now.since(window.last) < settings.window / settings.runs {
            return None;
        }
        window.last = now;
        window.times.push(took);
        if window.times.len() < runs {
            return None;
        }
        let mut times = std::mem::take(&mut window.times);
        times.sort_unstable();
        let seen = Seen {
            p50: quantile(&times, 1, 2),
            p95: quantile(&times, 19, 20),
            runs: settings.runs,
        };
        let (less, more) = (seen.p50.min(reckoned), seen.p50.max(reckoned));
        let differs =
            more.as_nanos() as f64 > less.as_nanos() as f64 * settings.factor && more - less >= LEAST;
        differs.then_some(seen)
    }
}

/// The smallest time that at least `part / of` of the times do not exceed; `sorted` has at least one.
fn quantile(sorted: &[Duration], part: usize, of: usize) -> Duration {
    let at = (sorted.len() * part).div_ceil(of);
    sorted[at.saturating_sub(1)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MS: Duration = Duration::from_millis(1);

    /// Sees executions of these milliseconds, so long apart; what each of them led to.
    fn seen(times: &[u64], apart: Duration, reckoned: u64) -> Vec<Option<Seen>> {
        let (component, kind) = ("x".parse().unwrap(), "1g.10gb".parse().unwrap());
        let settings = DriftSettings::default();
        let mut drift = Drift::default();
        let see = |(at, ms): (usize, &u64)| {
            let now = Instant(apart * at as u32);
            drift.see(
                &component,
                &kind,
                MS * *ms as u32,
                MS * reckoned as u32,
                now,
                &settings,
            )
        };
        times.iter().enumerate().map(see).collect()
    }

    #[test]
    fn what_takes_longer_or_less_long_by_more_than_the_factor_is_told_when_the_window_is_full() {
        let apart = Duration::from_secs(1);
        for (took, told) in [
            (45, true),
            (30, false),
            (31, true),
            (20, false),
            (14, false),
            (13, true),
        ] {
            let seen = seen(&[took; 30], apart, 20);
            assert!(seen[..29].iter().all(Option::is_none));
            let expected = Seen {
                p50: MS * took as u32,
                p95: MS * took as u32,
                runs: 30,
            };
            assert_eq!(seen[29], told.then_some(expected), "{took}");
        }
    }

    #[test]
    fn what_differs_by_less_than_a_millisecond_does_not_count() {
        let apart = Duration::from_secs(1);
        assert!(seen(&[1; 30], apart, 0).iter().any(Option::is_some));
        let (component, kind) = ("x".parse().unwrap(), "1g.10gb".parse().unwrap());
        let mut drift = Drift::default();
        let settings = DriftSettings::default();
        for at in 0..60 {
            let now = Instant(apart * at);
            let (took, reckoned) = (Duration::from_micros(900), Duration::from_micros(100));
            assert_eq!(drift.see(&component, &kind, took, reckoned, now, &settings), None);
        }
    }

    #[test]
    fn a_disturbance_of_a_few_seconds_is_not_told_however_many_runs_it_has() {
        let mut times = vec![20; 1000];
        times.extend([200; 300]);
        times.extend([20; 3000]);
        assert!(seen(&times, MS * 10, 20).iter().all(Option::is_none));
    }

    #[test]
    fn without_runs_nothing_is_observed() {
        let (component, kind) = ("x".parse().unwrap(), "1g.10gb".parse().unwrap());
        let settings = DriftSettings {
            runs: 0,
            ..DriftSettings::default()
        };
        let mut drift = Drift::default();
        for at in 0..100 {
            let now = Instant(Duration::from_secs(at));
            assert_eq!(drift.see(&component, &kind, MS * 90, MS, now, &settings), None);
        }
    }

    proptest! {
        /// Whatever the others are: while more than half of all executions take what is reckoned with, nothing is told.
        #[test]
        fn outliers_in_the_minority_of_each_window_change_nothing(
            outliers in prop::collection::vec((0_usize..30, 1_u64..100_000), 0..14),
        ) {
            let mut times = vec![20; 30];
            for (at, ms) in outliers {
                times[at] = ms;
            }
            prop_assert!(seen(&times, Duration::from_secs(1), 20).iter().all(Option::is_none));
        }

        /// What is told is told once per full window, lies among what was seen, and differs by the factor.
        #[test]
        fn what_is_told_is_a_median_of_its_window(times in prop::collection::vec(1_u64..200, 0..200)) {
            for (at, told) in seen(&times, Duration::from_secs(1), 20).into_iter().enumerate() {
                if at % 30 != 29 {
                    prop_assert_eq!(told, None);
                    continue;
                }
                let mut window: Vec<u64> = times[at - 29..=at].to_vec();
                window.sort_unstable();
                let median = window[14];
                let differs = median * 2 > 60 || median * 3 < 40;
                let expected = differs.then(|| Seen {
                    p50: MS * median as u32,
                    p95: MS * window[28] as u32,
                    runs: 30,
                });
                prop_assert_eq!(told, expected);
            }
        }
    }
}
