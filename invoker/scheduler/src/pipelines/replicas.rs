//! Lanes in several copies: a slow lane gets replicas, and gives them up again.
//!
//! A pipeline answers as often as its slowest lane, so one slice more for that one can be worth as much as a whole
//! further instance, and fits where that does not. Requests go to replicas in rotation, so the slowest of them
//! counts. A replica takes only what is free and wanted by nobody; it is given up when a function without an instance
//! waits for its slice and the others keep up without it. The head answers requests and has none.

use super::function::Function;
use super::grow::{LEAST_GAIN, MOST_USED, per_second};
use super::running::{Instance, Moving, Place};
use super::{Pipelines, State};
use crate::assignment::{ring_bytes, with_replica, without_replica};
use crate::batch;
use crate::command::{Command, Rewrite};
use crate::decision::{Decision, What};
use crate::fault::Fault;
use crate::free::FreeSlices;
use crate::instant::Instant;
use crate::knowledge::Ranked;
use crate::reason::{LeaveReason, Waiting};
use crate::slices::Holder;
use crate::step::Step;
use crate::work::FunctionKey;
use proto::ffs::assignment::LaneSlice;
use proto::ffs::migs::Slice;
use proto::id::{InstanceId, LaneId};
use proto::unit::Bytes;
use std::sync::Arc;
use std::time::Duration;

/// A replica that could be.
pub(super) struct Replica {
    number: u64,
    slice: Arc<Slice>,
    place: Place,
    /// Time between two answers of the instance, now and with it.
    before: Duration,
    after: Duration,
}

impl Replica {
    /// Answers a second more.
    pub(super) fn adds(&self) -> f64 {
        per_second(self.after) - per_second(self.before)
    }
}

impl Pipelines {
    /// The replica that would add most to what the function's instances answer, if one would add enough. Only
    /// where activations wait for each other: one alone is not answered sooner.
    fn best_replica(&mut self, key: &FunctionKey, now: Instant) -> Option<Replica> {
        self.functions.get(key).filter(|f| f.rests_until <= now)?;
        let ranked = self.ranked(key)?;
        let free = self.ledger.as_ref()?.free();
        let being_replaced: Vec<u64> = self.instances.values().filter_map(|i| i.replaces).collect();
        let mut best: Option<Replica> = None;
        let may_have = |(number, instance): &(&u64, &Instance)| {
            instance.function == *key
                && matches!(instance.state, State::Hot { .. })
                && instance.is_settled()
                && instance.runs.len() > 1
                && !being_replaced.contains(number)
        };
        for (number, instance) in self.instances.iter().filter(may_have) {
            let paces = instance.paces();
            let Some((of, before)) = paces.slowest().filter(|(of, _)| *of != LaneId::HEAD) else {
                continue;
            };
            let Some(original) = instance.places.iter().find(|place| place.lane == of) else {
                continue;
            };
            let at_once = batch::at_once(&ranked.graph, original.components, instance.most_at_once());
            for (at, kind) in free.kinds().iter().enumerate() {
                let (Some((slice, _)), Some(exec), Some((_, memory))) = (
                    free.pick(at, &[], &[]),
                    ranked.costs.time(original.components, &kind.profile),
                    ranked.costs.batch(original.components, &kind.profile, at_once),
                ) else {
                    continue;
                };
                let mut with_it = paces.clone();
                with_it.add(of, exec);
                let after = with_it.bottleneck();
                let enough = after <= before.mul_f64(1.0 - LEAST_GAIN) && memory <= kind.memory;
                let slice = Arc::clone(free.slice(slice));
                let replica = Replica {
                    number: *number,
                    place: Place {
                        slice: slice.uuid.clone(),
                        kind: kind.profile.clone(),
                        memory,
                        room: kind.memory,
                        exec,
                        ..original.clone()
                    },
                    slice,
                    before,
                    after,
                };
                let better = |best: &Replica| replica.adds() > best.adds();
                if enough && best.as_ref().is_none_or(better) {
                    best = Some(replica);
                }
            }
        }
        best
    }

    /// Gives a lane of the function one more replica, if that adds more answers a second than `least` and nobody waits
    /// for slices to have an instance at all; says whether.
    pub(super) fn widen(&mut self, key: &FunctionKey, least: f64, step: &mut Step<'_>) -> bool {
        let waits = |function: &Function| matches!(function.waits, Some(Waiting::Slices { .. }));
        if self.functions.values().any(waits) {
            return false;
        }
        match self.best_replica(key, step.now) {
            Some(replica) if replica.adds() > least => self.join(key, replica, step),
            _ => false,
        }
    }

    /// Says whether the memory was free for it.
    fn join(&mut self, key: &FunctionKey, replica: Replica, step: &mut Step<'_>) -> bool {
        let Replica {
            number,
            slice,
            mut place,
            before,
            after,
        } = replica;
        let Some(ranked) = self.ranked(key) else {
            return false;
        };
        let (Some(ledger), Some(instance)) = (&mut self.ledger, self.instances.get_mut(&number)) else {
            return false;
        };
        let (of, memory) = (place.original, self.functions[key].memory);
        let mig = LaneSlice {
            uuid: slice.uuid.clone(),
            profile: slice.profile.clone(),
            gpu_uuid: slice.gpu_uuid.clone(),
            memory_bytes: slice.memory_bytes,
        };
        let Some((assignment, lane)) = with_replica(&instance.assignment, of, mig, instance.joins + 1) else {
            return false;
        };
        if ring_bytes(&assignment) > instance.ring_room.0 {
            return false;
        }
        if !step.memory.take(memory) {
            self.wants_memory = true;
            return false;
        }
        let holder = Holder::Instance(instance.id.clone());
        let Some(lease) = ledger.lease(std::slice::from_ref(&slice.uuid), &holder) else {
            step.memory.give(memory);
            return false;
        };
        place.lane = lane;
        instance.joins += 1;
        instance.memory.0 += memory.0;
        instance.assignment = assignment;
        instance.moving = Some(Moving {
            comes: true,
            place,
            lease,
        });
        let because = format!(
            "requests wait for {of}: {:.1} answers a second instead of {:.1}",
            per_second(after),
            per_second(before)
        );
        self.accounts.count(What::Join, "slo");
        let rewrite = self.rewrite(number, What::Join, because, &ranked, step);
        step.say(Command::Join(Box::new(rewrite)));
        true
    }

    /// What the lanes of an instance, one of which is moving, are to be told.
    fn rewrite(
        &mut self,
        number: u64,
        what: What,
        because: String,
        ranked: &Ranked,
        step: &Step<'_>,
    ) -> Rewrite {
        let instance = &self.instances[&number];
        let place = &instance
            .moving
            .as_ref()
            .expect("one of its lanes is moving")
            .place;
        let components: Vec<&str> = place
            .components
            .iter()
            .map(|component| ranked.graph.id(component).as_str())
            .collect();
        let because = self.log.push(Decision {
            instance: Some(instance.id.to_string()),
            chosen: Some(format!(
                "{} with {} on {} {}",
                place.lane,
                components.join(","),
                place.kind,
                place.slice
            )),
            ..Decision::new(step.now, what, instance.function.to_string(), because)
        });
        Rewrite {
            instance: instance.id.clone(),
            function: instance.function.clone(),
            lane: place.lane,
            memory: self.functions[&instance.function].memory,
            assignment: instance.assignment.clone(),
            dag: Arc::clone(&ranked.dag),
            ranking: Arc::clone(&ranked.document),
            migs: self.ledger.as_ref().expect("instances have slices").document(),
            because,
        }
    }

    /// The replica serves.
    pub(crate) fn joined(&mut self, id: &InstanceId, step: &mut Step<'_>) {
        let Some(number) = self.number(id) else { return };
        let Some(instance) = self.instances.get_mut(&number) else {
            return;
        };
        let Some(Moving { place, lease, .. }) = instance.moving.take_if(|moving| moving.comes) else {
            return;
        };
        match &mut instance.lease {
            Some(own) => own.absorb(lease),
            None => instance.lease = Some(lease),
        }
        instance.places.push(place);
        instance.limit += instance.most_at_once() as usize;
        instance.used = step.now;
        self.reckon(number);
    }

    /// The replica did not come up; the instance goes on without it.
    pub(crate) fn join_failed(&mut self, id: &InstanceId, fault: &Fault, step: &mut Step<'_>) {
        let because = format!("the replica did not come up: {fault}");
        if self.forget_moving(id, true, step) {
            let Some(number) = self.number(id) else { return };
            let instance = &self.instances[&number];
            let key = instance.function.clone();
            if let Some(function) = self.functions.get_mut(&key) {
                function.start_failed(step.now);
            }
            self.note_about(number, step, What::Leave, "failed", because);
        }
    }

    /// Nothing of the replica is left.
    pub(crate) fn left(&mut self, id: &InstanceId, step: &mut Step<'_>) {
        self.forget_moving(id, false, step);
    }

    /// Gives back what a replica that has gone had; says whether there was one.
    fn forget_moving(&mut self, id: &InstanceId, comes: bool, step: &mut Step<'_>) -> bool {
        let number = self.number(id);
        let Some(instance) = number.and_then(|number| self.instances.get_mut(&number)) else {
            return false;
        };
        let Some(Moving { place, lease, .. }) = instance.moving.take_if(|moving| moving.comes == comes)
        else {
            return false;
        };
        if comes {
            instance.assignment = without_replica(&instance.assignment, place.lane);
        }
        if let Some(ledger) = &mut self.ledger {
            ledger.release(lease);
        }
        let memory = self
            .functions
            .get(&instance.function)
            .map_or(Bytes(0), |f| f.memory);
        instance.memory.0 -= memory.0;
        if instance.leaving {
            step.memory.left(memory);
        } else {
            step.memory.give(memory);
        }
        true
    }

    /// Takes replicas down that the others keep up without, if with their slices `wanted` holds; says whether
    /// it will.
    pub(super) fn give_up_replicas(
        &mut self,
        key: &FunctionKey,
        wanted: impl Fn(&FreeSlices) -> bool,
        step: &mut Step<'_>,
    ) -> bool {
        let Some(ledger) = &self.ledger else { return false };
        let mut free = ledger.free_without(self.leaving());
        let mut given_up = Vec::new();
        for (number, instance) in self.instances.iter().filter(|(_, i)| i.function != *key) {
            let Some(place) = self.spare_replica(*number, instance, step) else {
                continue;
            };
            free.give_back(&place.slice);
            given_up.push((*number, place.lane, place.slice.clone()));
            if wanted(&free) {
                break;
            }
        }
        let enough = wanted(&free);
        given_up.retain(|(_, _, slice)| {
            free.take(slice);
            let is_needed = !wanted(&free);
            if is_needed {
                free.give_back(slice);
            }
            is_needed && enough
        });
        for (number, lane, _) in given_up {
            let function = key.to_string();
            self.leave(number, lane, &LeaveReason::ForFunction { function }, step);
        }
        enough
    }

    /// The newest replica of the instance, if it would keep up without it.
    fn spare_replica<'a>(&self, number: u64, instance: &'a Instance, step: &Step<'_>) -> Option<&'a Place> {
        let replicas = instance
            .places
            .iter()
            .filter(|place| place.lane != place.original);
        let last = replicas.max_by_key(|place| place.lane)?;
        let may = matches!(instance.state, State::Hot { .. }) && instance.may_go(step.now, step.settings);
        let fewer = instance.paces_of(|place| place.lane != last.lane);
        let used = self.hotness(number, step.now) / instance.bottleneck.as_secs_f64().max(1e-9);
        (may && used * fewer.bottleneck().as_secs_f64() <= MOST_USED).then_some(last)
    }

    fn leave(&mut self, number: u64, lane: LaneId, because: &LeaveReason, step: &mut Step<'_>) {
        let Some(key) = self
            .instances
            .get(&number)
            .map(|instance| instance.function.clone())
        else {
            return;
        };
        let Some(ranked) = self.ranked(&key) else { return };
        let Some(instance) = self.instances.get_mut(&number) else {
            return;
        };
        let Some(at) = instance.places.iter().position(|place| place.lane == lane) else {
            return;
        };
        let slice = instance.places[at].slice.clone();
        let Some(lease) = instance.lease.as_mut().and_then(|lease| lease.split_off(&slice)) else {
            return;
        };
        let place = instance.places.remove(at);
        instance.limit -= instance.most_at_once() as usize;
        instance.assignment = without_replica(&instance.assignment, lane);
        instance.moving = Some(Moving {
            comes: false,
            place,
            lease,
        });
        self.reckon(number);
        self.accounts.count(What::Leave, because.label());
        let rewrite = self.rewrite(number, What::Leave, because.to_string(), &ranked, step);
        step.say(Command::Leave(Box::new(rewrite)));
    }

    /// How the function's partitions rank on the slices of this machine.
    pub(super) fn ranked(&mut self, key: &FunctionKey) -> Option<Arc<Ranked>> {
        let kinds = self.ledger.as_ref()?.kinds();
        let policy = self.functions.get(key)?.policy;
        self.knowledge.get_mut(&key.of)?.ranked(policy, kinds).ok()?
    }

    /// The instance has other lanes than before.
    fn reckon(&mut self, number: u64) {
        let Some(instance) = self.instances.get_mut(&number) else {
            return;
        };
        let knowledge = self.knowledge.get(&instance.function.of);
        if let Some((dag, costs)) = knowledge.and_then(|known| known.graph.known().zip(known.costs())) {
            instance.reassess(dag, costs);
        }
    }
}
