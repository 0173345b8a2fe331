//! Every way to cut a DAG into stages and lanes.
//!
//! ```text
//! DAG ─► spine (components on every path) and regions between ─► chain of atoms ─► cuts between atoms
//! ```
//! Same DAG, same list, in the same order, on every machine. Source: FluidFaaS §4 ("the method is
//! ESG's dominator-based one"); the precise reading is ours. Which partition is good is decided in
//! [`crate::ranking`].

use crate::dag::{ComponentSet, Dag};
use crate::profile::Profile;
use proto::ffs::ranking::Mode;
use std::collections::BTreeMap;

/// Most atoms that are enumerated; beyond it neighbours are merged.
pub const MAX_ATOMS: usize = 16;
/// Most components in mode `convex`.
pub const MAX_CONVEX: usize = 8;

/// A piece of the DAG that is not cut: one component on every path, or all between two of those.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Atom {
    pub components: ComponentSet,
    /// Parts without an edge between them, in topological order; one or more.
    pub branches: Vec<ComponentSet>,
}

/// The partitions of one DAG. Stages and lanes that occur in many are stored once.
#[derive(Clone, Debug)]
pub struct Partitions {
    pub mode: Mode,
    pub atoms: Vec<Atom>,
    /// Whether atoms were merged because there were more than [`MAX_ATOMS`].
    pub coarsened: bool,
    /// Distinct lanes.
    pub(crate) lanes: Vec<ComponentSet>,
    /// Distinct stages: places in `lanes`.
    pub(crate) stages: Vec<Vec<u16>>,
    /// Places in `stages`, one partition after the other.
    pub(crate) sequence: Vec<u16>,
    /// Where each partition begins in `sequence`, and where the last one ends.
    pub(crate) starts: Vec<u32>,
}

/// Why partitions are not enumerated.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PartitionError {
    #[error("mode convex is limited to {MAX_CONVEX} components; the DAG has {count}: use lanes or serial")]
    TooManyForConvex { count: usize },
}

/// Lists all partitions of a DAG. `profile` says which atoms are merged where there are too many.
///
/// # Errors
/// Mode `convex` with more than [`MAX_CONVEX`] components.
pub fn enumerate(dag: &Dag, profile: &Profile, mode: Mode) -> Result<Partitions, PartitionError> {
    let mut atoms = atoms(dag);
    let mut coarsened = false;
    if mode == Mode::Convex {
        if dag.len() > MAX_CONVEX {
            return Err(PartitionError::TooManyForConvex { count: dag.len() });
        }
    } else {
        coarsened = atoms.len() > MAX_ATOMS;
        coarsen(&mut atoms, profile);
    }
    let mut partitions = Partitions {
        mode,
        atoms,
        coarsened,
        lanes: Vec::new(),
        stages: Vec::new(),
        sequence: Vec::new(),
        starts: vec![0],
    };
    match mode {
        Mode::Serial => partitions.cut(false),
        Mode::Lanes => partitions.cut(true),
        Mode::Convex => partitions.group(dag),
    }
    Ok(partitions)
}

impl Partitions {
    /// How many partitions there are.
    #[allow(clippy::len_without_is_empty)] // there is always the unsplit one
    pub fn len(&self) -> usize {
        self.starts.len() - 1
    }

    /// Each partition as stages of lanes.
    pub fn iter(&self) -> impl Iterator<Item = Vec<Vec<ComponentSet>>> {
        (0..self.len()).map(|partition| {
            let stages = self.stages_of(partition).iter();
            stages.map(|stage| self.lanes_of(*stage).collect()).collect()
        })
    }

    pub(crate) fn stages_of(&self, partition: usize) -> &[u16] {
        &self.sequence[self.starts[partition] as usize..self.starts[partition + 1] as usize]
    }

    fn lanes_of(&self, stage: u16) -> impl Iterator<Item = ComponentSet> {
        self.stages[usize::from(stage)]
            .iter()
            .map(|lane| self.lanes[usize::from(*lane)])
    }

    /// Modes `serial` and `lanes`: bit i of the mask set = a cut after atom i.
    fn cut(&mut self, spread: bool) {
        let n = self.atoms.len();
        // blocks[first][last]: the stages that atoms first..=last can be.
        let mut blocks: Vec<Vec<(u16, Option<u16>)>> = Vec::with_capacity(n);
        for first in 0..n {
            let mut components = ComponentSet::EMPTY;
            let mut row = Vec::with_capacity(n - first);
            for last in first..n {
                components = components.union(self.atoms[last].components);
                let serial = self.push_stage(vec![components]);
                let divisible = spread && first == last && self.atoms[first].branches.len() > 1;
                let parallel = divisible.then(|| self.push_stage(self.atoms[first].branches.clone()));
                row.push((serial, parallel));
            }
            blocks.push(row);
        }
        let mut stages: Vec<(u16, Option<u16>)> = Vec::with_capacity(n);
        for mask in 0..1_u32 << (n - 1) {
            stages.clear();
            let mut first = 0;
            for last in 0..n {
                if last + 1 == n || mask >> last & 1 == 1 {
                    stages.push(blocks[first][last - first]);
                    first = last + 1;
                }
            }
            let divisible = stages.iter().filter(|(_, parallel)| parallel.is_some()).count();
            for choice in 0..1_u32 << divisible {
                let mut bit = 0;
                for (serial, parallel) in &stages {
                    let chosen = match parallel {
                        Some(parallel) => {
                            bit += 1;
                            if choice >> (bit - 1) & 1 == 1 {
                                parallel
                            } else {
                                serial
                            }
                        }
                        None => serial,
                    };
                    self.sequence.push(*chosen);
                }
                self.starts.push(self.sequence.len() as u32);
            }
        }
    }

    fn push_stage(&mut self, lanes: Vec<ComponentSet>) -> u16 {
        let stage = lanes
            .into_iter()
            .map(|lane| {
                let known = self.lanes.iter().position(|other| *other == lane);
                known.unwrap_or_else(|| {
                    self.lanes.push(lane);
                    self.lanes.len() - 1
                }) as u16
            })
            .collect();
        self.stages.push(stage);
        (self.stages.len() - 1) as u16
    }

    /// Mode `convex`: every set partition whose quotient graph is acyclic. Groups that are equally
    /// far from the sources of the quotient graph are the lanes of one stage.
    fn group(&mut self, dag: &Dag) {
        let mut known: BTreeMap<Vec<ComponentSet>, u16> = BTreeMap::new();
        let mut groups: Vec<ComponentSet> = Vec::new();
        // Restricted growth strings: each component joins a group that exists, or begins a new one.
        let mut growth = vec![0_usize; dag.len()];
        loop {
            groups.clear();
            for (component, &group) in growth.iter().enumerate() {
                if group == groups.len() {
                    groups.push(ComponentSet::EMPTY);
                }
                groups[group] = groups[group].union(ComponentSet::of(component));
            }
            if let Some(stages) = levels(dag, &groups) {
                for lanes in stages {
                    let stage = match known.get(&lanes) {
                        Some(stage) => *stage,
                        None => {
                            let stage = self.push_stage(lanes.clone());
                            known.insert(lanes, stage);
                            stage
                        }
                    };
                    self.sequence.push(stage);
                }
                self.starts.push(self.sequence.len() as u32);
            }
            let next = (1..growth.len()).rev().find(|&at| {
                let most = growth[..at].iter().max().map_or(0, |most| most + 1);
                growth[at] < most
            });
            let Some(at) = next else { return };
            growth[at] += 1;
            growth[at + 1..].fill(0);
        }
    }
}

/// The groups by distance from the sources of their quotient graph; none if that has a cycle.
fn levels(dag: &Dag, groups: &[ComponentSet]) -> Option<Vec<Vec<ComponentSet>>> {
    let before: Vec<ComponentSet> = groups
        .iter()
        .map(|group| {
            let all = group.iter().fold(ComponentSet::EMPTY, |before, component| {
                before.union(dag.component(component).predecessors)
            });
            all.minus(*group)
        })
        .collect();
    let mut done = ComponentSet::EMPTY;
    let mut stages = Vec::new();
    while done != dag.all() {
        let ready: Vec<ComponentSet> = groups
            .iter()
            .zip(&before)
            .filter(|(group, before)| group.intersection(done).is_empty() && before.minus(done).is_empty())
            .map(|(group, _)| *group)
            .collect();
        if ready.is_empty() {
            return None;
        }
        done = ready.iter().fold(done, |done, group| done.union(*group));
        stages.push(ready);
    }
    Some(stages)
}

/// The DAG as a chain: components on every path from start to end, and the regions between them.
pub fn atoms(dag: &Dag) -> Vec<Atom> {
    let (spine, dominators) = spine(dag);
    // regions[i] lies before spine[i]; the last one after the whole spine.
    let mut regions = vec![ComponentSet::EMPTY; spine.len() + 1];
    let on_spine: ComponentSet = spine.iter().copied().collect();
    for component in dag.all().minus(on_spine).iter() {
        let nearest = dominators[component].intersection(on_spine).last();
        let region = nearest.map_or(0, |nearest| {
            1 + spine
                .iter()
                .position(|s| *s == nearest)
                .expect("it is on the spine")
        });
        regions[region] = regions[region].union(ComponentSet::of(component));
    }
    let mut atoms = Vec::new();
    for (at, region) in regions.into_iter().enumerate() {
        if !region.is_empty() {
            atoms.push(Atom {
                components: region,
                branches: branches(dag, region),
            });
        }
        if let Some(component) = spine.get(at) {
            let components = ComponentSet::of(*component);
            atoms.push(Atom {
                components,
                branches: vec![components],
            });
        }
    }
    atoms
}

/// The components on every path from a source to a sink, in order; and who dominates each component.
fn spine(dag: &Dag) -> (Vec<usize>, Vec<ComponentSet>) {
    let mut dominators: Vec<ComponentSet> = Vec::with_capacity(dag.len());
    let mut spine = dag.all();
    for (at, component) in dag.components().iter().enumerate() {
        let shared = component
            .predecessors
            .iter()
            .map(|p| dominators[p])
            .reduce(ComponentSet::intersection);
        let own = shared.unwrap_or_default().union(ComponentSet::of(at));
        dominators.push(own);
        if component.successors.is_empty() {
            spine = spine.intersection(own);
        }
    }
    // Of two components on every path one dominates the other, so their order is the topological one.
    (spine.iter().collect(), dominators)
}

/// Weakly connected parts, each in topological order, ordered by their first component.
fn branches(dag: &Dag, region: ComponentSet) -> Vec<ComponentSet> {
    let mut rest = region;
    let mut branches = Vec::new();
    while let Some(first) = rest.first() {
        let mut branch = ComponentSet::of(first);
        loop {
            let grown = branch.iter().fold(branch, |grown, component| {
                let node = dag.component(component);
                grown.union(node.predecessors.union(node.successors).intersection(region))
            });
            if grown == branch {
                break;
            }
            branch = grown;
        }
        rest = rest.minus(branch);
        branches.push(branch);
    }
    branches
}

/// Merges the two neighbours with the smallest joint time until few enough are left.
fn coarsen(atoms: &mut Vec<Atom>, profile: &Profile) {
    while atoms.len() > MAX_ATOMS {
        let joint = |at: &usize| profile.slowest_nanos(atoms[*at].components.union(atoms[at + 1].components));
        let at = (0..atoms.len() - 1)
            .min_by_key(joint)
            .expect("there are more than 16 atoms");
        let components = atoms[at].components.union(atoms[at + 1].components);
        atoms[at] = Atom {
            components,
            branches: vec![components],
        };
        atoms.remove(at + 1);
    }
}
