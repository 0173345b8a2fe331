//! Who goes when others need slices or memory: what is idle, the coldest first, and replicas that nobody needs.

use super::{Instance, Pipelines};
use crate::containers::Pool;
use crate::free::FreeSlices;
use crate::instance::Happening;
use crate::reason::StopReason;
use crate::slices::Lease;
use crate::step::Step;
use crate::work::FunctionKey;
use proto::unit::Bytes;
use std::collections::BTreeMap;

impl Pipelines {
    /// Evicts idle containers, then stops idle instances, until `needed` is free or will be; none
    /// if they would not suffice.
    pub(super) fn make_room(&mut self, needed: Bytes, pool: &mut Pool, step: &mut Step<'_>) -> bool {
        let spare = pool.idle_memory();
        let mut missing = step.memory.missing(needed).0.saturating_sub(spare.0);
        let mut victims = Vec::new();
        let warm = self.warm_coldest_first(step);
        for number in warm.into_iter().chain(self.idle_coldest_first(None, step)) {
            if missing == 0 {
                break;
            }
            missing = missing.saturating_sub(self.instances[&number].memory.0);
            victims.push(number);
        }
        if missing > 0 {
            return false;
        }
        let free = step.memory.free();
        for number in victims {
            let because = StopReason::EvictedForMemory { needed, free };
            self.happens(number, Happening::Retired(because), step);
        }
        pool.evict(needed, step)
    }

    /// Makes room for the oldest plain activation: idle instances go, and in the end even stem
    /// cells. Those are never evicted (L-34) while anything else could make room; but when all
    /// that is left is idle, the activation would wait for ever, and all others behind it.
    pub(super) fn make_room_for_plain(&mut self, pool: &mut Pool, step: &mut Step<'_>) {
        let Some(needed) = pool.blocked().and_then(|_| pool.blocked_memory()) else {
            return;
        };
        if step.memory.missing(needed).0 == 0 || self.make_room(needed, pool, step) {
            return;
        }
        let mut idle = self.idle_coldest_first(None, step);
        idle.extend(self.warm_coldest_first(step));
        let idle: u64 = idle.iter().map(|number| self.instances[number].memory.0).sum();
        let stem_cells = pool.stem_cell_memory();
        if step.memory.used().0 == stem_cells.0 + pool.idle_memory().0 + idle {
            pool.sacrifice_stem_cells(needed, step);
        }
    }

    /// Makes others go if with their slices `wanted` holds: replicas that are not needed, else the coldest idle
    /// instances of other functions. What is leaving anyway is waited for first.
    pub(super) fn make_way(
        &mut self,
        key: &FunctionKey,
        wanted: impl Fn(&FreeSlices) -> bool,
        step: &mut Step<'_>,
    ) {
        let Some(ledger) = &self.ledger else { return };
        let leases: Vec<&Lease> = self.leaving().collect();
        if wanted(&ledger.free_without(leases.iter().copied())) || self.give_up_replicas(key, &wanted, step) {
            return;
        }
        let Some(ledger) = &self.ledger else { return };
        let mut leases: Vec<&Lease> = self.leaving().collect();
        let mut victims = Vec::new();
        for number in self.idle_coldest_first(Some(key), step) {
            leases.extend(&self.instances[&number].lease);
            victims.push(number);
            if wanted(&ledger.free_without(leases.iter().copied())) {
                break;
            }
        }
        if !wanted(&ledger.free_without(leases.iter().copied())) {
            return;
        }
        let needed: Vec<u64> = victims
            .iter()
            .copied()
            .filter(|number| {
                let lease = self.instances[number].lease.as_ref();
                let others = leases.iter().copied().filter(|other| lease != Some(*other));
                let spare = wanted(&ledger.free_without(others));
                if spare {
                    leases.retain(|other| lease != Some(*other));
                }
                !spare
            })
            .collect();
        for number in needed {
            self.make_go(number, key, step);
        }
    }

    /// Leases that end soon: of instances that go, and of measurements.
    pub(super) fn leaving(&self) -> impl Iterator<Item = &Lease> {
        let measured = self.knowledge.values().filter_map(|k| k.measuring.as_ref());
        let instances = self.instances.values().filter(|i| !i.is_live());
        let leases = instances.filter_map(|i| i.lease.as_ref());
        let moving = self.instances.values().filter_map(|i| i.moving.as_ref());
        let replicas = moving.filter(|moving| !moving.comes).map(|moving| &moving.lease);
        leases
            .chain(replicas)
            .chain(measured.map(|measuring| &measuring.lease))
    }

    /// Idle instances that nobody waits for, the first victim first. Those that `min_instances` keeps come last: what is kept for nobody gives
    /// way to somebody. One that has just come up stays, lest two functions push each other out
    /// without end.
    fn idle_coldest_first(&self, except: Option<&FunctionKey>, step: &Step<'_>) -> Vec<u64> {
        let mut spare: BTreeMap<&FunctionKey, usize> = BTreeMap::new();
        for (key, function) in &self.functions {
            let live = self.live(key);
            spare.insert(key, live.saturating_sub(function.least_instances()));
        }
        let idle =
            |instance: &Instance| instance.state.idle().is_some() && instance.may_go(step.now, step.settings);
        let waits = |instance: &Instance| {
            let function = self.functions.get(&instance.function);
            function.is_none_or(|function| !function.queue.is_empty())
        };
        let mut found: Vec<u64> = self
            .instances
            .iter()
            .filter(|(_, i)| idle(i) && Some(&i.function) != except && !waits(i))
            .map(|(number, _)| *number)
            .collect();
        found.sort_by(|a, b| self.by_score(*a, *b, step.now, step));
        let (spare, kept): (Vec<u64>, Vec<u64>) = found.into_iter().partition(|number| {
            let left = spare.get_mut(&self.instances[number].function);
            left.is_some_and(|left| {
                let is_spare = *left > 0;
                *left = left.saturating_sub(1);
                is_spare
            })
        });
        spare.into_iter().chain(kept).collect()
    }
}
