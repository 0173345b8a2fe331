//! The partitions of a function in the order in which they are tried.
//!
//! Computed once per revision, without knowing which slices will be free. Source: FluidFaaS,
//! `CV = std / mean` of the stage times, rising; deviation, reference slice and ties are options
//! of ours. `throughput` and `slo` are ours too: there [`crate::placement`] compares what can be
//! placed on the slices that are really free, and the order given here only breaks ties.

mod costs;
mod document;
mod options;
mod order;

pub use options::{RankBy, RankOptions, Reference, TransferModel};

pub(crate) use costs::{Lane, NOT_MEASURED, Stage};
pub(crate) use order::Entry;

use crate::dag::{ComponentSet, Dag};
use crate::free::Kind;
use crate::partition::Partitions;
use crate::profile::Profile;
use proto::ffs::ranking::Mode;
use proto::id::{ComponentId, ProfileName};
use proto::unit::Bytes;
use std::cell::OnceCell;
use std::sync::Arc;
use std::time::Duration;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RankError {
    #[error("reference profile {reference} was not measured; the profile has {}", names(.measured))]
    UnknownReference {
        reference: ProfileName,
        measured: Vec<ProfileName>,
    },
}

fn names(profiles: &[ProfileName]) -> String {
    let names: Vec<&str> = profiles.iter().map(ProfileName::as_str).collect();
    names.join(", ")
}

/// The partitions of one function, best first.
#[derive(Clone, Debug)]
pub struct Ranking {
    pub options: RankOptions,
    pub mode: Mode,
    pub atoms: Vec<ComponentSet>,
    pub coarsened: bool,
    /// How many partitions there are; [`Self::len`] of them are kept.
    pub total: usize,
    function: String,
    revision: String,
    ids: Arc<[ComponentId]>,
    /// Kinds of slices that the reference times are taken from, smallest first.
    kinds: Vec<Kind>,
    /// Slice profiles with times.
    columns: Vec<ProfileName>,
    /// By column, the components that have a time there.
    pub(crate) measured: Vec<ComponentSet>,
    pub(crate) lanes: Vec<Lane>,
    /// Nanoseconds, lane by lane, one per column; [`NOT_MEASURED`] where there is none.
    times: Vec<u64>,
    stages: Vec<Stage>,
    sequence: Vec<u16>,
    pub(crate) entries: Vec<Entry>,
}

/// Components, memory, and time (at the reference) of one lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaneCosts {
    pub components: ComponentSet,
    pub memory: Bytes,
    pub time: Duration,
}

/// Puts partitions in order. `kinds` are all kinds of slices of the machine, free or not.
///
/// # Errors
/// A reference profile that no component was measured on.
pub fn rank(
    dag: &Dag,
    profile: &Profile,
    partitions: &Partitions,
    kinds: &[Kind],
    options: &RankOptions,
) -> Result<Ranking, RankError> {
    let columns = profile.slice_profiles();
    let reference = match &options.reference {
        Reference::MinFit => None,
        Reference::Profile(reference) => {
            let error = || RankError::UnknownReference {
                reference: reference.clone(),
                measured: columns.to_vec(),
            };
            Some(profile.column(reference).ok_or_else(error)?)
        }
    };
    let mut kinds = kinds.to_vec();
    kinds.sort_unstable();
    let times = costs::times(profile, partitions);
    let lanes = costs::lanes(profile, partitions, &times, &kinds, reference);
    let stages = costs::stages(dag, profile, partitions, &lanes, &options.transfer);
    let (entries, sequence) = sorted(partitions, &stages, &lanes, dag.ids(), options);
    Ok(Ranking {
        options: options.clone(),
        mode: partitions.mode,
        atoms: partitions.atoms.iter().map(|atom| atom.components).collect(),
        coarsened: partitions.coarsened,
        total: partitions.len(),
        function: dag.function().to_owned(),
        revision: dag.revision().to_owned(),
        ids: Arc::clone(dag.ids()),
        kinds,
        columns: columns.to_vec(),
        measured: (0..columns.len())
            .map(|column| profile.measured(column))
            .collect(),
        lanes,
        times,
        stages,
        sequence,
        entries,
    })
}

/// The best partitions, best first, and always the one with the smallest largest lane.
fn sorted(
    partitions: &Partitions,
    stages: &[Stage],
    lanes: &[Lane],
    ids: &[ComponentId],
    options: &RankOptions,
) -> (Vec<Entry>, Vec<u16>) {
    let texts: OnceCell<Vec<String>> = OnceCell::new();
    let texts = || &texts.get_or_init(|| stages.iter().map(|s| stage_key(s, lanes, ids)).collect())[..];
    let order = |a: &Entry, b: &Entry| a.compare(b, options.by, &partitions.sequence, texts);
    let most = options.max_ranked.get();
    // Twice as many as are kept, so that they stay in the processor's caches however many there are.
    let room = most.saturating_mul(2);
    let mut entries: Vec<Entry> = Vec::with_capacity(room.min(partitions.len()));
    let mut worst: Option<Entry> = None;
    let mut least_demanding: Option<Entry> = None;
    for at in 0..partitions.len() {
        let entry = Entry::new(partitions.stages_of(at), partitions.starts[at], stages, options);
        let demands_less = |than: &Entry| {
            let largest_lane = entry.largest_lane.cmp(&than.largest_lane);
            largest_lane.then_with(|| order(&entry, than)).is_lt()
        };
        if least_demanding.as_ref().is_none_or(demands_less) {
            least_demanding = Some(entry.clone());
        }
        if worst.as_ref().is_some_and(|worst| order(&entry, worst).is_gt()) {
            continue;
        }
        entries.push(entry);
        if entries.len() == room {
            entries.select_nth_unstable_by(most - 1, order);
            entries.truncate(most);
            worst = entries.last().cloned();
        }
    }
    entries.sort_unstable_by(order);
    entries.truncate(most);
    if let Some(entry) = least_demanding
        && entries.iter().all(|kept| kept.start != entry.start)
    {
        entries[most - 1] = entry;
    }
    let mut sequence = Vec::with_capacity(entries.iter().map(|entry| usize::from(entry.stages)).sum());
    for entry in &mut entries {
        let start = sequence.len() as u32;
        sequence.extend_from_slice(entry.of(&partitions.sequence));
        entry.start = start;
    }
    (entries, sequence)
}

impl Ranking {
    /// How many partitions are kept; ranks are below it.
    #[allow(clippy::len_without_is_empty)] // there is always the unsplit one
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Ids of the function's components in topological order.
    pub fn ids(&self) -> &[ComponentId] {
        &self.ids
    }

    /// The ids of a lane, joined by commas.
    pub fn names(&self, components: ComponentSet) -> String {
        let mut names = String::new();
        push_lane_key(&mut names, components, &self.ids);
        names
    }

    /// `m1;m2|m3|m4,m5`: `|` between stages, `;` between lanes, `,` between components.
    pub fn key(&self, rank: usize) -> String {
        let mut key = String::new();
        for stage in self.stages_of(rank) {
            if !key.is_empty() {
                key.push('|');
            }
            push_stage_key(&mut key, stage, &self.lanes, &self.ids);
        }
        key
    }

    /// The rank of the partition with a key.
    pub fn find(&self, key: &str) -> Option<usize> {
        (0..self.len()).find(|rank| self.key(*rank) == key)
    }

    /// Coefficient of variation of the stage times at the reference.
    pub fn cv(&self, rank: usize) -> f64 {
        self.entries[rank].cv as f64 / 1e9
    }

    /// The longest stage at the reference.
    pub fn bottleneck(&self, rank: usize) -> Duration {
        Duration::from_nanos(self.entries[rank].bottleneck)
    }

    /// All stages at the reference, and transfers.
    pub fn latency(&self, rank: usize) -> Duration {
        Duration::from_nanos(self.entries[rank].latency)
    }

    /// The lanes of a partition, stage by stage.
    pub fn lanes(&self, rank: usize) -> Vec<Vec<LaneCosts>> {
        let costs = |lane: &u16| {
            let lane = &self.lanes[usize::from(*lane)];
            LaneCosts {
                components: lane.components,
                memory: Bytes(lane.memory),
                time: Duration::from_nanos(lane.time),
            }
        };
        self.stages_of(rank)
            .map(|stage| stage.lanes.iter().map(costs).collect())
            .collect()
    }

    /// The rank of the partition whose largest lane is the smallest: the last to need too large a slice.
    pub fn least_demanding(&self) -> usize {
        let by_largest_lane = |rank: &usize| self.entries[*rank].largest_lane;
        (0..self.len())
            .min_by_key(by_largest_lane)
            .expect("there is always the unsplit partition")
    }

    pub(crate) fn stages_of(&self, rank: usize) -> impl Iterator<Item = &Stage> {
        let stages = self.entries[rank].of(&self.sequence);
        stages.iter().map(|stage| &self.stages[usize::from(*stage)])
    }

    /// The column with the times on a slice profile.
    pub(crate) fn column(&self, profile: &ProfileName) -> Option<usize> {
        self.columns.iter().position(|column| column == profile)
    }

    /// Nanoseconds of a lane in a column, or [`NOT_MEASURED`].
    pub(crate) fn nanos(&self, lane: u16, column: usize) -> u64 {
        self.times[usize::from(lane) * self.columns.len() + column]
    }
}

fn stage_key(stage: &Stage, lanes: &[Lane], ids: &[ComponentId]) -> String {
    let mut key = String::new();
    push_stage_key(&mut key, stage, lanes, ids);
    key
}

fn push_stage_key(key: &mut String, stage: &Stage, lanes: &[Lane], ids: &[ComponentId]) {
    for (at, lane) in stage.lanes.iter().enumerate() {
        if at > 0 {
            key.push(';');
        }
        push_lane_key(key, lanes[usize::from(*lane)].components, ids);
    }
}

fn push_lane_key(key: &mut String, components: ComponentSet, ids: &[ComponentId]) {
    for (at, component) in components.iter().enumerate() {
        if at > 0 {
            key.push(',');
        }
        key.push_str(ids[component].as_str());
    }
}
