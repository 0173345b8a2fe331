//! One ordinary container: its states (contract S-01) and who may use it.

use crate::instant::Instant;
use crate::job::{Job, Owner};
use crate::reason::RemovalReason;
use proto::id::ActivationId;
use proto::unit::Bytes;
use std::collections::BTreeMap;

#[derive(Debug)]
pub(super) struct Container {
    pub(super) memory: Bytes,
    /// None for an image of the user's own.
    pub(super) kind: Option<String>,
    /// Whose it is; none for a stem cell.
    pub(super) owner: Option<Owner>,
    /// Whether it was started for an action, not as a stem cell.
    pub(super) cold: bool,
    /// Rises with each assignment in the pool: the lowest is evicted first (L-34).
    pub(super) assigned: u64,
    /// When the pool has to look at it again.
    pub(super) due: Option<Instant>,
    pub(super) state: State,
}

#[derive(Debug)]
pub(super) enum State {
    /// A stem cell that does not listen yet.
    StemStarting,
    /// A stem cell (S-01c).
    Stem {
        since: Instant,
    },
    /// Does not listen yet. The first of `wanted` will initialise it; none if all were cancelled.
    Starting {
        wanted: Vec<Job>,
    },
    /// `/init` of `first` runs; `wanted` follow (L-40).
    Initializing {
        first: Job,
        wanted: Vec<Job>,
        died: bool,
    },
    /// Initialised (S-01d, S-01e); idle if nothing runs.
    Ready {
        runs: BTreeMap<ActivationId, Job>,
    },
    Pausing {
        wanted: Vec<Job>,
    },
    Paused {
        since: Instant,
    },
    Resuming {
        wanted: Vec<Job>,
    },
    /// Takes no new runs, and goes when the last has ended (L-42).
    Ending {
        runs: BTreeMap<ActivationId, Job>,
        because: RemovalReason,
    },
    /// Being removed. `counted`: its memory still counts (L-27).
    Removing {
        counted: bool,
    },
}

impl Container {
    /// Whether nothing runs in it and nothing waits for it, so that it can go at once.
    /// Never true of a stem cell.
    pub(super) fn is_idle(&self) -> bool {
        match &self.state {
            State::Ready { runs } => runs.is_empty(),
            State::Pausing { wanted } => wanted.is_empty(),
            State::Paused { .. } => true,
            State::StemStarting
            | State::Stem { .. }
            | State::Starting { .. }
            | State::Initializing { .. }
            | State::Resuming { .. }
            | State::Ending { .. }
            | State::Removing { .. } => false,
        }
    }

    /// Whether at least one activation runs in it or waits for it.
    pub(super) fn is_active(&self) -> bool {
        self.load() > 0
    }

    /// Activations that run in it or wait for it.
    pub(super) fn load(&self) -> usize {
        match &self.state {
            State::StemStarting | State::Stem { .. } | State::Paused { .. } | State::Removing { .. } => 0,
            State::Starting { wanted } | State::Pausing { wanted } | State::Resuming { wanted } => {
                wanted.len()
            }
            State::Initializing { wanted, .. } => 1 + wanted.len(),
            State::Ready { runs } | State::Ending { runs, .. } => runs.len(),
        }
    }

    /// How soon an activation of its owner could run in it, smaller is sooner; none if it has no
    /// room or takes no more work.
    pub(super) fn readiness(&self) -> Option<u8> {
        let owner = self.owner.as_ref()?;
        if self.load() >= owner.concurrency as usize {
            return None;
        }
        match &self.state {
            State::Ready { .. } => Some(0),
            State::Resuming { .. } => Some(1),
            State::Paused { .. } => Some(2),
            State::Pausing { .. } => Some(3),
            State::Initializing { died: false, .. } => Some(4),
            // Nobody waits for it any more: it is as good as gone.
            State::Starting { wanted } => (!wanted.is_empty()).then_some(5),
            State::Initializing { died: true, .. }
            | State::StemStarting
            | State::Stem { .. }
            | State::Ending { .. }
            | State::Removing { .. } => None,
        }
    }
}
