//! How much of a slice a function needs: a request rate that fades with time.
//!
//! Source: FluidFaaS §9; the metric is ours.

use crate::instant::Instant;
use std::time::Duration;

/// Time constant of the decay: a request counts for 1/e after this time.
const TAU: Duration = Duration::from_secs(60);

/// An exponentially decayed count of requests.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rate {
    count: f64,
    at: Instant,
}

impl Rate {
    pub fn count(&mut self, now: Instant) {
        self.count = self.faded(now) + 1.0;
        self.at = now;
    }

    /// Requests per second.
    pub fn per_second(&self, now: Instant) -> f64 {
        self.faded(now) / TAU.as_secs_f64()
    }

    /// The share of a slice that is needed when each request keeps it busy for `busy`: 0 to 1.
    pub fn hotness(&self, busy: Duration, now: Instant) -> f64 {
        (self.per_second(now) * busy.as_secs_f64()).min(1.0)
    }

    fn faded(&self, now: Instant) -> f64 {
        self.count * (-(now.since(self.at).as_secs_f64() / TAU.as_secs_f64())).exp()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_fades_to_a_third_in_one_time_constant() {
        let mut rate = Rate::default();
        for _ in 0..600 {
            rate.count(Instant::ZERO);
        }
        assert_eq!(rate.per_second(Instant::ZERO), 10.0);
        let later = rate.per_second(Instant::ZERO + TAU);
        assert!((3.6..3.7).contains(&later), "{later}");
    }

    #[test]
    fn hotness_is_the_share_of_a_slice_and_never_more_than_all_of_it() {
        let mut rate = Rate::default();
        for _ in 0..120 {
            rate.count(Instant::ZERO);
        }
        assert_eq!(rate.hotness(Duration::from_millis(250), Instant::ZERO), 0.5);
        assert_eq!(rate.hotness(Duration::from_secs(9), Instant::ZERO), 1.0);
    }
}
