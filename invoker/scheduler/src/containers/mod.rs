//! The pool of ordinary containers: who runs where, who waits, who goes (contract chapter 6).
//!
//! One activation is tried in this order: a warm container, a stem cell, a new container if memory
//! allows, the same after eviction of idle ones; else it waits, and never fails for lack of space.
//! What the containers do is the caller's business; pipelines take their memory from the same
//! ledger, but are not containers of the pool.

mod container;
mod queue;
mod stem_cells;

use crate::command::{Command, Purpose};
use crate::event::Outcome;
use crate::fault::Fault;
use crate::instant::Instant;
use crate::job::{Job, Owner};
use crate::reason::{Assigned, Refusal, RemovalReason, StartReason};
use crate::step::Step;
use crate::work::ContainerNumber;
use container::{Container, State};
use proto::id::ActivationId;
use proto::unit::Bytes;
use queue::Queue;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::mem;
use stem_cells::StemCells;

/// Counts for gauges (contract H-32, H-34).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PoolCounts {
    /// Containers with at least one activation, and their memory.
    pub active: (usize, Bytes),
    /// Initialised containers without one.
    pub idle: (usize, Bytes),
    /// Stem cells, starting ones included.
    pub stem_cells: (usize, Bytes),
    /// Activations that no container has taken, and their memory limits.
    pub waiting: (usize, Bytes),
}

#[derive(Debug)]
pub(crate) struct Pool {
    containers: BTreeMap<ContainerNumber, Container>,
    queue: Queue,
    stem_cells: StemCells,
    /// Where each activation is that a container has taken.
    taken: BTreeMap<ActivationId, ContainerNumber>,
    of_owner: BTreeMap<Owner, BTreeSet<ContainerNumber>>,
    /// Idle containers, the least recently assigned first (L-34).
    idle: BTreeSet<(u64, ContainerNumber)>,
    idle_memory: Bytes,
    due: BTreeSet<(Instant, ContainerNumber)>,
    /// The last number given to a container.
    numbered: u64,
    assignments: u64,
    draining: bool,
}

impl Pool {
    /// Starts the stem cells of the manifest, as far as memory allows (L-45).
    pub(crate) fn new(step: &mut Step<'_>) -> Self {
        let mut pool = Self {
            containers: BTreeMap::new(),
            queue: Queue::default(),
            stem_cells: StemCells::new(step),
            taken: BTreeMap::new(),
            of_owner: BTreeMap::new(),
            idle: BTreeSet::new(),
            idle_memory: Bytes(0),
            due: BTreeSet::new(),
            numbered: 0,
            assignments: 0,
            draining: false,
        };
        pool.start_initial_stem_cells(step);
        pool
    }

    pub(crate) fn request(&mut self, job: Job, step: &mut Step<'_>) {
        if self.draining {
            return job.refuse(Refusal::ShuttingDown, step);
        }
        let (memory, budget) = (job.action.memory, step.memory.budget());
        if memory > budget {
            return job.refuse(Refusal::MemoryAboveBudget { memory, budget }, step);
        }
        let owner = Owner::of(&job.action);
        self.queue.insert(job);
        self.dispatch(Some(&owner), step);
    }

    /// Whether the activation was waiting here; it is refused then.
    pub(crate) fn cancel(&mut self, activation: ActivationId, step: &mut Step<'_>) -> bool {
        let job = self
            .queue
            .cancel(activation)
            .or_else(|| self.cancel_in_container(activation));
        let waited = job.is_some();
        if let Some(job) = job {
            job.refuse(Refusal::Cancelled, step);
            self.dispatch(None, step);
        }
        waited
    }

    fn cancel_in_container(&mut self, activation: ActivationId) -> Option<Job> {
        let number = *self.taken.get(&activation)?;
        let job = self.update(number, |container| match &mut container.state {
            State::Starting { wanted }
            | State::Initializing { wanted, .. }
            | State::Pausing { wanted }
            | State::Resuming { wanted } => {
                let at = wanted.iter().position(|job| job.activation == activation)?;
                Some(wanted.remove(at))
            }
            State::StemStarting
            | State::Stem { .. }
            | State::Ready { .. }
            | State::Paused { .. }
            | State::Ending { .. }
            | State::Removing { .. } => None,
        })??;
        self.taken.remove(&activation);
        Some(job)
    }

    pub(crate) fn started(&mut self, number: ContainerNumber, step: &mut Step<'_>) {
        let now = step.now;
        let draining = self.draining;
        let first = self.update(number, |container| match &mut container.state {
            State::StemStarting => {
                container.state = State::Stem { since: now };
                draining.then_some(None)
            }
            State::Starting { wanted } if wanted.is_empty() => Some(None),
            State::Starting { wanted } => {
                let first = wanted.remove(0);
                container.state = State::Initializing {
                    first: first.clone(),
                    wanted: mem::take(wanted),
                    died: false,
                };
                Some(Some(first))
            }
            State::Stem { .. }
            | State::Initializing { .. }
            | State::Ready { .. }
            | State::Pausing { .. }
            | State::Paused { .. }
            | State::Resuming { .. }
            | State::Ending { .. }
            | State::Removing { .. } => None,
        });
        match first.flatten() {
            Some(Some(first)) => run(number, &first, true, step),
            Some(None) => self.remove(number, RemovalReason::NotNeeded, step),
            None => {}
        }
        self.dispatch(None, step);
    }

    /// The container is not there; all that wait for it end the same way (L-41).
    pub(crate) fn start_failed(&mut self, number: ContainerNumber, fault: &Fault, step: &mut Step<'_>) {
        let wanted = self.update(number, |container| match &mut container.state {
            State::StemStarting => Some(Vec::new()),
            State::Starting { wanted } => Some(mem::take(wanted)),
            State::Stem { .. }
            | State::Initializing { .. }
            | State::Ready { .. }
            | State::Pausing { .. }
            | State::Paused { .. }
            | State::Resuming { .. }
            | State::Ending { .. }
            | State::Removing { .. } => None,
        });
        let Some(wanted) = wanted.flatten() else { return };
        for job in wanted {
            self.taken.remove(&job.activation);
            job.refuse(Refusal::ContainerFailed { fault: fault.clone() }, step);
        }
        if let Some(memory) = self.forget(number) {
            step.memory.give(memory);
        }
        self.dispatch(None, step);
    }

    /// `/init` is done: those that waited for it run beside the first (L-40).
    pub(crate) fn initialized(&mut self, number: ContainerNumber, step: &mut Step<'_>) {
        let Some(container) = self.containers.get_mut(&number) else {
            return;
        };
        let State::Initializing { first, wanted, died } = &mut container.state else {
            return;
        };
        let (first, wanted, died) = (first.clone(), mem::take(wanted), *died);
        let owner = container.owner.clone();
        let mut runs = BTreeMap::from([(first.activation, first)]);
        if died {
            self.wait_again(wanted);
            let because = RemovalReason::Died;
            self.update(number, |c| c.state = State::Ending { runs, because });
        } else {
            for job in wanted {
                run(number, &job, false, step);
                runs.insert(job.activation, job);
            }
            self.update(number, |c| c.state = State::Ready { runs });
        }
        self.dispatch(owner.as_ref(), step);
    }

    /// Whether the activation was running here.
    pub(crate) fn finished(
        &mut self,
        activation: ActivationId,
        outcome: &Outcome,
        step: &mut Step<'_>,
    ) -> bool {
        let Some(&number) = self.taken.get(&activation) else {
            return false;
        };
        let Some((mut job, wanted)) = self.take_run(number, activation) else {
            return false;
        };
        self.taken.remove(&activation);
        let owner = Owner::of(&job.action);
        match outcome {
            Outcome::Answered => {
                for job in wanted {
                    run(number, &job, false, step);
                    self.update(number, |container| match &mut container.state {
                        State::Ready { runs } => runs.insert(job.activation, job),
                        _ => unreachable!("`take_run` leaves a container with work to follow ready"),
                    });
                }
                self.rest(number, step);
            }
            Outcome::Spoiled => {
                self.wait_again(wanted);
                self.end(number, RemovalReason::Spoiled, step);
            }
            Outcome::InitFailed { fault } => {
                for job in wanted {
                    self.taken.remove(&job.activation);
                    job.refuse(Refusal::InitFailed { fault: fault.clone() }, step);
                }
                self.end(number, RemovalReason::InitFailed, step);
            }
            Outcome::Returned { because } => {
                let because = because.clone();
                self.end(number, RemovalReason::Unreachable { because }, step);
                self.wait_again(wanted);
                // A container that had gone stale says nothing about the activation.
                job.tries += u32::from(!job.may_return);
                if self.draining {
                    job.refuse(Refusal::ShuttingDown, step);
                } else if job.tries >= step.settings.tries {
                    let containers = job.tries;
                    job.refuse(Refusal::Unreachable { containers }, step);
                } else {
                    self.queue.insert(job);
                }
            }
            Outcome::Lost { fault } => {
                self.wait_again(wanted);
                self.end(number, RemovalReason::Died, step);
                job.refuse(Refusal::ContainerFailed { fault: fault.clone() }, step);
            }
        }
        self.dispatch(Some(&owner), step);
        true
    }

    /// Takes a run out of its container. A run that ends before `Initialized` was said leaves
    /// those that waited for it to the caller, and the container ready.
    fn take_run(&mut self, number: ContainerNumber, activation: ActivationId) -> Option<(Job, Vec<Job>)> {
        self.update(number, |container| match &mut container.state {
            State::Ready { runs } | State::Ending { runs, .. } => {
                runs.remove(&activation).map(|job| (job, Vec::new()))
            }
            State::Initializing { first, wanted, died } if first.activation == activation => {
                let (job, wanted) = (first.clone(), mem::take(wanted));
                let runs = BTreeMap::new();
                container.state = if *died {
                    let because = RemovalReason::Died;
                    State::Ending { runs, because }
                } else {
                    State::Ready { runs }
                };
                Some((job, wanted))
            }
            State::Initializing { .. }
            | State::StemStarting
            | State::Stem { .. }
            | State::Starting { .. }
            | State::Pausing { .. }
            | State::Paused { .. }
            | State::Resuming { .. }
            | State::Removing { .. } => None,
        })?
    }

    /// What becomes of a container after a good run.
    fn rest(&mut self, number: ContainerNumber, step: &mut Step<'_>) {
        let pause = step.now + step.settings.pause_grace;
        let draining = self.draining;
        let gone = self.update(number, |container| match &mut container.state {
            State::Ready { runs } if runs.is_empty() => {
                container.due = Some(pause);
                draining.then_some(RemovalReason::ShuttingDown)
            }
            State::Ending { runs, because } if runs.is_empty() => Some(because.clone()),
            State::Ready { .. } | State::Ending { .. } => None,
            State::StemStarting
            | State::Stem { .. }
            | State::Starting { .. }
            | State::Initializing { .. }
            | State::Pausing { .. }
            | State::Paused { .. }
            | State::Resuming { .. }
            | State::Removing { .. } => None,
        });
        if let Some(because) = gone.flatten() {
            self.remove(number, because, step);
        }
    }

    /// No new runs; when the last has ended, the container goes (L-42).
    fn end(&mut self, number: ContainerNumber, because: RemovalReason, step: &mut Step<'_>) {
        let gone = self.update(number, |container| match &mut container.state {
            State::Ready { runs } => {
                let runs = mem::take(runs);
                let empty = runs.is_empty();
                container.state = State::Ending {
                    runs,
                    because: because.clone(),
                };
                empty.then(|| because.clone())
            }
            State::Ending { runs, because } => runs.is_empty().then(|| because.clone()),
            State::StemStarting
            | State::Stem { .. }
            | State::Starting { .. }
            | State::Initializing { .. }
            | State::Pausing { .. }
            | State::Paused { .. }
            | State::Resuming { .. }
            | State::Removing { .. } => None,
        });
        if let Some(because) = gone.flatten() {
            self.remove(number, because, step);
        }
    }

    pub(crate) fn paused(&mut self, number: ContainerNumber, step: &mut Step<'_>) {
        let now = step.now;
        let idle_until = now + step.settings.idle_container;
        let wanted = self.update(number, |container| {
            let State::Pausing { wanted } = &mut container.state else {
                return false;
            };
            if wanted.is_empty() {
                container.state = State::Paused { since: now };
                container.due = Some(idle_until);
                false
            } else {
                let wanted = mem::take(wanted);
                container.state = State::Resuming { wanted };
                true
            }
        });
        if wanted == Some(true) {
            step.say(Command::Resume { container: number });
        }
    }

    pub(crate) fn pause_failed(&mut self, number: ContainerNumber, step: &mut Step<'_>) {
        self.drop_waited_for(number, RemovalReason::PauseFailed, step);
    }

    pub(crate) fn resume_failed(&mut self, number: ContainerNumber, step: &mut Step<'_>) {
        self.drop_waited_for(number, RemovalReason::ResumeFailed, step);
    }

    pub(crate) fn resumed(&mut self, number: ContainerNumber, step: &mut Step<'_>) {
        let Some(container) = self.containers.get_mut(&number) else {
            return;
        };
        let State::Resuming { wanted } = &mut container.state else {
            return;
        };
        let wanted = mem::take(wanted);
        let owner = container.owner.clone();
        let mut runs = BTreeMap::new();
        for mut job in wanted {
            job.may_return = true;
            run(number, &job, false, step);
            runs.insert(job.activation, job);
        }
        self.update(number, |c| c.state = State::Ready { runs });
        self.rest(number, step);
        self.dispatch(owner.as_ref(), step);
    }

    /// Pausing or resuming failed: those that wait for it go elsewhere, unnoticed (L-22, L-24).
    fn drop_waited_for(&mut self, number: ContainerNumber, because: RemovalReason, step: &mut Step<'_>) {
        let wanted = self.update(number, |container| match &mut container.state {
            State::Pausing { wanted } | State::Resuming { wanted } => Some(mem::take(wanted)),
            State::StemStarting
            | State::Stem { .. }
            | State::Starting { .. }
            | State::Initializing { .. }
            | State::Ready { .. }
            | State::Paused { .. }
            | State::Ending { .. }
            | State::Removing { .. } => None,
        });
        let Some(wanted) = wanted.flatten() else { return };
        self.wait_again(wanted);
        self.remove(number, because, step);
        self.dispatch(None, step);
    }

    pub(crate) fn died(&mut self, number: ContainerNumber, step: &mut Step<'_>) {
        enum Then {
            Remove(Vec<Job>),
            Wait,
        }
        let then = self.update(number, |container| match &mut container.state {
            State::StemStarting | State::Stem { .. } | State::Paused { .. } => Then::Remove(Vec::new()),
            State::Pausing { wanted } | State::Resuming { wanted } => Then::Remove(mem::take(wanted)),
            State::Ready { runs } if runs.is_empty() => Then::Remove(Vec::new()),
            State::Ready { runs } => {
                let runs = mem::take(runs);
                let because = RemovalReason::Died;
                container.state = State::Ending { runs, because };
                Then::Wait
            }
            State::Initializing { died, .. } => {
                *died = true;
                Then::Wait
            }
            // The start says itself that it failed; a removal goes on.
            State::Starting { .. } | State::Ending { .. } | State::Removing { .. } => Then::Wait,
        });
        match then {
            Some(Then::Remove(wanted)) => {
                self.wait_again(wanted);
                self.remove(number, RemovalReason::Died, step);
                self.dispatch(None, step);
            }
            Some(Then::Wait) | None => {}
        }
    }

    pub(crate) fn removed(&mut self, number: ContainerNumber, step: &mut Step<'_>) {
        let Some(State::Removing { counted }) = self.containers.get(&number).map(|c| &c.state) else {
            return;
        };
        let counted = *counted;
        if let Some(memory) = self.forget(number)
            && counted
        {
            step.memory.left(memory);
        }
        self.dispatch(None, step);
        self.fill_stem_cells(step);
    }

    /// Looks at every container whose time has come, and at the stem cells.
    pub(crate) fn tick(&mut self, step: &mut Step<'_>) {
        while let Some(&(due, number)) = self.due.first()
            && due <= step.now
        {
            let overdue = self.update(number, |container| {
                container.due = None;
                match &mut container.state {
                    State::Ready { runs } if runs.is_empty() => {
                        let wanted = Vec::new();
                        container.state = State::Pausing { wanted };
                        step.say(Command::Pause { container: number });
                        None
                    }
                    State::Paused { since } => Some(RemovalReason::Idle {
                        since: step.now.since(*since),
                    }),
                    State::Removing { counted } => {
                        if mem::take(counted) {
                            step.memory.left(container.memory);
                        }
                        None
                    }
                    State::StemStarting
                    | State::Stem { .. }
                    | State::Starting { .. }
                    | State::Initializing { .. }
                    | State::Ready { .. }
                    | State::Pausing { .. }
                    | State::Resuming { .. }
                    | State::Ending { .. } => None,
                }
            });
            if let Some(because) = overdue.flatten() {
                self.remove(number, because, step);
            }
        }
        self.look_at_stem_cells(step);
        self.dispatch(None, step);
    }

    /// When `tick` has something to do.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let due = self.due.first().map(|(due, _)| *due);
        [due, self.stem_cells.next_look].into_iter().flatten().min()
    }

    /// Refuses whatever waits, removes whatever is idle; what runs may end.
    pub(crate) fn drain(&mut self, step: &mut Step<'_>) {
        self.draining = true;
        self.stem_cells.next_look = None;
        let mut waiting = Vec::new();
        while let Some(job) = self.queue.pop() {
            waiting.push(job);
        }
        let numbers: Vec<_> = self.containers.keys().copied().collect();
        for number in numbers {
            let (wanted, goes) = self
                .update(number, |container| match &mut container.state {
                    State::Stem { .. } | State::Paused { .. } => (Vec::new(), true),
                    State::Ready { runs } => (Vec::new(), runs.is_empty()),
                    State::Pausing { wanted } | State::Resuming { wanted } => (mem::take(wanted), true),
                    State::Starting { wanted } | State::Initializing { wanted, .. } => {
                        (mem::take(wanted), false)
                    }
                    State::StemStarting | State::Ending { .. } | State::Removing { .. } => {
                        (Vec::new(), false)
                    }
                })
                .unwrap_or_default();
            waiting.extend(wanted);
            if goes {
                self.remove(number, RemovalReason::ShuttingDown, step);
            }
        }
        waiting.sort_by_key(|job| job.arrival);
        for job in waiting {
            self.taken.remove(&job.activation);
            job.refuse(Refusal::ShuttingDown, step);
        }
    }

    /// Evicts idle containers until `needed` is free or will be; none if they would not suffice.
    pub(crate) fn evict(&mut self, needed: Bytes, step: &mut Step<'_>) -> bool {
        if step.memory.missing(needed).0 > self.idle_memory.0 {
            return false;
        }
        while step.memory.missing(needed).0 > 0
            && let Some(&(_, number)) = self.idle.first()
        {
            let free = step.memory.free();
            self.remove(number, RemovalReason::Evicted { needed, free }, step);
        }
        true
    }

    /// Memory of containers that could be evicted now.
    pub(crate) fn idle_memory(&self) -> Bytes {
        self.idle_memory
    }

    /// Arrival of the oldest activation that no container takes, and since when it is blocked.
    pub(crate) fn blocked(&self) -> Option<(u64, Instant)> {
        self.queue.blocked()
    }

    /// Activations that no container has taken, oldest first.
    pub(crate) fn waiting(&self) -> impl Iterator<Item = &Job> {
        self.queue.iter()
    }

    /// Memory that the oldest waiting activation needs.
    pub(crate) fn blocked_memory(&self) -> Option<Bytes> {
        self.queue.iter().next().map(|job| job.action.memory)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.containers.is_empty() && self.queue.is_empty()
    }

    pub(crate) fn counts(&self) -> PoolCounts {
        let mut counts = PoolCounts {
            waiting: (self.queue.len(), self.queue.memory()),
            ..PoolCounts::default()
        };
        let count = |(n, bytes): &mut (usize, Bytes), memory: Bytes| {
            *n += 1;
            bytes.0 += memory.0;
        };
        for container in self.containers.values() {
            match &container.state {
                State::StemStarting | State::Stem { .. } => count(&mut counts.stem_cells, container.memory),
                State::Removing { .. } => {}
                _ if container.is_active() => count(&mut counts.active, container.memory),
                _ => count(&mut counts.idle, container.memory),
            }
        }
        counts
    }

    /// Serves those that wait, oldest first; `freed` is an owner whose container has room now.
    pub(crate) fn dispatch_all(&mut self, step: &mut Step<'_>) {
        self.dispatch(None, step);
    }

    fn dispatch(&mut self, freed: Option<&Owner>, step: &mut Step<'_>) {
        if let Some(owner) = freed
            && self.may_overtake(step)
        {
            self.serve_from_warm(owner, step);
        }
        let mut head_changed = false;
        while let Some(head) = self.queue.head(step.now) {
            let arrival = head.arrival;
            if !self.place(arrival, step) {
                break;
            }
            head_changed = true;
        }
        // The new head waits afresh, so others may pass it where they find a warm container.
        if head_changed && self.may_overtake(step) {
            let owners: BTreeSet<Owner> = self
                .idle
                .iter()
                .filter_map(|(_, number)| self.containers[number].owner.clone())
                .collect();
            for owner in owners {
                self.serve_from_warm(&owner, step);
            }
        }
        self.replace_taken_stem_cells(step);
    }

    /// Whether those behind the oldest claim to memory may pass it (L-36).
    fn may_overtake(&self, step: &Step<'_>) -> bool {
        let blocked = self.queue.blocked().map(|(_, since)| since);
        [step.claim.map(|claim| claim.since), blocked]
            .into_iter()
            .flatten()
            .all(|since| step.now.since(since) < step.settings.overtaking)
    }

    fn serve_from_warm(&mut self, owner: &Owner, step: &mut Step<'_>) {
        while let Some(arrival) = self.queue.first_of(owner)
            && let Some(number) = self.warm(owner)
            && let Some(job) = self.queue.remove(arrival)
        {
            self.assign(job, number, step);
        }
    }

    /// Tries to find the waiting job a container (L-30), and says whether there was one.
    fn place(&mut self, arrival: u64, step: &mut Step<'_>) -> bool {
        let Some(mut job) = self.queue.remove(arrival) else {
            return false;
        };
        let owner = Owner::of(&job.action);
        if let Some(number) = self.warm(&owner) {
            self.assign(job, number, step);
            return true;
        }
        if let Some(number) = self.stem_cell_for(&job) {
            self.take_stem_cell(job, number, owner, step);
            return true;
        }
        let memory = job.action.memory;
        let may_take = !step.is_claimed_before(arrival);
        if may_take && step.memory.take(memory) {
            self.create(job, owner, step);
            return true;
        }
        if may_take && step.memory.missing(memory).0 > 0 {
            job.made_room |= self.evict(memory, step);
        }
        self.queue.insert(job);
        false
    }

    /// The container of this owner that could run another activation soonest; the most recently
    /// used among equals (L-31).
    fn warm(&self, owner: &Owner) -> Option<ContainerNumber> {
        let candidates = self.of_owner.get(owner)?.iter().filter_map(|number| {
            let container = &self.containers[number];
            Some((
                container.readiness()?,
                std::cmp::Reverse(container.assigned),
                *number,
            ))
        });
        candidates.min().map(|(_, _, number)| number)
    }

    fn assign(&mut self, mut job: Job, number: ContainerNumber, step: &mut Step<'_>) {
        enum Then {
            Run(Job),
            Resume,
            Wait,
        }
        self.assignments += 1;
        let assignments = self.assignments;
        self.taken.insert(job.activation, number);
        let then = self.update(number, |container| {
            container.assigned = assignments;
            container.due = None;
            job.may_return = false;
            job.assigned = match (&container.state, container.cold) {
                (State::Starting { .. } | State::Initializing { .. }, true) => Assigned::WarmingCold,
                (State::Starting { .. } | State::Initializing { .. }, false) => Assigned::Warming,
                _ => Assigned::Warmed,
            };
            match &mut container.state {
                State::Ready { runs } => {
                    job.may_return = runs.is_empty();
                    runs.insert(job.activation, job.clone());
                    Then::Run(job)
                }
                State::Paused { .. } => {
                    container.state = State::Resuming { wanted: vec![job] };
                    Then::Resume
                }
                State::Starting { wanted }
                | State::Initializing { wanted, .. }
                | State::Pausing { wanted }
                | State::Resuming { wanted } => {
                    wanted.push(job);
                    Then::Wait
                }
                State::StemStarting | State::Stem { .. } | State::Ending { .. } | State::Removing { .. } => {
                    unreachable!("`warm` finds only containers with readiness")
                }
            }
        });
        match then {
            Some(Then::Run(job)) => run(number, &job, false, step),
            Some(Then::Resume) => step.say(Command::Resume { container: number }),
            Some(Then::Wait) | None => {}
        }
    }

    fn create(&mut self, mut job: Job, owner: Owner, step: &mut Step<'_>) {
        self.stem_cells.count_cold_start(&job.action);
        job.may_return = false;
        let because = if job.made_room {
            StartReason::Recreated
        } else {
            StartReason::Cold
        };
        job.assigned = if job.made_room {
            Assigned::Recreated
        } else {
            Assigned::Cold
        };
        job.made_room = false;
        let number = self.number();
        self.taken.insert(job.activation, number);
        self.assignments += 1;
        step.say(Command::StartContainer {
            container: number,
            purpose: Purpose::Action {
                activation: job.activation,
            },
            memory: job.action.memory,
            because,
        });
        self.of_owner.entry(owner.clone()).or_default().insert(number);
        self.containers.insert(
            number,
            Container {
                memory: job.action.memory,
                kind: job.action.kind.clone(),
                owner: Some(owner),
                cold: true,
                assigned: self.assignments,
                due: None,
                state: State::Starting { wanted: vec![job] },
            },
        );
    }

    fn number(&mut self) -> ContainerNumber {
        self.numbered += 1;
        ContainerNumber(self.numbered)
    }

    fn wait_again(&mut self, jobs: Vec<Job>) {
        for job in jobs {
            self.taken.remove(&job.activation);
            self.queue.insert(job);
        }
    }

    fn remove(&mut self, number: ContainerNumber, because: RemovalReason, step: &mut Step<'_>) {
        let due = step.now + step.settings.removal_limit;
        let removal = self.update(number, |container| {
            let paused = match &container.state {
                State::Pausing { .. } | State::Paused { .. } | State::Resuming { .. } => true,
                State::StemStarting
                | State::Stem { .. }
                | State::Starting { .. }
                | State::Initializing { .. }
                | State::Ready { .. }
                | State::Ending { .. } => false,
                State::Removing { .. } => return None,
            };
            container.state = State::Removing { counted: true };
            container.due = Some(due);
            Some((container.memory, paused, container.owner.take()))
        });
        let Some((memory, paused, owner)) = removal.flatten() else {
            return;
        };
        self.disown(number, owner);
        step.memory.leave(memory);
        step.say(Command::RemoveContainer {
            container: number,
            paused,
            because,
        });
    }

    fn disown(&mut self, number: ContainerNumber, owner: Option<Owner>) {
        if let Some(owner) = owner
            && let Some(numbers) = self.of_owner.get_mut(&owner)
        {
            numbers.remove(&number);
            if numbers.is_empty() {
                self.of_owner.remove(&owner);
            }
        }
    }

    /// Takes a container that is gone out of the books, and says how much memory it had.
    fn forget(&mut self, number: ContainerNumber) -> Option<Bytes> {
        self.update(number, |container| container.due = None)?;
        let container = self.containers.remove(&number)?;
        if self.idle.remove(&(container.assigned, number)) {
            self.idle_memory.0 -= container.memory.0;
        }
        self.disown(number, container.owner);
        Some(container.memory)
    }

    /// Changes one container, and keeps the indexes by idleness and due time in step.
    fn update<R>(&mut self, number: ContainerNumber, change: impl FnOnce(&mut Container) -> R) -> Option<R> {
        let container = self.containers.get_mut(&number)?;
        let (idle, assigned, due) = (container.is_idle(), container.assigned, container.due);
        let result = change(container);
        if (idle, assigned) != (container.is_idle(), container.assigned) {
            if idle {
                self.idle.remove(&(assigned, number));
                self.idle_memory.0 -= container.memory.0;
            }
            if container.is_idle() {
                self.idle.insert((container.assigned, number));
                self.idle_memory.0 += container.memory.0;
            }
        }
        if due != container.due {
            if let Some(due) = due {
                self.due.remove(&(due, number));
            }
            if let Some(due) = container.due {
                self.due.insert((due, number));
            }
        }
        Some(result)
    }
}

fn run(container: ContainerNumber, job: &Job, initialize: bool, step: &mut Step<'_>) {
    step.say(Command::Run {
        activation: job.activation,
        container,
        initialize,
        may_return: job.may_return,
        because: job.assigned,
    });
}
