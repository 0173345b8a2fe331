//! `profile.json`: time and memory of each component per slice profile. Written by profiling.

use super::check::{at_least, flaw};
use super::{Document, schema_tag};
use crate::decode::DecodeError;
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
    #[schemars(extend("minProperties" = 1))]
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
    #[schemars(extend("minProperties" = 1))]
    pub by_mig: BTreeMap<ProfileName, ExecutionTimes>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ExecutionTimes {
    /// Per batch; more than 0.
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub exec_ms_p50: Millis,
    /// Not less than `exec_ms_p50`.
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub exec_ms_p95: Millis,
    #[schemars(range(min = 1))]
    pub samples: u32,
    /// Batch size → times.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("propertyNames" = { "pattern": "^[1-9][0-9]*$" }))]
    pub batches: BTreeMap<String, BatchTimes>,
    /// What was seen in running instances, once that had left the times above; it holds in their place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed: Option<ObservedTimes>,
}

/// Times of executions that served activations.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ObservedTimes {
    /// More than 0.
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub exec_ms_p50: Millis,
    /// Not less than `exec_ms_p50`.
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub exec_ms_p95: Millis,
    #[schemars(range(min = 1))]
    pub samples: u32,
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

impl Document for ProfileDocument {
    const NAME: &'static str = "ffs.profile/1";

    fn check(&self) -> Result<(), DecodeError> {
        at_least("batch", self.batch, 1_u32)?;
        at_least("components", self.components.len(), 1)?;
        for (component, profile) in &self.components {
            let path = format!("components.{component}.by_mig");
            at_least(&path, profile.by_mig.len(), 1)?;
            for (kind, times) in &profile.by_mig {
                times.check(&format!("{path}.{kind}"))?;
            }
        }
        Ok(())
    }
}

impl ExecutionTimes {
    /// Whether the times are positive and in order; `path` is where they stand.
    pub(super) fn check(&self, path: &str) -> Result<(), DecodeError> {
        measured(path, self.exec_ms_p50, self.exec_ms_p95, self.samples)?;
        if let Some(observed) = self.observed {
            let path = format!("{path}.observed");
            measured(
                &path,
                observed.exec_ms_p50,
                observed.exec_ms_p95,
                observed.samples,
            )?;
        }
        for (size, times) in &self.batches {
            let path = format!("{path}.batches.{size}");
            if size.starts_with('0') || size.parse::<u32>().is_err() {
                return Err(flaw(path, "a batch size, expected a number of at least 1"));
            }
            if let Some(p95) = times.exec_ms_p95 {
                in_order(&path, times.exec_ms_p50, p95)?;
            }
        }
        Ok(())
    }
}

/// Whether the times are positive and in order, and there is a sample.
fn measured(path: &str, p50: Millis, p95: Millis, samples: u32) -> Result<(), DecodeError> {
    for (name, time) in [("exec_ms_p50", p50), ("exec_ms_p95", p95)] {
        if time.0.is_nan() || time.0 <= 0.0 {
            return Err(flaw(
                format_args!("{path}.{name}"),
                format_args!("{}, expected more than 0", time.0),
            ));
        }
    }
    in_order(path, p50, p95)?;
    at_least(format_args!("{path}.samples"), samples, 1_u32)
}

fn in_order(path: &str, p50: Millis, p95: Millis) -> Result<(), DecodeError> {
    if p95 < p50 {
        let reason = format_args!("{} is less than exec_ms_p50, which is {}", p95.0, p50.0);
        return Err(flaw(format_args!("{path}.exec_ms_p95"), reason));
    }
    Ok(())
}
