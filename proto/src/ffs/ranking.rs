//! `ranking.json`: a function's partitions in rank order; enough to audit a decision.

use super::check::{at_least, flaw, not_negative};
use super::{Document, schema_tag};
use crate::decode::DecodeError;
use crate::id::{ComponentId, ProfileName};
use crate::unit::{Bytes, Millis};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};
use std::collections::BTreeSet;

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
    #[schemars(inner(length(min = 1)))]
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
    #[schemars(range(min = 0.0))]
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
    #[serde(deserialize_with = "present")]
    #[schemars(required)]
    pub min_profile: Option<ProfileName>,
    pub time_ms: Millis,
}

/// With a function of its own, a member is required even if it may be null.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<ProfileName>, D::Error> {
    Option::deserialize(deserializer)
}

/// The key of a partition into these stages: `m1;m2|m3|m4,m5`.
pub fn key(stages: &[RankedStage]) -> String {
    let mut key = String::new();
    for (s, stage) in stages.iter().enumerate() {
        for (l, lane) in stage.lanes.iter().enumerate() {
            for (c, component) in lane.components.iter().enumerate() {
                match (s, l, c) {
                    (0, 0, 0) => {}
                    (_, 0, 0) => key.push('|'),
                    (_, _, 0) => key.push(';'),
                    _ => key.push(','),
                }
                key.push_str(component.as_str());
            }
        }
    }
    key
}

impl Document for RankingDocument {
    const NAME: &'static str = "ffs.ranking/1";

    fn check(&self) -> Result<(), DecodeError> {
        if self.reference != "min_fit" && self.reference.strip_prefix("ref:").is_none_or(str::is_empty) {
            let reason = format_args!("{:?}, expected min_fit or ref:<profile>", self.reference);
            return Err(flaw("reference", reason));
        }
        for (index, atom) in self.atoms.iter().enumerate() {
            at_least(format_args!("atoms[{index}]"), atom.len(), 1)?;
        }
        if self.kept != self.partitions.len() as u64 {
            return Err(flaw(
                "kept",
                format_args!(
                    "{}, but {} partitions are listed",
                    self.kept,
                    self.partitions.len()
                ),
            ));
        }
        for (index, partition) in self.partitions.iter().enumerate() {
            partition.check(&format!("partitions[{index}]"))?;
        }
        let in_order = |pair: &[RankedPartition]| pair[0].rank < pair[1].rank;
        match self.partitions.windows(2).position(|pair| !in_order(pair)) {
            Some(index) => Err(flaw(
                format_args!("partitions[{}].rank", index + 1),
                "ranks do not rise",
            )),
            None => Ok(()),
        }
    }
}

impl RankedPartition {
    fn check(&self, path: &str) -> Result<(), DecodeError> {
        not_negative(format_args!("{path}.cv"), self.cv)?;
        at_least(format_args!("{path}.stages"), self.stages.len(), 1)?;
        let mut seen = BTreeSet::new();
        for (s, stage) in self.stages.iter().enumerate() {
            at_least(format_args!("{path}.stages[{s}].lanes"), stage.lanes.len(), 1)?;
            for (l, lane) in stage.lanes.iter().enumerate() {
                let path = format!("{path}.stages[{s}].lanes[{l}].components");
                at_least(&path, lane.components.len(), 1)?;
                if let Some(twice) = lane.components.iter().find(|component| !seen.insert(*component)) {
                    return Err(flaw(
                        path,
                        format_args!("component {twice} stands in this partition twice"),
                    ));
                }
            }
        }
        let expected = key(&self.stages);
        if self.key == expected {
            return Ok(());
        }
        Err(flaw(
            format_args!("{path}.key"),
            format_args!("{:?}, but the stages say {expected:?}", self.key),
        ))
    }
}
