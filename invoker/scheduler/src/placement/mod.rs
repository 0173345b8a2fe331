//! The decision: which partition runs, and which free slice takes which lane.
//!
//! Slices of a kind are interchangeable, so lanes are matched with kinds first and slices are
//! picked last; a thousand GPUs cost no more than eight. Source: FluidFaaS, online placement
//! ("walk the ranked list"); completeness, ties and the other two goals are ours.

mod fit;
mod kinds;

use crate::dag::ComponentSet;
use crate::free::FreeSlices;
use crate::ranking::{RankBy, Ranking};
use crate::rejection::{Reason, Rejection};
use fit::{Fit, Plan};
use proto::ffs::migs::Slice;
use proto::id::LaneId;
use proto::unit::Bytes;
use std::sync::Arc;
use std::time::Duration;

/// What is asked of a placement beyond that it fits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PlaceOptions {
    /// Target latency: ranking by SLO observes it always, by CV with `slo_check`, by throughput never.
    pub slo: Option<Duration>,
    /// Pass over partitions that miss the SLO on the free slices, unless none meets it.
    pub slo_check: bool,
    /// Pass over partitions of more than one lane.
    pub whole: bool,
}

/// Where an instance runs.
#[derive(Clone, Debug, PartialEq)]
pub struct Placement {
    pub rank: usize,
    pub key: String,
    /// Of the ranking, at its reference.
    pub cv: f64,
    /// Stage by stage, lane by lane; the first is the head.
    pub lanes: Vec<PlacedLane>,
    /// Stages and transfers, on the slices taken.
    pub latency: Duration,
    /// The longest stage on the slices taken; its inverse is the throughput of the instance.
    pub bottleneck: Duration,
    /// The part of the latency that is spent between lanes.
    pub transfer: Duration,
    /// What else was looked at, in the order of the ranking.
    pub rejected: Vec<Rejection>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct PlacedLane {
    pub id: LaneId,
    pub components: ComponentSet,
    /// What it needs; the slice has at least that.
    pub memory: Bytes,
    /// On this slice, p50.
    pub time: Duration,
    pub slice: Arc<Slice>,
}

impl Placement {
    /// How many stages there are.
    pub fn stages(&self) -> usize {
        self.lanes.last().map_or(0, |lane| usize::from(lane.id.stage) + 1)
    }
}

/// No partition fits the free slices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoPlacement {
    /// One for each partition that was kept.
    pub rejected: Vec<Rejection>,
}

impl NoPlacement {
    /// One sentence: what stands against the least demanding partition.
    pub fn because(&self, ranking: &Ranking) -> String {
        match self.least_demanding(ranking) {
            Some(rejection) => format!(
                "none of {} partitions fits the free slices; the least demanding, {}: {}",
                ranking.len(),
                ranking.key(rejection.rank),
                rejection.because(ranking)
            ),
            None => format!("none of {} partitions fits the free slices", ranking.len()),
        }
    }

    /// The rejection of the partition that asks for the smallest slices, among those that were
    /// open to the policy at all.
    pub fn least_demanding(&self, ranking: &Ranking) -> Option<&Rejection> {
        let open = |rejection: &&Rejection| rejection.reason != Reason::Split;
        let largest_lane = |rejection: &&Rejection| ranking.entries[rejection.rank].largest_lane;
        self.rejected.iter().filter(open).min_by_key(largest_lane)
    }
}

/// Chooses a partition and its slices, or says why there is none.
///
/// Complete: a partition is passed over for lack of slices only if no assignment of its lanes to
/// free slices exists. Reads `free` and changes nothing; the caller takes the slices.
///
/// # Errors
/// [`NoPlacement`] with one reason for each partition.
pub fn place(ranking: &Ranking, free: &FreeSlices, options: PlaceOptions) -> Result<Placement, NoPlacement> {
    let mut fit = Fit::new(ranking, free);
    let (chosen, rejected) = match ranking.options.by {
        _ if options.whole => whole_within(&mut fit, options.slo),
        RankBy::Cv => first_that_fits(&mut fit, options.slo.filter(|_| options.slo_check)),
        RankBy::Throughput => shortest_bottleneck(&mut fit),
        RankBy::Slo => first_within(&mut fit, options.slo),
    };
    match chosen {
        Some(plan) => Ok(placement(&fit, plan, rejected)),
        None => Err(NoPlacement { rejected }),
    }
}

type Choice = (Option<Plan>, Vec<Rejection>);

/// The paper's walk: the first partition whose lanes all find a slice.
fn first_that_fits(fit: &mut Fit<'_>, slo: Option<Duration>) -> Choice {
    walk(fit, slo, |_| true, |_, plan, _| plan)
}

/// The fewest slices that meet the SLO. The ranking has few lanes first.
fn first_within(fit: &mut Fit<'_>, slo: Option<Duration>) -> Choice {
    walk(
        fit,
        slo,
        |_| true,
        |fit, plan, limit| fit.shortest_latency(plan, limit),
    )
}

/// The smallest slice that holds the whole function and meets the SLO.
fn whole_within(fit: &mut Fit<'_>, slo: Option<Duration>) -> Choice {
    let ranking = fit.ranking;
    let is_whole = |rank: usize| {
        ranking
            .stages_of(rank)
            .map(|stage| stage.lanes.len())
            .sum::<usize>()
            == 1
    };
    walk(fit, slo, is_whole, |fit, plan, limit| {
        fit.shortest_latency(plan, limit)
    })
}

/// The first partition that fits and meets the SLO; else the one that comes closest to it.
fn walk(
    fit: &mut Fit<'_>,
    slo: Option<Duration>,
    is_open: impl Fn(usize) -> bool,
    improve: fn(&mut Fit<'_>, Plan, u64) -> Plan,
) -> Choice {
    let limit = slo.map_or(u64::MAX, |slo| u64::try_from(slo.as_nanos()).unwrap_or(u64::MAX));
    let mut closest: Option<Plan> = None;
    let mut rejected = Vec::new();
    for rank in 0..fit.ranking.len() {
        if !is_open(rank) {
            let reason = Reason::Split;
            rejected.push(Rejection { rank, reason });
            continue;
        }
        let reason = match fit.smallest(rank) {
            Ok(plan) => {
                let plan = if plan.latency > limit {
                    improve(fit, plan, limit)
                } else {
                    plan
                };
                let latency = Duration::from_nanos(plan.latency);
                match slo {
                    Some(slo) if latency > slo => {
                        if closest
                            .as_ref()
                            .is_none_or(|closest| plan.latency < closest.latency)
                        {
                            closest = Some(plan);
                        }
                        Reason::MissesSlo { latency, slo }
                    }
                    _ => return (Some(plan), rejected),
                }
            }
            Err(reason) => reason,
        };
        rejected.push(Rejection { rank, reason });
    }
    if let Some(closest) = &closest {
        rejected.retain(|rejection| rejection.rank != closest.rank);
    }
    (closest, rejected)
}

/// Of all partitions and all assignments to free slices the shortest bottleneck; ties: fewer
/// slices, then latency, then rank.
fn shortest_bottleneck(fit: &mut Fit<'_>) -> Choice {
    let ranking = fit.ranking;
    let order = |plan: &Plan| (plan.bottleneck, plan.kinds.len(), plan.latency, plan.rank);
    let mut best: Option<Plan> = None;
    let mut outdone: Vec<(usize, u64)> = Vec::new();
    let mut rejected = Vec::new();
    for rank in 0..ranking.len() {
        let plan = match fit.bottleneck_at_least(rank) {
            Ok(nanos) if best.as_ref().is_some_and(|best| nanos > best.bottleneck) => {
                outdone.push((rank, nanos));
                continue;
            }
            Ok(_) => fit.shortest_bottleneck(rank),
            Err(reason) => Err(reason),
        };
        match plan {
            Ok(plan) => {
                let better = best.as_ref().is_none_or(|best| order(&plan) < order(best));
                let loser = if better { best.replace(plan) } else { Some(plan) };
                outdone.extend(loser.map(|loser| (loser.rank, loser.bottleneck)));
            }
            Err(reason) => rejected.push(Rejection { rank, reason }),
        }
    }
    let shortest = best.as_ref().map_or(0, |best| best.bottleneck);
    rejected.extend(outdone.into_iter().map(|(rank, nanos)| {
        let bottleneck = Duration::from_nanos(nanos);
        let reason = match nanos > shortest {
            true => Reason::Slower { bottleneck },
            false => Reason::NoBetter { bottleneck },
        };
        Rejection { rank, reason }
    }));
    rejected.sort_by_key(|rejection| rejection.rank);
    (best, rejected)
}

/// Picks the slices: stage by stage, on a GPU of the same or the preceding stage where possible.
fn placement(fit: &Fit<'_>, plan: Plan, rejected: Vec<Rejection>) -> Placement {
    let ranking = fit.ranking;
    let mut lanes = Vec::with_capacity(plan.kinds.len());
    let mut taken: Vec<usize> = Vec::with_capacity(plan.kinds.len());
    let mut near: Vec<usize> = Vec::new();
    for (at, stage) in ranking.stages_of(plan.rank).enumerate() {
        let mut here: Vec<usize> = Vec::with_capacity(stage.lanes.len());
        for (lane, &index) in stage.lanes.iter().enumerate() {
            let kind = usize::from(plan.kinds[taken.len()]);
            let gpus = if here.is_empty() { &near } else { &here };
            let slice = fit.free.pick(kind, gpus, &taken);
            let (slice, gpu) = slice.expect("no kind is used more often than it is free");
            taken.push(slice);
            here.push(gpu);
            let costs = &ranking.lanes[usize::from(index)];
            lanes.push(PlacedLane {
                id: LaneId::new(at as u16, lane as u16),
                components: costs.components,
                memory: Bytes(costs.memory),
                time: Duration::from_nanos(fit.nanos(index, kind)),
                slice: Arc::clone(fit.free.slice(slice)),
            });
        }
        near = here;
    }
    Placement {
        rank: plan.rank,
        key: ranking.key(plan.rank),
        cv: ranking.cv(plan.rank),
        lanes,
        latency: Duration::from_nanos(plan.latency),
        bottleneck: Duration::from_nanos(plan.bottleneck),
        transfer: Duration::from_nanos(ranking.entries[plan.rank].transfer),
        rejected,
    }
}
