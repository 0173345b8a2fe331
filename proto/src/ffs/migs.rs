//! `migs.json`: the slices as the invoker saw them when it decided.

use super::check::{flaw, instant, not_negative};
use super::{Document, schema_tag};
use crate::decode::DecodeError;
use crate::id::{GpuUuid, InstanceId, ProfileName, SliceUuid};
use crate::unit::Bytes;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

schema_tag!(MigsSchema, "ffs.migs/1");

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MigsDocument {
    pub schema: MigsSchema,
    /// RFC 3339, UTC.
    #[schemars(extend("format" = "date-time"))]
    pub taken_at: String,
    pub source: InventorySource,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub driver: Option<String>,
    pub gpus: Vec<Gpu>,
    pub slices: Vec<Slice>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum InventorySource {
    Nvml,
    Simulated,
    None,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Gpu {
    pub uuid: GpuUuid,
    pub index: u32,
    pub model: String,
    pub memory_bytes: Bytes,
    /// Whether MIG is on.
    pub mig: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub numa: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pci: Option<String>,
}

/// One schedulable unit: a MIG device, or a whole GPU without MIG.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Slice {
    pub uuid: SliceUuid,
    pub gpu_uuid: GpuUuid,
    pub profile: ProfileName,
    /// GPU instance id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gi: Option<u32>,
    /// Compute instance id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ci: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub placement: Option<Placement>,
    pub compute_slices: u32,
    /// Streaming multiprocessors.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sms: Option<u32>,
    /// Usable, as the driver reports it; never computed from the profile's name.
    pub memory_bytes: Bytes,
    pub state: SliceState,
    /// One if hot, several if shared.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub owners: Vec<InstanceId>,
    /// CPUs; simulated slices only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("minimum" = 0))]
    pub cpu_quota: Option<f64>,
    /// Bytes; simulated slices only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mem_limit: Option<Bytes>,
}

/// Memory slots of the GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Placement {
    pub start: u32,
    pub size: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SliceState {
    Free,
    Hot,
    Shared,
    Fenced,
}

impl Document for MigsDocument {
    const NAME: &'static str = "ffs.migs/1";

    fn check(&self) -> Result<(), DecodeError> {
        instant("taken_at", &self.taken_at)?;
        let (mut gpus, mut slices) = (BTreeSet::new(), BTreeSet::new());
        for (index, gpu) in self.gpus.iter().enumerate() {
            if !gpus.insert(&gpu.uuid) {
                return Err(flaw(
                    format_args!("gpus[{index}].uuid"),
                    format_args!("{} is there twice", gpu.uuid),
                ));
            }
        }
        for (index, slice) in self.slices.iter().enumerate() {
            let path = format!("slices[{index}]");
            if !slices.insert(&slice.uuid) {
                return Err(flaw(
                    format_args!("{path}.uuid"),
                    format_args!("{} is there twice", slice.uuid),
                ));
            }
            if !gpus.contains(&slice.gpu_uuid) {
                return Err(flaw(
                    format_args!("{path}.gpu_uuid"),
                    format_args!("there is no GPU {}", slice.gpu_uuid),
                ));
            }
            not_negative(format_args!("{path}.cpu_quota"), slice.cpu_quota.unwrap_or(0.0))?;
        }
        Ok(())
    }
}
