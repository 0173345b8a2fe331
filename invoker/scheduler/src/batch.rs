//! How many requests the lanes of an instance run at once.
//!
//! Authors say how many a component may run at once, measurements say what that costs; what was not measured is
//! not done. Lanes never wait for a batch: they take what waits already. So a request waits for one batch
//! before it, and is part of one in each stage: that has to be within the SLO. Source: FluidFaaS §8; the choice
//! is ours.

use crate::dag::{ComponentSet, Dag};
use crate::profile::Profile;
use proto::id::{LaneId, ProfileName};
use proto::unit::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Most requests of one instance in flight: its head has a thread for each.
const MOST_IN_FLIGHT: u32 = 64;

/// A lane and what it runs on.
#[derive(Clone, Copy, Debug)]
pub struct BatchLane<'a> {
    /// The lane that it is a replica of, or itself.
    pub original: LaneId,
    pub components: ComponentSet,
    pub kind: &'a ProfileName,
    /// Of the slice.
    pub memory: Bytes,
}

/// What running so many requests at once means for an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batched {
    pub most: u32,
    /// Of a request that is part of a full batch in each stage; transfers included.
    pub latency: Duration,
    /// Between two full batches: the longest lane, through as many replicas as it has.
    pub bottleneck: Duration,
}

/// The size with the highest throughput, of those that fit the slices and the SLO; the smaller one if two are
/// equal. None if requests had better run one by one.
pub fn choose(
    dag: &Dag,
    profile: &Profile,
    lanes: &[BatchLane<'_>],
    transfer: Duration,
    slo: Option<Duration>,
) -> Option<Batched> {
    let stages = lanes
        .iter()
        .map(|lane| u32::from(lane.original.stage) + 1)
        .max()?;
    let sizes: BTreeSet<u32> = lanes
        .iter()
        .flat_map(|lane| profile.batch_sizes(lane.components, lane.kind))
        .filter(|size| *size > 1 && size.saturating_mul(stages) < MOST_IN_FLIGHT)
        .collect();
    let mut best = batched(dag, profile, lanes, transfer, 1)?;
    for size in sizes {
        let Some(next) = batched(dag, profile, lanes, transfer, size) else {
            continue;
        };
        let in_time = slo.is_none_or(|slo| next.latency + next.bottleneck <= slo);
        if in_time && next.bottleneck * best.most < best.bottleneck * next.most {
            best = next;
        }
    }
    (best.most > 1).then_some(best)
}

/// How many of a batch a lane runs at once: as many as each of its components allows.
pub fn at_once(dag: &Dag, lane: ComponentSet, size: u32) -> u32 {
    let allowed = lane.iter().map(|component| dag.component(component).batch);
    size.min(allowed.min().unwrap_or(1))
}

/// What batches of one size would mean; none where that was not measured, or does not fit a slice.
pub fn batched(
    dag: &Dag,
    profile: &Profile,
    lanes: &[BatchLane<'_>],
    transfer: Duration,
    size: u32,
) -> Option<Batched> {
    let mut paces = Paces::default();
    for lane in lanes {
        let at_once = at_once(dag, lane.components, size);
        let (time, memory) = profile.batch(lane.components, lane.kind, at_once)?;
        if memory > lane.memory {
            return None;
        }
        paces.add(lane.original, time * size.div_ceil(at_once));
    }
    Some(Batched {
        most: size,
        latency: paces.latency() + transfer * size,
        bottleneck: paces.bottleneck(),
    })
}

/// How long lanes take, and how often, replicas reckoned in.
#[derive(Clone, Debug, Default)]
pub struct Paces {
    /// By original: the slowest replica, and how many there are.
    lanes: BTreeMap<LaneId, (Duration, u32)>,
}

impl Paces {
    pub fn add(&mut self, original: LaneId, time: Duration) {
        let (slowest, replicas) = self.lanes.entry(original).or_default();
        *slowest = (*slowest).max(time);
        *replicas += 1;
    }

    /// Of one request alone: lanes of a stage run side by side.
    pub fn latency(&self) -> Duration {
        let mut stages: BTreeMap<u16, Duration> = BTreeMap::new();
        for (lane, (slowest, _)) in &self.lanes {
            let stage = stages.entry(lane.stage).or_default();
            *stage = (*stage).max(*slowest);
        }
        stages.values().sum()
    }

    /// Between two answers, if there is always something to do: replicas take turns.
    pub fn bottleneck(&self) -> Duration {
        self.slowest().map_or(Duration::ZERO, |(_, pace)| pace)
    }

    /// The lane that the others wait for, and its part of the time of each request.
    pub fn slowest(&self) -> Option<(LaneId, Duration)> {
        let paces = self
            .lanes
            .iter()
            .map(|(lane, (slowest, n))| (*lane, *slowest / *n));
        paces.max_by_key(|(lane, pace)| (*pace, std::cmp::Reverse(*lane)))
    }
}
