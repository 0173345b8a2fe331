//! Where an activation's time went: the header `FFS-Timing` from the head, and the annotation
//! `ffs` on the activation record.

use crate::id::{ComponentId, LaneId, ProfileName};
use crate::unit::Millis;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Response header of `/run` that carries [`Timing`] as JSON.
pub const TIMING_HEADER: &str = "ffs-timing";
/// Response header by which our own runtime is known; such connections may be kept.
pub const RUNTIME_HEADER: &str = "ffs-runtime";

/// What the head reports for one request.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Timing {
    pub lanes: Vec<LaneTiming>,
    /// Writing, waiting for and reading frames, over all rings.
    pub transfer_ms: Millis,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LaneTiming {
    pub id: LaneId,
    /// From the frame's arrival to the start of its execution.
    pub queue_ms: Millis,
    pub exec_ms: Millis,
    /// One execution of each component that ran to its end: without rings, turns, and whatever else the
    /// lane does. Of several runs of the DAG in one request the mean.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub components: BTreeMap<ComponentId, Millis>,
}

/// Value of the annotation `ffs` on the activation record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RecordAnnotation {
    pub instance: String,
    /// Partition key.
    pub plan: String,
    /// From its arrival at the invoker until the head was asked: waiting for an instance, which may have
    /// been built, measured and started first.
    #[serde(default)]
    pub queued_ms: Millis,
    /// Empty if the head gave no answer.
    pub lanes: Vec<RecordLane>,
    /// As in [`Timing`]; absent if the head gave no answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transfer_ms: Option<Millis>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slo_ms: Option<Millis>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slo_met: Option<bool>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RecordLane {
    pub id: LaneId,
    pub slice: String,
    pub profile: ProfileName,
    pub queue_ms: Millis,
    pub exec_ms: Millis,
}
