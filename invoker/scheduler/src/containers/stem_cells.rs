//! Stem cells: containers of a kind, started before an action is known (contract 6.4).

use super::container::{Container, State};
use super::{Pool, run};
use crate::command::{Command, Purpose};
use crate::instant::Instant;
use crate::job::{Job, Owner};
use crate::reason::{Assigned, RemovalReason, StartReason};
use crate::settings::{Settings, StemCell};
use crate::step::Step;
use crate::view::StemCellRounds;
use crate::work::{Action, ContainerNumber};
use proto::unit::Bytes;
use std::time::Duration;

#[derive(Debug)]
pub(super) struct StemCells {
    /// When reactive ones are looked at next; none if there is none.
    pub(super) next_look: Option<Instant>,
    kinds: Vec<Kind>,
}

/// One definition of the manifest, with what has happened to it.
#[derive(Debug)]
struct Kind {
    of: StemCell,
    /// Cold starts since the last look (L-49).
    cold_starts: u32,
    /// Taken in this step, and to be replaced if memory allows (L-32).
    taken: u32,
    /// Looks that found cold starts, and that found expired ones (H-32c, H-32d).
    rounds: (u64, u64),
}

impl StemCells {
    pub(super) fn new(step: &Step<'_>) -> Self {
        let reactive = step
            .settings
            .stem_cells
            .iter()
            .any(|cell| cell.reactive.is_some());
        Self {
            next_look: reactive.then(|| step.now + step.settings.stem_cell_delay),
            kinds: definitions(step.settings),
        }
    }

    pub(super) fn count_cold_start(&mut self, action: &Action) {
        if let Some(kind) = self.defined(action.kind.as_deref(), action.memory) {
            kind.cold_starts += 1;
        }
    }

    fn defined(&mut self, kind: Option<&str>, memory: Bytes) -> Option<&mut Kind> {
        self.kinds
            .iter_mut()
            .find(|k| Some(k.of.kind.as_str()) == kind && k.of.memory == memory)
    }
}

fn definitions(settings: &Settings) -> Vec<Kind> {
    let kind = |of: &StemCell| Kind {
        of: of.clone(),
        cold_starts: 0,
        taken: 0,
        rounds: (0, 0),
    };
    settings.stem_cells.iter().map(kind).collect()
}

impl StemCell {
    fn ttl(&self) -> Option<Duration> {
        self.reactive.as_ref().map(|reactive| reactive.ttl)
    }

    /// How many there are at least.
    fn least(&self) -> u32 {
        self.reactive
            .as_ref()
            .map_or(self.initial_count, |reactive| reactive.min_count)
    }

    /// How many there should be after so many cold starts (L-48).
    fn wanted(&self, cold_starts: u32) -> u32 {
        match &self.reactive {
            Some(reactive) if cold_starts > 0 => (cold_starts / reactive.threshold.max(1))
                .saturating_mul(reactive.increment)
                .max(reactive.min_count)
                .min(reactive.max_count),
            Some(_) | None => self.least(),
        }
    }
}

impl Pool {
    pub(super) fn start_initial_stem_cells(&mut self, step: &mut Step<'_>) {
        for index in 0..self.stem_cells.kinds.len() {
            let wanted = self.stem_cells.kinds[index].of.initial_count;
            self.fill_up_to(index, wanted, StartReason::InitialStemCell, step);
        }
    }

    /// Fills up after a removal (L-47). Activations that wait come first.
    pub(super) fn fill_stem_cells(&mut self, step: &mut Step<'_>) {
        for index in 0..self.stem_cells.kinds.len() {
            if self.may_start_stem_cells(step) {
                let wanted = self.stem_cells.kinds[index].of.least();
                self.fill_up_to(index, wanted, StartReason::StemCellReplaced, step);
            }
        }
    }

    pub(super) fn replace_taken_stem_cells(&mut self, step: &mut Step<'_>) {
        for index in 0..self.stem_cells.kinds.len() {
            let taken = std::mem::take(&mut self.stem_cells.kinds[index].taken);
            if taken > 0 && self.may_start_stem_cells(step) {
                let wanted = self.stem_cell_count(index) + taken;
                self.fill_up_to(index, wanted, StartReason::StemCellReplaced, step);
            }
        }
    }

    fn may_start_stem_cells(&self, step: &Step<'_>) -> bool {
        step.claim.is_none() && self.queue.is_empty() && !self.draining
    }

    /// Removes expired stem cells, and starts what the cold starts since the last look ask for.
    pub(super) fn look_at_stem_cells(&mut self, step: &mut Step<'_>) {
        if self.stem_cells.next_look.is_none_or(|at| step.now < at) {
            return;
        }
        self.stem_cells.next_look = Some(step.now + step.settings.stem_cell_interval);
        self.remove_expired_stem_cells(step);
        for index in 0..self.stem_cells.kinds.len() {
            let kind = &mut self.stem_cells.kinds[index];
            let cold_starts = std::mem::take(&mut kind.cold_starts);
            kind.rounds.0 += u64::from(cold_starts > 0);
            let wanted = kind.of.wanted(cold_starts);
            let because = if wanted > kind.of.least() {
                StartReason::StemCellDemand { cold_starts }
            } else {
                StartReason::StemCellReplaced
            };
            if self.may_start_stem_cells(step) {
                self.fill_up_to(index, wanted, because, step);
            }
        }
    }

    fn remove_expired_stem_cells(&mut self, step: &mut Step<'_>) {
        let mut expired: Vec<(Instant, ContainerNumber)> = Vec::new();
        for (number, container) in &self.containers {
            if let State::Stem { since } = container.state
                && let Some(ttl) = self.ttl(container)
                && step.now.since(since) > ttl
            {
                expired.push((since, *number));
            }
        }
        expired.sort();
        expired.truncate(step.settings.stem_cell_expirations);
        for index in 0..self.stem_cells.kinds.len() {
            let of = &self.stem_cells.kinds[index].of;
            let is_of = |number| {
                let container: Option<&Container> = self.containers.get(number);
                container.is_some_and(|c| c.kind.as_ref() == Some(&of.kind) && c.memory == of.memory)
            };
            if expired.iter().any(|(_, number)| is_of(number)) {
                self.stem_cells.kinds[index].rounds.1 += 1;
            }
        }
        for (since, number) in expired {
            let age = step.now.since(since);
            self.remove(number, RemovalReason::Expired { age }, step);
        }
    }

    pub(crate) fn stem_cell_rounds(&self) -> impl Iterator<Item = StemCellRounds> {
        self.stem_cells.kinds.iter().map(|kind| StemCellRounds {
            kind: kind.of.kind.clone(),
            memory: kind.of.memory,
            cold_starts: kind.rounds.0,
            expired: kind.rounds.1,
        })
    }

    /// Memory of the stem cells that listen.
    pub(crate) fn stem_cell_memory(&self) -> Bytes {
        let listens = |container: &&Container| matches!(container.state, State::Stem { .. });
        self.containers
            .values()
            .filter(listens)
            .map(|container| container.memory)
            .sum()
    }

    /// Removes the oldest stem cells until `needed` fits beside the others.
    pub(crate) fn sacrifice_stem_cells(&mut self, needed: Bytes, step: &mut Step<'_>) {
        let free = step.memory.free();
        let mut left = self.stem_cell_memory();
        let mut stem_cells: Vec<(Instant, ContainerNumber, Bytes)> = Vec::new();
        for (number, container) in &self.containers {
            if let State::Stem { since } = container.state {
                stem_cells.push((since, *number, container.memory));
            }
        }
        stem_cells.sort();
        for (_, number, memory) in stem_cells {
            if left.0 + needed.0 <= step.memory.budget().0 {
                return;
            }
            left.0 -= memory.0;
            self.remove(number, RemovalReason::Evicted { needed, free }, step);
        }
    }

    fn ttl(&self, container: &Container) -> Option<Duration> {
        let matches = |kind: &&Kind| {
            Some(&kind.of.kind) == container.kind.as_ref() && kind.of.memory == container.memory
        };
        self.stem_cells.kinds.iter().find(matches)?.of.ttl()
    }

    /// The stem cell for this job: kind and memory equal, the one that expires first (L-32).
    pub(super) fn stem_cell_for(&self, job: &Job) -> Option<ContainerNumber> {
        let defined =
            |k: &Kind| Some(&k.of.kind) == job.action.kind.as_ref() && k.of.memory == job.action.memory;
        if !self.stem_cells.kinds.iter().any(defined) {
            return None;
        }
        let fits = self.containers.iter().filter_map(|(number, container)| {
            let State::Stem { since } = container.state else {
                return None;
            };
            (container.kind == job.action.kind && container.memory == job.action.memory)
                .then_some((since, *number))
        });
        fits.min().map(|(_, number)| number)
    }

    pub(super) fn take_stem_cell(
        &mut self,
        mut job: Job,
        number: ContainerNumber,
        owner: Owner,
        step: &mut Step<'_>,
    ) {
        let action = &job.action;
        if let Some(kind) = self.stem_cells.defined(action.kind.as_deref(), action.memory) {
            kind.taken += 1;
        }
        job.may_return = false;
        job.assigned = if job.made_room {
            Assigned::RecreatedPrewarm
        } else {
            Assigned::Prewarmed
        };
        job.made_room = false;
        self.taken.insert(job.activation, number);
        self.of_owner.entry(owner.clone()).or_default().insert(number);
        self.assignments += 1;
        let assignments = self.assignments;
        run(number, &job, true, step);
        self.update(number, |container| {
            container.assigned = assignments;
            container.owner = Some(owner);
            container.state = State::Initializing {
                first: job,
                wanted: Vec::new(),
                died: false,
            };
        });
    }

    fn stem_cell_count(&self, index: usize) -> u32 {
        let of = &self.stem_cells.kinds[index].of;
        let matches = |container: &&Container| {
            matches!(container.state, State::StemStarting | State::Stem { .. })
                && container.kind.as_ref() == Some(&of.kind)
                && container.memory == of.memory
        };
        u32::try_from(self.containers.values().filter(matches).count()).unwrap_or(u32::MAX)
    }

    fn fill_up_to(&mut self, index: usize, wanted: u32, because: StartReason, step: &mut Step<'_>) {
        let StemCell { kind, memory, .. } = self.stem_cells.kinds[index].of.clone();
        for _ in self.stem_cell_count(index)..wanted {
            if !step.memory.take(memory) {
                return;
            }
            let number = self.number();
            step.say(Command::StartContainer {
                container: number,
                purpose: Purpose::StemCell { kind: kind.clone() },
                memory,
                because,
            });
            self.containers.insert(
                number,
                Container {
                    memory,
                    kind: Some(kind.clone()),
                    owner: None,
                    cold: false,
                    assigned: 0,
                    due: None,
                    state: State::StemStarting,
                },
            );
        }
    }
}
