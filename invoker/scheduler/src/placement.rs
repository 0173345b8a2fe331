//! The decision: which partition runs, and which free slice takes which lane.
//!
//! Slices of a kind are interchangeable, so lanes are matched with kinds first and slices are
//! picked last; a thousand GPUs cost no more than eight. Source: FluidFaaS, online placement
//! ("walk the ranked list"); completeness, ties and the other two goals are ours.

use crate::dag::ComponentSet;
use crate::free::FreeSlices;
use crate::ranking::{Entry, NOT_MEASURED, RankBy, Ranking};
use crate::rejection::{Reason, Rejection};
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
}

/// Where an instance runs.
#[derive(Clone, Debug, PartialEq)]
pub struct Placement {
    pub rank: usize,
    pub key: String,
    /// Of the ranking, at its reference.
    pub cv: f64,
    /// Stage by stage, lane by lane.
    pub lanes: Vec<PlacedLane>,
    /// Stages and transfers, on the slices taken.
    pub latency: Duration,
    /// The longest stage on the slices taken; its inverse is the throughput of the instance.
    pub bottleneck: Duration,
    /// The part of the latency that is spent between lanes.
    pub transfer: Duration,
    /// What was looked at first and not taken, in the order of the ranking.
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
        let rank = ranking.least_demanding();
        let of_rank = self.rejected.iter().find(|rejection| rejection.rank == rank);
        match of_rank {
            Some(rejection) => format!(
                "none of {} partitions fits the free slices; the least demanding, {}: {}",
                ranking.len(),
                ranking.key(rank),
                rejection.because(ranking)
            ),
            None => format!("none of {} partitions fits the free slices", ranking.len()),
        }
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
    let mut search = Search::new(ranking, free);
    let found = match ranking.options.by {
        RankBy::Cv => search.first_that_fits(options),
        RankBy::Throughput => search.shortest_bottleneck(),
        RankBy::Slo => search.first_within_slo(options.slo),
    };
    match found {
        Some(plan) => Ok(search.placement(plan)),
        None => Err(NoPlacement {
            rejected: search.rejected,
        }),
    }
}

/// Kinds as bits: bit k is `free.kinds()[k]`, smallest kind first.
type Kinds = u64;

/// A partition with a kind for each lane, in the order of its stages.
struct Plan {
    rank: usize,
    kinds: Vec<u8>,
    bottleneck: u64,
    latency: u64,
}

struct Search<'a> {
    ranking: &'a Ranking,
    free: &'a FreeSlices,
    /// Column of the ranking's times for each kind.
    columns: Vec<Option<usize>>,
    /// How many slices of each kind are free.
    counts: Vec<u32>,
    available: Kinds,
    /// For each distinct lane, the free kinds that can take it.
    usable: Vec<Kinds>,
    rejected: Vec<Rejection>,
    /// Of the partition that is looked at: its lanes in the order of its stages.
    lanes: Vec<u16>,
    /// Places in `lanes`, largest memory first.
    by_size: Vec<u8>,
    /// What `allowed` lets each of `lanes` use; filled by the callers of `assign`.
    allowed: Vec<Kinds>,
    left: Vec<u32>,
}

impl<'a> Search<'a> {
    fn new(ranking: &'a Ranking, free: &'a FreeSlices) -> Self {
        let kinds = free.kinds();
        let columns: Vec<Option<usize>> = kinds
            .iter()
            .map(|kind| ranking.columns.iter().position(|column| *column == kind.profile))
            .collect();
        let counts: Vec<u32> = (0..kinds.len()).map(|kind| free.count(kind) as u32).collect();
        let available = bits((0..kinds.len()).filter(|kind| counts[*kind] > 0));
        let usable = (0..ranking.lanes.len() as u16)
            .map(|lane| {
                let needs = ranking.lanes[usize::from(lane)].memory;
                bits((0..kinds.len()).filter(|&kind| {
                    counts[kind] > 0
                        && needs <= kinds[kind].memory.0
                        && columns[kind].is_some_and(|c| ranking.nanos(lane, c) != NOT_MEASURED)
                }))
            })
            .collect();
        Self {
            ranking,
            free,
            columns,
            counts,
            available,
            usable,
            rejected: Vec::new(),
            lanes: Vec::new(),
            by_size: Vec::new(),
            allowed: Vec::new(),
            left: Vec::new(),
        }
    }

    /// The paper's walk: the first partition whose lanes all find a slice.
    fn first_that_fits(&mut self, options: PlaceOptions) -> Option<Plan> {
        let slo = options.slo.filter(|_| options.slo_check);
        let mut fallback: Option<Plan> = None;
        for rank in 0..self.ranking.len() {
            let plan = match self.fit(rank) {
                Ok(plan) => plan,
                Err(reason) => {
                    self.rejected.push(Rejection { rank, reason });
                    continue;
                }
            };
            match slo.filter(|slo| u128::from(plan.latency) > slo.as_nanos()) {
                None => return Some(plan),
                Some(slo) => {
                    self.misses(&plan, slo);
                    if fallback.as_ref().is_none_or(|best| plan.latency < best.latency) {
                        fallback = Some(plan);
                    }
                }
            }
        }
        self.take_back(fallback)
    }

    /// Of all partitions and all assignments to free slices the shortest bottleneck; ties: fewer
    /// slices, then latency, then rank.
    fn shortest_bottleneck(&mut self) -> Option<Plan> {
        let ranking = self.ranking;
        let order = |plan: &Plan| {
            (
                plan.bottleneck,
                ranking.entries[plan.rank].lanes,
                plan.latency,
                plan.rank,
            )
        };
        let mut best: Option<Plan> = None;
        let mut outdone: Vec<(usize, u64)> = Vec::new();
        for rank in 0..ranking.len() {
            let bound = match self.load(rank) {
                Ok(()) => self.fastest_bottleneck(),
                Err(reason) => {
                    self.rejected.push(Rejection { rank, reason });
                    continue;
                }
            };
            if best.as_ref().is_some_and(|best| bound > best.bottleneck) {
                outdone.push((rank, bound));
                continue;
            }
            match self.fit_fastest(rank) {
                Ok(plan) => {
                    let better = best.as_ref().is_none_or(|best| order(&plan) < order(best));
                    let loser = if better { best.replace(plan) } else { Some(plan) };
                    outdone.extend(loser.map(|loser| (loser.rank, loser.bottleneck)));
                }
                Err(reason) => self.rejected.push(Rejection { rank, reason }),
            }
        }
        let shortest = best.as_ref().map_or(0, |best| best.bottleneck);
        self.rejected.extend(outdone.into_iter().map(|(rank, nanos)| {
            let bottleneck = Duration::from_nanos(nanos);
            let reason = match nanos > shortest {
                true => Reason::Slower { bottleneck },
                false => Reason::NoBetter { bottleneck },
            };
            Rejection { rank, reason }
        }));
        self.rejected.sort_by_key(|rejection| rejection.rank);
        best
    }

    /// The fewest slices that meet the SLO; if none do, the shortest latency that was found.
    fn first_within_slo(&mut self, slo: Option<Duration>) -> Option<Plan> {
        let limit = slo.map_or(u64::MAX, |slo| u64::try_from(slo.as_nanos()).unwrap_or(u64::MAX));
        let mut fallback: Option<Plan> = None;
        for rank in 0..self.ranking.len() {
            let mut plan = match self.fit(rank) {
                Ok(plan) => plan,
                Err(reason) => {
                    self.rejected.push(Rejection { rank, reason });
                    continue;
                }
            };
            self.quicken(&mut plan, limit);
            match slo.filter(|_| plan.latency > limit) {
                None => return Some(plan),
                Some(slo) => {
                    self.misses(&plan, slo);
                    if fallback.as_ref().is_none_or(|best| plan.latency < best.latency) {
                        fallback = Some(plan);
                    }
                }
            }
        }
        self.take_back(fallback)
    }

    fn misses(&mut self, plan: &Plan, slo: Duration) {
        let latency = Duration::from_nanos(plan.latency);
        let reason = Reason::MissesSlo { latency, slo };
        self.rejected.push(Rejection {
            rank: plan.rank,
            reason,
        });
    }

    /// What is taken after all is not rejected.
    fn take_back(&mut self, fallback: Option<Plan>) -> Option<Plan> {
        if let Some(plan) = &fallback {
            self.rejected.retain(|rejection| rejection.rank != plan.rank);
        }
        fallback
    }

    /// Reads the lanes of a partition.
    fn load(&mut self, rank: usize) -> Result<(), Reason> {
        let ranking = self.ranking;
        self.lanes.clear();
        self.lanes.extend(
            ranking
                .stages_of(rank)
                .flat_map(|stage| stage.lanes.iter().copied()),
        );
        self.by_size.clear();
        self.by_size.extend(0..self.lanes.len() as u8);
        let lanes = &self.lanes;
        self.by_size
            .sort_unstable_by_key(|at| ranking.lanes[usize::from(lanes[usize::from(*at)])].size_rank);
        match self
            .by_size
            .iter()
            .find(|at| self.usable[usize::from(lanes[usize::from(**at)])] == 0)
        {
            Some(at) => Err(self.why_unusable(lanes[usize::from(*at)])),
            None => Ok(()),
        }
    }

    /// Smallest slices that hold the lanes.
    fn fit(&mut self, rank: usize) -> Result<Plan, Reason> {
        self.load(rank)?;
        self.allow(NOT_MEASURED - 1);
        let kinds = self.assign().map_err(|short| self.why_short(&short))?;
        Ok(self.plan(rank, kinds))
    }

    /// Smallest slices among those with the shortest bottleneck; the partition is loaded.
    fn fit_fastest(&mut self, rank: usize) -> Result<Plan, Reason> {
        self.allow(NOT_MEASURED - 1);
        let mut best = self.assign().map_err(|short| self.why_short(&short))?;
        let slowest = self.plan(rank, best.clone()).bottleneck;
        let mut limits: Vec<u64> = (0..self.lanes.len())
            .flat_map(|at| {
                let lane = self.lanes[at];
                ones(self.usable[usize::from(lane)]).map(move |kind| (lane, kind))
            })
            .map(|(lane, kind)| self.nanos(lane, kind))
            .filter(|nanos| *nanos < slowest)
            .collect();
        limits.sort_unstable();
        limits.dedup();
        // limits[..low] are known to be too short, limits[high..] to be enough.
        let (mut low, mut high) = (0, limits.len());
        while low < high {
            let middle = (low + high) / 2;
            self.allow(limits[middle]);
            match self.assign() {
                Ok(kinds) => {
                    best = kinds;
                    high = middle;
                }
                Err(_) => low = middle + 1,
            }
        }
        Ok(self.plan(rank, best))
    }

    /// Lets each lane use the kinds on which it takes at most `limit` nanoseconds.
    fn allow(&mut self, limit: u64) {
        self.allowed.clear();
        for at in 0..self.lanes.len() {
            let lane = self.lanes[at];
            let usable = self.usable[usize::from(lane)];
            let fast = ones(usable).filter(|kind| self.nanos(lane, *kind) <= limit);
            let kinds = if limit == NOT_MEASURED - 1 {
                usable
            } else {
                bits(fast)
            };
            self.allowed.push(kinds);
        }
    }

    /// A kind for each of `lanes` within what is allowed and free.
    ///
    /// Largest lane first, smallest slice that holds it: where memory is all that matters, this
    /// finds an assignment whenever there is one. Where rows are missing in the profile it may
    /// not; then a matching does, or shows which lanes are too many.
    fn assign(&mut self) -> Result<Vec<u8>, Shortage> {
        self.left.clone_from(&self.counts);
        let mut kinds = vec![0_u8; self.lanes.len()];
        let mut available = self.available;
        for &at in &self.by_size {
            let at = usize::from(at);
            let candidates = self.allowed[at] & available;
            if candidates == 0 {
                return self.match_up();
            }
            let kind = candidates.trailing_zeros() as usize;
            self.left[kind] -= 1;
            if self.left[kind] == 0 {
                available &= !(1 << kind);
            }
            kinds[at] = kind as u8;
        }
        Ok(kinds)
    }

    /// Bipartite matching of lanes and kinds by augmenting paths.
    fn match_up(&mut self) -> Result<Vec<u8>, Shortage> {
        self.left.clone_from(&self.counts);
        let mut kinds: Vec<Option<u8>> = vec![None; self.lanes.len()];
        for place in 0..self.by_size.len() {
            let at = usize::from(self.by_size[place]);
            let mut seen = 0;
            if !self.augment(at, &mut kinds, &mut seen) {
                // Hall: the lanes that hold these kinds can use no other, and this one is one too many.
                return Err(Shortage { at, kinds: seen });
            }
        }
        Ok(kinds
            .into_iter()
            .map(|kind| kind.expect("every lane was matched"))
            .collect())
    }

    fn augment(&mut self, at: usize, kinds: &mut [Option<u8>], seen: &mut Kinds) -> bool {
        for kind in ones(self.allowed[at] & !*seen) {
            if *seen >> kind & 1 == 1 {
                continue;
            }
            *seen |= 1 << kind;
            if self.left[kind] > 0 {
                self.left[kind] -= 1;
                kinds[at] = Some(kind as u8);
                return true;
            }
            for other in 0..kinds.len() {
                if kinds[other] == Some(kind as u8) && self.augment(other, kinds, seen) {
                    kinds[at] = Some(kind as u8);
                    return true;
                }
            }
        }
        false
    }

    /// Moves lanes to faster free slices until the latency is within the limit or nothing helps:
    /// each time the move, or the exchange of two slices, that helps most.
    fn quicken(&mut self, plan: &mut Plan, limit: u64) {
        while plan.latency > limit {
            let mut left = self.counts.clone();
            for kind in &plan.kinds {
                left[usize::from(*kind)] -= 1;
            }
            let mut best = plan.latency;
            let mut change: Option<Vec<u8>> = None;
            let mut attempt = |kinds: &[u8]| {
                let latency = self.latency(plan.rank, kinds);
                if latency < best {
                    best = latency;
                    change = Some(kinds.to_vec());
                }
            };
            let mut kinds = plan.kinds.clone();
            for at in 0..kinds.len() {
                let before = kinds[at];
                let usable = |at: usize| self.usable[usize::from(self.lanes[at])];
                for kind in ones(usable(at)).filter(|kind| left[*kind] > 0) {
                    kinds[at] = kind as u8;
                    attempt(&kinds);
                }
                kinds[at] = before;
                for other in at + 1..kinds.len() {
                    if usable(at) >> kinds[other] & 1 == 1 && usable(other) >> kinds[at] & 1 == 1 {
                        kinds.swap(at, other);
                        attempt(&kinds);
                        kinds.swap(at, other);
                    }
                }
            }
            match change {
                Some(kinds) => *plan = self.plan(plan.rank, kinds),
                None => return,
            }
        }
    }

    fn plan(&self, rank: usize, kinds: Vec<u8>) -> Plan {
        let (bottleneck, latency) = self.times(rank, &kinds);
        Plan {
            rank,
            kinds,
            bottleneck,
            latency,
        }
    }

    fn latency(&self, rank: usize, kinds: &[u8]) -> u64 {
        self.times(rank, kinds).1
    }

    /// The longest stage, and all stages with transfers.
    fn times(&self, rank: usize, kinds: &[u8]) -> (u64, u64) {
        let Entry { transfer, .. } = self.ranking.entries[rank];
        let (mut bottleneck, mut latency) = (0, transfer);
        let mut at = 0;
        for stage in self.ranking.stages_of(rank) {
            let mut time = 0;
            for lane in &stage.lanes {
                time = time.max(self.nanos(*lane, usize::from(kinds[at])));
                at += 1;
            }
            bottleneck = bottleneck.max(time);
            latency += time;
        }
        (bottleneck, latency)
    }

    /// What the loaded partition's bottleneck would be if every lane had its fastest free kind.
    fn fastest_bottleneck(&self) -> u64 {
        let fastest = |lane: &u16| {
            let kinds = ones(self.usable[usize::from(*lane)]);
            kinds
                .map(|kind| self.nanos(*lane, kind))
                .min()
                .unwrap_or(NOT_MEASURED)
        };
        self.lanes.iter().map(fastest).max().unwrap_or(0)
    }

    fn nanos(&self, lane: u16, kind: usize) -> u64 {
        self.columns[kind].map_or(NOT_MEASURED, |column| self.ranking.nanos(lane, column))
    }

    fn why_unusable(&self, lane: u16) -> Reason {
        let kinds = self.free.kinds();
        let costs = &self.ranking.lanes[usize::from(lane)];
        let (lane, needs) = (costs.components, Bytes(costs.memory));
        let Some(largest_free) = highest(self.available) else {
            return Reason::NothingFree;
        };
        let largest = kinds.last().expect("something is free, so there is a kind");
        if needs > largest.memory {
            return Reason::LargerThanAny {
                lane,
                needs,
                largest: Arc::new(largest.clone()),
            };
        }
        let free_kind = &kinds[largest_free];
        if needs > free_kind.memory {
            return Reason::LargerThanFree {
                lane,
                needs,
                largest: Arc::new(free_kind.clone()),
            };
        }
        Reason::NotMeasured {
            lane,
            component: self.columns[largest_free]
                .and_then(|column| lane.minus(self.ranking.measured[column]).first())
                .or_else(|| lane.first())
                .expect("a lane has components"),
            profile: free_kind.profile.clone(),
        }
    }

    fn why_short(&self, shortage: &Shortage) -> Reason {
        let costs = &self.ranking.lanes[usize::from(self.lanes[shortage.at])];
        let slices = ones(shortage.kinds).map(|kind| self.counts[kind] as usize).sum();
        Reason::NotEnough {
            lane: costs.components,
            needs: Bytes(costs.memory),
            lanes: slices + 1,
            slices,
        }
    }

    /// Picks the slices: stage by stage, near the stage before.
    fn placement(self, plan: Plan) -> Placement {
        let ranking = self.ranking;
        let mut lanes = Vec::with_capacity(plan.kinds.len());
        let mut taken: Vec<usize> = Vec::with_capacity(plan.kinds.len());
        let mut before: Vec<usize> = Vec::new();
        for (at, stage) in ranking.stages_of(plan.rank).enumerate() {
            let mut here: Vec<usize> = Vec::with_capacity(stage.lanes.len());
            for (lane, index) in stage.lanes.iter().enumerate() {
                let kind = usize::from(plan.kinds[taken.len()]);
                let near = if here.is_empty() { &before } else { &here };
                let (slice, gpu) = self
                    .free
                    .pick(kind, near, &taken)
                    .expect("no kind is used more often than it is free");
                taken.push(slice);
                here.push(gpu);
                let costs = &ranking.lanes[usize::from(*index)];
                lanes.push(PlacedLane {
                    id: LaneId::new(at as u16, lane as u16),
                    components: costs.components,
                    memory: Bytes(costs.memory),
                    time: Duration::from_nanos(self.nanos(*index, kind)),
                    slice: Arc::clone(self.free.slice(slice)),
                });
            }
            before = here;
        }
        Placement {
            rank: plan.rank,
            key: ranking.key(plan.rank),
            cv: ranking.cv(plan.rank),
            lanes,
            latency: Duration::from_nanos(plan.latency),
            bottleneck: Duration::from_nanos(plan.bottleneck),
            transfer: Duration::from_nanos(ranking.entries[plan.rank].transfer),
            rejected: self.rejected,
        }
    }
}

/// Lanes that cannot all have a slice.
struct Shortage {
    /// The lane that is left over.
    at: usize,
    /// What it competes for, with as many other lanes as there are slices of these kinds.
    kinds: Kinds,
}

fn bits(kinds: impl Iterator<Item = usize>) -> Kinds {
    kinds.fold(0, |bits, kind| bits | 1 << kind)
}

fn ones(mut kinds: Kinds) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let kind = (kinds != 0).then(|| kinds.trailing_zeros() as usize)?;
        kinds &= kinds - 1;
        Some(kind)
    })
}

fn highest(kinds: Kinds) -> Option<usize> {
    (kinds != 0).then(|| 63 - kinds.leading_zeros() as usize)
}
