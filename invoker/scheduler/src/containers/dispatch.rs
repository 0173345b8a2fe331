//! Which container takes an activation that waits: a warm one, a stem cell, or one that is started for it.

use super::container::{Container, State};
use super::{Pool, run};
use crate::command::{Command, Purpose};
use crate::job::{Job, Owner};
use crate::reason::{Assigned, StartReason};
use crate::step::Step;
use crate::work::ContainerNumber;
use std::collections::BTreeSet;

impl Pool {
    /// Serves those that wait, oldest first; `freed` is an owner whose container has room now.
    pub(crate) fn dispatch_all(&mut self, step: &mut Step<'_>) {
        self.dispatch(None, step);
    }

    pub(super) fn dispatch(&mut self, freed: Option<&Owner>, step: &mut Step<'_>) {
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

    pub(super) fn number(&mut self) -> ContainerNumber {
        self.numbered += 1;
        ContainerNumber(self.numbered)
    }
}
