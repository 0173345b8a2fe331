//! One activation that can be run: its message, its action, and the promise of an answer.

use super::Executable;
use crate::completion::{Owed, record, response};
use proto::id::ActivationId;
use proto::whisk::activation::{Activation, Response};
use proto::whisk::activation_message::ActivationMessage;
use scheduler::fault::Fault;
use scheduler::work::{Action, ActionRevision, Ffs, Request, Terms};
use std::sync::Arc;
use std::time::Duration;

#[derive(Debug)]
pub struct Job {
    pub message: Arc<ActivationMessage>,
    pub executable: Arc<Executable>,
    pub owed: Owed,
}

impl Job {
    pub fn id(&self) -> ActivationId {
        self.message.activation_id
    }

    /// The revision that a DAG and a profile belong to.
    pub fn revision(&self) -> ActionRevision {
        ActionRevision {
            action: self.executable.qualified_name.clone(),
            revision: self.executable.revision.clone(),
        }
    }

    /// What the scheduler has to know of it.
    pub fn request(&self) -> Request {
        let executable = &self.executable;
        let ffs = match &executable.ffs {
            Some(Ok(annotation)) => Some(Ffs {
                terms: Terms {
                    policy: annotation.policy.clone(),
                    slo_ms: annotation.slo_ms,
                    slo_scale: annotation.slo_scale,
                    min_instances: annotation.min_instances.unwrap_or(0),
                    max_instances: annotation.max_instances,
                    retry: annotation.retry.unwrap_or(false),
                    keep_alive: annotation.keep_alive_s.map(Duration::from_secs_f64),
                },
                dag: annotation.dag.clone().map(Arc::new),
                profile: annotation.profile.clone().map(Arc::new),
            }),
            Some(Err(_)) | None => None,
        };
        Request {
            activation: self.id(),
            action: Action {
                namespace: self.message.user.namespace.name.as_str().to_owned(),
                name: executable.qualified_name.clone(),
                revision: executable.revision.clone(),
                identity: executable.identity.clone(),
                kind: executable.managed_kind.clone(),
                memory: executable.memory(),
                concurrency: u32::try_from(executable.limits.concurrency.max(1)).unwrap_or(u32::MAX),
                limit: executable.time_limit(),
            },
            ffs,
        }
    }

    /// The activation of a run that never was.
    pub fn refused(&self, fault: &Fault) -> Activation {
        let response = response::of_fault(fault);
        self.activation(record::Times::none(&self.message), response, false)
    }

    pub fn activation(&self, times: record::Times, response: Response, timed_out: bool) -> Activation {
        record::activation(&self.message, &self.executable.facts, times, response, timed_out)
    }

    /// Whether a record is kept for this namespace.
    pub fn is_stored(&self) -> bool {
        self.message.user.limits.store_activations.unwrap_or(true)
    }
}
