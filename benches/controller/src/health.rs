//! What a controller thinks of one invoker: `InvokerActor` in `InvokerSupervision.scala` (K-43 … K-46).

use std::collections::VecDeque;
use std::fmt;
use std::time::{Duration, Instant};

/// Results that are remembered.
const RING: usize = 10;
/// Errors among them that are tolerated.
const TOLERANCE: usize = 3;
/// Silence after which an invoker counts as gone (K-43d).
pub const SILENCE: Duration = Duration::from_secs(10);
/// Between two test actions of an invoker that is not well (K-46).
pub const TEST_PERIOD: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Offline,
    Unhealthy,
    Unresponsive,
    Healthy,
}

/// As `GET /invokers` shows it (K-44).
impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Offline => "down",
            Self::Unhealthy => "unhealthy",
            Self::Unresponsive => "unresponsive",
            Self::Healthy => "up",
        })
    }
}

/// How one activation ended, as far as health goes (K-45).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Success,
    SystemError,
    /// No slot-freeing ack in time.
    Forced,
}

/// A test action is to be sent to the invoker.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    Nothing,
    SendTest,
}

/// The invoker of one index. New ones are offline: nothing was heard yet.
#[derive(Debug)]
pub struct Health {
    state: State,
    results: VecDeque<Outcome>,
    last_ping: Option<Instant>,
    last_test: Option<Instant>,
}

impl Default for Health {
    fn default() -> Self {
        Self {
            state: State::Offline,
            results: VecDeque::with_capacity(RING),
            last_ping: None,
            last_test: None,
        }
    }
}

impl Health {
    pub fn state(&self) -> State {
        self.state
    }

    /// A ping has come; `enabled` is true also where it does not say (V-02).
    pub fn ping(&mut self, enabled: bool, now: Instant) -> Effect {
        self.last_ping = Some(now);
        match (self.state, enabled) {
            (State::Offline, true) => self.enter(State::Unhealthy, now),
            (State::Unhealthy | State::Unresponsive | State::Healthy, false) => {
                self.enter(State::Offline, now)
            }
            (State::Offline, false) | (State::Unhealthy | State::Unresponsive | State::Healthy, true) => {
                Effect::Nothing
            }
        }
    }

    /// A slot was freed, by an ack or by force.
    pub fn result(&mut self, outcome: Outcome, now: Instant) -> Effect {
        if self.results.len() == RING {
            self.results.pop_front();
        }
        self.results.push_back(outcome);
        let again = match (self.state, outcome) {
            (State::Unhealthy, Outcome::Success) => self.test(now),
            _ => Effect::Nothing,
        };
        let next = match (self.state, outcome) {
            (State::Offline, _) | (State::Healthy, Outcome::Success) => return again,
            _ if self.count(Outcome::SystemError) > TOLERANCE => State::Unhealthy,
            _ if self.count(Outcome::Forced) > TOLERANCE => State::Unresponsive,
            (_, Outcome::Success) => State::Healthy,
            (_, Outcome::SystemError) if self.results.len() <= TOLERANCE => State::Unhealthy,
            (_, Outcome::Forced) if self.results.len() <= TOLERANCE => State::Unresponsive,
            (state, Outcome::SystemError | Outcome::Forced) => state,
        };
        match self.enter(next, now) {
            Effect::SendTest => Effect::SendTest,
            Effect::Nothing => again,
        }
    }

    /// Time has passed; to be called about once a second.
    pub fn tick(&mut self, now: Instant) -> Effect {
        let passed = |since: Option<Instant>, limit| since.is_none_or(|since| now - since >= limit);
        match self.state {
            State::Offline => Effect::Nothing,
            _ if passed(self.last_ping, SILENCE) => self.enter(State::Offline, now),
            State::Unhealthy | State::Unresponsive if passed(self.last_test, TEST_PERIOD) => self.test(now),
            State::Unhealthy | State::Unresponsive | State::Healthy => Effect::Nothing,
        }
    }

    fn count(&self, outcome: Outcome) -> usize {
        self.results.iter().filter(|result| **result == outcome).count()
    }

    fn enter(&mut self, next: State, now: Instant) -> Effect {
        let entered = std::mem::replace(&mut self.state, next) != next;
        match next {
            State::Unhealthy | State::Unresponsive if entered => self.test(now),
            _ => Effect::Nothing,
        }
    }

    fn test(&mut self, now: Instant) -> Effect {
        self.last_test = Some(now);
        Effect::SendTest
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Outcome::{Forced, Success, SystemError};

    fn after(seconds: u64) -> Instant {
        static BEGIN: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
        *BEGIN.get_or_init(Instant::now) + Duration::from_secs(seconds)
    }

    fn healthy() -> Health {
        let mut health = Health::default();
        assert_eq!(health.ping(true, after(0)), Effect::SendTest);
        let _ = health.result(Success, after(0));
        assert_eq!(health.state(), State::Healthy);
        health
    }

    fn results(health: &mut Health, outcomes: &[Outcome]) {
        for outcome in outcomes {
            let _ = health.result(*outcome, after(1));
        }
    }

    /// K-43a, K-43e, K-46
    #[test]
    fn a_newcomer_is_tested_and_one_good_test_makes_it_healthy() {
        let mut health = Health::default();
        assert_eq!(health.ping(true, after(0)), Effect::SendTest);
        assert_eq!(health.state(), State::Unhealthy);
        assert_eq!(health.ping(true, after(1)), Effect::Nothing);
        assert_eq!(health.result(Success, after(2)), Effect::SendTest);
        assert_eq!(health.state(), State::Healthy);
        assert_eq!(health.result(Success, after(2)), Effect::Nothing);
    }

    /// K-43b, K-43c, K-43d
    #[test]
    fn silence_and_a_ping_that_says_so_take_an_invoker_away_until_it_pings_again() {
        let mut health = healthy();
        assert_eq!(health.ping(true, after(5)), Effect::Nothing);
        let _ = health.tick(after(14));
        assert_eq!(health.state(), State::Healthy);
        let _ = health.tick(after(15));
        assert_eq!(health.state(), State::Offline);
        assert_eq!(health.ping(true, after(16)), Effect::SendTest);
        assert_eq!(health.state(), State::Unhealthy);
        let _ = health.ping(false, after(17));
        assert_eq!(health.state(), State::Offline);
        assert_eq!(health.ping(false, after(18)), Effect::Nothing);
    }

    /// K-43f, K-43e, K-46: and it takes as many successes as push the errors out of the ring.
    #[test]
    fn the_fourth_system_error_of_ten_makes_it_unhealthy() {
        let mut health = healthy();
        results(
            &mut health,
            &[Success, Success, SystemError, Success, SystemError, SystemError],
        );
        assert_eq!(health.state(), State::Healthy);
        results(&mut health, &[SystemError]);
        assert_eq!(health.state(), State::Unhealthy);
        // The ring: S S S E S E E E; then successes until the first error falls out.
        let mut tests = 0;
        while health.state() == State::Unhealthy {
            assert_eq!(health.result(Success, after(2)), Effect::SendTest);
            tests += 1;
        }
        assert_eq!((tests, health.state()), (6, State::Healthy));
    }

    /// K-43g
    #[test]
    fn four_lost_acks_make_it_unresponsive() {
        let mut health = healthy();
        results(&mut health, &[Success, Success, Success, Forced, Forced, Forced]);
        assert_eq!(health.state(), State::Healthy);
        assert_eq!(health.result(Forced, after(1)), Effect::SendTest);
        assert_eq!(health.state(), State::Unresponsive);
    }

    /// K-43h
    #[test]
    fn one_error_is_enough_while_little_is_known() {
        for (error, state) in [(SystemError, State::Unhealthy), (Forced, State::Unresponsive)] {
            let mut health = healthy();
            let _ = health.result(error, after(1));
            assert_eq!(health.state(), state);
        }
    }

    /// K-46
    #[test]
    fn an_invoker_that_is_not_well_is_tested_once_a_minute() {
        let mut health = Health::default();
        let _ = health.ping(true, after(0));
        let tests = (1..=125).filter(|second| {
            let _ = health.ping(true, after(*second));
            health.tick(after(*second)) == Effect::SendTest
        });
        assert_eq!(tests.collect::<Vec<_>>(), [60, 120]);
    }
}
