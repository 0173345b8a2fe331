//! From a document to a [`Dag`]: every rule there is.

use super::{Component, ComponentSet, Dag, DagError, ExternalInput, FunctionOutput};
use super::{MAX_COMPONENTS, MAX_PORTS, MAX_SIZE, Origin, OutputPort, Size};
use proto::ffs::dag::{DagDocument, Dim, Node, NodeInput, Source};
use proto::id::ComponentId;
use proto::unit::Bytes;
use std::collections::{BTreeMap, BTreeSet};

/// Where each node is in topological order.
type Positions<'a> = BTreeMap<&'a ComponentId, usize>;

pub(super) fn parse(document: &DagDocument) -> Result<Dag, DagError> {
    let count = document.nodes.len();
    match count {
        0 => return Err(DagError::Empty),
        1..=MAX_COMPONENTS => {}
        _ => return Err(DagError::TooMany { count }),
    }
    for node in &document.nodes {
        for (side, count) in [("input", node.inputs.len()), ("output", node.outputs.len())] {
            if count > MAX_PORTS {
                let node = node.id.clone();
                return Err(DagError::TooManyPorts { node, side, count });
            }
        }
    }
    let nodes = topological_order(document)?;
    let positions: Positions<'_> = nodes
        .iter()
        .enumerate()
        .map(|(at, node)| (&node.id, at))
        .collect();
    let inputs = external_inputs(document)?;
    let mut components = Vec::with_capacity(count);
    for node in &nodes {
        components.push(Component {
            weights_key: node.weights_key.clone(),
            batch: node.batch.unwrap_or(1).max(1),
            inputs: Vec::with_capacity(node.inputs.len()),
            outputs: output_ports(document, node)?,
            predecessors: ComponentSet::EMPTY,
            successors: ComponentSet::EMPTY,
        });
    }
    for (at, node) in nodes.iter().enumerate() {
        let mut ports: Vec<&NodeInput> = node.inputs.iter().collect();
        ports.sort_by_key(|input| input.port);
        for input in ports {
            let origin = origin(node, input, &positions, &components, &inputs)?;
            if let Origin::Port { component: from, .. } = origin {
                components[from].successors.insert(at);
                components[at].predecessors.insert(from);
            }
            components[at].inputs.push(origin);
        }
    }
    let outputs = function_outputs(document, &positions, &components)?;
    let dag = Dag {
        function: document.function.clone(),
        revision: document.revision.clone(),
        ids: nodes.iter().map(|node| node.id.clone()).collect(),
        components,
        inputs,
        outputs,
    };
    match dead_end(&dag) {
        Some(dead) => Err(DagError::DeadEnd {
            node: dag.id(dead).clone(),
        }),
        None => Ok(dag),
    }
}

/// The nodes, each after all that it reads, ties by id.
fn topological_order(document: &DagDocument) -> Result<Vec<&Node>, DagError> {
    let mut nodes = BTreeMap::new();
    for node in &document.nodes {
        if nodes.insert(&node.id, node).is_some() {
            return Err(DagError::DuplicateNode {
                node: node.id.clone(),
            });
        }
    }
    // What each node still waits for; both in the order of ids.
    let mut waiting: BTreeMap<&ComponentId, BTreeSet<&ComponentId>> = BTreeMap::new();
    for node in &document.nodes {
        let mut ports = BTreeSet::new();
        let mut sources = BTreeSet::new();
        for input in &node.inputs {
            let (node, port) = (node.id.clone(), input.port);
            if !ports.insert(port) {
                return Err(DagError::DuplicatePort {
                    node,
                    side: "input",
                    port,
                });
            }
            if let Source::Node { node: from, .. } = &input.from {
                if !nodes.contains_key(from) {
                    return Err(DagError::UnknownNode {
                        node,
                        port,
                        from: from.clone(),
                    });
                }
                sources.insert(from);
            }
        }
        waiting.insert(&node.id, sources);
    }
    let mut order = Vec::with_capacity(nodes.len());
    while !waiting.is_empty() {
        let ready = waiting.iter().find(|(_, sources)| sources.is_empty());
        let Some((&ready, _)) = ready else {
            return Err(DagError::Cycle {
                path: cycle(&waiting),
            });
        };
        waiting.remove(ready);
        waiting.values_mut().for_each(|sources| _ = sources.remove(ready));
        order.push(nodes[ready]);
    }
    Ok(order)
}

/// One cycle among nodes that all wait for each other: in the direction of the data, from its
/// smallest id and back to it.
fn cycle(waiting: &BTreeMap<&ComponentId, BTreeSet<&ComponentId>>) -> Vec<ComponentId> {
    let mut path: Vec<&ComponentId> = Vec::new();
    let mut next = *waiting.keys().next().expect("called with waiting nodes");
    while !path.contains(&next) {
        path.push(next);
        next = waiting[next]
            .first()
            .expect("every waiting node waits for another waiting node");
    }
    let start = path
        .iter()
        .position(|id| *id == next)
        .expect("the loop ended on it");
    let mut cycle: Vec<ComponentId> = path[start..].iter().rev().map(|id| (*id).clone()).collect();
    let smallest = cycle
        .iter()
        .enumerate()
        .min_by_key(|(_, id)| *id)
        .map_or(0, |(at, _)| at);
    cycle.rotate_left(smallest);
    cycle.push(cycle[0].clone());
    cycle
}

fn origin(
    node: &Node,
    input: &NodeInput,
    positions: &Positions<'_>,
    components: &[Component],
    inputs: &[ExternalInput],
) -> Result<Origin, DagError> {
    let (id, port) = (|| node.id.clone(), input.port);
    match &input.from {
        Source::Node {
            node: from,
            port: from_port,
        } => {
            let component = positions[from];
            if !has_output(&components[component], *from_port) {
                let (from, from_port) = (from.clone(), *from_port);
                return Err(DagError::UnknownPort {
                    node: id(),
                    port,
                    from,
                    from_port,
                });
            }
            Ok(Origin::Port {
                component,
                port: *from_port,
            })
        }
        Source::Input { input } => {
            let place = inputs.iter().position(|other| other.name == *input);
            let error = || DagError::UnknownInput {
                node: id(),
                port,
                input: input.clone(),
            };
            place.map(Origin::Input).ok_or_else(error)
        }
    }
}

fn has_output(component: &Component, port: u32) -> bool {
    component.outputs.iter().any(|output| output.port == port)
}

fn external_inputs(document: &DagDocument) -> Result<Vec<ExternalInput>, DagError> {
    let mut inputs: Vec<ExternalInput> = Vec::with_capacity(document.inputs.len());
    for input in &document.inputs {
        let name = input.name.clone();
        if inputs.iter().any(|other| other.name == name) {
            return Err(DagError::DuplicateName { what: "inputs", name });
        }
        let tensor = || format!("input {name:?}");
        let size = size(document, input.dtype.size(), &input.shape, tensor)?;
        inputs.push(ExternalInput { name, size });
    }
    Ok(inputs)
}

fn output_ports(document: &DagDocument, node: &Node) -> Result<Vec<OutputPort>, DagError> {
    let mut ports: Vec<OutputPort> = Vec::with_capacity(node.outputs.len());
    for output in &node.outputs {
        let port = output.port;
        if ports.iter().any(|other| other.port == port) {
            return Err(DagError::DuplicatePort {
                node: node.id.clone(),
                side: "output",
                port,
            });
        }
        let tensor = || format!("node {}, output port {port}", node.id);
        let size = size(document, output.dtype.size(), &output.shape, tensor)?;
        ports.push(OutputPort { port, size });
    }
    ports.sort_by_key(|output| output.port);
    Ok(ports)
}

fn function_outputs(
    document: &DagDocument,
    positions: &Positions<'_>,
    components: &[Component],
) -> Result<Vec<FunctionOutput>, DagError> {
    if document.outputs.is_empty() {
        return Err(DagError::NoOutput);
    }
    let mut outputs: Vec<FunctionOutput> = Vec::with_capacity(document.outputs.len());
    for output in &document.outputs {
        let (name, node, port) = (output.name.clone(), output.node.clone(), output.port);
        if outputs.iter().any(|other| other.name == name) {
            return Err(DagError::DuplicateName {
                what: "outputs",
                name,
            });
        }
        let Some(&component) = positions.get(&node) else {
            return Err(DagError::OutputOfUnknownNode { name, node });
        };
        if !has_output(&components[component], port) {
            return Err(DagError::OutputOfUnknownPort { name, node, port });
        }
        outputs.push(FunctionOutput {
            name,
            component,
            port,
        });
    }
    Ok(outputs)
}

/// The size of a tensor with all symbols resolved.
fn size(
    document: &DagDocument,
    element: u64,
    shape: &[Dim],
    tensor: impl Fn() -> String,
) -> Result<Size, DagError> {
    let mut bytes = element;
    for dimension in shape {
        let length = match dimension {
            Dim::Fixed(length) => *length,
            Dim::Symbol(symbol) if !is_symbol(symbol) => {
                return Err(DagError::NoSymbol {
                    tensor: tensor(),
                    symbol: symbol.clone(),
                });
            }
            Dim::Symbol(symbol) => *document
                .symbols
                .get(symbol)
                .ok_or_else(|| DagError::UnknownSymbol {
                    tensor: tensor(),
                    symbol: symbol.clone(),
                })?,
        };
        if length == 0 {
            return Err(DagError::ZeroDimension { tensor: tensor() });
        }
        bytes = bytes
            .checked_mul(length)
            .filter(|bytes| *bytes <= MAX_SIZE.0)
            .ok_or_else(|| DagError::TooLarge { tensor: tensor() })?;
    }
    Ok(Size {
        bytes: Bytes(bytes),
        bounded: shape.iter().any(|dimension| matches!(dimension, Dim::Symbol(_))),
    })
}

/// `^[A-Z][A-Za-z0-9]*$`
fn is_symbol(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_uppercase()) && text.bytes().all(|b| b.is_ascii_alphanumeric())
}

/// A component that no output of the function depends on.
fn dead_end(dag: &Dag) -> Option<usize> {
    let mut reaching: ComponentSet = dag.outputs.iter().map(|output| output.component).collect();
    for at in (0..dag.len()).rev() {
        if !dag.components[at].successors.intersection(reaching).is_empty() {
            reaching.insert(at);
        }
    }
    dag.all().minus(reaching).first()
}
