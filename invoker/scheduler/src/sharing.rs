//! Turns on one shared slice: one lane computes at a time.
//!
//! Source: FluidFaaS §9, "turns on a SHARED slice". Per stage execution, not per request: whose turn
//! it is decides the earliest `deadline − execution`, and a lane keeps the slice for a while as long as
//! nobody misses a deadline by it.

use crate::instant::Instant;
use proto::id::LaneId;
use std::collections::BTreeSet;
use std::time::Duration;

/// A lane of an instance, by the instance's number.
pub type Lane = (u64, LaneId);

/// A lane that wants to compute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Want {
    pub lane: Lane,
    /// The lane's own count of its turns.
    pub turn: u64,
    /// When the oldest request of its instance should be answered.
    pub deadline: Instant,
    /// What one execution takes here.
    pub exec: Duration,
}

/// Who computes on one slice, and who waits for it.
#[derive(Clone, Debug, Default)]
pub struct Turns {
    holder: Option<(Lane, u64)>,
    /// In the order of asking.
    wants: Vec<Want>,
    /// Who had the last turns without a break, and since when.
    tenure: Option<(Lane, Instant)>,
    /// Instances whose lanes do not yet ask before they compute.
    unaware: BTreeSet<u64>,
}

impl Turns {
    /// A lane asks. Asking again replaces the older question.
    pub fn want(&mut self, want: Want) {
        self.wants.retain(|other| other.lane != want.lane);
        self.wants.push(want);
    }

    /// A lane gives its turn back; one that it does not have is none.
    pub fn give_back(&mut self, lane: Lane, turn: u64) {
        if self.holder == Some((lane, turn)) {
            self.holder = None;
        }
    }

    /// The lanes of this instance compute without asking, for now: nobody gets a turn.
    pub fn block(&mut self, instance: u64) {
        self.unaware.insert(instance);
    }

    /// They ask from now on.
    pub fn unblock(&mut self, instance: u64) {
        self.unaware.remove(&instance);
    }

    /// The instance has left the slice; what it asked for is returned.
    pub fn leave(&mut self, instance: u64) -> Vec<Want> {
        self.unblock(instance);
        self.holder.take_if(|((number, _), _)| *number == instance);
        self.tenure.take_if(|((number, _), _)| *number == instance);
        self.wants
            .extract_if(.., |want| want.lane.0 == instance)
            .collect()
    }

    /// Gives the slice to whoever is next, if it is nobody's. `most` is how long one lane may have it
    /// while others wait.
    pub fn grant(&mut self, now: Instant, most: Duration) -> Option<Want> {
        if self.holder.is_some() || !self.unaware.is_empty() {
            return None;
        }
        let at = self.stays(now, most).or_else(|| self.most_urgent())?;
        let next = self.wants.remove(at);
        self.holder = Some((next.lane, next.turn));
        if self.tenure.is_none_or(|(lane, _)| lane != next.lane) {
            self.tenure = Some((next.lane, now));
        }
        Some(next)
    }

    /// The lane that had the last turn, if its time is not over and nobody else would miss a deadline.
    fn stays(&self, now: Instant, most: Duration) -> Option<usize> {
        let (lane, since) = self.tenure?;
        let at = self.wants.iter().position(|want| want.lane == lane)?;
        let done = now + self.wants[at].exec;
        let on_time = |other: &Want| other.lane == lane || done + other.exec <= other.deadline;
        (now.since(since) < most && self.wants.iter().all(on_time)).then_some(at)
    }

    fn most_urgent(&self) -> Option<usize> {
        let latest_start = |want: &Want| want.deadline.0.saturating_sub(want.exec);
        let order = |at: &usize| (latest_start(&self.wants[*at]), *at);
        (0..self.wants.len()).min_by_key(order)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: Duration = Duration::from_millis(200);

    fn at(ms: u64) -> Instant {
        Instant(Duration::from_millis(ms))
    }

    fn want(instance: u64, turn: u64, deadline: u64, exec: u64) -> Want {
        Want {
            lane: (instance, LaneId::HEAD),
            turn,
            deadline: at(deadline),
            exec: Duration::from_millis(exec),
        }
    }

    fn granted(turns: &mut Turns, now: u64) -> Option<u64> {
        turns.grant(at(now), MOST).map(|want| want.lane.0)
    }

    #[test]
    fn one_lane_computes_at_a_time() {
        let mut turns = Turns::default();
        turns.want(want(1, 1, 500, 10));
        turns.want(want(2, 1, 400, 10));
        assert_eq!(granted(&mut turns, 0), Some(2), "it has to begin first");
        assert_eq!(granted(&mut turns, 5), None);

        turns.give_back((2, LaneId::HEAD), 7);
        assert_eq!(granted(&mut turns, 5), None, "that was not its turn");
        turns.give_back((2, LaneId::HEAD), 1);
        assert_eq!(granted(&mut turns, 10), Some(1));
    }

    #[test]
    fn the_one_that_has_to_begin_first_is_not_the_one_with_the_first_deadline() {
        let mut turns = Turns::default();
        turns.want(want(1, 1, 300, 10));
        turns.want(want(2, 1, 350, 100));
        assert_eq!(granted(&mut turns, 0), Some(2));
    }

    #[test]
    fn a_lane_stays_while_nobody_misses_a_deadline_and_its_time_is_not_over() {
        let mut turns = Turns::default();
        let again = |turns: &mut Turns, turn, now| {
            turns.give_back((1, LaneId::HEAD), turn);
            turns.want(want(1, turn + 1, 10_000, 50));
            granted(turns, now)
        };
        turns.want(want(1, 1, 10_000, 50));
        assert_eq!(granted(&mut turns, 0), Some(1));
        turns.want(want(2, 1, 1_000, 50));
        assert_eq!(again(&mut turns, 1, 50), Some(1), "nobody would miss anything");
        assert_eq!(again(&mut turns, 2, 199), Some(1));
        assert_eq!(again(&mut turns, 3, 200), Some(2), "its time is over");

        let mut turns = Turns::default();
        turns.want(want(1, 1, 10_000, 50));
        assert_eq!(granted(&mut turns, 0), Some(1));
        turns.want(want(2, 1, 140, 50));
        assert_eq!(again(&mut turns, 1, 50), Some(2), "the other one would be late");
    }

    #[test]
    fn nobody_gets_a_turn_while_somebody_computes_without_asking() {
        let mut turns = Turns::default();
        turns.block(1);
        turns.want(want(2, 1, 100, 10));
        assert_eq!(granted(&mut turns, 0), None);
        turns.unblock(1);
        assert_eq!(granted(&mut turns, 0), Some(2));
    }

    #[test]
    fn who_leaves_takes_its_turn_and_its_wishes_along() {
        let mut turns = Turns::default();
        turns.want(want(1, 1, 100, 10));
        assert_eq!(granted(&mut turns, 0), Some(1));
        turns.want(want(1, 2, 100, 10));
        turns.want(want(2, 1, 200, 10));
        assert_eq!(turns.leave(1), [want(1, 2, 100, 10)]);
        assert_eq!(granted(&mut turns, 0), Some(2));
    }
}
