//! A function's components and the tensors between them, checked.
//!
//! [`Dag::parse`] is the only way in: a [`Dag`] has no cycle, no dangling edge and no shape of
//! unknown size, and nothing after it checks that again. What the components cost is in
//! [`crate::profile`].

mod error;
mod parse;
mod set;

pub use error::DagError;
pub use set::ComponentSet;

use proto::ffs::dag::DagDocument;
use proto::id::ComponentId;
use proto::unit::Bytes;
use std::sync::Arc;

/// Most components of one function. Source: `ffs.dag/1`.
pub const MAX_COMPONENTS: usize = 64;

/// Most input ports, and most output ports, of one component.
pub const MAX_PORTS: usize = 256;

/// Largest size that a document may state, 1 TiB: sums of sizes then never overflow.
pub(crate) const MAX_SIZE: Bytes = Bytes(1 << 40);

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
    /// Most requests that it may run at once.
    pub batch: u32,
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

/// One tensor that a component produces.
#[derive(Clone, Copy, Debug)]
pub struct OutputPort {
    pub port: u32,
    pub size: Size,
}

/// How large a tensor is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// At its shape, with each symbol at its value.
    pub bytes: Bytes,
    /// Whether a symbol bounds the shape. One without may be no more than what the example had.
    pub bounded: bool,
}

impl Size {
    /// Room for the tensor of any request: twice the example's where nothing bounds the shape.
    pub const fn room(self) -> Bytes {
        if self.bounded {
            self.bytes
        } else {
            Bytes(2 * self.bytes.0)
        }
    }
}

/// One tensor that enters the function from outside.
#[derive(Clone, Debug)]
pub struct ExternalInput {
    pub name: String,
    pub size: Size,
}

/// One tensor that the function returns.
#[derive(Clone, Debug)]
pub struct FunctionOutput {
    pub name: String,
    pub component: usize,
    pub port: u32,
}

impl Dag {
    /// Checks a document. Rules: `ffs.dag/1`, and that the graph makes sense.
    ///
    /// # Errors
    /// The first rule that is broken, with the node and the reason.
    pub fn parse(document: &DagDocument) -> Result<Self, DagError> {
        parse::parse(document)
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

    /// The size of one tensor.
    pub fn size(&self, origin: Origin) -> Size {
        match origin {
            Origin::Input(input) => self.inputs[input].size,
            Origin::Port { component, port } => {
                let mut outputs = self.components[component].outputs.iter();
                let output = outputs.find(|output| output.port == port);
                output
                    .expect("parse checks that every port that is read exists")
                    .size
            }
        }
    }
}
