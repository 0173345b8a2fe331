//! One function as one namespace invokes it: who waits for it, and how it wants to be served.

use crate::hotness::Rate;
use crate::instant::Instant;
use crate::job::Job;
use crate::policy::{self, Policy};
use crate::reason::Waiting;
use crate::settings::Settings;
use crate::work::{ActionRevision, Terms};
use proto::unit::Bytes;
use std::collections::VecDeque;
use std::time::Duration;

#[derive(Debug)]
pub(super) struct Function {
    pub(super) terms: Terms,
    pub(super) policy: &'static dyn Policy,
    /// Memory limit of one lane.
    pub(super) memory: Bytes,
    /// Oldest first.
    pub(super) queue: VecDeque<Job>,
    /// What those in the queue wait for, as it was seen last.
    pub(super) waits: Option<Waiting>,
    /// The revision that has replaced this one.
    pub(super) superseded: Option<String>,
    pub(super) rate: Rate,
    /// Whether an activation was just given to an instance and is expected to miss the SLO.
    pub(super) pressed: bool,
    /// When an activation last came or ended.
    pub(super) active: Instant,
    /// Starts that have failed since the last one that did not.
    pub(super) failures: u32,
    /// Before this, no instance is started without an activation that needs it.
    pub(super) rests_until: Instant,
}

impl Function {
    pub(super) fn new(terms: Terms, memory: Bytes, now: Instant, settings: &Settings) -> Self {
        let policy = terms.policy.as_deref().unwrap_or(&settings.policy);
        Self {
            policy: policy::find_or_default(policy),
            terms,
            memory,
            queue: VecDeque::new(),
            waits: None,
            superseded: None,
            rate: Rate::default(),
            pressed: false,
            active: now,
            failures: 0,
            rests_until: now,
        }
    }

    /// Arrival of the oldest activation that waits.
    pub(super) fn head(&self) -> Option<u64> {
        self.queue.front().map(|job| job.arrival)
    }

    /// When the oldest activation that waits has waited long enough.
    pub(super) fn gives_up(&self, settings: &Settings) -> Option<Instant> {
        self.queue.front().map(|job| job.since + patience(job, settings))
    }

    pub(super) fn keep_alive(&self, settings: &Settings) -> Duration {
        self.terms.keep_alive.unwrap_or(settings.keep_alive)
    }

    /// Instances that stay although they are idle.
    pub(super) fn least_instances(&self) -> usize {
        if self.superseded.is_some() {
            0
        } else {
            self.terms.min_instances as usize
        }
    }

    pub(super) fn most_instances(&self) -> usize {
        self.terms.max_instances.map_or(usize::MAX, |most| most as usize)
    }

    /// The next start without need waits longer with each failure.
    pub(super) fn start_failed(&mut self, now: Instant) {
        self.failures = (self.failures + 1).min(6);
        self.rests_until = now + Duration::from_secs(1 << self.failures);
    }
}

/// How long an activation waits at most: the controller gives it up a minute later (K-63).
pub(super) fn patience(job: &Job, settings: &Settings) -> Duration {
    job.action.limit.max(settings.least_limit) * 2
}

/// Whether revision `a` is newer than `b`; CouchDB counts in front of the dash. Equal counts, or
/// none: the one invoked last is.
pub(super) fn is_newer(a: &ActionRevision, b: &ActionRevision) -> bool {
    let count = |of: &ActionRevision| of.revision.split('-').next()?.parse::<u64>().ok();
    count(a) >= count(b)
}
