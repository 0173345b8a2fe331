//! One activation in the hands of the scheduler.

use crate::command::Command;
use crate::instant::Instant;
use crate::reason::{Assigned, Refusal};
use crate::step::Step;
use crate::work::Action;
use proto::id::ActivationId;
use std::sync::Arc;

#[derive(Clone, Debug)]
pub(crate) struct Job {
    pub(crate) activation: ActivationId,
    pub(crate) action: Arc<Action>,
    /// Order of arrival among all activations of the scheduler.
    pub(crate) arrival: u64,
    pub(crate) since: Instant,
    /// Containers that did not take it.
    pub(crate) tries: u32,
    /// Whether idle containers were evicted for it.
    pub(crate) made_room: bool,
    /// How it came to the container that it is in.
    pub(crate) assigned: Assigned,
    /// Whether that container was idle before it, which decides what a refused connection means.
    pub(crate) may_return: bool,
}

impl Job {
    pub(crate) fn refuse(self, because: Refusal, step: &mut Step<'_>) {
        let activation = self.activation;
        step.say(Command::Refuse { activation, because });
    }
}

/// Who may use a container: equal owners share it (contract L-31).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Owner {
    pub(crate) namespace: String,
    pub(crate) identity: String,
    pub(crate) concurrency: u32,
}

impl Owner {
    pub(crate) fn of(action: &Action) -> Self {
        Self {
            namespace: action.namespace.clone(),
            identity: action.identity.clone(),
            concurrency: action.concurrency.max(1),
        }
    }
}
