//! What can be wrong with a DAG, as sentences that name node and reason.

use super::{MAX_COMPONENTS, MAX_PORTS};
use proto::id::ComponentId;

/// Why a document is no DAG.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DagError {
    #[error("the DAG has no node; a function needs at least one")]
    Empty,
    #[error("the DAG has {count} nodes; at most {MAX_COMPONENTS} are supported")]
    TooMany { count: usize },
    #[error("two nodes are called {node}; ids must be unique")]
    DuplicateNode { node: ComponentId },
    #[error("two {what} of the function are called {name:?}; names must be unique")]
    DuplicateName { what: &'static str, name: String },
    #[error("node {node}: {side} port {port} appears twice")]
    DuplicatePort {
        node: ComponentId,
        side: &'static str,
        port: u32,
    },
    #[error("node {node} has {count} {side} ports; at most {MAX_PORTS} are supported")]
    TooManyPorts {
        node: ComponentId,
        side: &'static str,
        count: usize,
    },
    #[error("node {node}: input port {port} reads node {from}, which does not exist")]
    UnknownNode {
        node: ComponentId,
        port: u32,
        from: ComponentId,
    },
    #[error("node {node}: input port {port} reads output port {from_port} of {from}, which has no such port")]
    UnknownPort {
        node: ComponentId,
        port: u32,
        from: ComponentId,
        from_port: u32,
    },
    #[error("node {node}: input port {port} reads the external input {input:?}, which does not exist")]
    UnknownInput {
        node: ComponentId,
        port: u32,
        input: String,
    },
    #[error("output {name:?}: node {node} does not exist")]
    OutputOfUnknownNode { name: String, node: ComponentId },
    #[error("output {name:?}: node {node} has no output port {port}")]
    OutputOfUnknownPort {
        name: String,
        node: ComponentId,
        port: u32,
    },
    #[error("the function returns nothing: the DAG has no output")]
    NoOutput,
    #[error("the nodes form a cycle: {}", arrows(.path))]
    Cycle { path: Vec<ComponentId> },
    #[error("node {node}: no output of the function depends on it")]
    DeadEnd { node: ComponentId },
    #[error(
        "{tensor}: dimension {symbol:?} is neither a number nor the name of a symbol, such as B or Height"
    )]
    NoSymbol { tensor: String, symbol: String },
    #[error("{tensor}: the dimension {symbol} has no value in `symbols`, so its size is unknown")]
    UnknownSymbol { tensor: String, symbol: String },
    #[error("{tensor}: a dimension is 0; expected at least 1")]
    ZeroDimension { tensor: String },
    #[error("{tensor}: it is larger than 1 TiB")]
    TooLarge { tensor: String },
}

fn arrows(path: &[ComponentId]) -> String {
    path.iter()
        .map(ComponentId::as_str)
        .collect::<Vec<_>>()
        .join(" → ")
}
