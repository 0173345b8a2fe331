//! The partitions of a function in the order in which they are tried.
//!
//! Computed once per revision, without knowing which slices will be free. Source: FluidFaaS,
//! `CV = std / mean` of the stage times, rising; deviation, reference slice and ties are options
//! of ours. `throughput` and `slo` are ours too: there [`crate::placement`] compares what can be
//! placed on the slices that are really free, and the order given here only breaks ties.

use crate::dag::{ComponentSet, Dag, Origin};
use crate::free::Kind;
use crate::partition::Partitions;
use crate::profile::Profile;
use proto::ffs::ranking::{
    Deviation, Mode, RankedLane, RankedPartition, RankedStage, RankingDocument, RankingSchema,
};
use proto::id::{ComponentId, ProfileName};
use proto::unit::{Bytes, Millis};
use std::cell::OnceCell;
use std::cmp::Ordering;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

/// What makes one partition better than another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RankBy {
    /// Balance: the smallest coefficient of variation of the stage times. The paper's order.
    #[default]
    Cv,
    /// The shortest bottleneck among the partitions that can be placed.
    Throughput,
    /// The fewest slices with which the latency stays within the SLO.
    Slo,
}

/// Which slice a lane's time is taken from before slices are known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Reference {
    /// The smallest kind that holds the lane and on which it was measured.
    #[default]
    MinFit,
    /// The same slice profile for all lanes, whether it holds them or not.
    Profile(ProfileName),
}

/// What a frame costs on its way from one lane to the next.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TransferModel {
    /// Device to host and host to device.
    pub device_bytes_per_second: f64,
    /// Copies in host memory.
    pub host_bytes_per_second: f64,
    pub per_frame: Duration,
}

impl Default for TransferModel {
    /// PCIe 4 with pinned memory. Source: FluidFaaS §8, calibrated to its 10 to 40 ms.
    fn default() -> Self {
        Self {
            device_bytes_per_second: 12e9,
            host_bytes_per_second: 8e9,
            per_frame: Duration::from_micros(300),
        }
    }
}

impl TransferModel {
    /// Down from the producer's slice, through host memory, up to the consumer's.
    pub fn time(&self, bytes: Bytes) -> Duration {
        Duration::from_nanos(self.nanos(bytes.0))
    }

    fn nanos(&self, bytes: u64) -> u64 {
        let bytes = bytes as f64;
        let seconds = 2.0 * bytes / self.device_bytes_per_second + bytes / self.host_bytes_per_second;
        (seconds * 1e9).round() as u64 + self.per_frame.as_nanos() as u64
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct RankOptions {
    pub by: RankBy,
    pub std: Deviation,
    pub reference: Reference,
    /// Whether a stage's time includes receiving its input.
    pub include_transfer: bool,
    pub transfer: TransferModel,
    /// How many partitions are kept.
    pub max_ranked: NonZeroUsize,
}

impl Default for RankOptions {
    fn default() -> Self {
        Self {
            by: RankBy::default(),
            std: Deviation::default(),
            reference: Reference::default(),
            include_transfer: false,
            transfer: TransferModel::default(),
            max_ranked: NonZeroUsize::new(4096).expect("4096 is not 0"),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RankError {
    #[error("reference profile {reference} was not measured; the profile has {}", names(.measured))]
    UnknownReference {
        reference: ProfileName,
        measured: Vec<ProfileName>,
    },
}

fn names(profiles: &[ProfileName]) -> String {
    profiles
        .iter()
        .map(ProfileName::as_str)
        .collect::<Vec<_>>()
        .join(", ")
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
    pub(crate) columns: Vec<ProfileName>,
    /// By column, the components that have a time there.
    pub(crate) measured: Vec<ComponentSet>,
    pub(crate) lanes: Vec<Lane>,
    /// Nanoseconds, lane by lane, one per column; [`NOT_MEASURED`] where there is none.
    times: Vec<u64>,
    pub(crate) stages: Vec<Stage>,
    sequence: Vec<u16>,
    pub(crate) entries: Vec<Entry>,
}

/// In place of a time.
pub(crate) const NOT_MEASURED: u64 = u64::MAX;

#[derive(Clone, Debug)]
pub(crate) struct Lane {
    pub(crate) components: ComponentSet,
    pub(crate) memory: u64,
    /// Place in the order of memory, largest first.
    pub(crate) size_rank: u16,
    /// Place in `kinds`.
    min_fit: Option<usize>,
    /// Nanoseconds at the reference.
    time: u64,
}

#[derive(Clone, Debug)]
pub(crate) struct Stage {
    pub(crate) lanes: Vec<u16>,
    /// Nanoseconds at the reference: the longest lane.
    time: u64,
    memory: u64,
    largest_lane: u64,
    /// Nanoseconds until all lanes have their input.
    receive: [u64; 2],
    /// Nanoseconds until the head has this stage's outputs of the function.
    send_back: [u64; 2],
}

/// Index of [`Stage::receive`] and [`Stage::send_back`]: the head's own stage, or a later one.
const fn place_of(stage: usize) -> usize {
    if stage == 0 { 0 } else { 1 }
}

#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// CV × 10⁹, so that the order is total.
    cv: u64,
    start: u32,
    stages: u16,
    pub(crate) lanes: u16,
    /// Nanoseconds of all transfers of one request.
    pub(crate) transfer: u64,
    bottleneck: u64,
    latency: u64,
    memory: u64,
    largest_lane: u64,
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
    let columns = profile.slice_profiles().to_vec();
    let reference = match &options.reference {
        Reference::MinFit => None,
        Reference::Profile(name) => {
            Some(profile.column(name).ok_or_else(|| RankError::UnknownReference {
                reference: name.clone(),
                measured: columns.clone(),
            })?)
        }
    };
    let mut kinds = kinds.to_vec();
    kinds.sort();
    let (lanes, times) = lanes(profile, partitions, &kinds, reference);
    let traffic: Vec<Traffic> = partitions
        .lanes
        .iter()
        .map(|lane| traffic(dag, profile, *lane, &options.transfer))
        .collect();
    let stages: Vec<Stage> = partitions
        .stages
        .iter()
        .map(|stage| stage_costs(stage, &lanes, &traffic))
        .collect();

    let mut entries: Vec<Entry> = (0..partitions.len())
        .map(|partition| {
            entry(
                partitions.stages_of(partition),
                partitions.starts[partition],
                &stages,
                options,
            )
        })
        .collect();
    let total = entries.len();
    let texts = OnceCell::new();
    let ids = dag.ids();
    let order = |a: &Entry, b: &Entry| {
        sort_key(a, options.by)
            .cmp(&sort_key(b, options.by))
            .then_with(|| {
                let texts: &Vec<String> = texts.get_or_init(|| {
                    stages
                        .iter()
                        .map(|stage| stage_text(stage, &lanes, ids))
                        .collect()
                });
                let (a, b) = (
                    sequence_of(a, &partitions.sequence),
                    sequence_of(b, &partitions.sequence),
                );
                text(a, texts).cmp(text(b, texts))
            })
    };
    let most = options.max_ranked.get();
    if total > most {
        let least_demanding = entries
            .iter()
            .min_by(|a, b| a.largest_lane.cmp(&b.largest_lane).then_with(|| order(a, b)))
            .cloned()
            .expect("total > max_ranked >= 1");
        entries.select_nth_unstable_by(most - 1, order);
        entries.truncate(most);
        entries.sort_unstable_by(order);
        if !entries.iter().any(|entry| entry.start == least_demanding.start) {
            entries.pop();
            entries.push(least_demanding);
        }
    } else {
        entries.sort_unstable_by(order);
    }
    let mut sequence = Vec::with_capacity(entries.iter().map(|entry| usize::from(entry.stages)).sum());
    for entry in &mut entries {
        let start = sequence.len() as u32;
        sequence.extend_from_slice(sequence_of(entry, &partitions.sequence));
        entry.start = start;
    }
    Ok(Ranking {
        options: options.clone(),
        mode: partitions.mode,
        atoms: partitions.atoms.iter().map(|atom| atom.components).collect(),
        coarsened: partitions.coarsened,
        total,
        function: dag.function().to_owned(),
        revision: dag.revision().to_owned(),
        ids: Arc::clone(ids),
        kinds,
        measured: (0..columns.len())
            .map(|column| profile.measured(column))
            .collect(),
        columns,
        lanes,
        times,
        stages,
        sequence,
        entries,
    })
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

    /// `m1;m2|m3|m4,m5`: `|` between stages, `;` between lanes, `,` between components.
    pub fn key(&self, rank: usize) -> String {
        let mut key = String::new();
        for (at, stage) in self.stages_of(rank).enumerate() {
            if at > 0 {
                key.push('|');
            }
            key.push_str(&stage_text(stage, &self.lanes, &self.ids));
        }
        key
    }

    /// Coefficient of variation of the stage times at the reference.
    pub fn cv(&self, rank: usize) -> f64 {
        self.entries[rank].cv as f64 / 1e9
    }

    /// The longest stage at the reference.
    pub fn bottleneck(&self, rank: usize) -> Duration {
        Duration::from_nanos(self.entries[rank].bottleneck)
    }

    /// All stages and transfers at the reference.
    pub fn latency(&self, rank: usize) -> Duration {
        Duration::from_nanos(self.entries[rank].latency)
    }

    /// Components, memory and time (at the reference) of each lane, stage by stage.
    pub fn lanes(&self, rank: usize) -> Vec<Vec<(ComponentSet, Bytes, Duration)>> {
        self.stages_of(rank)
            .map(|stage| {
                let lanes = stage.lanes.iter().map(|lane| &self.lanes[usize::from(*lane)]);
                lanes
                    .map(|l| (l.components, Bytes(l.memory), Duration::from_nanos(l.time)))
                    .collect()
            })
            .collect()
    }

    /// The ids of a lane, joined by commas.
    pub fn names(&self, components: ComponentSet) -> String {
        lane_text(components, &self.ids)
    }

    /// The rank of the partition with a key.
    pub fn find(&self, key: &str) -> Option<usize> {
        (0..self.len()).find(|rank| self.key(*rank) == key)
    }

    /// The partition whose largest lane is the smallest: the last one to lose its slices.
    pub fn least_demanding(&self) -> usize {
        let by_largest = |rank: &usize| self.entries[*rank].largest_lane;
        (0..self.len())
            .min_by_key(by_largest)
            .expect("there is always the unsplit partition")
    }

    /// `ranking.json`. `profile_hash` names the profile document that this was computed from.
    pub fn document(&self, profile_hash: String) -> RankingDocument {
        let ids = |set: ComponentSet| set.iter().map(|c| self.ids[c].clone()).collect::<Vec<_>>();
        let lane = |lane: &u16| {
            let lane = &self.lanes[usize::from(*lane)];
            RankedLane {
                components: ids(lane.components),
                memory_bytes: Bytes(lane.memory),
                min_profile: lane.min_fit.map(|kind| self.kinds[kind].profile.clone()),
                time_ms: millis(lane.time),
            }
        };
        let partition = |rank: usize| RankedPartition {
            rank: rank as u64,
            key: self.key(rank),
            cv: self.cv(rank),
            stages: self
                .stages_of(rank)
                .map(|stage| RankedStage {
                    time_ms: millis(stage.time),
                    lanes: stage.lanes.iter().map(lane).collect(),
                })
                .collect(),
        };
        RankingDocument {
            schema: RankingSchema::V1,
            function: self.function.clone(),
            revision: self.revision.clone(),
            profile_hash,
            mode: self.mode,
            std: self.options.std,
            reference: match &self.options.reference {
                Reference::MinFit => "min_fit".to_owned(),
                Reference::Profile(profile) => format!("ref:{profile}"),
            },
            atoms: self.atoms.iter().map(|atom| ids(*atom)).collect(),
            coarsened: self.coarsened.then_some(true),
            total: self.total as u64,
            kept: self.len() as u64,
            partitions: (0..self.len()).map(partition).collect(),
        }
    }

    pub(crate) fn stages_of(&self, rank: usize) -> impl Iterator<Item = &Stage> {
        let sequence = sequence_of(&self.entries[rank], &self.sequence);
        sequence.iter().map(|stage| &self.stages[usize::from(*stage)])
    }

    /// Nanoseconds of a lane in a column, or [`NOT_MEASURED`].
    pub(crate) fn nanos(&self, lane: u16, column: usize) -> u64 {
        self.times[usize::from(lane) * self.columns.len() + column]
    }
}

fn millis(nanos: u64) -> Millis {
    Millis(nanos as f64 / 1e6)
}

fn lanes(
    profile: &Profile,
    partitions: &Partitions,
    kinds: &[Kind],
    reference: Option<usize>,
) -> (Vec<Lane>, Vec<u64>) {
    let columns = profile.slice_profiles().len();
    let column_of: Vec<Option<usize>> = kinds.iter().map(|kind| profile.column(&kind.profile)).collect();
    let mut times = Vec::with_capacity(partitions.lanes.len() * columns);
    let mut lanes: Vec<Lane> = Vec::with_capacity(partitions.lanes.len());
    for &components in &partitions.lanes {
        let memory = profile.memory(components);
        let row = times.len();
        times.extend((0..columns).map(|column| profile.nanos(components, column).unwrap_or(NOT_MEASURED)));
        let time_in = |column: usize| Some(times[row + column]).filter(|time| *time != NOT_MEASURED);
        let min_fit = kinds.iter().zip(&column_of).position(|(kind, column)| {
            memory <= kind.memory && column.is_some_and(|column| time_in(column).is_some())
        });
        let time = reference.or_else(|| column_of[min_fit?]).and_then(time_in);
        lanes.push(Lane {
            components,
            memory: memory.0,
            size_rank: 0,
            min_fit,
            time: time.unwrap_or_else(|| profile.slowest_nanos(components)),
        });
    }
    let mut by_size: Vec<usize> = (0..lanes.len()).collect();
    by_size.sort_by_key(|lane| (std::cmp::Reverse(lanes[*lane].memory), lanes[*lane].components));
    for (rank, lane) in by_size.into_iter().enumerate() {
        lanes[lane].size_rank = rank as u16;
    }
    (lanes, times)
}

/// Nanoseconds for what goes into and comes out of a lane that is not the head.
struct Traffic {
    receive: u64,
    send_back: u64,
}

fn traffic(dag: &Dag, profile: &Profile, lane: ComponentSet, model: &TransferModel) -> Traffic {
    let mut read: Vec<Origin> = Vec::new();
    for component in lane.iter() {
        for origin in &dag.component(component).inputs {
            let own = matches!(origin, Origin::Port { component, .. } if lane.contains(*component));
            if !own && !read.contains(origin) {
                read.push(*origin);
            }
        }
    }
    let receive = read
        .iter()
        .map(|origin| profile.tensor_bytes(dag, *origin).0)
        .sum();
    let mut returned: Vec<Origin> = Vec::new();
    for output in dag.outputs() {
        let origin = Origin::Port {
            component: output.component,
            port: output.port,
        };
        if lane.contains(output.component) && !returned.contains(&origin) {
            returned.push(origin);
        }
    }
    let send_back: u64 = returned
        .iter()
        .map(|origin| profile.tensor_bytes(dag, *origin).0)
        .sum();
    Traffic {
        receive: model.nanos(receive),
        send_back: if returned.is_empty() {
            0
        } else {
            model.nanos(send_back)
        },
    }
}

fn stage_costs(lanes_of: &[u16], lanes: &[Lane], traffic: &[Traffic]) -> Stage {
    let own = || lanes_of.iter().map(|lane| &lanes[usize::from(*lane)]);
    let moved = |skip: usize, what: fn(&Traffic) -> u64| {
        lanes_of[skip..]
            .iter()
            .map(|lane| what(&traffic[usize::from(*lane)]))
            .max()
            .unwrap_or(0)
    };
    // The first lane of the first stage is the head: it has the inputs and takes the outputs.
    Stage {
        lanes: lanes_of.to_vec(),
        time: own().map(|lane| lane.time).max().unwrap_or(0),
        memory: own().map(|lane| lane.memory).sum(),
        largest_lane: own().map(|lane| lane.memory).max().unwrap_or(0),
        receive: [moved(1, |t| t.receive), moved(0, |t| t.receive)],
        send_back: [moved(1, |t| t.send_back), moved(0, |t| t.send_back)],
    }
}

fn entry(sequence: &[u16], start: u32, stages: &[Stage], options: &RankOptions) -> Entry {
    let of = |at: usize| &stages[usize::from(sequence[at])];
    let time = |at: usize| {
        let stage = of(at);
        stage.time
            + if options.include_transfer {
                stage.receive[place_of(at)]
            } else {
                0
            }
    };
    let n = sequence.len();
    let mut entry = Entry {
        cv: 0,
        start,
        stages: n as u16,
        lanes: 0,
        transfer: 0,
        bottleneck: 0,
        latency: 0,
        memory: 0,
        largest_lane: 0,
    };
    let (mut sum, mut send_back) = (0, 0);
    for at in 0..n {
        let stage = of(at);
        sum += time(at);
        entry.latency += stage.time;
        entry.bottleneck = entry.bottleneck.max(stage.time);
        entry.memory += stage.memory;
        entry.largest_lane = entry.largest_lane.max(stage.largest_lane);
        entry.lanes += stage.lanes.len() as u16;
        entry.transfer += stage.receive[place_of(at)];
        send_back = send_back.max(stage.send_back[place_of(at)]);
    }
    entry.transfer += send_back;
    entry.latency += entry.transfer;
    let divisor = match options.std {
        Deviation::Population => n,
        Deviation::Sample => n - 1,
    };
    // One stage has nothing to vary; under the sample deviation it would be undefined.
    if n > 1 {
        let mean = sum as f64 / n as f64;
        let squares: f64 = (0..n).map(|at| (time(at) as f64 - mean).powi(2)).sum();
        let cv = (squares / divisor as f64).sqrt() / mean;
        entry.cv = (cv * 1e9).round() as u64;
    }
    entry
}

fn sort_key(entry: &Entry, by: RankBy) -> [u64; 4] {
    match by {
        RankBy::Cv => [entry.cv, u64::from(entry.stages), entry.memory, 0],
        RankBy::Throughput => [
            entry.bottleneck,
            u64::from(entry.lanes),
            entry.latency,
            entry.memory,
        ],
        RankBy::Slo => [u64::from(entry.lanes), entry.latency, entry.memory, 0],
    }
}

fn sequence_of<'a>(entry: &Entry, sequence: &'a [u16]) -> &'a [u16] {
    &sequence[entry.start as usize..entry.start as usize + usize::from(entry.stages)]
}

/// The bytes of a key, with a leading `|`.
fn text<'a>(sequence: &'a [u16], texts: &'a [String]) -> impl Iterator<Item = u8> + 'a {
    sequence
        .iter()
        .flat_map(|stage| std::iter::once(b'|').chain(texts[usize::from(*stage)].bytes()))
}

fn stage_text(stage: &Stage, lanes: &[Lane], ids: &[ComponentId]) -> String {
    let lanes = stage
        .lanes
        .iter()
        .map(|lane| lane_text(lanes[usize::from(*lane)].components, ids));
    lanes.collect::<Vec<_>>().join(";")
}

fn lane_text(components: ComponentSet, ids: &[ComponentId]) -> String {
    let mut text = String::new();
    for component in components.iter() {
        if !text.is_empty() {
            text.push(',');
        }
        text.push_str(ids[component].as_str());
    }
    text
}

/// The order that [`rank`] gives two partitions of one ranking; equal only for the same partition.
pub fn compare(ranking: &Ranking, a: usize, b: usize) -> Ordering {
    let key = |rank: usize| sort_key(&ranking.entries[rank], ranking.options.by);
    key(a)
        .cmp(&key(b))
        .then_with(|| ranking.key(a).cmp(&ranking.key(b)))
}
