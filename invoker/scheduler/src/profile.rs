//! What each component costs: memory, and time on each slice profile.
//!
//! A profile may lack rows: a component that was not measured on a slice profile has no time
//! there, and is not placed there. Nothing is guessed. What was observed in running instances holds in
//! place of what was measured. Source: FluidFaaS §3; memory of a lane: ours.

use crate::dag::{ComponentSet, Dag, MAX_SIZE, Origin};
use crate::free::{Kind, needed_mib};
use proto::ffs::profile::{ComponentProfile, ExecutionTimes, ProfileDocument, ProfileSource};
use proto::id::{ComponentId, ProfileName};
use proto::unit::{Bytes, Millis};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::time::Duration;

/// Times and memory of the components of one [`Dag`].
#[derive(Clone, Debug)]
pub struct Profile {
    pub source: ProfileSource,
    pub gpu_model: String,
    /// Requests per execution.
    pub batch: u32,
    /// What a process needs before any component is loaded.
    pub context: Bytes,
    columns: Vec<ProfileName>,
    components: Vec<Costs>,
    /// Measured sizes of tensors that go from one component to another.
    edges: BTreeMap<(usize, u32), Bytes>,
}

#[derive(Clone, Debug)]
struct Costs {
    weights: u64,
    /// Components with the same number share their weights.
    weights_group: usize,
    workspace: u64,
    /// Inputs and outputs together.
    tensors: u64,
    /// Nanoseconds by column; none where it was not measured.
    times: Vec<Option<u64>>,
    /// The same as measured or declared, whatever was observed since.
    profiled: Vec<Option<u64>>,
    /// By column, for so many requests at once: nanoseconds, and workspace.
    batches: Vec<BTreeMap<u32, (u64, u64)>>,
    slowest: u64,
    load: Duration,
    swap_in: Duration,
    swap_out: Duration,
}

/// Why a document is no profile of a DAG.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ProfileError {
    #[error("component {component} of the DAG is missing in the profile")]
    Missing { component: ComponentId },
    #[error("the profile has a component {component}, which is not in the DAG")]
    Unknown { component: ComponentId },
    #[error("component {component}: `by_mig` is empty; expected a time on at least one slice profile")]
    NoTimes { component: ComponentId },
    #[error("component {component}: {field} is {value}; expected {expected}")]
    Value {
        component: ComponentId,
        field: String,
        value: String,
        expected: &'static str,
    },
    #[error("`batch` is 0; expected at least 1")]
    Batch,
    #[error("`context_bytes` is {value}; expected at most 1 TiB")]
    Context { value: u64 },
    #[error("edge {edge:?}: {reason}")]
    Edge { edge: String, reason: String },
}

/// A component that no slice of the machine can hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("component {component} needs {} MiB on a slice of its own; {}", needed_mib(*.needs), largest_of(.largest))]
pub struct ComponentTooLarge {
    pub component: ComponentId,
    pub needs: Bytes,
    /// None where there is no slice at all.
    pub largest: Option<Kind>,
}

fn largest_of(kind: &Option<Kind>) -> String {
    match kind {
        Some(kind) => format!(
            "the largest slice ({}) has {} MiB",
            kind.profile,
            kind.memory.as_mib()
        ),
        None => "there is no slice".to_owned(),
    }
}

/// `sha256:` and the digest of the document's JSON: names what a ranking was computed from.
pub fn document_hash(document: &ProfileDocument) -> String {
    let json = serde_json::to_vec(document).expect("a profile has only string keys");
    let mut text = "sha256:".to_owned();
    for byte in Sha256::digest(&json) {
        write!(text, "{byte:02x}").expect("writing to a string does not fail");
    }
    text
}

impl Profile {
    /// Checks a document against the DAG it belongs to.
    ///
    /// # Errors
    /// The first rule that is broken, with the component, the value and what was expected.
    pub fn parse(document: &ProfileDocument, dag: &Dag) -> Result<Self, ProfileError> {
        if let Some(unknown) = document.components.keys().find(|id| dag.position(id).is_none()) {
            return Err(ProfileError::Unknown {
                component: unknown.clone(),
            });
        }
        if document.batch == 0 {
            return Err(ProfileError::Batch);
        }
        if document.context_bytes > MAX_SIZE {
            return Err(ProfileError::Context {
                value: document.context_bytes.0,
            });
        }
        let columns: BTreeSet<&ProfileName> = document
            .components
            .values()
            .flat_map(|component| component.by_mig.keys())
            .collect();
        let columns: Vec<ProfileName> = columns.into_iter().cloned().collect();
        let edges = edges(document, dag)?;
        let mut groups: BTreeMap<&str, usize> = BTreeMap::new();
        let mut components = Vec::with_capacity(dag.len());
        for (at, id) in dag.ids().iter().enumerate() {
            let row = document.components.get(id).ok_or_else(|| ProfileError::Missing {
                component: id.clone(),
            })?;
            let mut costs = costs(id, row, &columns)?;
            costs.weights_group = match &dag.component(at).weights_key {
                Some(key) => *groups.entry(key).or_insert(at),
                None => at,
            };
            costs.tensors = tensors(dag, at);
            components.push(costs);
        }
        // Shared weights are counted once; where two measurements differ, the larger one.
        for at in 0..components.len() {
            let group = components[at].weights_group;
            let weights = components[at].weights.max(components[group].weights);
            components[group].weights = weights;
        }
        for at in 0..components.len() {
            components[at].weights = components[components[at].weights_group].weights;
        }
        Ok(Self {
            source: document.source,
            gpu_model: document.gpu_model.clone(),
            batch: document.batch,
            context: document.context_bytes,
            columns,
            components,
            edges,
        })
    }

    /// The slice profiles on which at least one component was measured, by name.
    pub fn slice_profiles(&self) -> &[ProfileName] {
        &self.columns
    }

    /// Memory of a lane: weights (shared ones once), the largest workspace, the largest set of
    /// input and output tensors, and the context of the process.
    pub fn memory(&self, lane: ComponentSet) -> Bytes {
        let (mut weights, mut workspace, mut tensors) = (0, 0, 0);
        let mut counted = ComponentSet::EMPTY;
        for component in lane.iter() {
            let costs = &self.components[component];
            if !counted.contains(costs.weights_group) {
                counted = counted.union(ComponentSet::of(costs.weights_group));
                weights += costs.weights;
            }
            workspace = workspace.max(costs.workspace);
            tensors = tensors.max(costs.tensors);
        }
        Bytes(weights + workspace + tensors + self.context.0)
    }

    /// How long a lane takes on a slice profile, p50; none where a component was not measured there.
    pub fn time(&self, lane: ComponentSet, profile: &ProfileName) -> Option<Duration> {
        self.nanos(lane, self.column(profile)?).map(Duration::from_nanos)
    }

    /// How long a lane takes alone on the smallest of these kinds of slices that holds it, as it was measured
    /// or declared: what is observed later changes no promise. Where none holds it, at its slowest.
    pub fn promised(&self, lane: ComponentSet, kinds: &[Kind]) -> Duration {
        let memory = self.memory(lane);
        let on = |kind: &Kind| -> Option<u64> {
            let column = self.column(&kind.profile)?;
            lane.iter().map(|c| self.components[c].profiled[column]).sum()
        };
        let holding = kinds.iter().filter(|kind| memory <= kind.memory);
        let timed = holding.filter_map(|kind| Some((kind, on(kind)?)));
        let smallest = timed.min_by_key(|(kind, _)| *kind);
        let slowest = |c: usize| self.components[c].profiled.iter().flatten().max().copied();
        let nanos = smallest.map_or_else(|| lane.iter().filter_map(slowest).sum(), |(_, nanos)| nanos);
        Duration::from_nanos(nanos)
    }

    /// Sizes of batches that were measured for a component of the lane on a slice profile.
    pub fn batch_sizes(&self, lane: ComponentSet, profile: &ProfileName) -> BTreeSet<u32> {
        let rows = self.column(profile).into_iter().flat_map(|column| {
            lane.iter()
                .flat_map(move |component| self.components[component].batches[column].keys())
        });
        rows.copied().collect()
    }

    /// How long a lane takes for so many requests at once on a slice profile, and what memory it needs then;
    /// none where that was not measured.
    pub fn batch(
        &self,
        lane: ComponentSet,
        profile: &ProfileName,
        requests: u32,
    ) -> Option<(Duration, Bytes)> {
        if requests <= 1 {
            return Some((self.time(lane, profile)?, self.memory(lane)));
        }
        let column = self.column(profile)?;
        let (mut nanos, mut one, mut many) = (0, 0, 0);
        for component in lane.iter() {
            let costs = &self.components[component];
            let (time, workspace) = costs.batches[column].get(&requests)?;
            nanos += time;
            one = one.max(costs.workspace);
            many = many.max(costs.workspace.max(*workspace));
        }
        // Stacked inputs and outputs are part of the workspace; those of single requests lie beside them.
        let tensors = lane.iter().map(|component| self.components[component].tensors);
        let more = tensors.max().unwrap_or(0) * u64::from(requests - 1);
        let memory = self.memory(lane).0 - one + many + more;
        Some((Duration::from_nanos(nanos), Bytes(memory)))
    }

    /// Storage → slice, one component after the other.
    pub fn load_time(&self, lane: ComponentSet) -> Duration {
        lane.iter().map(|component| self.components[component].load).sum()
    }

    /// Host memory → slice.
    pub fn swap_in_time(&self, lane: ComponentSet) -> Duration {
        lane.iter()
            .map(|component| self.components[component].swap_in)
            .sum()
    }

    /// Slice → host memory.
    pub fn swap_out_time(&self, lane: ComponentSet) -> Duration {
        lane.iter()
            .map(|component| self.components[component].swap_out)
            .sum()
    }

    /// The size of a tensor as measured, else at its largest shape.
    pub fn tensor_bytes(&self, dag: &Dag, origin: Origin) -> Bytes {
        match origin {
            Origin::Port { component, port } => self.edges.get(&(component, port)).copied(),
            Origin::Input(_) => None,
        }
        .unwrap_or_else(|| dag.size(origin).bytes)
    }

    /// Whether each component alone fits the largest kind of slice there is.
    ///
    /// # Errors
    /// The component that needs most, if it does not fit.
    pub fn check_fits(&self, dag: &Dag, kinds: &[Kind]) -> Result<(), ComponentTooLarge> {
        let largest = kinds.iter().max();
        let (component, needs) = (0..dag.len())
            .map(|component| (component, self.memory(ComponentSet::of(component))))
            .max_by_key(|(component, needs)| (*needs, std::cmp::Reverse(*component)))
            .expect("a DAG has at least one component");
        if largest.is_some_and(|kind| needs <= kind.memory) {
            return Ok(());
        }
        Err(ComponentTooLarge {
            component: dag.id(component).clone(),
            needs,
            largest: largest.cloned(),
        })
    }

    pub(crate) fn column(&self, profile: &ProfileName) -> Option<usize> {
        self.columns.iter().position(|column| column == profile)
    }

    /// The components that were measured on the slice profile of a column.
    pub(crate) fn measured(&self, column: usize) -> ComponentSet {
        (0..self.components.len())
            .filter(|c| self.components[*c].times[column].is_some())
            .collect()
    }

    pub(crate) fn nanos(&self, lane: ComponentSet, column: usize) -> Option<u64> {
        lane.iter()
            .map(|component| self.components[component].times[column])
            .sum()
    }

    /// Each component at its slowest measured time: for lanes that no slice holds.
    pub(crate) fn slowest_nanos(&self, lane: ComponentSet) -> u64 {
        lane.iter()
            .map(|component| self.components[component].slowest)
            .sum()
    }
}

fn costs(id: &ComponentId, row: &ComponentProfile, columns: &[ProfileName]) -> Result<Costs, ProfileError> {
    if row.by_mig.is_empty() {
        return Err(ProfileError::NoTimes {
            component: id.clone(),
        });
    }
    for (field, bytes) in [
        ("weights_bytes", row.weights_bytes),
        ("workspace_bytes", row.workspace_bytes),
    ] {
        if bytes > MAX_SIZE {
            return Err(ProfileError::Value {
                component: id.clone(),
                field: field.to_owned(),
                value: bytes.0.to_string(),
                expected: "at most 1 TiB",
            });
        }
    }
    let mut batches = Vec::with_capacity(columns.len());
    let (mut profiled, mut times) = (
        Vec::with_capacity(columns.len()),
        Vec::with_capacity(columns.len()),
    );
    for column in columns {
        let row = row.by_mig.get(column);
        let measured = row.map(|row| (row.exec_ms_p50, row.exec_ms_p95, row.samples));
        let observed = row.and_then(|row| row.observed);
        let observed = observed.map(|seen| (seen.exec_ms_p50, seen.exec_ms_p95, seen.samples));
        let nanos = |row: Option<_>| row.map(|row| p50_nanos(id, column, row)).transpose();
        let (was, is) = (nanos(measured)?, nanos(observed.or(measured))?);
        let drift = was.zip(is).map_or(1.0, |(was, is)| is as f64 / was as f64);
        batches.push(row_batches(id, column, row, drift)?);
        profiled.push(was);
        times.push(is);
    }
    Ok(Costs {
        weights: row.weights_bytes.0,
        weights_group: 0,
        workspace: row.workspace_bytes.0,
        tensors: 0,
        slowest: times
            .iter()
            .flatten()
            .copied()
            .max()
            .expect("by_mig is not empty"),
        times,
        profiled,
        batches,
        load: duration(id, "load_ms", row.load_ms)?,
        swap_in: duration(id, "swap_in_ms", row.swap_in_ms)?,
        swap_out: duration(id, "swap_out_ms", row.swap_out_ms)?,
    })
}

fn p50_nanos(
    id: &ComponentId,
    column: &ProfileName,
    (p50, p95, samples): (Millis, Millis, u32),
) -> Result<u64, ProfileError> {
    let error = |field: &str, value: String, expected| ProfileError::Value {
        component: id.clone(),
        field: format!("{field} on {column}"),
        value,
        expected,
    };
    let nanos = nanos(p50).filter(|nanos| *nanos > 0);
    let nanos =
        nanos.ok_or_else(|| error("exec_ms_p50", p50.0.to_string(), "more than 0 and at most a day"))?;
    if !p95.0.is_finite() || p95.0 < p50.0 {
        return Err(error("exec_ms_p95", p95.0.to_string(), "at least exec_ms_p50"));
    }
    if samples == 0 {
        return Err(error("samples", "0".to_owned(), "at least 1"));
    }
    Ok(nanos)
}

/// What was measured for several requests at once. Where single ones were seen to take `drift` times as long as
/// measured, these are taken to do so, too: the sizes of batches that were run differ too much to tell.
fn row_batches(
    id: &ComponentId,
    column: &ProfileName,
    row: Option<&ExecutionTimes>,
    drift: f64,
) -> Result<BTreeMap<u32, (u64, u64)>, ProfileError> {
    let mut batches = BTreeMap::new();
    for (size, times) in row.iter().flat_map(|row| &row.batches) {
        let error = |value: String, expected| ProfileError::Value {
            component: id.clone(),
            field: format!("batches.{size} on {column}"),
            value,
            expected,
        };
        let requests: Option<u32> = size.parse().ok().filter(|size| *size > 0);
        let requests = requests.ok_or_else(|| error(size.clone(), "a number of at least 1"))?;
        let nanos = nanos(times.exec_ms_p50).filter(|nanos| *nanos > 0);
        let nanos = nanos.ok_or_else(|| {
            error(
                times.exec_ms_p50.0.to_string(),
                "more than 0 ms and at most a day",
            )
        })?;
        let workspace = times.workspace_bytes.unwrap_or_default();
        if workspace > MAX_SIZE {
            return Err(error(workspace.0.to_string(), "at most 1 TiB"));
        }
        batches.insert(requests, ((nanos as f64 * drift) as u64, workspace.0));
    }
    Ok(batches)
}

fn duration(id: &ComponentId, field: &str, millis: Millis) -> Result<Duration, ProfileError> {
    nanos(millis)
        .map(Duration::from_nanos)
        .ok_or_else(|| ProfileError::Value {
            component: id.clone(),
            field: field.to_owned(),
            value: millis.0.to_string(),
            expected: "0 or more and at most a day",
        })
}

/// None unless it is between 0 and a day, so that sums never overflow.
pub(crate) fn nanos(millis: Millis) -> Option<u64> {
    const DAY_MS: f64 = 86_400_000.0;
    (0.0..=DAY_MS)
        .contains(&millis.0)
        .then(|| (millis.0 * 1e6).round() as u64)
}

fn tensors(dag: &Dag, component: usize) -> u64 {
    let node = dag.component(component);
    let distinct: BTreeSet<Origin> = node.inputs.iter().copied().collect();
    let inputs: u64 = distinct.into_iter().map(|origin| dag.size(origin).bytes.0).sum();
    let outputs: u64 = node.outputs.iter().map(|output| output.size.bytes.0).sum();
    inputs + outputs
}

fn edges(document: &ProfileDocument, dag: &Dag) -> Result<BTreeMap<(usize, u32), Bytes>, ProfileError> {
    let mut edges = BTreeMap::new();
    for (edge, size) in &document.edges {
        let error = |reason: String| ProfileError::Edge {
            edge: edge.clone(),
            reason,
        };
        let end = |text: &str| -> Result<(usize, u32), ProfileError> {
            let (id, port) = text
                .rsplit_once(':')
                .ok_or_else(|| error(format!("{text:?} is not of the form component:port")))?;
            let component = dag
                .ids()
                .iter()
                .position(|other| other.as_str() == id)
                .ok_or_else(|| error(format!("component {id:?} is not in the DAG")))?;
            let port = port
                .parse()
                .map_err(|_| error(format!("{port:?} is not a port number")))?;
            Ok((component, port))
        };
        let (from, to) = edge
            .split_once("->")
            .ok_or_else(|| error("expected source:port->destination:port".to_owned()))?;
        let ((from, from_port), (to, _)) = (end(from)?, end(to)?);
        let origin = Origin::Port {
            component: from,
            port: from_port,
        };
        if !dag.component(to).inputs.contains(&origin) {
            return Err(error("the DAG has no such edge".to_owned()));
        }
        if size.bytes > MAX_SIZE {
            return Err(error(format!("{} bytes; expected at most 1 TiB", size.bytes.0)));
        }
        let largest: &mut Bytes = edges.entry((from, from_port)).or_default();
        *largest = (*largest).max(size.bytes);
    }
    Ok(edges)
}
