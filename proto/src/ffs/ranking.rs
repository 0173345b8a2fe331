//! `ranking.json`: a function's partitions in rank order; enough to audit a decision.

use super::schema_tag;
use crate::id::{ComponentId, ProfileName};
use crate::unit::{Bytes, Millis};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

schema_tag!(RankingSchema, "ffs.ranking/1");

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RankingDocument {
    pub schema: RankingSchema,
    pub function: String,
    pub revision: String,
    /// Hash of the profile that it was computed from.
    pub profile_hash: String,
    pub mode: Mode,
    pub std: Deviation,
    /// `min_fit`, or `ref:<profile>`.
    #[schemars(regex(pattern = r"^(min_fit|ref:.+)$"))]
    pub reference: String,
    pub atoms: Vec<Vec<ComponentId>>,
    /// True when atoms were merged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub coarsened: Option<bool>,
    /// Partitions enumerated.
    pub total: u64,
    /// Partitions listed.
    pub kept: u64,
    pub partitions: Vec<RankedPartition>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    Serial,
    #[default]
    Lanes,
    Convex,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Deviation {
    #[default]
    Population,
    Sample,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RankedPartition {
    /// From 0.
    pub rank: u64,
    /// `m1;m2|m3|m4,m5`: `|` stages, `;` lanes, `,` components.
    pub key: String,
    pub cv: f64,
    #[schemars(length(min = 1))]
    pub stages: Vec<RankedStage>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RankedStage {
    /// The longest of its lanes.
    pub time_ms: Millis,
    #[schemars(length(min = 1))]
    pub lanes: Vec<RankedLane>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RankedLane {
    #[schemars(length(min = 1))]
    pub components: Vec<ComponentId>,
    pub memory_bytes: Bytes,
    /// The smallest profile that holds it; null where none does.
    pub min_profile: Option<ProfileName>,
    pub time_ms: Millis,
}
