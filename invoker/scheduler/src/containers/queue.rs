//! Activations that no container has taken, in order of arrival (contract L-35).

use crate::instant::Instant;
use crate::job::{Job, Owner};
use proto::id::ActivationId;
use proto::unit::Bytes;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Debug, Default)]
pub(super) struct Queue {
    jobs: BTreeMap<u64, Job>,
    by_owner: BTreeMap<Owner, BTreeSet<u64>>,
    by_activation: BTreeMap<ActivationId, u64>,
    memory: Bytes,
    /// Since when the job at the head is tried in vain.
    blocked: Option<(u64, Instant)>,
}

impl Queue {
    pub(super) fn len(&self) -> usize {
        self.jobs.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.jobs.is_empty()
    }

    /// Memory limits of all that wait.
    pub(super) fn memory(&self) -> Bytes {
        self.memory
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Job> {
        self.jobs.values()
    }

    /// A job that comes back keeps its place.
    pub(super) fn insert(&mut self, job: Job) {
        self.memory.0 += job.action.memory.0;
        self.by_owner
            .entry(Owner::of(&job.action))
            .or_default()
            .insert(job.arrival);
        self.by_activation.insert(job.activation, job.arrival);
        self.jobs.insert(job.arrival, job);
    }

    /// The oldest job, marked as blocked since `now` unless it was before.
    pub(super) fn head(&mut self, now: Instant) -> Option<&mut Job> {
        let (&arrival, job) = self.jobs.iter_mut().next()?;
        if self.blocked.is_none_or(|(blocked, _)| blocked != arrival) {
            self.blocked = Some((arrival, now));
        }
        Some(job)
    }

    /// Arrival of the oldest job, and since when it is tried in vain.
    pub(super) fn blocked(&self) -> Option<(u64, Instant)> {
        let (&head, _) = self.jobs.first_key_value()?;
        self.blocked.filter(|(arrival, _)| *arrival == head)
    }

    /// The oldest job of this owner.
    pub(super) fn first_of(&self, owner: &Owner) -> Option<u64> {
        self.by_owner.get(owner)?.first().copied()
    }

    pub(super) fn remove(&mut self, arrival: u64) -> Option<Job> {
        let job = self.jobs.remove(&arrival)?;
        self.memory.0 -= job.action.memory.0;
        self.by_activation.remove(&job.activation);
        let owner = Owner::of(&job.action);
        if let Some(arrivals) = self.by_owner.get_mut(&owner) {
            arrivals.remove(&arrival);
            if arrivals.is_empty() {
                self.by_owner.remove(&owner);
            }
        }
        Some(job)
    }

    pub(super) fn cancel(&mut self, activation: ActivationId) -> Option<Job> {
        let arrival = *self.by_activation.get(&activation)?;
        self.remove(arrival)
    }

    pub(super) fn pop(&mut self) -> Option<Job> {
        let (&arrival, _) = self.jobs.first_key_value()?;
        self.remove(arrival)
    }
}
