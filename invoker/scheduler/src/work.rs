//! What is asked for: one activation's action, and what makes it a FluidFaaS function.

use proto::ffs::dag::DagDocument;
use proto::ffs::profile::ProfileDocument;
use proto::id::ActivationId;
use proto::unit::{Bytes, Millis};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// One activation that wants to run.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    pub activation: ActivationId,
    pub action: Action,
    /// Present if the action carries the annotation `ffs`.
    pub ffs: Option<Ffs>,
}

/// What the scheduler has to know of any action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Action {
    /// The invoking namespace: two of them never share a container or an instance (contract L-31).
    pub namespace: String,
    /// `namespace/[package/]name` of the action itself.
    pub name: String,
    /// Revision of the action's document; empty if unknown.
    pub revision: String,
    /// Equal exactly if two versions of the action may share a warm container: a digest of
    /// namespace, name, exec with code, parameters, limits, version, publish and annotations,
    /// not of the revision (contract L-31).
    pub identity: String,
    /// Kind of the manifest, or none for an image of the user's own, which no stem cell fits.
    pub kind: Option<String>,
    /// Memory limit of one container, or of one lane.
    pub memory: Bytes,
    /// Most activations at once in one container; at least 1.
    pub concurrency: u32,
    /// Time limit of one run.
    pub limit: Duration,
}

/// What the annotation `ffs` adds.
#[derive(Clone, Debug, PartialEq)]
pub struct Ffs {
    pub terms: Terms,
    /// The annotation's `dag`: BUILDDAG is skipped.
    pub dag: Option<Arc<DagDocument>>,
    /// The annotation's `profile`: profiling is skipped.
    pub profile: Option<Arc<ProfileDocument>>,
}

/// How a function wants to be served; defaults are filled in.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Terms {
    /// Name of a policy; none for the daemon's.
    pub policy: Option<String>,
    pub slo_ms: Option<Millis>,
    /// Multiple of the time alone on the smallest slice; none for the default.
    pub slo_scale: Option<f64>,
    pub min_instances: u32,
    pub max_instances: Option<u32>,
    /// Whether an activation in flight may be run again when a lane dies.
    pub retry: bool,
    /// None for the daemon's.
    pub keep_alive: Option<Duration>,
}

/// One version of an action: what a DAG and a profile belong to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ActionRevision {
    /// `namespace/[package/]name`.
    pub action: String,
    pub revision: String,
}

impl fmt::Display for ActionRevision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.action, self.revision)
    }
}

/// One version of an action as one namespace invokes it: what an instance belongs to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct FunctionKey {
    /// The invoking namespace.
    pub namespace: String,
    pub of: ActionRevision,
}

impl fmt::Display for FunctionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.of.action.split('/').next() == Some(self.namespace.as_str()) {
            write!(f, "{}", self.of)
        } else {
            write!(f, "{} for {}", self.of, self.namespace)
        }
    }
}

/// What is worth keeping of an action's revision over a restart.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Saved {
    pub function: ActionRevision,
    pub dag: Arc<DagDocument>,
    /// Grows with each slice profile that is measured; none before the first.
    pub profile: Option<Arc<ProfileDocument>>,
    /// Invoking namespaces with `min_instances` above zero, which are served again at start.
    pub kept: BTreeMap<String, Kept>,
}

/// What a start without an activation has to know.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Kept {
    pub terms: Terms,
    /// Memory limit of one lane.
    pub memory: Bytes,
}

/// An ordinary container. Counts up from 1 over the life of the process, so that it can be the
/// `n` in the container's name (contract L-05).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct ContainerNumber(pub u64);

impl fmt::Display for ContainerNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "container {}", self.0)
    }
}
