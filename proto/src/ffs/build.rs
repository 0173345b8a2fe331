//! What the invoker asks of a stage's runtime after `/init`: `POST /ffs/build` and `/ffs/profile`.
//!
//! An image that answers 404 does not know FluidFaaS; its function needs `dag` and `profile` in
//! the annotation. A failure is answered 502 with `{"error": sentence}`.

use super::profile::{EdgeProfile, ExecutionTimes};
use crate::id::{ComponentId, ProfileName};
use crate::unit::{Bytes, Millis};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Body of `POST /ffs/build`; the answer is `dag.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BuildRequest {
    pub function: String,
    pub revision: String,
    /// The arguments of one activation, from which inputs and shapes are made.
    pub example: serde_json::Value,
}

/// Body of `POST /ffs/profile`: measure every component on the slice that the container sits on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ProfileRequest {
    /// Profile of that slice; the row is named after it.
    pub kind: ProfileName,
    pub example: serde_json::Value,
    pub min_runs: u32,
    pub max_runs: u32,
    /// No further run of a component is begun after this much time, once `min_runs` are done.
    pub budget_ms: Millis,
}

/// Answer of `POST /ffs/profile`: one column of `profile.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ProfileRows {
    pub kind: ProfileName,
    /// Resident bytes of the process with the action imported and nothing loaded.
    pub context_bytes: Bytes,
    pub components: BTreeMap<ComponentId, ComponentRow>,
    pub edges: BTreeMap<String, EdgeProfile>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ComponentRow {
    pub weights_bytes: Bytes,
    pub workspace_bytes: Bytes,
    pub load_ms: Millis,
    pub swap_in_ms: Millis,
    pub swap_out_ms: Millis,
    pub times: ExecutionTimes,
}
