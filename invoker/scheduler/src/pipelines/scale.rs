//! Which instance serves an activation, and when another one is started for it.
//!
//! All functions that wait are looked at, those without an instance first, then those of the
//! namespace that holds fewer slices, then the one whose activation came first.

use super::function::Function;
use super::grow::adds;
use super::running::Place;
use super::{Instance, Pipelines, listed};
use crate::assignment::{AssignOptions, assign, in_flight_limit, room_for_rings};
use crate::batch::{self, BatchLane};
use crate::command::{Command, Start};
use crate::containers::Pool;
use crate::decision::{Decision, What};
use crate::fault::Fault;
use crate::free::FreeSlices;
use crate::instance::{Happening, State};
use crate::knowledge::{Graph, Ranked};
use crate::placement::{NoPlacement, Placement};
use crate::ranking::Ranking;
use crate::reason::{Refusal, Waiting};
use crate::slices::Holder;
use crate::step::Step;
use crate::work::FunctionKey;
use proto::ffs::assignment::Batch;
use proto::id::{InstanceId, SliceUuid};
use proto::unit::{Bytes, Millis};
use std::collections::{BTreeMap, BTreeSet};
use std::mem;
use std::sync::Arc;

impl Pipelines {
    pub(super) fn scale(&mut self, pool: &mut Pool, step: &mut Step<'_>) {
        self.route(step);
        let in_need = self.in_need();
        let heads: BTreeSet<u64> = in_need
            .iter()
            .filter_map(|key| self.functions[key].head())
            .collect();
        self.blocked.retain(|arrival, _| heads.contains(arrival));
        for key in in_need {
            self.advance(&key, pool, step);
        }
        self.keep_least(pool, step);
    }

    /// Gives activations to instances that have room, the one that is done soonest first.
    fn route(&mut self, step: &mut Step<'_>) {
        for (key, function) in &mut self.functions {
            while !function.queue.is_empty()
                && let Some(number) = soonest(&self.instances, key)
                && let Some(job) = function.queue.pop_front()
            {
                let instance = self
                    .instances
                    .get_mut(&number)
                    .expect("`soonest` names one that is there");
                let activation = job.activation;
                // That there was no instance yet is nothing that another one could help.
                let waited = step.now.since(job.since.max(instance.hot_since));
                function.pressed |= instance.slo.is_some_and(|slo| waited + instance.finish() > slo);
                if let Ok((state, _)) = instance.state.clone().next(Happening::Routed, step.now) {
                    instance.state = state;
                }
                instance.runs.insert(activation, job);
                instance.uses += 1;
                self.running.insert(activation, number);
                function.waits = None;
                step.say(Command::Route {
                    activation,
                    instance: instance.id.clone(),
                });
            }
        }
    }

    /// Functions that wait, the fairest first.
    fn in_need(&self) -> Vec<FunctionKey> {
        let mut slices: BTreeMap<&str, usize> = BTreeMap::new();
        for instance in self.instances.values() {
            *slices.entry(&instance.function.namespace).or_default() += instance.slices().count();
        }
        let mut keys: Vec<_> = self
            .functions
            .iter()
            .filter_map(|(key, function)| {
                let held = slices.get(key.namespace.as_str()).copied().unwrap_or(0);
                Some((self.live(key) > 0, held, function.head()?, key))
            })
            .collect();
        keys.sort();
        keys.into_iter().map(|(_, _, _, key)| key.clone()).collect()
    }

    /// Takes a function that waits one step further, if something is free for it.
    fn advance(&mut self, key: &FunctionKey, pool: &mut Pool, step: &mut Step<'_>) {
        let Some(knowledge) = self.knowledge.get_mut(&key.of) else {
            return;
        };
        let Some(ledger) = &self.ledger else { return };
        match knowledge.graph {
            Graph::Unknown => return self.build(key, pool, step),
            Graph::Building { .. } => return self.wait_for(key, Waiting::Build, step),
            Graph::Known(..) => {}
        }
        let policy = self.functions[key].policy;
        match knowledge.ranked(policy, ledger.kinds()) {
            Ok(Some(ranked)) => self.start_one(key, &ranked, pool, step),
            Ok(None) => self.measure(key, |this| this.not_measured(&key.of), pool, step),
            Err(sentence) => {
                let fault = Fault::developer(sentence);
                self.refuse_all(key, &Refusal::NotBuilt { fault }, step);
            }
        }
    }

    /// Starts one more instance if the slices and the memory are free. A function without any may
    /// make others go that are idle; one that only wants more may not.
    fn start_one(&mut self, key: &FunctionKey, ranked: &Arc<Ranked>, pool: &mut Pool, step: &mut Step<'_>) {
        let function = &self.functions[key];
        let instances = self.live(key);
        let mut own = self.instances.values().filter(|i| i.function == *key);
        if let Some(coming) = own.find(|i| i.is_coming() && i.replaces.is_none()) {
            let instance = coming.id.clone();
            return self.wait_for(key, Waiting::Start { instance }, step);
        }
        if instances >= function.most_instances() {
            self.widen(key, 0.0, step);
            return self.wait_for(key, Waiting::Turn { instances }, step);
        }
        if self.wake(key, step) {
            return;
        }
        let (Some(ledger), Some(function)) = (&self.ledger, self.functions.get(key)) else {
            return;
        };
        let slo = function.slo(ranked);
        let (policy, ranking) = (function.policy, &ranked.ranking);
        let placed = policy.place(ranking, ledger.free(), slo);
        if self.widen(key, placed.as_ref().map_or(0.0, adds), step) {
            return self.wait_for(key, Waiting::Turn { instances }, step);
        }
        let Some(ledger) = &self.ledger else { return };
        let not_now = match placed {
            Ok(placement) => return self.start(key, ranked, placement, true, pool, step),
            Err(no_placement) => no_placement,
        };
        if instances > 0 {
            return self.wait_for(key, Waiting::Turn { instances }, step);
        }
        if let Err(never) = policy.place(ranking, ledger.whole(), slo) {
            if let Err(too_large) = ranked.costs.check_fits(&ranked.graph, ledger.kinds()) {
                let refusal = Refusal::ComponentTooLarge {
                    component: too_large.component,
                    needed: too_large.needs,
                    largest: too_large.largest.map(|kind| (kind.profile, kind.memory)),
                };
                return self.refuse_all(key, &refusal, step);
            }
            let because = against_least_demanding(ranking, &never);
            return self.measure(key, |_| Refusal::NeverFits { because }, pool, step);
        }
        let because = not_now.because(ranking);
        if self.share(key, ranked, pool, step) {
            return;
        }
        let Some(ledger) = &self.ledger else { return };
        let warm = self.warm_places(key);
        let wanted = |free: &FreeSlices| {
            let is_free = |slices: &Vec<SliceUuid>| slices.iter().all(|slice| free.is_free(slice));
            warm.iter().any(is_free) || policy.place(ranking, free, slo).is_ok()
        };
        if !wanted(&ledger.free_without(self.leaving())) && self.could_measure(&key.of) {
            return self.measure(key, |_| Refusal::NeverFits { because }, pool, step);
        }
        self.wait_for(key, Waiting::Slices { because }, step);
        self.make_way(key, wanted, step);
    }

    fn start(
        &mut self,
        key: &FunctionKey,
        ranked: &Arc<Ranked>,
        placement: Placement,
        needed: bool,
        pool: &mut Pool,
        step: &mut Step<'_>,
    ) {
        let function = &self.functions[key];
        let (each, lanes, budget) = (function.memory, placement.lanes.len(), step.memory.budget());
        let memory = Bytes(each.0 * lanes as u64);
        if memory > budget {
            if needed && self.live(key) == 0 {
                self.refuse_all(key, &Refusal::LanesAboveBudget { lanes, each, budget }, step);
            }
            return;
        }
        let arrival = function.head().filter(|_| needed);
        if !self.take_memory(key, memory, arrival, pool, step) {
            return;
        }
        self.start_on(key, ranked, &placement, memory, On::Own, step);
    }

    /// The slices are free and the memory is taken: there is nothing left that could go wrong.
    pub(super) fn start_on(
        &mut self,
        key: &FunctionKey,
        ranked: &Arc<Ranked>,
        placement: &Placement,
        memory: Bytes,
        on: On,
        step: &mut Step<'_>,
    ) {
        let Some(ledger) = &mut self.ledger else { return };
        let function = &self.functions[key];
        let id: InstanceId = format!("i-{}", self.numbered + 1)
            .parse()
            .expect("digits are valid in an id");
        let slices: Vec<_> = placement
            .lanes
            .iter()
            .map(|lane| lane.slice.uuid.clone())
            .collect();
        let lease = match on {
            On::Own | On::Better { .. } => ledger.lease(&slices, &Holder::Instance(id.clone())),
            On::Shared => ledger.share(&slices, &id),
        };
        let Some(lease) = lease else {
            return step.memory.give(memory);
        };
        self.numbered += 1;
        let slo = function.slo(ranked);
        let places: Vec<String> = placement
            .lanes
            .iter()
            .map(|lane| format!("{} {}", lane.slice.profile, lane.slice.uuid))
            .collect();
        let lanes: Vec<BatchLane<'_>> = placement
            .lanes
            .iter()
            .map(|lane| BatchLane {
                original: lane.id,
                components: lane.components,
                kind: &lane.slice.profile,
                memory: lane.slice.memory_bytes,
            })
            .collect();
        // Who shares a slice fits there together; batches would need more than that.
        let batched = match on {
            On::Own | On::Better { .. } => {
                batch::choose(&ranked.graph, &ranked.costs, &lanes, placement.transfer, slo)
            }
            On::Shared => None,
        };
        let most = batched.map_or(1, |batched| batched.most);
        let at_once = match most {
            1 => String::new(),
            most => format!(", up to {most} requests at once"),
        };
        let because = on.because(function.policy.because(&ranked.ranking, placement, slo));
        self.accounts.count(What::Start, on.label());
        self.accounts.count_transition("cold", "starting");
        let decision = self.log.push(Decision {
            instance: Some(id.to_string()),
            chosen: Some(format!("{} on {}{at_once}", placement.key, places.join(", "))),
            rejected: listed(&ranked.ranking, &placement.rejected),
            ..Decision::new(step.now, What::Start, key.to_string(), because)
        });
        let assignment = assign(
            &ranked.graph,
            placement,
            &AssignOptions {
                instance: id.clone(),
                epoch: 1,
                policy: function.policy.name().to_owned(),
                slo,
                batch: Batch {
                    max: most,
                    wait_ms: Millis(0.0),
                },
            },
        );
        self.instances.insert(
            self.numbered,
            Instance {
                id: id.clone(),
                function: key.clone(),
                state: State::Starting {
                    shared: matches!(on, On::Shared),
                },
                lease: Some(lease),
                places: placement
                    .lanes
                    .iter()
                    .map(|lane| Place {
                        lane: lane.id,
                        original: lane.id,
                        slice: lane.slice.uuid.clone(),
                        kind: lane.slice.profile.clone(),
                        components: lane.components,
                        memory: {
                            let at_once = batch::at_once(&ranked.graph, lane.components, most);
                            let costs = ranked.costs.batch(lane.components, &lane.slice.profile, at_once);
                            costs.map_or(lane.memory, |(_, memory)| memory)
                        },
                        room: lane.slice.memory_bytes,
                        exec: lane.time,
                    })
                    .collect(),
                ring_room: room_for_rings(&assignment),
                assignment: assignment.clone(),
                moving: None,
                joins: 0,
                memory,
                leaving: false,
                limit: in_flight_limit(placement.stages(), most) as usize,
                runs: BTreeMap::new(),
                key: placement.key.clone(),
                bottleneck: placement.bottleneck,
                latency: placement.latency,
                transfer: placement.transfer,
                batched,
                slo,
                swap_in: placement
                    .lanes
                    .iter()
                    .map(|lane| ranked.costs.swap_in_time(lane.components))
                    .max()
                    .unwrap_or_default(),
                hot_since: step.now,
                used: step.now,
                uses: 0,
                observed: 0,
                cool_since: None,
                pressed_since: None,
                unsettled: 0,
                replaces: on.replaces(),
            },
        );
        step.say(Command::Start(Box::new(Start {
            instance: id,
            function: key.clone(),
            memory: function.memory,
            assignment,
            dag: Arc::clone(&ranked.dag),
            profile: Arc::clone(&ranked.profile),
            ranking: Arc::clone(&ranked.document),
            migs: ledger.document(),
            because: decision,
        })));
    }

    /// Starts what `min_instances` asks for, as far as slices and memory are free and nobody
    /// waits for them.
    fn keep_least(&mut self, pool: &Pool, step: &mut Step<'_>) {
        let waits = |(key, f): (&FunctionKey, &Function)| !f.queue.is_empty() && self.live(key) == 0;
        if pool.blocked().is_some() || self.functions.iter().any(waits) {
            return;
        }
        let short: Vec<FunctionKey> = self
            .functions
            .iter()
            .filter(|(key, f)| f.rests_until <= step.now && self.live(key) < f.least_instances())
            .map(|(key, _)| key.clone())
            .collect();
        for key in short {
            for _ in self.live(&key)..self.functions[&key].least_instances() {
                let Some((ranked, placement)) = self.placed_on_free(&key) else {
                    break;
                };
                if !self.start_if_memory(&key, &ranked, &placement, On::Own, step) {
                    break;
                }
            }
        }
    }

    /// Takes memory if it is free and nobody came before. A function without an instance makes
    /// idle containers and instances go for it, and younger claims wait meanwhile.
    pub(super) fn take_memory(
        &mut self,
        key: &FunctionKey,
        needed: Bytes,
        arrival: Option<u64>,
        pool: &mut Pool,
        step: &mut Step<'_>,
    ) -> bool {
        let arrival = arrival.unwrap_or(u64::MAX);
        let is_first = pool.blocked().is_none_or(|(head, _)| arrival < head)
            && self.claim(step).is_none_or(|claim| arrival <= claim.arrival);
        if is_first && step.memory.take(needed) {
            self.blocked.remove(&arrival);
            return true;
        }
        self.wants_memory = true;
        let missing = Bytes(needed.0.saturating_sub(step.memory.free().0));
        self.wait_for(key, Waiting::Memory { needed, missing }, step);
        if self.live(key) == 0 {
            self.blocked.entry(arrival).or_insert(step.now);
            if is_first {
                self.make_room(needed, pool, step);
            }
        }
        false
    }

    /// Notes what a function waits for, and logs it when that has changed.
    pub(super) fn wait_for(&mut self, key: &FunctionKey, waits: Waiting, step: &mut Step<'_>) {
        let Some(function) = self.functions.get_mut(key) else {
            return;
        };
        let kind = mem::discriminant(&waits);
        let because = format!("waits {waits}");
        if function
            .waits
            .replace(waits)
            .is_none_or(|before| mem::discriminant(&before) != kind)
        {
            self.note(step, What::Wait, &key.to_string(), because);
        }
    }
}

/// How an instance comes by its slices.
#[derive(Clone, Copy, Debug)]
pub(super) enum On {
    /// They are free.
    Own,
    /// They are shared, or will be.
    Shared,
    /// They are free, and better than those of this instance, which goes then.
    Better { than: u64 },
}

impl On {
    const fn replaces(self) -> Option<u64> {
        match self {
            Self::Own | Self::Shared => None,
            Self::Better { than } => Some(than),
        }
    }

    /// One word for counters.
    const fn label(self) -> &'static str {
        match self {
            Self::Own => "free_slices",
            Self::Shared => "shared_slices",
            Self::Better { .. } => "better_slices",
        }
    }

    fn because(self, chosen: String) -> String {
        match self {
            Self::Own => chosen,
            Self::Shared => format!("with slices that others need little of, {chosen}"),
            Self::Better { than } => format!("in place of i-{than}, {chosen}"),
        }
    }
}

impl Function {
    pub(super) fn slo(&self, ranked: &Ranked) -> Option<std::time::Duration> {
        ranked.slo(self.terms.slo_ms.map(|ms| ms.0), self.terms.slo_scale)
    }
}

/// What stands against the partition that asks for least.
fn against_least_demanding(ranking: &Ranking, no_placement: &NoPlacement) -> String {
    match no_placement.least_demanding(ranking) {
        Some(rejection) => format!(
            "the least demanding, {}: {}",
            ranking.key(rejection.rank),
            rejection.because(ranking)
        ),
        None => "no partition is open to its policy".to_owned(),
    }
}

/// The instance of the function with room that would finish one more activation first.
fn soonest(instances: &BTreeMap<u64, Instance>, key: &FunctionKey) -> Option<u64> {
    let rooms = instances
        .iter()
        .filter(|(_, i)| i.function == *key && i.has_room());
    rooms
        .min_by_key(|(number, i)| (i.finish(), **number))
        .map(|(number, _)| *number)
}
