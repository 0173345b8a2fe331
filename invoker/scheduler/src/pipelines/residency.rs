//! Weights leave the slices for host memory, and come back.
//!
//! A process sees one MIG device for its whole life, so a warm instance wakes where it was; while its
//! slices are taken, the function starts another instance elsewhere. Source: FluidFaaS §9.

use super::Pipelines;
use crate::instance::{Happening, State};
use crate::instant::Instant;
use crate::reason::{EvictReason, StopReason};
use crate::slices::Holder;
use crate::step::Step;
use crate::work::FunctionKey;
use proto::id::{InstanceId, SliceUuid};
use proto::unit::Bytes;

impl Pipelines {
    /// The weights of the instance are out of its slices.
    pub(crate) fn swapped_out(&mut self, id: &InstanceId, step: &mut Step<'_>) {
        if let Some(number) = self.number(id) {
            self.happens(number, Happening::SwappedOut, step);
        }
    }

    /// An idle instance makes way for a function: its weights stay in host memory if there is room
    /// for them, else it goes.
    pub(super) fn make_go(&mut self, number: u64, for_function: &FunctionKey, step: &mut Step<'_>) {
        let instance = &self.instances[&number];
        let replaced = self
            .functions
            .get(&instance.function)
            .is_none_or(|function| function.superseded.is_some());
        let function = for_function.to_string();
        if replaced || self.draining || step.memory.used() > most_while_warm(step) {
            let because = StopReason::Evicted {
                for_function: function,
            };
            self.happens(number, Happening::Retired(because), step);
        } else {
            self.happens(
                number,
                Happening::Evicted(EvictReason::ForFunction { function }),
                step,
            );
        }
    }

    /// Wakes a warm instance of the function whose slices are free; says whether it did.
    pub(super) fn wake(&mut self, key: &FunctionKey, step: &mut Step<'_>) -> bool {
        let Some(ledger) = &mut self.ledger else {
            return false;
        };
        let mut warm = self
            .instances
            .iter_mut()
            .filter(|(_, i)| i.function == *key && matches!(i.state, State::Warm { .. }));
        let woken = warm.find_map(|(number, instance)| {
            let slices: Vec<SliceUuid> = instance.places.iter().map(|place| place.slice.clone()).collect();
            instance.lease = ledger.lease(&slices, &Holder::Instance(instance.id.clone()));
            instance.lease.is_some().then_some(*number)
        });
        let Some(number) = woken else { return false };
        self.happens(number, Happening::Woken { shared: false }, step);
        true
    }

    /// Slices on which a warm instance of the function would wake.
    pub(super) fn warm_places(&self, key: &FunctionKey) -> Vec<Vec<SliceUuid>> {
        self.instances
            .values()
            .filter(|i| i.function == *key && matches!(i.state, State::Warm { .. }))
            .map(|i| i.places.iter().map(|place| place.slice.clone()).collect())
            .collect()
    }

    /// Warm instances go cold: those not needed for their keep-alive, and the coldest ones while
    /// containers hold too much memory.
    pub(super) fn cool(&mut self, step: &mut Step<'_>) {
        let warm = |state: &State| match state {
            State::Warm { since } => Some(*since),
            _ => None,
        };
        let mut old: Vec<(u64, StopReason)> = Vec::new();
        let mut kept: Vec<u64> = Vec::new();
        for (number, instance) in &self.instances {
            let Some(since) = warm(&instance.state) else {
                continue;
            };
            let since = step.now.since(since);
            match self.functions.get(&instance.function) {
                Some(function) => {
                    if let Some(by) = &function.superseded {
                        old.push((*number, StopReason::Superseded { by: by.clone() }));
                    } else if since >= function.keep_alive(step.settings) {
                        old.push((*number, StopReason::Warm { since }));
                    } else {
                        kept.push(*number);
                    }
                }
                None => old.push((*number, StopReason::Warm { since })),
            }
        }
        for (number, because) in old {
            self.happens(number, Happening::Retired(because), step);
        }
        let most = most_while_warm(step);
        let mut leaving = step.memory.leaving();
        kept.sort_by(|a, b| self.by_score(*a, *b, step.now, step));
        for number in kept {
            let used = Bytes(step.memory.used().0 - leaving.0);
            if used <= most {
                return;
            }
            leaving.0 += self.instances[&number].memory.0;
            self.happens(
                number,
                Happening::Retired(StopReason::HostMemory { used, most }),
                step,
            );
        }
    }

    /// Warm instances, the first victim first.
    pub(super) fn warm_coldest_first(&self, step: &Step<'_>) -> Vec<u64> {
        let warm =
            |(number, i): (&u64, &super::Instance)| matches!(i.state, State::Warm { .. }).then_some(*number);
        let mut warm: Vec<u64> = self.instances.iter().filter_map(warm).collect();
        warm.sort_by(|a, b| self.by_score(*a, *b, step.now, step));
        warm
    }

    /// The order of victims; ties: the one used longest ago, then the oldest.
    pub(super) fn by_score(&self, a: u64, b: u64, now: Instant, step: &Step<'_>) -> std::cmp::Ordering {
        let score = |number: u64| {
            let instance = &self.instances[&number];
            instance.score(self.hotness(number, now), step.settings.victims)
        };
        let used = |number: u64| self.instances[&number].used;
        score(a)
            .total_cmp(&score(b))
            .then(used(a).cmp(&used(b)))
            .then(a.cmp(&b))
    }

    /// The share of its slices that the instance needs.
    pub(super) fn hotness(&self, number: u64, now: Instant) -> f64 {
        let instance = &self.instances[&number];
        let live = self.live(&instance.function).max(1);
        self.functions.get(&instance.function).map_or(0.0, |function| {
            function.rate.hotness(instance.bottleneck, now) / live as f64
        })
    }
}

/// Memory that containers may hold while warm instances are kept.
fn most_while_warm(step: &Step<'_>) -> Bytes {
    Bytes((step.memory.budget().0 as f64 * step.settings.host_memory_high) as u64)
}
