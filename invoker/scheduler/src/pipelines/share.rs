//! Several instances on one slice, in turns.
//!
//! A function that finds no free slices may sit on those of functions that need little of them, if all
//! fit there together in memory and in time. Source: FluidFaaS §9; that lanes which do not fit together
//! are not made to swap at every turn is ours.

use super::running::Place;
use super::scale::On;
use super::{Instance, Pipelines};
use crate::command::Command;
use crate::containers::Pool;
use crate::decision::What;
use crate::instance::{Happening, State};
use crate::instant::Instant;
use crate::knowledge::Ranked;
use crate::placement::Placement;
use crate::reason::ShareReason;
use crate::sharing::Want;
use crate::slices::Ledger;
use crate::step::Step;
use crate::work::FunctionKey;
use proto::id::{InstanceId, LaneId, SliceUuid};
use proto::unit::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What its owners leave of a slice.
#[derive(Clone, Copy, Debug, Default)]
struct Load {
    /// Σ hotness of the instances on it.
    need: f64,
    memory: Bytes,
}

impl Load {
    /// Whether one more instance fits beside the others, in time and in memory.
    fn has_room(&self, need: f64, memory: Bytes, capacity: Bytes, step: &Step<'_>) -> bool {
        self.need + need <= step.settings.share_most && self.memory.0 + memory.0 <= capacity.0
    }
}

impl Pipelines {
    /// Wakes or starts an instance on slices that others need little of; says whether it did.
    pub(super) fn share(
        &mut self,
        key: &FunctionKey,
        ranked: &Arc<Ranked>,
        pool: &mut Pool,
        step: &mut Step<'_>,
    ) -> bool {
        if self.wake_beside_others(key, step) {
            return true;
        }
        let Some((placement, memory)) = self.shared_placement(key, ranked, step) else {
            return false;
        };
        let arrival = self.functions[key].head();
        if !self.take_memory(key, memory, arrival, pool, step) {
            return true; // it waits for memory
        }
        let slices: Vec<SliceUuid> = placement
            .lanes
            .iter()
            .map(|lane| lane.slice.uuid.clone())
            .collect();
        self.open(&slices, key, step);
        self.start_on(key, ranked, &placement, memory, On::Shared, step);
        true
    }

    fn wake_beside_others(&mut self, key: &FunctionKey, step: &mut Step<'_>) -> bool {
        let loads = self.loads(key, step);
        let (Some(ledger), Some(function)) = (&self.ledger, self.functions.get(key)) else {
            return false;
        };
        let fits = |instance: &Instance| {
            let own = function.rate.hotness(instance.bottleneck, step.now);
            instance.places.iter().all(|place| match loads.get(&place.slice) {
                Some(load) => ledger
                    .memory(&place.slice)
                    .is_some_and(|capacity| load.has_room(own, place.memory, capacity, step)),
                None => ledger.free().is_free(&place.slice),
            })
        };
        let warm = |i: &Instance| i.function == *key && matches!(i.state, State::Warm { .. });
        let mut instances = self.instances.iter();
        let Some((&number, instance)) = instances.find(|(_, i)| warm(i) && fits(i)) else {
            return false;
        };
        let (id, slices) = (instance.id.clone(), self.slices_of(number));
        self.open(&slices, key, step);
        let lease = self.ledger.as_mut().and_then(|ledger| ledger.share(&slices, &id));
        let woken = lease.is_some();
        if let Some(instance) = self.instances.get_mut(&number) {
            instance.lease = lease;
        }
        if woken {
            self.happens(number, Happening::Woken { shared: true }, step);
        }
        woken
    }

    /// A placement on the free slices and those that may be shared, if the budget allows it.
    fn shared_placement(
        &self,
        key: &FunctionKey,
        ranked: &Ranked,
        step: &Step<'_>,
    ) -> Option<(Placement, Bytes)> {
        let (ledger, function) = (self.ledger.as_ref()?, self.functions.get(key)?);
        let loads = self.loads(key, step);
        if loads.is_empty() {
            return None;
        }
        let open = ledger.free_with(loads.keys());
        let placement = function
            .policy
            .place(&ranked.ranking, &open, function.slo(ranked))
            .ok()?;
        let own = function.rate.hotness(placement.bottleneck, step.now);
        let mut lanes = placement.lanes.iter();
        let all_fit = lanes.all(|lane| {
            let load = loads.get(&lane.slice.uuid);
            load.is_none_or(|load| load.has_room(own, lane.memory, lane.slice.memory_bytes, step))
        });
        let memory = Bytes(function.memory.0 * placement.lanes.len() as u64);
        (all_fit && memory <= step.memory.budget()).then_some((placement, memory))
    }

    /// The slices that the function may share, with what is on them: those that are shared, and those
    /// of one instance that has needed little for long enough. Its own are not among them.
    fn loads(&self, key: &FunctionKey, step: &Step<'_>) -> BTreeMap<SliceUuid, Load> {
        let mut loads: BTreeMap<SliceUuid, Load> = BTreeMap::new();
        let mut closed: BTreeSet<&SliceUuid> = BTreeSet::new();
        for (number, instance) in &self.instances {
            if instance.lease.is_none() {
                continue;
            }
            let is_open = match instance.state {
                State::Shared { .. } | State::Starting { shared: true } => instance.function != *key,
                State::Hot { .. } => {
                    instance.function != *key
                        && instance.may_go(step.now, step.settings)
                        && self
                            .cool_since(*number, step)
                            .is_some_and(|since| step.now.since(since) >= step.settings.dwell)
                }
                _ => false,
            };
            let need = self.hotness(*number, step.now);
            for place in &instance.places {
                if !is_open {
                    closed.insert(&place.slice);
                    continue;
                }
                let load = loads.entry(place.slice.clone()).or_default();
                load.need += need;
                load.memory.0 += place.memory.0;
            }
        }
        loads.retain(|slice, _| !closed.contains(slice));
        loads
    }

    /// Since when the instance needs less than `demote`; none if it does not.
    fn cool_since(&self, number: u64, step: &Step<'_>) -> Option<Instant> {
        let needs_little = self.hotness(number, step.now) < step.settings.demote;
        self.instances[&number].cool_since.filter(|_| needs_little)
    }

    /// Lets others onto the slices of those that have them to themselves. Nobody computes there until
    /// their lanes know.
    fn open(&mut self, slices: &[SliceUuid], for_function: &FunctionKey, step: &mut Step<'_>) {
        let owns = |i: &Instance| {
            let there = |place: &Place| slices.contains(&place.slice);
            matches!(i.state, State::Hot { .. }) && i.places.iter().any(there)
        };
        let owners: Vec<u64> = self
            .instances
            .iter()
            .filter(|(_, i)| owns(i))
            .map(|(number, _)| *number)
            .collect();
        for owner in owners {
            self.happens(owner, Happening::Demoted, step);
            let because = ShareReason::ForFunction {
                function: for_function.to_string(),
            };
            self.tell_to_share(owner, true, because, step);
        }
    }

    fn tell_to_share(&mut self, number: u64, shared: bool, because: ShareReason, step: &mut Step<'_>) {
        let Some(instance) = self.instances.get_mut(&number) else {
            return;
        };
        instance.unsettled += 1;
        let id = instance.id.clone();
        if let (true, Some(ledger), Some(lease)) = (shared, &mut self.ledger, &instance.lease) {
            ledger.open(lease);
        }
        for place in &instance.places {
            let turns = self.turns.entry(place.slice.clone()).or_default();
            if shared {
                turns.block(number);
            }
        }
        self.note_about(number, step, What::Share, because.label(), because.to_string());
        step.say(Command::Share {
            instance: id,
            shared,
            because,
        });
    }

    /// The lanes of the instance do as the last `Share` said.
    pub(crate) fn sharing(&mut self, id: &InstanceId, step: &mut Step<'_>) {
        let Some(number) = self.number(id) else { return };
        let Some(instance) = self.instances.get_mut(&number) else {
            return;
        };
        instance.unsettled = instance.unsettled.saturating_sub(1);
        if instance.unsettled > 0 {
            return;
        }
        for slice in self.slices_of(number) {
            if let Some(turns) = self.turns.get_mut(&slice) {
                turns.unblock(number);
            }
            self.grant(&slice, step);
        }
    }

    /// What changes about sharing as time passes: marks how long instances have needed little or
    /// much, and closes slices on which only one instance is left.
    pub(super) fn settle_shares(&mut self, step: &mut Step<'_>) {
        let numbers: Vec<u64> = self.instances.keys().copied().collect();
        for number in numbers {
            let need = self.hotness(number, step.now);
            let (demote, promote) = (step.settings.demote, step.settings.promote);
            let Some(instance) = self.instances.get_mut(&number) else {
                continue;
            };
            let mark = |since: Option<Instant>, holds: bool| holds.then(|| since.unwrap_or(step.now));
            instance.cool_since = mark(instance.cool_since, need < demote && instance.state.serves());
            instance.pressed_since = mark(instance.pressed_since, need > promote && instance.state.serves());
            let is_shared = matches!(instance.state, State::Shared { .. });
            let closed = match (&mut self.ledger, &instance.lease) {
                (Some(ledger), Some(lease)) => is_shared && ledger.close(lease),
                _ => false,
            };
            if closed {
                self.happens(number, Happening::Promoted, step);
                self.tell_to_share(number, false, ShareReason::Alone, step);
                self.release_turns(number, step);
            }
        }
    }

    pub(crate) fn turn_wanted(&mut self, id: &InstanceId, lane: LaneId, turn: u64, step: &mut Step<'_>) {
        let Some(number) = self.number(id) else { return };
        let instance = &self.instances[&number];
        let Some(place) = instance.places.iter().find(|place| place.lane == lane) else {
            return;
        };
        let is_shared = |ledger: &Ledger| ledger.sharers(&place.slice).is_some();
        if !self.ledger.as_ref().is_some_and(is_shared) {
            let instance = id.clone();
            return step.say(Command::GrantTurn { instance, lane, turn });
        }
        let oldest = instance
            .runs
            .values()
            .map(|job| job.since)
            .min()
            .unwrap_or(step.now);
        let want = Want {
            lane: (number, lane),
            turn,
            deadline: oldest + instance.slo.unwrap_or(place.exec * 3),
            exec: place.exec,
        };
        let slice = place.slice.clone();
        self.turns.entry(slice.clone()).or_default().want(want);
        self.grant(&slice, step);
    }

    pub(crate) fn turn_returned(&mut self, id: &InstanceId, lane: LaneId, turn: u64, step: &mut Step<'_>) {
        let Some(number) = self.number(id) else { return };
        let place = self.instances[&number]
            .places
            .iter()
            .find(|place| place.lane == lane);
        let Some(slice) = place.map(|place| place.slice.clone()) else {
            return;
        };
        if let Some(turns) = self.turns.get_mut(&slice) {
            turns.give_back((number, lane), turn);
        }
        self.grant(&slice, step);
    }

    fn grant(&mut self, slice: &SliceUuid, step: &mut Step<'_>) {
        let Some(turns) = self.turns.get_mut(slice) else {
            return;
        };
        if let Some(next) = turns.grant(step.now, step.settings.turn_most) {
            self.say_granted(&next, step);
        }
    }

    fn say_granted(&self, want: &Want, step: &mut Step<'_>) {
        let (number, lane) = want.lane;
        if let Some(instance) = self.instances.get(&number) {
            step.say(Command::GrantTurn {
                instance: instance.id.clone(),
                lane,
                turn: want.turn,
            });
        }
    }

    /// The instance computes on its slices no more; others may.
    pub(super) fn leave_turns(&mut self, number: u64, step: &mut Step<'_>) {
        for slice in self.slices_of(number) {
            let Some(turns) = self.turns.get_mut(&slice) else {
                continue;
            };
            turns.leave(number);
            if self
                .ledger
                .as_ref()
                .is_none_or(|ledger| ledger.sharers(&slice).is_none())
            {
                self.turns.remove(&slice);
            } else {
                self.grant(&slice, step);
            }
        }
    }

    /// The instance has its slices to itself: what its lanes asked for is granted.
    fn release_turns(&mut self, number: u64, step: &mut Step<'_>) {
        for slice in self.slices_of(number) {
            if let Some(mut turns) = self.turns.remove(&slice) {
                for want in turns.leave(number) {
                    self.say_granted(&want, step);
                }
            }
        }
    }

    fn slices_of(&self, number: u64) -> Vec<SliceUuid> {
        let places = self
            .instances
            .get(&number)
            .map_or(&[][..], |instance| &instance.places);
        places.iter().map(|place| place.slice.clone()).collect()
    }
}
