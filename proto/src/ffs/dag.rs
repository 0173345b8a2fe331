//! `dag.json`: a function's components and the tensors between them. Written by BUILDDAG.
//!
//! Whether ids exist and the graph is free of cycles is the scheduler's business.

use super::check::{at_least, flaw, instant};
use super::{Document, schema_tag};
use crate::decode::DecodeError;
use crate::id::ComponentId;
use schemars::JsonSchema;
use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use std::collections::BTreeMap;
use std::fmt;

schema_tag!(DagSchema, "ffs.dag/1");

/// Data flow inside one function. Edges are derived from `nodes[].inputs`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DagDocument {
    pub schema: DagSchema,
    /// `namespace/name` of the action.
    pub function: String,
    /// Action revision the DAG was built from.
    pub revision: String,
    /// RFC 3339, UTC.
    #[schemars(extend("format" = "date-time"))]
    pub built_at: String,
    /// External inputs.
    pub inputs: Vec<Input>,
    #[schemars(length(min = 1, max = 64))]
    pub nodes: Vec<Node>,
    #[schemars(length(min = 1))]
    pub outputs: Vec<Output>,
    /// Values of symbolic dimensions, used for sizing rings.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(with = "BTreeMap<String, std::num::NonZeroU64>")]
    pub symbols: BTreeMap<String, u64>,
}

impl Document for DagDocument {
    const NAME: &'static str = "ffs.dag/1";

    fn check(&self) -> Result<(), DecodeError> {
        instant("built_at", &self.built_at)?;
        at_least("nodes", self.nodes.len(), 1)?;
        if self.nodes.len() > 64 {
            return Err(flaw(
                "nodes",
                format_args!("{} nodes, expected at most 64", self.nodes.len()),
            ));
        }
        for (index, node) in self.nodes.iter().enumerate() {
            at_least(format_args!("nodes[{index}].outputs"), node.outputs.len(), 1)?;
            at_least(
                format_args!("nodes[{index}].batch"),
                node.batch.unwrap_or(1),
                1_u32,
            )?;
        }
        at_least("outputs", self.outputs.len(), 1)?;
        match self.symbols.iter().find(|(_, value)| **value == 0) {
            Some((name, _)) => Err(flaw(format_args!("symbols.{name}"), "0, expected at least 1")),
            None => Ok(()),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Input {
    pub name: String,
    pub dtype: Dtype,
    pub shape: Vec<Dim>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Node {
    pub id: ComponentId,
    /// Importable class or callable, `module:name`.
    pub module: String,
    /// Constructor arguments.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub init: Option<serde_json::Map<String, serde_json::Value>>,
    /// Nodes with equal keys share weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weights_key: Option<String>,
    /// Most requests whose inputs may be stacked along their first dimension and run at once; absent: 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub batch: Option<u32>,
    pub inputs: Vec<NodeInput>,
    #[schemars(length(min = 1))]
    pub outputs: Vec<NodeOutput>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct NodeInput {
    pub port: u32,
    pub from: Source,
}

/// Where a tensor comes from: a port of another node, or an external input.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(untagged)]
#[schemars(deny_unknown_fields)]
pub enum Source {
    Node { node: ComponentId, port: u32 },
    Input { input: String },
}

impl<'de> Deserialize<'de> for Source {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
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
            } => Ok(Self::Node { node, port }),
            Members {
                node: None,
                port: None,
                input: Some(input),
            } => Ok(Self::Input { input }),
            _ => Err(Error::custom("expected either node and port, or input")),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct NodeOutput {
    pub port: u32,
    pub dtype: Dtype,
    pub shape: Vec<Dim>,
}

/// What the function returns.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Output {
    pub name: String,
    pub node: ComponentId,
    pub port: u32,
}

/// One dimension: a number, or a symbol that `symbols` resolves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum Dim {
    Fixed(#[schemars(range(min = 1))] u64),
    Symbol(#[schemars(regex(pattern = r"^[A-Z][A-Za-z0-9]*$"))] String),
}

impl<'de> Deserialize<'de> for Dim {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(DimVisitor)
    }
}

struct DimVisitor;

impl Visitor<'_> for DimVisitor {
    type Value = Dim;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a dimension: an integer of at least 1, or a symbol such as B")
    }

    fn visit_u64<E: Error>(self, size: u64) -> Result<Dim, E> {
        match size {
            0 => Err(E::invalid_value(serde::de::Unexpected::Unsigned(0), &self)),
            size => Ok(Dim::Fixed(size)),
        }
    }

    fn visit_str<E: Error>(self, symbol: &str) -> Result<Dim, E> {
        let capital = symbol.starts_with(|c: char| c.is_ascii_uppercase());
        if capital && symbol.bytes().all(|b| b.is_ascii_alphanumeric()) {
            Ok(Dim::Symbol(symbol.to_owned()))
        } else {
            Err(E::invalid_value(serde::de::Unexpected::Str(symbol), &self))
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Dtype {
    Float16,
    Bfloat16,
    Float32,
    Float64,
    Int8,
    Uint8,
    Int16,
    Int32,
    Int64,
    Bool,
    /// An opaque string of bytes; its shape is `[length]`.
    Bytes,
}

impl Dtype {
    /// Bytes per element.
    pub const fn size(self) -> u64 {
        match self {
            Self::Int8 | Self::Uint8 | Self::Bool | Self::Bytes => 1,
            Self::Float16 | Self::Bfloat16 | Self::Int16 => 2,
            Self::Float32 | Self::Int32 => 4,
            Self::Float64 | Self::Int64 => 8,
        }
    }
}
