//! `dag.json`: a function's components and the tensors between them. Written by BUILDDAG.

use super::schema_tag;
use crate::id::ComponentId;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

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
    pub built_at: String,
    /// External inputs.
    pub inputs: Vec<Input>,
    #[schemars(length(min = 1, max = 64))]
    pub nodes: Vec<Node>,
    #[schemars(length(min = 1))]
    pub outputs: Vec<Output>,
    /// Values of symbolic dimensions, used for sizing rings.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub symbols: BTreeMap<String, u64>,
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
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(untagged, deny_unknown_fields)]
pub enum Source {
    Node { node: ComponentId, port: u32 },
    Input { input: String },
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Dim {
    Fixed(#[schemars(range(min = 1))] u64),
    Symbol(#[schemars(regex(pattern = r"^[A-Z][A-Za-z0-9]*$"))] String),
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
