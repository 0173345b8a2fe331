//! `state`: what the invoker wants of an instance.

use super::check::at_least;
use super::{Document, schema_tag};
use crate::decode::DecodeError;
use crate::id::LaneId;
use crate::unit::Millis;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;

schema_tag!(StateSchema, "ffs.state/1");

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StateDocument {
    pub schema: StateSchema,
    #[schemars(range(min = 1))]
    pub epoch: u64,
    pub desired: Desired,
    /// The lanes that it applies to; absent: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lanes: Option<Vec<LaneId>>,
    /// Whether the lanes compute in turns, because other instances sit on their slices; absent: as before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shared: Option<bool>,
    /// Grace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline_ms: Option<Millis>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Desired {
    Run,
    Evict,
    Resume,
    Drain,
    Stop,
}

impl fmt::Display for Desired {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Run => "run",
            Self::Evict => "evict",
            Self::Resume => "resume",
            Self::Drain => "drain",
            Self::Stop => "stop",
        })
    }
}

impl Document for StateDocument {
    const NAME: &'static str = "ffs.state/1";

    fn check(&self) -> Result<(), DecodeError> {
        at_least("epoch", self.epoch, 1_u64)
    }
}
