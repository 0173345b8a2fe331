//! `assignment.json`: which lane runs what, where, and over which rings. Written per instance.

use super::schema_tag;
use crate::id::{ComponentId, GpuUuid, InstanceId, LaneId, ProfileName, RingId, SliceUuid};
use crate::unit::{Bytes, Millis};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

schema_tag!(AssignmentSchema, "ffs.assignment/1");

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AssignmentDocument {
    pub schema: AssignmentSchema,
    pub instance: InstanceId,
    pub function: String,
    pub revision: String,
    /// Rises with each rewrite; a lane that sees a lower one stops.
    #[schemars(range(min = 1))]
    pub epoch: u64,
    pub policy: String,
    pub rank: u64,
    pub cv: f64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slo_ms: Option<Millis>,
    #[schemars(length(min = 1))]
    pub stages: Vec<Stage>,
    pub rings: Vec<Ring>,
    pub batch: Batch,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Stage {
    pub index: u32,
    #[schemars(length(min = 1))]
    pub lanes: Vec<Lane>,
}

/// Components that run one after the other on one slice, in one container.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Lane {
    pub id: LaneId,
    /// In execution order.
    #[schemars(length(min = 1))]
    pub components: Vec<ComponentId>,
    pub mig: LaneSlice,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    pub rings_in: Vec<RingId>,
    pub rings_out: Vec<RingId>,
    /// Environment that the lane must find.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LaneSlice {
    pub uuid: SliceUuid,
    pub profile: ProfileName,
    pub gpu_uuid: GpuUuid,
    pub memory_bytes: Bytes,
}

/// One ring: from one lane to another.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Ring {
    pub id: RingId,
    /// `/dev/shm/ffs-<instance>-<ring>`, as the lanes see it.
    pub path: String,
    /// Size of one slot × slots, without the header.
    pub bytes: Bytes,
    #[schemars(range(min = 1))]
    pub slots: u32,
    pub producer: LaneId,
    pub consumer: LaneId,
    pub tensors: Vec<RingTensor>,
}

/// What a ring carries: an output port of a component, or an external input of the function.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum RingTensor {
    Port { node: ComponentId, port: u32 },
    Input { input: String },
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Batch {
    #[schemars(range(min = 1))]
    pub max: u32,
    pub wait_ms: Millis,
}
