//! One partition at a time on the free slices: whether and how it fits, how long it takes then.

use super::kinds::{Counts, KindSet, Shortage, assign};
use crate::free::{FreeSlices, MAX_KINDS};
use crate::ranking::{NOT_MEASURED, Ranking, Stage};
use crate::rejection::Reason;
use proto::unit::Bytes;

/// How many lanes the search for the shortest latency assigns at most during one placement.
const MAX_STEPS: u32 = 100_000;

/// A partition with a kind for each lane, in the order of its stages.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) rank: usize,
    pub(super) kinds: Vec<u8>,
    /// Nanoseconds.
    pub(super) bottleneck: u64,
    /// Nanoseconds, with transfers.
    pub(super) latency: u64,
}

/// A ranking seen through the kinds that are free.
pub(super) struct Fit<'a> {
    pub(super) ranking: &'a Ranking,
    pub(super) free: &'a FreeSlices,
    /// Column of the ranking's times for each kind.
    columns: Vec<Option<usize>>,
    /// How many slices of each kind are free.
    counts: Counts,
    available: KindSet,
    /// For each distinct lane, the free kinds that can take it.
    usable: Vec<KindSet>,
    /// The lanes of the partition that is looked at, in the order of its stages.
    lanes: Vec<u16>,
    /// Places in `lanes`, largest memory first.
    by_size: Vec<u8>,
    /// The kinds that each of `lanes` may use.
    allowed: Vec<KindSet>,
    steps: u32,
}

impl<'a> Fit<'a> {
    pub(super) fn new(ranking: &'a Ranking, free: &'a FreeSlices) -> Self {
        let kinds = free.kinds();
        let columns: Vec<Option<usize>> = kinds.iter().map(|kind| ranking.column(&kind.profile)).collect();
        let mut counts = [0; MAX_KINDS];
        for (kind, count) in counts.iter_mut().enumerate().take(kinds.len()) {
            *count = free.count(kind) as u32;
        }
        let available: KindSet = (0..kinds.len()).filter(|kind| counts[*kind] > 0).collect();
        let usable = (0..ranking.lanes.len())
            .map(|lane| {
                let needs = ranking.lanes[lane].memory;
                let measured = |kind: usize| {
                    columns[kind].is_some_and(|column| ranking.nanos(lane as u16, column) != NOT_MEASURED)
                };
                let holds = |kind: &usize| needs <= kinds[*kind].memory.0 && measured(*kind);
                available.iter().filter(holds).collect()
            })
            .collect();
        Self {
            ranking,
            free,
            columns,
            counts,
            available,
            usable,
            lanes: Vec::new(),
            by_size: Vec::new(),
            allowed: Vec::new(),
            steps: 0,
        }
    }

    /// The smallest slices that hold the lanes of a partition.
    pub(super) fn smallest(&mut self, rank: usize) -> Result<Plan, Reason> {
        self.load(rank)?;
        self.assign(rank)
    }

    /// The bottleneck that a partition would have if each lane had its fastest free kind.
    pub(super) fn bottleneck_at_least(&mut self, rank: usize) -> Result<u64, Reason> {
        self.load(rank)?;
        Ok(self.fastest(&self.lanes))
    }

    /// The smallest slices among those with the shortest bottleneck.
    pub(super) fn shortest_bottleneck(&mut self, rank: usize) -> Result<Plan, Reason> {
        let least = self.bottleneck_at_least(rank)?;
        let mut best = self.assign(rank)?;
        let mut limits: Vec<u64> = Vec::new();
        for &lane in &self.lanes {
            let times = self.usable[usize::from(lane)]
                .iter()
                .map(|kind| self.nanos(lane, kind));
            limits.extend(times.filter(|time| (least..best.bottleneck).contains(time)));
        }
        limits.sort_unstable();
        limits.dedup();
        // limits[..low] are too short, limits[high..] are long enough.
        let (mut low, mut high) = (0, limits.len());
        while low < high {
            let middle = (low + high) / 2;
            self.allow(|time| time <= limits[middle]);
            match self.assign(rank) {
                Ok(plan) => {
                    best = plan;
                    high = middle;
                }
                Err(_) => low = middle + 1,
            }
        }
        Ok(best)
    }

    /// The assignment with the shortest latency, or the first that is found within `limit`.
    ///
    /// Exact while all searches of a placement together take no more than [`MAX_STEPS`]; beyond
    /// it, the best that was found. Small kinds are tried first, so a limit is met thriftily.
    pub(super) fn shortest_latency(&mut self, start: Plan, limit: u64) -> Plan {
        let ranking = self.ranking;
        let stages: Vec<&Stage> = ranking.stages_of(start.rank).collect();
        // What the stages from each on take at least, with the transfers.
        let mut at_least = vec![ranking.entries[start.rank].transfer; stages.len() + 1];
        for stage in (0..stages.len()).rev() {
            at_least[stage] = at_least[stage + 1] + self.fastest(&stages[stage].lanes);
        }
        let mut search = Search {
            stages,
            at_least,
            limit,
            kinds: Vec::with_capacity(start.kinds.len()),
            left: self.counts,
            best: start,
        };
        self.descend(&mut search, Turn::default());
        search.best
    }

    fn descend(&mut self, search: &mut Search<'_>, turn: Turn) {
        let Some(stage) = search.stages.get(turn.stage) else {
            search.best = self.plan(search.best.rank, search.kinds.clone());
            return;
        };
        let Some(&lane) = stage.lanes.get(turn.lane) else {
            let next = Turn {
                stage: turn.stage + 1,
                done: turn.done + turn.longest,
                ..Turn::default()
            };
            return self.descend(search, next);
        };
        for kind in self.usable[usize::from(lane)].iter() {
            let longest = turn.longest.max(self.nanos(lane, kind));
            let latency = turn.done + longest + search.at_least[turn.stage + 1];
            if search.left[kind] == 0 || latency >= search.best.latency {
                continue;
            }
            if self.steps == MAX_STEPS || search.best.latency <= search.limit {
                return;
            }
            self.steps += 1;
            search.left[kind] -= 1;
            search.kinds.push(kind as u8);
            let next = Turn {
                lane: turn.lane + 1,
                longest,
                ..turn
            };
            self.descend(search, next);
            search.kinds.pop();
            search.left[kind] += 1;
        }
    }

    /// Reads the lanes of a partition; fails if no free slice can take one of them.
    fn load(&mut self, rank: usize) -> Result<(), Reason> {
        let ranking = self.ranking;
        self.lanes.clear();
        let stages = ranking.stages_of(rank);
        self.lanes
            .extend(stages.flat_map(|stage| stage.lanes.iter().copied()));
        let lanes = &self.lanes;
        let lane_at = |at: u8| usize::from(lanes[usize::from(at)]);
        self.by_size.clear();
        self.by_size.extend(0..lanes.len() as u8);
        self.by_size
            .sort_unstable_by_key(|at| ranking.lanes[lane_at(*at)].size_rank);
        let unusable = self
            .by_size
            .iter()
            .find(|at| self.usable[lane_at(**at)].is_empty());
        if let Some(at) = unusable {
            return Err(self.why_unusable(lane_at(*at)));
        }
        self.allowed.clear();
        self.allowed
            .extend(lanes.iter().map(|lane| self.usable[usize::from(*lane)]));
        Ok(())
    }

    /// Lets each lane use the kinds that can take it in an acceptable time.
    fn allow(&mut self, acceptable: impl Fn(u64) -> bool) {
        let mut allowed = std::mem::take(&mut self.allowed);
        allowed.clear();
        allowed.extend(self.lanes.iter().map(|lane| {
            let usable = self.usable[usize::from(*lane)].iter();
            usable
                .filter(|kind| acceptable(self.nanos(*lane, *kind)))
                .collect::<KindSet>()
        }));
        self.allowed = allowed;
    }

    fn assign(&self, rank: usize) -> Result<Plan, Reason> {
        match assign(&self.allowed, &self.by_size, &self.counts) {
            Ok(kinds) => Ok(self.plan(rank, kinds.of_lanes().to_vec())),
            Err(shortage) => Err(self.why_short(shortage)),
        }
    }

    fn plan(&self, rank: usize, kinds: Vec<u8>) -> Plan {
        let (mut bottleneck, mut latency) = (0, self.ranking.entries[rank].transfer);
        let mut kind = kinds.iter();
        for stage in self.ranking.stages_of(rank) {
            let times = stage.lanes.iter().zip(&mut kind);
            let time = times
                .map(|(lane, kind)| self.nanos(*lane, usize::from(*kind)))
                .max();
            let time = time.expect("a stage has lanes");
            bottleneck = bottleneck.max(time);
            latency += time;
        }
        Plan {
            rank,
            kinds,
            bottleneck,
            latency,
        }
    }

    /// The longest of these lanes if each had its fastest free kind.
    fn fastest(&self, lanes: &[u16]) -> u64 {
        let fastest = |lane: &u16| {
            let kinds = self.usable[usize::from(*lane)].iter();
            kinds
                .map(|kind| self.nanos(*lane, kind))
                .min()
                .unwrap_or(NOT_MEASURED)
        };
        lanes.iter().map(fastest).max().unwrap_or(0)
    }

    /// Nanoseconds of a lane on a kind.
    pub(super) fn nanos(&self, lane: u16, kind: usize) -> u64 {
        self.columns[kind].map_or(NOT_MEASURED, |column| self.ranking.nanos(lane, column))
    }

    fn why_unusable(&self, lane: usize) -> Reason {
        let kinds = self.free.kinds();
        let lane = &self.ranking.lanes[lane];
        let (components, needs) = (lane.components, Bytes(lane.memory));
        let Some(largest_free) = self.available.largest() else {
            return Reason::NothingFree;
        };
        let largest = kinds.last().expect("something is free, so there is a kind");
        if needs > largest.memory {
            return Reason::LargerThanAny {
                lane: components,
                needs,
                largest: largest.clone(),
            };
        }
        let largest = &kinds[largest_free];
        if needs > largest.memory {
            return Reason::LargerThanFree {
                lane: components,
                needs,
                largest: largest.clone(),
            };
        }
        let unmeasured = match self.columns[largest_free] {
            Some(column) => components.minus(self.ranking.measured[column]),
            None => components,
        };
        Reason::NotMeasured {
            lane: components,
            component: unmeasured
                .first()
                .expect("else the largest free slice could take it"),
            kind: largest.clone(),
        }
    }

    fn why_short(&self, shortage: Shortage) -> Reason {
        let lane = &self.ranking.lanes[usize::from(self.lanes[shortage.lane])];
        let slices = shortage.kinds.iter().map(|kind| self.counts[kind] as usize).sum();
        Reason::NotEnough {
            lane: lane.components,
            needs: Bytes(lane.memory),
            lanes: slices + 1,
            slices,
        }
    }
}

/// A search for the shortest latency, depth first.
struct Search<'a> {
    stages: Vec<&'a Stage>,
    /// What the stages from each on take at least, with the transfers.
    at_least: Vec<u64>,
    limit: u64,
    /// Of the lanes that have one.
    kinds: Vec<u8>,
    left: Counts,
    best: Plan,
}

/// Whose turn it is, and what was spent before: in whole stages, and in this one.
#[derive(Clone, Copy, Default)]
struct Turn {
    stage: usize,
    lane: usize,
    done: u64,
    longest: u64,
}
