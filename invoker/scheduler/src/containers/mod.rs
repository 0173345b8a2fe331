//! The pool of ordinary containers: who runs where, who waits, who goes (contract chapter 6).
//!
//! One activation is tried in this order: a warm container, a stem cell, a new container if memory
//! allows, the same after eviction of idle ones; else it waits, and never fails for lack of space.
//! What the containers do is the caller's business; pipelines take their memory from the same
//! ledger, but are not containers of the pool.

mod container;
mod dispatch;
mod queue;
mod reports;
mod stem_cells;

use crate::command::Command;
use crate::instant::Instant;
use crate::job::{Job, Owner};
use crate::reason::{Refusal, RemovalReason};
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
