//! `assignment.json`: which lane runs what, where, and over which rings. Written per instance.
//!
//! Beyond the published form, a ring may carry external inputs of the function from the head
//! ([`RingTensor::Input`]).

use super::check::{at_least, flaw, not_negative};
use super::{Document, schema_tag};
use crate::decode::DecodeError;
use crate::id::{ComponentId, GpuUuid, InstanceId, LaneId, ProfileName, RingId, SliceUuid};
use crate::unit::{Bytes, Millis};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};
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
    #[schemars(range(min = 0.0))]
    pub cv: f64,
    /// More than 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("exclusiveMinimum" = 0))]
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
    /// The lane of this stage whose work it shares: requests go to them in rotation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replica_of: Option<LaneId>,
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
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum RingTensor {
    Port { node: ComponentId, port: u32 },
    Input { input: String },
}

impl<'de> Deserialize<'de> for RingTensor {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Members {
            node: Option<ComponentId>,
            port: Option<u32>,
            input: Option<String>,
        }
        match Members::deserialize(deserializer)? {
            Members {
                node: Some(node),
                port: Some(port),
                input: None,
            } => Ok(Self::Port { node, port }),
            Members {
                node: None,
                port: None,
                input: Some(input),
            } => Ok(Self::Input { input }),
            _ => Err(serde::de::Error::custom(
                "expected either node and port, or input",
            )),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Batch {
    #[schemars(range(min = 1))]
    pub max: u32,
    pub wait_ms: Millis,
}

impl AssignmentDocument {
    /// All lanes, stage by stage.
    pub fn lanes(&self) -> impl Iterator<Item = &Lane> {
        self.stages.iter().flat_map(|stage| &stage.lanes)
    }

    pub fn lane(&self, id: LaneId) -> Option<&Lane> {
        self.lanes().find(|lane| lane.id == id)
    }
}

impl Lane {
    /// The lane that the plan has: itself, unless it is a replica.
    pub fn original(&self) -> LaneId {
        self.replica_of.unwrap_or(self.id)
    }
}

impl Document for AssignmentDocument {
    const NAME: &'static str = "ffs.assignment/1";

    fn check(&self) -> Result<(), DecodeError> {
        at_least("epoch", self.epoch, 1_u64)?;
        not_negative("cv", self.cv)?;
        if self.slo_ms.is_some_and(|slo| slo.0 <= 0.0) {
            return Err(flaw("slo_ms", "0, expected more than 0"));
        }
        at_least("batch.max", self.batch.max, 1_u32)?;
        at_least("stages", self.stages.len(), 1)?;
        self.check_lanes()?;
        self.check_rings()
    }
}

impl AssignmentDocument {
    /// Lanes are numbered as they stand; each component is in one lane and its replicas, each slice under one.
    fn check_lanes(&self) -> Result<(), DecodeError> {
        let (mut components, mut slices) = (BTreeMap::new(), BTreeMap::new());
        for (s, stage) in self.stages.iter().enumerate() {
            let path = format!("stages[{s}]");
            if stage.index as usize != s {
                return Err(flaw(
                    format_args!("{path}.index"),
                    format_args!("{}, expected {s}", stage.index),
                ));
            }
            at_least(format_args!("{path}.lanes"), stage.lanes.len(), 1)?;
            for (l, lane) in stage.lanes.iter().enumerate() {
                let path = format!("{path}.lanes[{l}]");
                if (usize::from(lane.id.stage), usize::from(lane.id.lane)) != (s, l) {
                    return Err(flaw(
                        format_args!("{path}.id"),
                        format_args!("{}, expected s{s}l{l}", lane.id),
                    ));
                }
                at_least(format_args!("{path}.components"), lane.components.len(), 1)?;
                if let Some(original) = lane.replica_of {
                    check_replica(lane, original, &stage.lanes[..l]).map_err(|why| {
                        flaw(
                            format_args!("{path}.replica_of"),
                            format_args!("{original}, {why}"),
                        )
                    })?;
                }
                for component in lane.components.iter().filter(|_| lane.replica_of.is_none()) {
                    if let Some(other) = components.insert(component, lane.id) {
                        let reason = format_args!("component {component} is in lane {other} too");
                        return Err(flaw(format_args!("{path}.components"), reason));
                    }
                }
                if let Some(other) = slices.insert(&lane.mig.uuid, lane.id) {
                    let reason = format_args!("slice {} is under lane {other} too", lane.mig.uuid);
                    return Err(flaw(format_args!("{path}.mig.uuid"), reason));
                }
            }
        }
        Ok(())
    }

    /// Each ring leads from one lane to another, and both say so. The head may leave out its rings,
    /// which it finds by their ends.
    fn check_rings(&self) -> Result<(), DecodeError> {
        let mut rings = BTreeMap::new();
        for (index, ring) in self.rings.iter().enumerate() {
            let path = format!("rings[{index}]");
            if rings.insert(&ring.id, ring).is_some() {
                return Err(flaw(
                    format_args!("{path}.id"),
                    format_args!("ring {} is there twice", ring.id),
                ));
            }
            at_least(format_args!("{path}.slots"), ring.slots, 1_u32)?;
            if ring.producer == ring.consumer {
                return Err(flaw(
                    path,
                    format_args!("both ends of ring {} are lane {}", ring.id, ring.producer),
                ));
            }
            for (end, lane, says) in [
                ("producer", ring.producer, Lane::rings_out),
                ("consumer", ring.consumer, Lane::rings_in),
            ] as [(&str, LaneId, fn(&Lane) -> &[RingId]); 2]
            {
                let path = format!("{path}.{end}");
                let Some(found) = self.lane(lane) else {
                    return Err(flaw(path, format_args!("there is no lane {lane}")));
                };
                if lane != LaneId::HEAD && !says(found).contains(&ring.id) {
                    return Err(flaw(
                        path,
                        format_args!("lane {lane} does not name ring {}", ring.id),
                    ));
                }
            }
            self.check_tensors(&path, ring)?;
        }
        for lane in self.lanes() {
            let path = format!("stages[{}].lanes[{}]", lane.id.stage, lane.id.lane);
            for id in &lane.rings_in {
                if rings.get(id).is_none_or(|ring| ring.consumer != lane.id) {
                    return Err(flaw(
                        format_args!("{path}.rings_in"),
                        format_args!("no ring {id} leads to this lane"),
                    ));
                }
            }
            for id in &lane.rings_out {
                if rings.get(id).is_none_or(|ring| ring.producer != lane.id) {
                    return Err(flaw(
                        format_args!("{path}.rings_out"),
                        format_args!("no ring {id} comes from this lane"),
                    ));
                }
            }
        }
        Ok(())
    }

    /// A ring carries what its producer makes; external inputs come from the head.
    fn check_tensors(&self, path: &str, ring: &Ring) -> Result<(), DecodeError> {
        for (index, tensor) in ring.tensors.iter().enumerate() {
            let made = match tensor {
                RingTensor::Port { node, .. } => self
                    .lane(ring.producer)
                    .is_some_and(|lane| lane.components.contains(node)),
                RingTensor::Input { .. } => ring.producer == LaneId::HEAD,
            };
            if !made {
                let reason = format_args!("lane {} does not make this tensor", ring.producer);
                return Err(flaw(format_args!("{path}.tensors[{index}]"), reason));
            }
        }
        Ok(())
    }
}

/// A replica has the components of a lane of its stage that is none itself.
fn check_replica(lane: &Lane, original: LaneId, before: &[Lane]) -> Result<(), &'static str> {
    if original == LaneId::HEAD {
        return Err("and the head has no replicas");
    }
    let found = before
        .iter()
        .find(|other| other.id == original && other.replica_of.is_none());
    match found {
        None => Err("expected a lane of this stage before it that is no replica"),
        Some(found) if found.components != lane.components => Err("which has other components"),
        Some(_) => Ok(()),
    }
}

impl Lane {
    fn rings_in(&self) -> &[RingId] {
        &self.rings_in
    }

    fn rings_out(&self) -> &[RingId] {
        &self.rings_out
    }
}
