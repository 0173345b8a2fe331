//! More instances for a function that would miss its SLO, and better ones for those that could be faster.
//!
//! Neither takes anything from anybody: only slices and memory that are free, and that nobody waits
//! for. Source: ours; the paper says that scaling up constructs a pipeline and leaves the rest open.

use super::function::Function;
use super::scale::On;
use super::{Instance, Pipelines};
use crate::containers::Pool;
use crate::instance::State;
use crate::knowledge::Ranked;
use crate::placement::Placement;
use crate::step::Step;
use crate::work::FunctionKey;
use proto::unit::Bytes;
use std::mem;
use std::sync::Arc;
use std::time::Duration;

/// Requests of this time have to win back what a switch costs.
const HORIZON: Duration = Duration::from_secs(60);
/// A switch has to make a request faster by at least this part.
pub(super) const LEAST_GAIN: f64 = 0.1;
/// An instance in place of another, or with a replica less, may be used for this part of its time.
pub(super) const MOST_USED: f64 = 0.5;

/// Answers a second that a further instance would add, for each of its slices.
pub(super) fn adds(placement: &Placement) -> f64 {
    per_second(placement.bottleneck) / placement.lanes.len() as f64
}

/// Answers a second of an instance that gives one in this time.
pub(super) fn per_second(bottleneck: Duration) -> f64 {
    1.0 / bottleneck.as_secs_f64().max(1e-9)
}

impl Pipelines {
    /// Starts another instance of functions whose last activation is expected to miss its SLO, or one more replica
    /// of the lane that their activations wait for: what adds more for each slice.
    pub(super) fn relieve(&mut self, pool: &Pool, step: &mut Step<'_>) {
        let pressed = |(key, function): (&FunctionKey, &mut Function)| {
            let pressed = mem::take(&mut function.pressed);
            let may = function.rests_until <= step.now && function.superseded.is_none();
            (pressed && may).then(|| key.clone())
        };
        let pressed: Vec<FunctionKey> = self.functions.iter_mut().filter_map(pressed).collect();
        for key in pressed {
            if self.somebody_waits(pool) {
                return;
            }
            if self.is_coming(&key) {
                continue;
            }
            let may_start = self.live(&key) < self.functions[&key].most_instances();
            let another = may_start.then(|| self.placed_on_free(&key)).flatten();
            let least = another.as_ref().map_or(0.0, |(_, placement)| adds(placement));
            if !self.widen(&key, least, step)
                && let Some((ranked, placement)) = another
            {
                self.start_if_memory(&key, &ranked, &placement, On::Own, step);
            }
        }
    }

    /// Starts an instance in place of one that it would pay to replace: at most one at a time.
    pub(super) fn grow(&mut self, pool: &Pool, step: &mut Step<'_>) {
        if self.somebody_waits(pool) || self.instances.values().any(|i| i.replaces.is_some()) {
            return;
        }
        let settled = |i: &Instance| {
            i.state.serves()
                && i.is_settled()
                && step.now.since(i.hot_since) >= step.settings.dwell.max(i.residency(step.settings))
        };
        let numbers: Vec<u64> = self
            .instances
            .iter()
            .filter(|(_, i)| settled(i))
            .map(|(number, _)| *number)
            .collect();
        for number in numbers {
            let key = self.instances[&number].function.clone();
            let may = self
                .functions
                .get(&key)
                .is_some_and(|function| function.superseded.is_none() && function.rests_until <= step.now);
            if !may || self.is_coming(&key) {
                continue;
            }
            let Some((ranked, placement)) = self.placed_on_free(&key) else {
                continue;
            };
            if self.pays(number, &ranked, &placement, step)
                && self.start_if_memory(&key, &ranked, &placement, On::Better { than: number }, step)
            {
                return;
            }
        }
    }

    /// Whether the placement is worth a switch: it is faster by enough, for enough requests, and can
    /// take the load; or it frees a busy function from sharing.
    fn pays(&self, number: u64, ranked: &Ranked, placement: &Placement, step: &Step<'_>) -> bool {
        let instance = &self.instances[&number];
        let Some(function) = self.functions.get(&instance.function) else {
            return false;
        };
        let dwelt = instance
            .pressed_since
            .is_some_and(|since| step.now.since(since) >= step.settings.dwell);
        if matches!(instance.state, State::Shared { .. }) && dwelt {
            return true;
        }
        let rate = function.rate.per_second(step.now) / self.live(&instance.function).max(1) as f64;
        let (old, new) = (instance.latency.as_secs_f64(), placement.latency.as_secs_f64());
        let carries = placement.bottleneck <= instance.bottleneck
            || rate * placement.bottleneck.as_secs_f64() <= MOST_USED;
        let loads = placement
            .lanes
            .iter()
            .map(|lane| ranked.costs.load_time(lane.components));
        let cost = loads.max().unwrap_or_default().as_secs_f64();
        let won = (old - new) * rate * HORIZON.as_secs_f64();
        carries && new <= old * (1.0 - LEAST_GAIN) && won > cost
    }

    pub(super) fn placed_on_free(&mut self, key: &FunctionKey) -> Option<(Arc<Ranked>, Placement)> {
        let ranked = self.ranked(key)?;
        let (ledger, function) = (self.ledger.as_ref()?, self.functions.get(key)?);
        let slo = function.slo(&ranked);
        let placement = function.policy.place(&ranked.ranking, ledger.free(), slo).ok()?;
        Some((ranked, placement))
    }

    pub(super) fn start_if_memory(
        &mut self,
        key: &FunctionKey,
        ranked: &Arc<Ranked>,
        placement: &Placement,
        on: On,
        step: &mut Step<'_>,
    ) -> bool {
        let memory = Bytes(self.functions[key].memory.0 * placement.lanes.len() as u64);
        let taken = step.memory.take(memory);
        if taken {
            self.start_on(key, ranked, placement, memory, on, step);
        } else {
            self.wants_memory = true;
        }
        taken
    }

    fn is_coming(&self, key: &FunctionKey) -> bool {
        self.instances
            .values()
            .any(|i| i.function == *key && (i.is_coming() || !i.is_settled()))
    }

    fn somebody_waits(&self, pool: &Pool) -> bool {
        pool.blocked().is_some() || self.functions.values().any(|function| !function.queue.is_empty())
    }
}
