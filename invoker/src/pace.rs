//! Lets the first through at once, and those that would follow it closely together.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// For what costs as much for many as for one.
#[derive(Debug)]
pub struct Pace {
    /// Nobody goes before.
    next: Mutex<Instant>,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            next: Mutex::new(Instant::now()),
        }
    }
}

impl Pace {
    /// Returns when the caller may go: at once, if nobody went within the last spacing. Those behind wait for `spacing`.
    pub async fn turn(&self, spacing: Duration) {
        let Err(next) = self.try_go(spacing) else { return };
        sleep_until(next).await;
        // All who waited for this instant go now; the first of them says when the next do.
        let _ = self.try_go(spacing);
    }

    /// # Errors
    /// When others may go.
    fn try_go(&self, spacing: Duration) -> Result<(), Instant> {
        let now = Instant::now();
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        if now < *next {
            return Err(*next);
        }
        *next = now + spacing;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::future::join_all;

    #[tokio::test(start_paused = true)]
    async fn the_first_goes_at_once_and_those_after_it_together() {
        let begun = Instant::now();
        let (pace, spacing) = (Pace::default(), Duration::from_millis(20));
        pace.turn(spacing).await;
        assert_eq!(begun.elapsed(), Duration::ZERO);
        let went = join_all((0..5).map(|_| async {
            pace.turn(spacing).await;
            begun.elapsed().as_millis()
        }));
        assert_eq!(went.await, [20; 5]);
        tokio::time::advance(Duration::from_millis(50)).await;
        pace.turn(spacing).await;
        assert_eq!(begun.elapsed().as_millis(), 70);
    }
}
