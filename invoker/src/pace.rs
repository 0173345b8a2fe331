//! Lets the first through at once, and those that would follow it closely together.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// For what costs as much for many as for one.
#[derive(Debug)]
pub struct Pace {
    spacing: Duration,
    /// Nobody goes before.
    next: Mutex<Instant>,
}

impl Pace {
    pub fn new(spacing: Duration) -> Self {
        Self {
            spacing,
            next: Mutex::new(Instant::now()),
        }
    }

    /// Returns when the caller may go: at once, if nobody went within the last spacing.
    pub async fn turn(&self) {
        let Err(next) = self.try_go() else { return };
        sleep_until(next).await;
        // All who waited for this instant go now; the first of them says when the next do.
        let _ = self.try_go();
    }

    /// # Errors
    /// When others may go.
    fn try_go(&self) -> Result<(), Instant> {
        let now = Instant::now();
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        if now < *next {
            return Err(*next);
        }
        *next = now + self.spacing;
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
        let pace = Pace::new(Duration::from_millis(20));
        pace.turn().await;
        assert_eq!(begun.elapsed(), Duration::ZERO);
        let went = join_all((0..5).map(|_| async {
            pace.turn().await;
            begun.elapsed().as_millis()
        }));
        assert_eq!(went.await, [20; 5]);
        tokio::time::advance(Duration::from_millis(50)).await;
        pace.turn().await;
        assert_eq!(begun.elapsed().as_millis(), 70);
    }
}
