//! Memory, times and traffic of the lanes and stages that partitions are made of: each once,
//! however many partitions share it.

use super::options::TransferModel;
use crate::dag::{ComponentSet, Dag, Origin};
use crate::free::Kind;
use crate::partition::Partitions;
use crate::profile::Profile;
use std::cmp::Reverse;

/// In place of a time.
pub(crate) const NOT_MEASURED: u64 = u64::MAX;

#[derive(Clone, Debug)]
pub(crate) struct Lane {
    pub(crate) components: ComponentSet,
    pub(crate) memory: u64,
    /// Place in the order of memory, largest first.
    pub(crate) size_rank: u16,
    /// The smallest kind that holds it and on which it was measured, by its place among the kinds.
    pub(super) min_fit: Option<usize>,
    /// Nanoseconds at the reference.
    pub(super) time: u64,
}

#[derive(Clone, Debug)]
pub(crate) struct Stage {
    pub(crate) lanes: Vec<u16>,
    /// Nanoseconds at the reference: the longest lane.
    pub(super) time: u64,
    pub(super) memory: u64,
    pub(super) largest_lane: u64,
    /// Nanoseconds until all lanes have their input.
    pub(super) receive: ByPlace,
    /// Nanoseconds until the head has this stage's outputs of the function.
    pub(super) send_back: ByPlace,
}

/// The first lane of the first stage is the head: it has all inputs and takes all outputs.
#[derive(Clone, Copy, Debug)]
pub(super) struct ByPlace {
    first: u64,
    later: u64,
}

impl ByPlace {
    pub(super) const fn at(self, stage: usize) -> u64 {
        if stage == 0 { self.first } else { self.later }
    }
}

/// Nanoseconds, lane by lane, one per column; [`NOT_MEASURED`] where there is none.
pub(super) fn times(profile: &Profile, partitions: &Partitions) -> Vec<u64> {
    let columns = 0..profile.slice_profiles().len();
    let mut times = Vec::with_capacity(partitions.lanes.len() * columns.len());
    for lane in &partitions.lanes {
        let row = columns.clone().map(|column| profile.nanos(*lane, column));
        times.extend(row.map(|time| time.unwrap_or(NOT_MEASURED)));
    }
    times
}

/// `reference`: the column that all times are taken from, or none for the smallest kind that fits.
pub(super) fn lanes(
    profile: &Profile,
    partitions: &Partitions,
    times: &[u64],
    kinds: &[Kind],
    reference: Option<usize>,
) -> Vec<Lane> {
    let columns = profile.slice_profiles().len();
    let column_of: Vec<Option<usize>> = kinds.iter().map(|kind| profile.column(&kind.profile)).collect();
    let lane = |(components, times): (&ComponentSet, &[u64])| {
        let memory = profile.memory(*components);
        let measured = |column: usize| Some(times[column]).filter(|time| *time != NOT_MEASURED);
        let min_fit = (0..kinds.len()).find(|kind| {
            let column = column_of[*kind];
            memory <= kinds[*kind].memory && column.and_then(measured).is_some()
        });
        let time = reference.or_else(|| column_of[min_fit?]).and_then(measured);
        Lane {
            components: *components,
            memory: memory.0,
            size_rank: 0,
            min_fit,
            // What no slice holds is not placed; it still needs a place in the ranking.
            time: time.unwrap_or_else(|| profile.slowest_nanos(*components)),
        }
    };
    let mut lanes: Vec<Lane> = partitions
        .lanes
        .iter()
        .zip(times.chunks(columns))
        .map(lane)
        .collect();
    let mut by_size: Vec<usize> = (0..lanes.len()).collect();
    by_size.sort_unstable_by_key(|lane| (Reverse(lanes[*lane].memory), lanes[*lane].components));
    for (rank, lane) in by_size.into_iter().enumerate() {
        lanes[lane].size_rank = rank as u16;
    }
    lanes
}

pub(super) fn stages(
    dag: &Dag,
    profile: &Profile,
    partitions: &Partitions,
    lanes: &[Lane],
    model: &TransferModel,
) -> Vec<Stage> {
    let receive: Vec<u64> = lanes
        .iter()
        .map(|lane| receive(dag, profile, lane.components, model))
        .collect();
    let send_back: Vec<u64> = lanes
        .iter()
        .map(|lane| send_back(dag, profile, lane.components, model))
        .collect();
    let stage = |of: &Vec<u16>| {
        let own = || of.iter().map(|lane| &lanes[usize::from(*lane)]);
        let longest = |times: &[u64]| {
            let longest = |lanes: &[u16]| lanes.iter().map(|lane| times[usize::from(*lane)]).max();
            ByPlace {
                first: longest(&of[1..]).unwrap_or(0),
                later: longest(of).unwrap_or(0),
            }
        };
        Stage {
            lanes: of.clone(),
            time: own().map(|lane| lane.time).max().unwrap_or(0),
            memory: own().map(|lane| lane.memory).sum(),
            largest_lane: own().map(|lane| lane.memory).max().unwrap_or(0),
            receive: longest(&receive),
            send_back: longest(&send_back),
        }
    };
    partitions.stages.iter().map(stage).collect()
}

/// Nanoseconds until a lane that is not the head has all that it reads from others.
fn receive(dag: &Dag, profile: &Profile, lane: ComponentSet, model: &TransferModel) -> u64 {
    let mut read: Vec<Origin> = Vec::new();
    for origin in lane.iter().flat_map(|component| &dag.component(component).inputs) {
        let own = matches!(origin, Origin::Port { component, .. } if lane.contains(*component));
        if !own && !read.contains(origin) {
            read.push(*origin);
        }
    }
    model.nanos(
        read.iter()
            .map(|origin| profile.tensor_bytes(dag, *origin).0)
            .sum(),
    )
}

/// Nanoseconds until the head has what a lane returns; 0 if that is nothing.
fn send_back(dag: &Dag, profile: &Profile, lane: ComponentSet, model: &TransferModel) -> u64 {
    let mut returned: Vec<Origin> = Vec::new();
    for output in dag
        .outputs()
        .iter()
        .filter(|output| lane.contains(output.component))
    {
        let origin = Origin::Port {
            component: output.component,
            port: output.port,
        };
        if !returned.contains(&origin) {
            returned.push(origin);
        }
    }
    let bytes = returned
        .iter()
        .map(|origin| profile.tensor_bytes(dag, *origin).0)
        .sum();
    if returned.is_empty() {
        0
    } else {
        model.nanos(bytes)
    }
}
