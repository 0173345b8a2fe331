//! `profile.json`: time and memory of each component per slice profile. Written by profiling.

use super::schema_tag;
use crate::id::{ComponentId, ProfileName};
use crate::unit::{Bytes, Millis};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

schema_tag!(ProfileSchema, "ffs.profile/1");

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ProfileDocument {
    pub schema: ProfileSchema,
    pub function: String,
    pub revision: String,
    pub source: ProfileSource,
    pub gpu_model: String,
    /// Requests per measured execution.
    #[schemars(range(min = 1))]
    pub batch: u32,
    /// Bytes that a process needs before any component is loaded.
    pub context_bytes: Bytes,
    pub components: BTreeMap<ComponentId, ComponentProfile>,
    /// `"src:port->dst:port"` → size of the tensor.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub edges: BTreeMap<String, EdgeProfile>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ProfileSource {
    Measured,
    Declared,
    Simulated,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ComponentProfile {
    pub weights_bytes: Bytes,
    /// Peak beyond weights while it runs.
    pub workspace_bytes: Bytes,
    /// Cold: storage → slice.
    pub load_ms: Millis,
    /// Host memory → slice.
    pub swap_in_ms: Millis,
    /// Slice → host memory.
    pub swap_out_ms: Millis,
    /// A profile that is absent does not run this component, or is not measured yet.
    pub by_mig: BTreeMap<ProfileName, ExecutionTimes>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ExecutionTimes {
    /// Per batch.
    pub exec_ms_p50: Millis,
    pub exec_ms_p95: Millis,
    #[schemars(range(min = 1))]
    pub samples: u32,
    /// Batch size → times.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub batches: BTreeMap<String, BatchTimes>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BatchTimes {
    pub exec_ms_p50: Millis,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exec_ms_p95: Option<Millis>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workspace_bytes: Option<Bytes>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EdgeProfile {
    pub bytes: Bytes,
}
