//! A function's components and the tensors between them, checked.
//!
//! [`Dag::parse`] is the only way in: a [`Dag`] has no cycle, no dangling edge and no shape of
//! unknown size, and nothing after it checks that again. What the components cost is in
//! [`crate::profile`].

use proto::ffs::dag::{DagDocument, Dim, Source};
use proto::id::ComponentId;
use proto::unit::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

/// Most components of one function. Source: `ffs.dag/1`.
pub const MAX_COMPONENTS: usize = 64;

/// Largest size that a document may state, 1 PiB: sums of sizes then never overflow.
pub(crate) const MAX_SIZE: Bytes = Bytes(1 << 50);

/// Components of one DAG; element `i` is the `i`-th in topological order.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ComponentSet(u64);

impl ComponentSet {
    pub const EMPTY: Self = Self(0);

    /// The set of one component.
    pub const fn of(component: usize) -> Self {
        Self(1 << component)
    }

    /// The first `n` components, `n` <= 64.
    pub const fn first_n(n: usize) -> Self {
        if n >= 64 {
            Self(u64::MAX)
        } else {
            Self((1 << n) - 1)
        }
    }

    pub const fn contains(self, component: usize) -> bool {
        self.0 >> component & 1 == 1
    }

    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    #[must_use]
    pub const fn minus(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    #[must_use]
    pub const fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub const fn len(self) -> usize {
        self.0.count_ones() as usize
    }

    /// The topologically first component, if there is any.
    pub const fn first(self) -> Option<usize> {
        if self.0 == 0 {
            None
        } else {
            Some(self.0.trailing_zeros() as usize)
        }
    }

    /// The topologically last component, if there is any.
    pub const fn last(self) -> Option<usize> {
        if self.0 == 0 {
            None
        } else {
            Some(63 - self.0.leading_zeros() as usize)
        }
    }

    /// The components in topological order.
    pub fn iter(self) -> impl Iterator<Item = usize> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            let next = Self(rest).first()?;
            rest &= rest - 1;
            Some(next)
        })
    }
}

impl FromIterator<usize> for ComponentSet {
    fn from_iter<I: IntoIterator<Item = usize>>(components: I) -> Self {
        components
            .into_iter()
            .fold(Self::EMPTY, |set, c| set.union(Self::of(c)))
    }
}

impl fmt::Debug for ComponentSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

/// A function as a graph: components in topological order (ties by id), and where each tensor goes.
#[derive(Clone, Debug)]
pub struct Dag {
    function: String,
    revision: String,
    ids: Arc<[ComponentId]>,
    components: Vec<Component>,
    inputs: Vec<ExternalInput>,
    outputs: Vec<FunctionOutput>,
}

/// One component.
#[derive(Clone, Debug)]
pub struct Component {
    /// Components with equal keys share their weights where they run in one lane.
    pub weights_key: Option<String>,
    /// By port.
    pub inputs: Vec<Origin>,
    /// By port.
    pub outputs: Vec<OutputPort>,
    pub predecessors: ComponentSet,
    pub successors: ComponentSet,
}

/// Where a component's input comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// An output port of another component.
    Port { component: usize, port: u32 },
    /// An external input, by its place in [`Dag::inputs`].
    Input(usize),
}

/// One tensor that a component produces, at the largest shape that its symbols allow.
#[derive(Clone, Copy, Debug)]
pub struct OutputPort {
    pub port: u32,
    pub bytes: Bytes,
}

/// One tensor that enters the function from outside.
#[derive(Clone, Debug)]
pub struct ExternalInput {
    pub name: String,
    pub bytes: Bytes,
}

/// One tensor that the function returns.
#[derive(Clone, Debug)]
pub struct FunctionOutput {
    pub name: String,
    pub component: usize,
    pub port: u32,
}

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
    #[error("{tensor}: it is larger than 1 PiB")]
    TooLarge { tensor: String },
}

fn arrows(path: &[ComponentId]) -> String {
    path.iter()
        .map(ComponentId::as_str)
        .collect::<Vec<_>>()
        .join(" → ")
}

impl Dag {
    /// Checks a document. Rules: `ffs.dag/1`, and that the graph makes sense.
    ///
    /// # Errors
    /// The first rule that is broken, with the node and the reason.
    pub fn parse(document: &DagDocument) -> Result<Self, DagError> {
        let count = document.nodes.len();
        match count {
            0 => return Err(DagError::Empty),
            1..=MAX_COMPONENTS => {}
            _ => return Err(DagError::TooMany { count }),
        }
        let order = topological_order(document)?;
        let position: BTreeMap<&ComponentId, usize> = order
            .iter()
            .enumerate()
            .map(|(at, &node)| (&document.nodes[node].id, at))
            .collect();
        let inputs = external_inputs(document)?;

        let mut components = Vec::with_capacity(count);
        for &node in &order {
            let node = &document.nodes[node];
            let outputs = output_ports(document, node)?;
            components.push(Component {
                weights_key: node.weights_key.clone(),
                inputs: Vec::with_capacity(node.inputs.len()),
                outputs,
                predecessors: ComponentSet::EMPTY,
                successors: ComponentSet::EMPTY,
            });
        }
        for (at, &node) in order.iter().enumerate() {
            let node = &document.nodes[node];
            let mut ports: Vec<_> = node.inputs.iter().collect();
            ports.sort_by_key(|input| input.port);
            for input in ports {
                let origin = match &input.from {
                    Source::Node { node: from, port } => {
                        let from_at = position[from];
                        if !components[from_at]
                            .outputs
                            .iter()
                            .any(|output| output.port == *port)
                        {
                            return Err(DagError::UnknownPort {
                                node: node.id.clone(),
                                port: input.port,
                                from: from.clone(),
                                from_port: *port,
                            });
                        }
                        components[from_at].successors =
                            components[from_at].successors.union(ComponentSet::of(at));
                        components[at].predecessors =
                            components[at].predecessors.union(ComponentSet::of(from_at));
                        Origin::Port {
                            component: from_at,
                            port: *port,
                        }
                    }
                    Source::Input { input: name } => inputs
                        .iter()
                        .position(|input| input.name == *name)
                        .map(Origin::Input)
                        .ok_or_else(|| DagError::UnknownInput {
                            node: node.id.clone(),
                            port: input.port,
                            input: name.clone(),
                        })?,
                };
                components[at].inputs.push(origin);
            }
        }
        let outputs = function_outputs(document, &position, &components)?;
        let dag = Self {
            function: document.function.clone(),
            revision: document.revision.clone(),
            ids: order
                .iter()
                .map(|&node| document.nodes[node].id.clone())
                .collect(),
            components,
            inputs,
            outputs,
        };
        dag.check_all_reach_an_output()?;
        Ok(dag)
    }

    /// `namespace/name` of the action.
    pub fn function(&self) -> &str {
        &self.function
    }

    /// Action revision that the DAG was built from.
    pub fn revision(&self) -> &str {
        &self.revision
    }

    /// Number of components.
    #[allow(clippy::len_without_is_empty)] // a DAG is never empty
    pub fn len(&self) -> usize {
        self.components.len()
    }

    /// All components.
    pub fn all(&self) -> ComponentSet {
        ComponentSet::first_n(self.len())
    }

    /// Ids in topological order.
    pub fn ids(&self) -> &Arc<[ComponentId]> {
        &self.ids
    }

    pub fn id(&self, component: usize) -> &ComponentId {
        &self.ids[component]
    }

    pub fn component(&self, component: usize) -> &Component {
        &self.components[component]
    }

    /// Components in topological order.
    pub fn components(&self) -> &[Component] {
        &self.components
    }

    pub fn inputs(&self) -> &[ExternalInput] {
        &self.inputs
    }

    pub fn outputs(&self) -> &[FunctionOutput] {
        &self.outputs
    }

    /// The place of a component in topological order.
    pub fn position(&self, id: &ComponentId) -> Option<usize> {
        self.ids.iter().position(|other| other == id)
    }

    /// The size of one tensor at its largest shape.
    pub fn tensor_bytes(&self, origin: Origin) -> Bytes {
        match origin {
            Origin::Input(input) => self.inputs[input].bytes,
            Origin::Port { component, port } => self.components[component]
                .outputs
                .iter()
                .find(|output| output.port == port)
                .map(|output| output.bytes)
                .expect("parse checks that every port that is read exists"),
        }
    }

    fn check_all_reach_an_output(&self) -> Result<(), DagError> {
        let mut reaching: ComponentSet = self.outputs.iter().map(|output| output.component).collect();
        for at in (0..self.len()).rev() {
            if !self.components[at].successors.intersection(reaching).is_empty() {
                reaching = reaching.union(ComponentSet::of(at));
            }
        }
        match self.all().minus(reaching).first() {
            Some(dead) => Err(DagError::DeadEnd {
                node: self.ids[dead].clone(),
            }),
            None => Ok(()),
        }
    }
}

/// Places in `document.nodes`, each after all that it reads, ties by id.
fn topological_order(document: &DagDocument) -> Result<Vec<usize>, DagError> {
    let mut places = BTreeMap::new();
    for (place, node) in document.nodes.iter().enumerate() {
        if places.insert(&node.id, place).is_some() {
            return Err(DagError::DuplicateNode {
                node: node.id.clone(),
            });
        }
    }
    // Waiting nodes and what each still waits for; both ordered by id.
    let mut waiting: BTreeMap<&ComponentId, BTreeSet<&ComponentId>> = BTreeMap::new();
    for node in &document.nodes {
        let mut ports = BTreeSet::new();
        let mut sources = BTreeSet::new();
        for input in &node.inputs {
            if !ports.insert(input.port) {
                return Err(DagError::DuplicatePort {
                    node: node.id.clone(),
                    side: "input",
                    port: input.port,
                });
            }
            if let Source::Node { node: from, .. } = &input.from {
                if !places.contains_key(from) {
                    return Err(DagError::UnknownNode {
                        node: node.id.clone(),
                        port: input.port,
                        from: from.clone(),
                    });
                }
                sources.insert(from);
            }
        }
        waiting.insert(&node.id, sources);
    }
    let mut order = Vec::with_capacity(document.nodes.len());
    while !waiting.is_empty() {
        let ready = waiting
            .iter()
            .find(|(_, sources)| sources.is_empty())
            .map(|(id, _)| *id);
        let Some(ready) = ready else {
            return Err(DagError::Cycle {
                path: cycle(&waiting),
            });
        };
        waiting.remove(ready);
        for sources in waiting.values_mut() {
            sources.remove(ready);
        }
        order.push(places[ready]);
    }
    Ok(order)
}

/// One cycle among nodes that all wait for each other, in the direction of the data.
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

fn external_inputs(document: &DagDocument) -> Result<Vec<ExternalInput>, DagError> {
    let mut names = BTreeSet::new();
    document
        .inputs
        .iter()
        .map(|input| {
            if !names.insert(&input.name) {
                return Err(DagError::DuplicateName {
                    what: "inputs",
                    name: input.name.clone(),
                });
            }
            let bytes = tensor_bytes(document, input.dtype.size(), &input.shape, || {
                format!("input {:?}", input.name)
            })?;
            Ok(ExternalInput {
                name: input.name.clone(),
                bytes,
            })
        })
        .collect()
}

fn output_ports(document: &DagDocument, node: &proto::ffs::dag::Node) -> Result<Vec<OutputPort>, DagError> {
    let mut ports: Vec<OutputPort> = Vec::with_capacity(node.outputs.len());
    for output in &node.outputs {
        if ports.iter().any(|other| other.port == output.port) {
            return Err(DagError::DuplicatePort {
                node: node.id.clone(),
                side: "output",
                port: output.port,
            });
        }
        let bytes = tensor_bytes(document, output.dtype.size(), &output.shape, || {
            format!("node {}, output port {}", node.id, output.port)
        })?;
        ports.push(OutputPort {
            port: output.port,
            bytes,
        });
    }
    ports.sort_by_key(|output| output.port);
    Ok(ports)
}

fn function_outputs(
    document: &DagDocument,
    position: &BTreeMap<&ComponentId, usize>,
    components: &[Component],
) -> Result<Vec<FunctionOutput>, DagError> {
    if document.outputs.is_empty() {
        return Err(DagError::NoOutput);
    }
    let mut names = BTreeSet::new();
    document
        .outputs
        .iter()
        .map(|output| {
            if !names.insert(&output.name) {
                return Err(DagError::DuplicateName {
                    what: "outputs",
                    name: output.name.clone(),
                });
            }
            let Some(&component) = position.get(&output.node) else {
                return Err(DagError::OutputOfUnknownNode {
                    name: output.name.clone(),
                    node: output.node.clone(),
                });
            };
            if !components[component]
                .outputs
                .iter()
                .any(|port| port.port == output.port)
            {
                return Err(DagError::OutputOfUnknownPort {
                    name: output.name.clone(),
                    node: output.node.clone(),
                    port: output.port,
                });
            }
            Ok(FunctionOutput {
                name: output.name.clone(),
                component,
                port: output.port,
            })
        })
        .collect()
}

fn tensor_bytes(
    document: &DagDocument,
    element: u64,
    shape: &[Dim],
    tensor: impl Fn() -> String,
) -> Result<Bytes, DagError> {
    let mut bytes = element;
    for dimension in shape {
        let size = match dimension {
            Dim::Fixed(size) => *size,
            Dim::Symbol(symbol) => match document.symbols.get(symbol) {
                _ if !is_symbol(symbol) => {
                    return Err(DagError::NoSymbol {
                        tensor: tensor(),
                        symbol: symbol.clone(),
                    });
                }
                None => {
                    return Err(DagError::UnknownSymbol {
                        tensor: tensor(),
                        symbol: symbol.clone(),
                    });
                }
                Some(size) => *size,
            },
        };
        if size == 0 {
            return Err(DagError::ZeroDimension { tensor: tensor() });
        }
        bytes = bytes
            .checked_mul(size)
            .filter(|bytes| *bytes <= MAX_SIZE.0)
            .ok_or_else(|| DagError::TooLarge { tensor: tensor() })?;
    }
    Ok(Bytes(bytes))
}

/// `^[A-Z][A-Za-z0-9]*$`
fn is_symbol(text: &str) -> bool {
    text.bytes().next().is_some_and(|b| b.is_ascii_uppercase())
        && text.bytes().all(|b| b.is_ascii_alphanumeric())
}
