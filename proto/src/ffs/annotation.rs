//! The annotation `ffs` on an action: what its author may ask for.

use super::dag::DagDocument;
use super::profile::ProfileDocument;
use crate::unit::Millis;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Everything is optional; `true` stands for the empty object.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Annotation {
    /// Target end-to-end latency; > 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slo_ms: Option<Millis>,
    /// SLO as a multiple of the time alone on the smallest slice that holds the function; > 0, default 3.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slo_scale: Option<f64>,
    /// Name of a scheduling policy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_instances: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_instances: Option<u32>,
    /// Whether an in-flight request may be run again when a stage dies.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry: Option<bool>,
    /// Idle seconds before an instance goes cold; >= 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_alive_s: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dag: Option<DagDocument>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profile: Option<ProfileDocument>,
    /// Input used for profiling; absent: the first activation's arguments.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub example: Option<serde_json::Map<String, serde_json::Value>>,
}
