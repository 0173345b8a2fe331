//! The FluidFaaS functions: what is known of them, which instances they have, who waits.
//!
//! ```text
//! request ─► BUILDDAG ─► measure ─► rank ─► place ─► start ─► route        measure.rs, scale.rs
//!            once per revision            └──── per instance ────┘
//! ```
//! An activation that cannot be served now waits in its function's queue. After each event one
//! pass looks at all functions that wait, the fairest first.

mod function;
mod grow;
mod measure;
mod observe;
mod replicas;
mod residency;
mod running;
mod scale;
mod share;
mod victims;

use crate::accounting::{Accounts, Use};
use crate::command::Command;
use crate::containers::Pool;
use crate::decision::{Decision, DecisionLog, Rejected, What};
use crate::event::Outcome;
use crate::fault::Fault;
use crate::instance::{Effect, Happening, State};
use crate::instant::Instant;
use crate::job::Job;
use crate::knowledge::{Graph, Knowledge};
use crate::reason::{Refusal, StopReason, Waiting, WakeReason};
use crate::settings::Settings;
use crate::sharing::Turns;
use crate::slices::Ledger;
use crate::step::{Claim, Step};
use crate::work::{ActionRevision, Ffs, FunctionKey, Kept, Saved};
use function::{Function, is_newer};
use proto::ffs::migs::MigsDocument;
use proto::id::{ActivationId, InstanceId, LaneId, SliceUuid};
use proto::unit::Bytes;
pub(crate) use running::Instance;
use std::collections::{BTreeMap, BTreeSet};
use std::mem;
use std::sync::Arc;

#[derive(Debug)]
pub(crate) struct Pipelines {
    /// None before the first inventory.
    ledger: Option<Ledger>,
    knowledge: BTreeMap<ActionRevision, Knowledge>,
    functions: BTreeMap<FunctionKey, Function>,
    instances: BTreeMap<u64, Instance>,
    /// Where each activation runs.
    running: BTreeMap<ActivationId, u64>,
    /// The last number given to an instance.
    numbered: u64,
    /// Arrivals of activations that wait for memory and have no instance, and since when.
    blocked: BTreeMap<u64, Instant>,
    /// Whether free memory would change something.
    wants_memory: bool,
    log: DecisionLog,
    accounts: Accounts,
    /// Who computes on each shared slice.
    turns: BTreeMap<SliceUuid, Turns>,
    draining: bool,
}

impl Pipelines {
    pub(crate) fn new(settings: &Settings) -> Self {
        Self {
            ledger: None,
            knowledge: BTreeMap::new(),
            functions: BTreeMap::new(),
            instances: BTreeMap::new(),
            running: BTreeMap::new(),
            numbered: 0,
            blocked: BTreeMap::new(),
            wants_memory: false,
            log: DecisionLog::new(settings.decisions),
            accounts: Accounts::default(),
            turns: BTreeMap::new(),
            draining: false,
        }
    }

    /// The slices have changed, or are known for the first time. Instances on slices that are
    /// gone or sick are drained.
    pub(crate) fn inventory(&mut self, migs: MigsDocument, step: &mut Step<'_>) {
        let read = match &mut self.ledger {
            Some(ledger) => ledger.read(migs),
            None => Ledger::new(migs).map(|ledger| self.ledger = Some(ledger)),
        };
        if let Err(error) = read {
            self.note(
                step,
                What::Inventory,
                "the machine",
                format!("{error}; it stays as it was"),
            );
            return;
        }
        for knowledge in self.knowledge.values_mut() {
            knowledge.forget_rankings();
            knowledge.failed.clear();
        }
        let Some(ledger) = &self.ledger else { return };
        self.accounts.list(ledger.inventory());
        let sick = |instance: &Instance| {
            let mut places = instance
                .places
                .iter()
                .chain(instance.moving.iter().map(|m| &m.place));
            let sick = places.find(|place| !ledger.is_in_order(&place.slice))?;
            Some(sick.slice.to_string())
        };
        let fenced: Vec<(u64, String)> = self
            .instances
            .iter()
            .filter_map(|(number, i)| Some((*number, sick(i)?)))
            .collect();
        for (number, slice) in fenced {
            self.happens(
                number,
                Happening::Retired(StopReason::SliceFenced { slice }),
                step,
            );
        }
    }

    /// Whether this FFS action runs as a pipeline here; else as a plain one: there are no slices,
    /// or its author wants no instance.
    pub(crate) fn serves(&self, ffs: &Ffs) -> bool {
        self.ledger.as_ref().is_some_and(Ledger::has_slices) && ffs.terms.max_instances != Some(0)
    }

    pub(crate) fn request(&mut self, job: Job, ffs: Ffs, step: &mut Step<'_>) {
        let (memory, budget) = (job.action.memory, step.memory.budget());
        if self.draining {
            return job.refuse(Refusal::ShuttingDown, step);
        }
        if memory > budget {
            return job.refuse(Refusal::MemoryAboveBudget { memory, budget }, step);
        }
        let of = ActionRevision {
            action: job.action.name.clone(),
            revision: job.action.revision.clone(),
        };
        let knowledge = self.knowledge.entry(of.clone()).or_default();
        if knowledge.declared.is_none() {
            knowledge.declared = ffs.profile;
        }
        if let (Graph::Unknown, Some(dag)) = (&knowledge.graph, ffs.dag)
            && let Err(sentence) = knowledge.know_dag(dag)
        {
            let fault = Fault::developer(sentence);
            return job.refuse(Refusal::NotBuilt { fault }, step);
        }
        knowledge.example.get_or_insert(job.activation);
        let key = FunctionKey {
            namespace: job.action.namespace.clone(),
            of,
        };
        let function = self.function(&key, ffs.terms, memory, step);
        function.rate.count(step.now);
        function.active = step.now;
        function.queue.push_back(job);
    }

    /// The function of that key, made if it is new; it takes the place of older revisions.
    fn function(
        &mut self,
        key: &FunctionKey,
        terms: crate::work::Terms,
        memory: Bytes,
        step: &Step<'_>,
    ) -> &mut Function {
        if !self.functions.contains_key(key) {
            let mut new = Function::new(terms, memory, step.now, step.settings);
            for (other, function) in &mut self.functions {
                if other.namespace != key.namespace || other.of.action != key.of.action {
                    continue;
                }
                if is_newer(&key.of, &other.of) {
                    function.superseded = Some(key.of.revision.clone());
                } else {
                    new.superseded = Some(other.of.revision.clone());
                }
            }
            self.functions.insert(key.clone(), new);
        }
        self.functions
            .get_mut(key)
            .expect("it was inserted if it was not there")
    }

    /// What an earlier process has found out; what is not valid any more is found out again.
    pub(crate) fn restore(&mut self, saved: Saved, step: &mut Step<'_>) {
        match Knowledge::restore(&saved) {
            Ok(knowledge) => {
                self.knowledge.insert(saved.function.clone(), knowledge);
            }
            Err(sentence) => {
                let because = format!("what was saved is not valid: {sentence}");
                self.note(step, What::Build, &saved.function.to_string(), because);
                return;
            }
        }
        for (namespace, Kept { terms, memory }) in saved.kept {
            let of = saved.function.clone();
            self.function(&FunctionKey { namespace, of }, terms, memory, step);
        }
    }

    pub(crate) fn ready(&mut self, id: &InstanceId, step: &mut Step<'_>) {
        let Some(number) = self.number(id) else { return };
        self.happens(number, Happening::Ready, step);
        let Some(instance) = self.instances.get_mut(&number) else {
            return;
        };
        instance.ready(step.now);
        if let Some(function) = self.functions.get_mut(&instance.function) {
            function.failures = 0;
        }
        if let Some(old) = instance.replaces.take() {
            let by = id.to_string();
            self.happens(old, Happening::Retired(StopReason::Replaced { by }), step);
        }
    }

    /// The instance did not come up. Those that wait end the same way, unless another instance
    /// serves them.
    pub(crate) fn start_failed(&mut self, id: &InstanceId, fault: &Fault, step: &mut Step<'_>) {
        let Some(number) = self.number(id) else { return };
        let was_starting = matches!(self.instances[&number].state, State::Starting { .. });
        let key = self.instances[&number].function.clone();
        self.happens(number, Happening::StartFailed, step);
        if was_starting {
            let instance = id.clone();
            let fault = fault.clone();
            self.give_up_starting(&key, Refusal::StartFailed { instance, fault }, step);
        }
    }

    fn give_up_starting(&mut self, key: &FunctionKey, because: Refusal, step: &mut Step<'_>) {
        let alone = self.live(key) == 0;
        let Some(function) = self.functions.get_mut(key) else {
            return;
        };
        function.start_failed(step.now);
        if alone {
            self.refuse_all(key, &because, step);
        }
    }

    pub(crate) fn lane_died(&mut self, id: &InstanceId, lane: LaneId, because: String, step: &mut Step<'_>) {
        let Some(number) = self.number(id) else { return };
        let instance = &self.instances[&number];
        let was_starting = matches!(instance.state, State::Starting { .. });
        let key = instance.function.clone();
        self.happens(number, Happening::LaneDied(lane, because.clone()), step);
        if was_starting {
            let fault = Fault::developer(format!("lane {lane} died: {because}"));
            let instance = id.clone();
            self.give_up_starting(&key, Refusal::StartFailed { instance, fault }, step);
        }
    }

    pub(crate) fn stopped(&mut self, id: &InstanceId, step: &mut Step<'_>) {
        if let Some(number) = self.number(id) {
            self.happens(number, Happening::Stopped, step);
        }
    }

    /// Whether the activation was running in an instance.
    pub(crate) fn finished(
        &mut self,
        activation: ActivationId,
        outcome: &Outcome,
        step: &mut Step<'_>,
    ) -> bool {
        let Some(number) = self.running.remove(&activation) else {
            return false;
        };
        let instance = self
            .instances
            .get_mut(&number)
            .expect("an instance with runs is kept");
        let mut job = instance
            .runs
            .remove(&activation)
            .expect("`running` says that it runs here");
        instance.used = step.now;
        let key = instance.function.clone();
        let id = instance.id.clone();
        match outcome {
            Outcome::Answered => {}
            Outcome::Spoiled | Outcome::InitFailed { .. } => {
                self.happens(number, Happening::Retired(StopReason::Spoiled), step);
            }
            Outcome::Returned { because } => {
                let because = because.clone();
                let reason = StopReason::Unreachable {
                    because: because.clone(),
                };
                self.happens(number, Happening::Retired(reason), step);
                job.tries += 1;
                if job.tries < step.settings.tries && !self.draining {
                    self.wait_again(&key, job);
                } else {
                    let fault = Fault::whisk(because);
                    job.refuse(Refusal::InstanceLost { instance: id, fault }, step);
                }
            }
            Outcome::Lost { fault } => {
                let refusal = instance.lost(fault);
                let because = fault.to_string();
                self.happens(
                    number,
                    Happening::Retired(StopReason::Unreachable { because }),
                    step,
                );
                let retry = self
                    .functions
                    .get(&key)
                    .is_some_and(|function| function.terms.retry);
                job.tries += 1;
                if retry && job.tries == 1 && !self.draining {
                    self.wait_again(&key, job);
                } else {
                    job.refuse(refusal, step);
                }
            }
        }
        if let Some(function) = self.functions.get_mut(&key) {
            function.active = step.now;
        }
        let empty = |instance: &Instance| instance.runs.is_empty();
        if self.instances.get(&number).is_some_and(empty) {
            self.happens(number, Happening::Emptied, step);
        }
        true
    }

    /// Back to its place in the queue: it came before all that wait.
    fn wait_again(&mut self, key: &FunctionKey, job: Job) {
        let function = self
            .functions
            .get_mut(key)
            .expect("a function with instances is kept");
        let at = function
            .queue
            .partition_point(|other| other.arrival < job.arrival);
        function.queue.insert(at, job);
    }

    /// Whether the activation was waiting here; it is refused then.
    pub(crate) fn cancel(&mut self, activation: ActivationId, step: &mut Step<'_>) -> bool {
        for function in self.functions.values_mut() {
            let waits = function.queue.iter().position(|job| job.activation == activation);
            if let Some(job) = waits.and_then(|at| function.queue.remove(at)) {
                job.refuse(Refusal::Cancelled, step);
                return true;
            }
        }
        false
    }

    /// Refuses whatever waits, stops whatever is idle; what runs may end.
    pub(crate) fn drain(&mut self, step: &mut Step<'_>) {
        self.draining = true;
        let keys: Vec<FunctionKey> = self.functions.keys().cloned().collect();
        for key in keys {
            self.refuse_all(&key, &Refusal::ShuttingDown, step);
        }
        let numbers: Vec<u64> = self.instances.keys().copied().collect();
        for number in numbers {
            self.happens(number, Happening::Retired(StopReason::ShuttingDown), step);
        }
    }

    /// One pass over everything that might go on now. What shall run as plain activations is returned.
    pub(crate) fn serve(&mut self, pool: &mut Pool, step: &mut Step<'_>) -> Vec<Job> {
        self.wants_memory = false;
        self.forget_replaced();
        let unsplit = self.give_up(step);
        if !self.draining {
            self.scale(pool, step);
            self.relieve(pool, step);
            self.measure_in_rest(pool, step);
        }
        self.retire_idle(step);
        self.cool(step);
        self.settle_shares(step);
        if !self.draining {
            self.grow(pool, step);
        }
        self.make_room_for_plain(pool, step);
        unsplit
    }

    /// Whether a change outside the pipelines may let one of them go on.
    pub(crate) fn waits_for_memory(&self) -> bool {
        let warm = |i: &Instance| matches!(i.state, State::Warm { .. });
        self.wants_memory || self.instances.values().any(warm)
    }

    /// The oldest wait for memory that younger ones have to respect; not for ever, lest one that
    /// cannot be met stops everything.
    pub(crate) fn claim(&self, step: &Step<'_>) -> Option<Claim> {
        let holds = |since: Instant| step.now.since(since) < step.settings.claim;
        let mut blocked = self.blocked.iter();
        let (&arrival, &since) = blocked.find(|(_, since)| holds(**since))?;
        Some(Claim { arrival, since })
    }

    /// When `serve` has something to do although nothing has happened; after `now`.
    pub(crate) fn deadline(&self, now: Instant, settings: &Settings) -> Option<Instant> {
        let claims = self.blocked.values().map(|since| Some(*since + settings.claim));
        let functions = self.functions.values().flat_map(|function| {
            let rest = function.active + settings.profile_rest;
            [
                function.gives_up(settings),
                Some(function.rests_until),
                Some(rest),
            ]
        });
        let instances = self.instances.values().map(|instance| {
            let function = self.functions.get(&instance.function)?;
            instance.deadline(function.keep_alive(settings), now, settings)
        });
        let all = functions.chain(instances).chain(claims);
        all.flatten().filter(|at| *at > now).min()
    }

    pub(crate) fn is_empty(&self) -> bool {
        let leased = |ledger: &Ledger| ledger.leased().next().is_some();
        self.instances.is_empty()
            && self.functions.values().all(|function| function.queue.is_empty())
            && !self.ledger.as_ref().is_some_and(leased)
            && !self
                .knowledge
                .values()
                .any(|k| matches!(k.graph, Graph::Building { .. }))
    }

    pub(crate) fn decisions(&self) -> &DecisionLog {
        &self.log
    }

    /// Brings the books up to date, after whatever has happened.
    pub(crate) fn account(&mut self, now: Instant) {
        let uses = self.instances.values().flat_map(|instance| {
            let of = if instance.is_busy() { Use::Busy } else { Use::Held };
            instance.slices().map(move |slice| (slice, of))
        });
        let measured = self.knowledge.values().filter_map(|k| k.measuring.as_ref());
        let measured = measured
            .flat_map(|m| m.lease.slices())
            .map(|slice| (slice, Use::Busy));
        self.accounts.settle(now, uses.chain(measured));
    }

    pub(crate) fn accounts(&self) -> &Accounts {
        &self.accounts
    }

    pub(crate) fn ledger(&self) -> Option<&Ledger> {
        self.ledger.as_ref()
    }

    pub(crate) fn instances(&self) -> impl Iterator<Item = &Instance> {
        self.instances.values()
    }

    /// Functions with the number of activations that wait for them, and what for.
    pub(crate) fn waiting(&self) -> impl Iterator<Item = (&FunctionKey, usize, Option<&Waiting>)> {
        self.functions
            .iter()
            .map(|(key, f)| (key, f.queue.len(), f.waits.as_ref()))
    }

    /// Ends what has waited too long. What could not be split in that time runs unsplit, as the
    /// plain action that it also is.
    fn give_up(&mut self, step: &mut Step<'_>) -> Vec<Job> {
        let mut unsplit = Vec::new();
        for (key, function) in &mut self.functions {
            while function.gives_up(step.settings).is_some_and(|at| at <= step.now)
                && let Some(job) = function.queue.pop_front()
            {
                let waited = step.now.since(job.since);
                match function.waits.clone() {
                    Some(Waiting::Build | Waiting::Profile { .. }) => unsplit.push(job),
                    waits => {
                        let live = |i: &&Instance| i.function == *key && i.is_live();
                        let instances = self.instances.values().filter(live).count();
                        let for_what = waits.unwrap_or(Waiting::Turn { instances });
                        job.refuse(Refusal::Waited { waited, for_what }, step);
                    }
                }
            }
        }
        unsplit
    }

    /// Stops instances that have been idle for too long, or whose revision is replaced.
    fn retire_idle(&mut self, step: &mut Step<'_>) {
        let mut retired: Vec<(u64, StopReason)> = Vec::new();
        let mut live: BTreeMap<&FunctionKey, usize> = BTreeMap::new();
        for instance in self.instances.values().filter(|instance| instance.is_live()) {
            *live.entry(&instance.function).or_default() += 1;
        }
        for (number, instance) in &self.instances {
            let Some(function) = self.functions.get(&instance.function) else {
                continue;
            };
            if !function.queue.is_empty() || !instance.is_live() {
                continue;
            }
            if let Some(by) = &function.superseded {
                retired.push((*number, StopReason::Superseded { by: by.clone() }));
            } else if let Some(since) = instance.state.idle() {
                let since = step.now.since(since);
                let count = live.get_mut(&instance.function).expect("it is live itself");
                if since >= function.keep_alive(step.settings) && *count > function.least_instances() {
                    *count -= 1;
                    retired.push((*number, StopReason::Idle { since }));
                }
            }
        }
        for (number, because) in retired {
            self.happens(number, Happening::Retired(because), step);
        }
    }

    /// Forgets functions whose revision is replaced and that nothing is left of.
    fn forget_replaced(&mut self) {
        let used: BTreeSet<&FunctionKey> = self.instances.values().map(|i| &i.function).collect();
        let gone: Vec<FunctionKey> = self
            .functions
            .iter()
            .filter(|(key, f)| f.superseded.is_some() && f.queue.is_empty() && !used.contains(key))
            .map(|(key, _)| key.clone())
            .collect();
        for key in gone {
            self.functions.remove(&key);
            let known = self.functions.keys().any(|other| other.of == key.of);
            let at_work = self.knowledge.get(&key.of).is_some_and(Knowledge::is_at_work);
            if !known && !at_work {
                self.knowledge.remove(&key.of);
            }
        }
    }

    fn refuse_all(&mut self, key: &FunctionKey, because: &Refusal, step: &mut Step<'_>) {
        let Some(function) = self.functions.get_mut(key) else {
            return;
        };
        let queue = mem::take(&mut function.queue);
        function.waits = None;
        if !queue.is_empty() {
            self.note(step, What::Refuse, &key.to_string(), because.to_string());
        }
        for job in queue {
            job.refuse(because.clone(), step);
        }
    }

    /// The same for all namespaces that invoke the revision.
    fn refuse_revision(&mut self, of: &ActionRevision, because: &Refusal, step: &mut Step<'_>) {
        let keys: Vec<FunctionKey> = self
            .functions
            .keys()
            .filter(|key| key.of == *of)
            .cloned()
            .collect();
        for key in keys {
            self.refuse_all(&key, because, step);
        }
    }

    fn number(&self, id: &InstanceId) -> Option<u64> {
        let number = id.as_str().strip_prefix("i-")?.parse().ok()?;
        self.instances.contains_key(&number).then_some(number)
    }

    /// Instances of the function that serve or soon will.
    fn live(&self, key: &FunctionKey) -> usize {
        self.instances
            .values()
            .filter(|i| i.function == *key && i.is_live())
            .count()
    }

    /// Takes an instance through one transition, and does what follows from it. What makes no
    /// sense in its state is a late report, and changes nothing.
    fn happens(&mut self, number: u64, happening: Happening, step: &mut Step<'_>) {
        let Some(instance) = self.instances.get_mut(&number) else {
            return;
        };
        let effect = match instance.state.clone().next(happening, step.now) {
            Ok((state, effect)) => {
                self.accounts
                    .count_transition(instance.state.name(), state.name());
                instance.state = state;
                effect
            }
            Err(_) => Effect::None,
        };
        let id = instance.id.clone();
        match effect {
            Effect::None => {}
            Effect::Stop(because) => {
                instance.leaving = true;
                step.memory.leave(instance.memory);
                self.note_about(number, step, What::Stop, because.label(), because.to_string());
                step.say(Command::Stop {
                    instance: id,
                    because,
                });
                self.leave_turns(number, step);
            }
            Effect::Evict(because) => {
                self.note_about(number, step, What::Evict, because.label(), because.to_string());
                step.say(Command::Evict {
                    instance: id,
                    because,
                });
                self.leave_turns(number, step);
            }
            Effect::Wake { shared } => {
                let because = if shared {
                    WakeReason::Shared
                } else {
                    WakeReason::Free
                };
                self.note_about(number, step, What::Wake, because.label(), because.to_string());
                step.say(Command::Wake {
                    instance: id,
                    because,
                });
            }
            // Whoever shares or closes says why.
            Effect::Share(_) => {}
            Effect::ReleaseSlices => self.release_slices(number),
            Effect::Release => {
                if mem::take(&mut instance.leaving) {
                    step.memory.left(instance.memory);
                } else {
                    step.memory.give(instance.memory);
                }
                self.release_slices(number);
                self.leave_turns(number, step);
            }
        }
        let Some(instance) = self.instances.get(&number) else {
            return;
        };
        if matches!(instance.state, State::Cold { .. }) && instance.runs.is_empty() {
            self.instances.remove(&number);
        }
    }

    fn release_slices(&mut self, number: u64) {
        let (Some(instance), Some(ledger)) = (self.instances.get_mut(&number), &mut self.ledger) else {
            return;
        };
        let moving = instance.moving.take().map(|moving| moving.lease);
        for lease in instance.lease.take().into_iter().chain(moving) {
            ledger.release(lease);
        }
    }

    /// A decision about one instance, counted by its label.
    fn note_about(&mut self, number: u64, step: &Step<'_>, what: What, label: &'static str, because: String) {
        self.accounts.count(what, label);
        let Some(instance) = self.instances.get(&number) else {
            return;
        };
        let decision = Decision {
            instance: Some(instance.id.to_string()),
            ..Decision::new(step.now, what, instance.function.to_string(), because)
        };
        self.log.push(decision);
    }

    fn note(&mut self, step: &Step<'_>, what: What, about: &str, because: String) -> Arc<Decision> {
        self.log
            .push(Decision::new(step.now, what, about.to_owned(), because))
    }

    fn save(&self, of: &ActionRevision, step: &mut Step<'_>) {
        let Some(knowledge) = self.knowledge.get(of) else {
            return;
        };
        let Some(dag) = knowledge.dag() else { return };
        let kept = self
            .functions
            .iter()
            .filter(|(key, f)| key.of == *of && f.terms.min_instances > 0);
        step.say(Command::Save(Box::new(Saved {
            function: of.clone(),
            dag: Arc::clone(dag),
            profile: knowledge.profile_document().cloned(),
            kept: kept
                .map(|(key, function)| {
                    let terms = function.terms.clone();
                    (
                        key.namespace.clone(),
                        Kept {
                            terms,
                            memory: function.memory,
                        },
                    )
                })
                .collect(),
        })));
    }
}

/// Rejected partitions that a decision lists.
const LISTED: usize = 20;

fn listed(ranking: &crate::ranking::Ranking, rejected: &[crate::rejection::Rejection]) -> Vec<Rejected> {
    let shown = rejected.iter().take(LISTED);
    shown
        .map(|rejection| Rejected {
            key: ranking.key(rejection.rank),
            because: rejection.because(ranking).to_string(),
        })
        .collect()
}
