//! What holds for every graph, profile and machine.

use crate::given::{
    self, Row, chain, dag_document, free, id, machine, partitions, profile_document, ranking, uniform,
};
use proptest::prelude::*;
use proptest::sample::subsequence;
use proto::ffs::assignment::{AssignmentDocument, Batch, RingTensor};
use proto::ffs::dag::{DagDocument, Source};
use proto::ffs::migs::{MigsDocument, SliceState};
use proto::ffs::ranking::{Deviation, Mode};
use proto::id::LaneId;
use proto::unit::Millis;
use scheduler::assignment::{AssignOptions, assign};
use scheduler::dag::{ComponentSet, Dag};
use scheduler::free::FreeSlices;
use scheduler::partition::{atoms, enumerate};
use scheduler::placement::{PlaceOptions, Placement, place};
use scheduler::profile::Profile;
use scheduler::ranking::{RankBy, RankOptions, Ranking};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Any graph of 1 to `most` components whose ids do not follow the topological order.
fn graphs(most: usize) -> impl Strategy<Value = DagDocument> {
    let all_pairs = |n: usize| {
        (0..n)
            .flat_map(|a| (a + 1..n).map(move |b| (a, b)))
            .collect::<Vec<_>>()
    };
    (1..=most)
        .prop_flat_map(move |n| {
            let pairs = all_pairs(n);
            let count = pairs.len();
            let names: Vec<usize> = (0..n).collect();
            (subsequence(pairs, 0..=count), Just(names).prop_shuffle())
        })
        .prop_map(|(edges, names)| {
            let nodes = names.iter().map(|name| format!("x:c{name}"));
            let edges = edges
                .iter()
                .map(|(a, b)| format!("c{}>c{}", names[*a], names[*b]));
            dag_document(&nodes.chain(edges).collect::<Vec<_>>().join(" "))
        })
}

fn parsed(document: &DagDocument) -> Dag {
    Dag::parse(document).unwrap()
}

/// Slice profiles with compute slices and MiB; the names say nothing about the memory.
const KINDS: [(&str, u32, u64); 4] = [
    ("1g.5gb", 1, 12),
    ("2g.10gb", 2, 25),
    ("3g.20gb", 3, 50),
    ("4g.20gb", 4, 50),
];

/// Up to six free slices of these kinds on two GPUs.
fn machines() -> impl Strategy<Value = MigsDocument> {
    let gpu = || prop::collection::vec(prop::sample::select(&KINDS[..]), 0..=3);
    (gpu(), gpu()).prop_map(|(a, b)| machine(&[&a, &b]))
}

/// Weights in MiB and, per kind, a time or none; at least one time per component.
fn costs(components: usize) -> impl Strategy<Value = Vec<(u64, Vec<(&'static str, f64)>)>> {
    let times = subsequence(vec![0_usize, 1, 2, 3], 1..=4).prop_flat_map(|kinds| {
        prop::collection::vec(1..40_u32, kinds.len()).prop_map(move |ms| {
            kinds
                .iter()
                .zip(ms)
                .map(|(kind, ms)| (KINDS[*kind].0, f64::from(ms)))
                .collect()
        })
    });
    prop::collection::vec((1..30_u64, times), components)
}

/// A function with a profile, and a machine.
#[derive(Debug)]
struct Case {
    dag: Dag,
    profile: Profile,
    migs: MigsDocument,
}

fn cases(most: usize) -> impl Strategy<Value = Case> {
    (graphs(most), machines()).prop_flat_map(|(document, migs)| {
        let dag = parsed(&document);
        costs(dag.len()).prop_map(move |costs| {
            let ids = dag.ids().iter().map(|id| id.as_str());
            let rows: Vec<Row<'_>> = ids
                .zip(&costs)
                .map(|(id, (mib, times))| (id, *mib, &times[..]))
                .collect();
            let profile = Profile::parse(&profile_document(&rows), &dag).unwrap();
            Case {
                dag: dag.clone(),
                profile,
                migs: migs.clone(),
            }
        })
    })
}

fn ranked(case: &Case, mode: Mode, by: RankBy) -> Ranking {
    ranking(
        &case.dag,
        &case.profile,
        &case.migs,
        mode,
        &RankOptions {
            by,
            ..RankOptions::default()
        },
    )
}

fn goals() -> impl Strategy<Value = RankBy> {
    prop::sample::select(vec![RankBy::Cv, RankBy::Throughput, RankBy::Slo])
}

/// All ways to give each lane a free slice of its own, as the time of each lane.
fn all_assignments(case: &Case, lanes: &[ComponentSet]) -> Vec<Vec<Duration>> {
    fn extend(
        case: &Case,
        lanes: &[ComponentSet],
        used: &mut Vec<bool>,
        so_far: &mut Vec<Duration>,
        all: &mut Vec<Vec<Duration>>,
    ) {
        let Some(lane) = lanes.get(so_far.len()) else {
            all.push(so_far.clone());
            return;
        };
        for (at, slice) in case.migs.slices.iter().enumerate() {
            let time = case.profile.time(*lane, &slice.profile);
            if let Some(time) = time.filter(|_| !used[at] && case.profile.memory(*lane) <= slice.memory_bytes)
            {
                used[at] = true;
                so_far.push(time);
                extend(case, lanes, used, so_far, all);
                so_far.pop();
                used[at] = false;
            }
        }
    }
    let mut all = Vec::new();
    extend(
        case,
        lanes,
        &mut vec![false; case.migs.slices.len()],
        &mut Vec::new(),
        &mut all,
    );
    all
}

fn lanes_of(ranking: &Ranking, rank: usize) -> Vec<Vec<ComponentSet>> {
    let stages = ranking.lanes(rank);
    stages
        .iter()
        .map(|stage| stage.iter().map(|lane| lane.components).collect())
        .collect()
}

/// Time of each stage: its longest lane.
fn stage_times(stages: &[Vec<ComponentSet>], lanes: &[Duration]) -> Vec<Duration> {
    let mut lane = lanes.iter();
    stages
        .iter()
        .map(|stage| *lane.by_ref().take(stage.len()).max().unwrap())
        .collect()
}

/// Every lane on a free slice of its own that holds it and that it was measured on.
fn check_valid(case: &Case, placement: &Placement) {
    let mut used = BTreeSet::new();
    for lane in &placement.lanes {
        assert!(used.insert(&lane.slice.uuid), "{} is used twice", lane.slice.uuid);
        assert_eq!(lane.slice.state, SliceState::Free);
        assert_eq!(lane.memory, case.profile.memory(lane.components));
        assert!(lane.memory <= lane.slice.memory_bytes);
        assert_eq!(
            Some(lane.time),
            case.profile.time(lane.components, &lane.slice.profile)
        );
    }
    let mut stages: BTreeMap<u16, Duration> = BTreeMap::new();
    for lane in &placement.lanes {
        let longest = stages.entry(lane.id.stage).or_default();
        *longest = lane.time.max(*longest);
    }
    assert_eq!(placement.bottleneck, *stages.values().max().unwrap());
    assert_eq!(
        placement.latency,
        stages.values().sum::<Duration>() + placement.transfer
    );
}

/// Carries every tensor from where it is made to where it is read, and nothing else.
fn check_rings(dag: &Dag, placement: &Placement, assignment: &AssignmentDocument) {
    let home = |component: usize| {
        placement
            .lanes
            .iter()
            .find(|lane| lane.components.contains(component))
            .unwrap()
            .id
    };
    let mut wanted: BTreeSet<(LaneId, LaneId, RingTensor)> = BTreeSet::new();
    for (at, component) in dag.components().iter().enumerate() {
        for origin in &component.inputs {
            let (from, tensor) = match origin {
                scheduler::dag::Origin::Port { component, port } => (
                    home(*component),
                    RingTensor::Port {
                        node: dag.id(*component).clone(),
                        port: *port,
                    },
                ),
                scheduler::dag::Origin::Input(input) => (
                    LaneId::HEAD,
                    RingTensor::Input {
                        input: dag.inputs()[*input].name.clone(),
                    },
                ),
            };
            wanted.insert((from, home(at), tensor));
        }
    }
    for output in dag.outputs() {
        let tensor = RingTensor::Port {
            node: dag.id(output.component).clone(),
            port: output.port,
        };
        wanted.insert((home(output.component), LaneId::HEAD, tensor));
    }
    wanted.retain(|(from, to, _)| from != to);

    let mut carried = BTreeSet::new();
    let mut pairs = BTreeSet::new();
    for ring in &assignment.rings {
        assert_ne!(ring.producer, ring.consumer);
        assert!(pairs.insert((ring.producer, ring.consumer)), "one ring per pair");
        for tensor in &ring.tensors {
            assert!(
                carried.insert((ring.producer, ring.consumer, tensor.clone())),
                "each tensor once"
            );
        }
        let lane = |id: LaneId| {
            let mut lanes = assignment.stages.iter().flat_map(|stage| &stage.lanes);
            lanes.find(|lane| lane.id == id).unwrap()
        };
        assert!(lane(ring.producer).rings_out.contains(&ring.id));
        assert!(lane(ring.consumer).rings_in.contains(&ring.id));
    }
    assert_eq!(carried, wanted);
    for lane in assignment.stages.iter().flat_map(|stage| &stage.lanes) {
        assert!(
            lane.id == LaneId::HEAD || !lane.rings_in.is_empty(),
            "{} would never run",
            lane.id
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_partition_covers_each_component_once_and_every_edge_leads_to_the_same_lane_or_a_later_stage(
        document in graphs(7),
        mode in prop::sample::select(vec![Mode::Serial, Mode::Lanes, Mode::Convex]),
    ) {
        let dag = parsed(&document);
        for partition in partitions(&dag, mode).iter() {
            let mut place = BTreeMap::new();
            for (stage, lanes) in partition.iter().enumerate() {
                for (lane, components) in lanes.iter().enumerate() {
                    for component in components.iter() {
                        prop_assert_eq!(place.insert(component, (stage, lane)), None);
                    }
                }
            }
            prop_assert_eq!(place.len(), dag.len());
            for (at, component) in dag.components().iter().enumerate() {
                for from in component.predecessors.iter() {
                    prop_assert!(place[&from] == place[&at] || place[&from].0 < place[&at].0);
                }
            }
        }
    }

    #[test]
    fn serial_is_part_of_lanes_and_lanes_of_convex_and_no_partition_comes_twice(document in graphs(6)) {
        let dag = parsed(&document);
        let keys = |mode| {
            let list = given::keys(&dag, mode);
            let set: BTreeSet<String> = list.iter().cloned().collect();
            assert_eq!(list.len(), set.len());
            set
        };
        let (serial, lanes, convex) = (keys(Mode::Serial), keys(Mode::Lanes), keys(Mode::Convex));
        prop_assert!(serial.is_subset(&lanes));
        prop_assert!(lanes.is_subset(&convex), "{:?}", lanes.difference(&convex).collect::<Vec<_>>());
    }

    #[test]
    fn counts_follow_from_the_atoms(document in graphs(10)) {
        let dag = parsed(&document);
        let atoms = atoms(&dag);
        // ways[n]: how the first n atoms can be cut, the last block counted by its length.
        let mut ways = vec![1_usize];
        for n in 1..=atoms.len() {
            let alone = if atoms[n - 1].branches.len() > 1 { 2 } else { 1 };
            ways.push(ways[n - 1] * alone + ways[..n - 1].iter().sum::<usize>());
        }
        prop_assert_eq!(partitions(&dag, Mode::Serial).len(), 1 << (atoms.len() - 1));
        prop_assert_eq!(partitions(&dag, Mode::Lanes).len(), ways[atoms.len()]);
    }

    #[test]
    fn single_atoms_on_the_spine_are_what_every_path_passes(document in graphs(7)) {
        let dag = parsed(&document);
        let mut paths: Vec<ComponentSet> = Vec::new();
        let sources = (0..dag.len()).filter(|c| dag.component(*c).predecessors.is_empty());
        let mut open: Vec<(usize, ComponentSet)> = sources.map(|c| (c, ComponentSet::of(c))).collect();
        while let Some((at, path)) = open.pop() {
            if dag.component(at).successors.is_empty() {
                paths.push(path);
            }
            open.extend(dag.component(at).successors.iter().map(|next| (next, path.union(ComponentSet::of(next)))));
        }
        let spine = paths.into_iter().reduce(ComponentSet::intersection).unwrap();
        let atoms = atoms(&dag);
        for component in spine.iter() {
            prop_assert!(atoms.iter().any(|atom| atom.components == ComponentSet::of(component)));
        }
        // Regions: no two in a row, and their branches have no edge between them.
        let is_region: Vec<bool> = atoms.iter().map(|a| a.components.intersection(spine).is_empty()).collect();
        prop_assert!(is_region.windows(2).all(|pair| pair != [true, true]));
        for atom in &atoms {
            for branch in &atom.branches {
                for component in branch.iter() {
                    let node = dag.component(component);
                    let around = node.predecessors.union(node.successors).intersection(atom.components);
                    prop_assert!(around.minus(*branch).is_empty());
                }
            }
        }
    }

    #[test]
    fn the_order_in_which_a_document_is_written_changes_nothing(document in graphs(7), seed in any::<u64>()) {
        let mut shuffled = document.clone();
        let n = shuffled.nodes.len();
        for at in (1..n).rev() {
            shuffled.nodes.swap(at, (seed as usize >> at) % (at + 1));
        }
        let migs = machine(&[&KINDS]);
        let ranked = |document: &DagDocument| {
            let dag = parsed(document);
            let profile = uniform(&dag, 5, 3.0);
            ranking(&dag, &profile, &migs, Mode::Lanes, &RankOptions::default()).document(String::new())
        };
        prop_assert_eq!(ranked(&document), ranked(&shuffled));
    }

    #[test]
    fn the_rank_order_is_total_and_rises(
        case in cases(6),
        by in goals(),
        std in prop::sample::select(vec![Deviation::Population, Deviation::Sample]),
    ) {
        let options = RankOptions { by, std, ..RankOptions::default() };
        let ranking = ranking(&case.dag, &case.profile, &case.migs, Mode::Lanes, &options);
        let memory = |rank| ranking.lanes(rank).iter().flatten().map(|lane| lane.memory.0).sum::<u64>();
        let slices = |rank| ranking.lanes(rank).iter().flatten().count();
        let order = |rank: usize| {
            let cv = (ranking.cv(rank) * 1e9).round() as u64;
            let latency = ranking.latency(rank).as_nanos() as u64;
            let bottleneck = ranking.bottleneck(rank).as_nanos() as u64;
            let numbers = match by {
                RankBy::Cv => [cv, ranking.lanes(rank).len() as u64, memory(rank), 0],
                RankBy::Throughput => [bottleneck, slices(rank) as u64, latency, memory(rank)],
                RankBy::Slo => [slices(rank) as u64, latency, memory(rank), 0],
            };
            (numbers, ranking.key(rank))
        };
        for rank in 1..ranking.len() {
            prop_assert!(order(rank - 1) < order(rank), "{:?} {:?}", order(rank - 1), order(rank));
        }
        prop_assert_eq!(ranking.len(), ranking.total);
    }

    #[test]
    fn keeping_fewer_partitions_keeps_the_first_ones_and_the_least_demanding(
        case in cases(6),
        most in 1..8_usize,
    ) {
        let all = ranked(&case, Mode::Lanes, RankBy::Cv);
        let max_ranked = std::num::NonZeroUsize::new(most).unwrap();
        let options = RankOptions { max_ranked, ..RankOptions::default() };
        let few = ranking(&case.dag, &case.profile, &case.migs, Mode::Lanes, &options);
        prop_assert_eq!(few.len(), most.min(all.len()));
        for rank in 0..few.len() - 1 {
            prop_assert_eq!(few.key(rank), all.key(rank));
        }
        prop_assert_eq!(few.key(few.least_demanding()), all.key(all.least_demanding()));
    }

    #[test]
    fn a_partition_is_passed_over_only_if_no_assignment_exists(
        case in cases(5),
        mode in prop::sample::select(vec![Mode::Lanes, Mode::Convex]),
    ) {
        let ranking = ranked(&case, mode, RankBy::Cv);
        let fits = |rank| !all_assignments(&case, &lanes_of(&ranking, rank).concat()).is_empty();
        let first = (0..ranking.len()).find(|rank| fits(*rank));
        match place(&ranking, &free(&case.migs), PlaceOptions::default()) {
            Ok(placement) => {
                prop_assert_eq!(Some(placement.rank), first);
                prop_assert_eq!(placement.rejected.len(), placement.rank);
                check_valid(&case, &placement);
            }
            Err(refused) => {
                prop_assert_eq!(first, None);
                prop_assert_eq!(refused.rejected.len(), ranking.len());
                prop_assert!(!refused.because(&ranking).is_empty());
            }
        }
    }

    #[test]
    fn throughput_finds_the_shortest_bottleneck_there_is(case in cases(4)) {
        let ranking = ranked(&case, Mode::Lanes, RankBy::Throughput);
        let best = (0..ranking.len())
            .flat_map(|rank| {
                let stages = lanes_of(&ranking, rank);
                let all = all_assignments(&case, &stages.concat());
                let slices = stages.concat().len();
                all.into_iter().map(move |lanes| (*stage_times(&stages, &lanes).iter().max().unwrap(), slices))
            })
            .min();
        let placed = place(&ranking, &free(&case.migs), PlaceOptions::default()).ok();
        if let Some(placement) = &placed {
            check_valid(&case, placement);
            prop_assert_eq!(placement.rejected.len(), ranking.len() - 1);
        }
        prop_assert_eq!(placed.map(|placed| (placed.bottleneck, placed.lanes.len())), best);
    }

    #[test]
    fn slo_finds_the_fewest_slices_that_meet_it_or_the_shortest_latency(case in cases(4), slo in 1..120_u64) {
        let ranking = ranked(&case, Mode::Lanes, RankBy::Slo);
        let slo = Duration::from_millis(slo);
        let all: Vec<(usize, Duration)> = (0..ranking.len())
            .flat_map(|rank| {
                let stages = lanes_of(&ranking, rank);
                // At its reference a partition's transfers are what its latency has beyond its stages.
                let longest = |stage: &Vec<scheduler::ranking::LaneCosts>| stage.iter().map(|l| l.time).max().unwrap();
                let transfer = ranking.latency(rank) - ranking.lanes(rank).iter().map(longest).sum::<Duration>();
                let slices = stages.concat().len();
                all_assignments(&case, &stages.concat())
                    .into_iter()
                    .map(move |lanes| (slices, stage_times(&stages, &lanes).iter().sum::<Duration>() + transfer))
            })
            .collect();
        let options = PlaceOptions { slo: Some(slo), ..PlaceOptions::default() };
        let Ok(placement) = place(&ranking, &free(&case.migs), options) else {
            prop_assert!(all.is_empty());
            return Ok(());
        };
        check_valid(&case, &placement);
        match all.iter().filter(|(_, latency)| *latency <= slo).map(|(slices, _)| *slices).min() {
            Some(fewest) => {
                prop_assert!(placement.latency <= slo);
                prop_assert_eq!(placement.lanes.len(), fewest);
            }
            None => prop_assert_eq!(Some(placement.latency), all.iter().map(|(_, latency)| *latency).min()),
        }
    }

    #[test]
    fn the_order_of_the_inventory_changes_nothing(case in cases(5), by in goals()) {
        let mut reversed = case.migs.clone();
        reversed.slices.reverse();
        reversed.gpus.reverse();
        let ranking = ranked(&case, Mode::Lanes, by);
        let placed = |migs| place(&ranking, &free(migs), PlaceOptions::default());
        prop_assert_eq!(placed(&case.migs), placed(&reversed));
    }

    #[test]
    fn free_slices_kept_up_to_date_equal_free_slices_read_anew(
        migs in machines(),
        steps in prop::collection::vec((any::<prop::sample::Index>(), any::<bool>()), 0..30),
    ) {
        let mut kept = free(&migs);
        let mut now = migs.clone();
        for (which, take) in steps.into_iter().filter(|_| !migs.slices.is_empty()) {
            let slice = which.index(migs.slices.len());
            let uuid = &migs.slices[slice].uuid;
            let was_free = now.slices[slice].state == SliceState::Free;
            let changed = if take { kept.take(uuid) } else { kept.give_back(uuid) };
            prop_assert_eq!(changed, was_free == take);
            now.slices[slice].state = if take { SliceState::Hot } else { SliceState::Free };
        }
        let uuids = |free: &FreeSlices| free.iter().map(|slice| slice.uuid.clone()).collect::<Vec<_>>();
        prop_assert_eq!(uuids(&kept), uuids(&free(&now)));
    }

    #[test]
    fn rings_carry_every_tensor_from_its_lane_to_its_readers_once(
        document in graphs(6),
        mode in prop::sample::select(vec![Mode::Lanes, Mode::Convex]),
        which in any::<prop::sample::Index>(),
        without_input in any::<prop::sample::Index>(),
    ) {
        let mut document = document;
        // One component reads nothing from outside.
        let silent = without_input.index(document.nodes.len());
        document.nodes[silent].inputs.retain(|input| matches!(input.from, Source::Node { .. }));
        let dag = parsed(&document);
        let all = given::keys(&dag, mode);
        let key = &all[which.index(all.len())];
        let placement = placement_of(&dag, mode, key);
        let options = AssignOptions {
            instance: id("i-1"),
            epoch: 1,
            policy: "fluidfaas".to_owned(),
            slo: None,
            batch: Batch { max: 1, wait_ms: Millis(0.0) },
        };

        let assignment = assign(&dag, &placement, &options);

        check_rings(&dag, &placement, &assignment);
    }
}

/// The partition with this key, placed: alone in its ranking, because no other can be timed.
fn placement_of(dag: &Dag, mode: Mode, key: &str) -> Placement {
    let migs = machine(&[&[KINDS[0]; 8]]);
    let profile = uniform_on(dag, KINDS[0].0);
    let ranking = ranking(dag, &profile, &migs, mode, &RankOptions::default());
    let wanted = ranking.find(key).unwrap();
    let lanes = ranking.lanes(wanted);
    let slices: Vec<_> = migs.slices.iter().cloned().map(std::sync::Arc::new).collect();
    let mut slice = slices.into_iter();
    let lane = |stage: usize, lane: usize, costs: &scheduler::ranking::LaneCosts, slice| {
        scheduler::placement::PlacedLane {
            id: LaneId::new(stage as u16, lane as u16),
            components: costs.components,
            memory: costs.memory,
            time: costs.time,
            slice,
        }
    };
    Placement {
        rank: wanted,
        key: key.to_owned(),
        cv: ranking.cv(wanted),
        lanes: lanes
            .iter()
            .enumerate()
            .flat_map(|(s, stage)| stage.iter().enumerate().map(move |(l, costs)| (s, l, *costs)))
            .map(|(s, l, costs)| lane(s, l, &costs, slice.next().unwrap()))
            .collect(),
        latency: ranking.latency(wanted),
        bottleneck: ranking.bottleneck(wanted),
        transfer: Duration::ZERO,
        rejected: Vec::new(),
    }
}

fn uniform_on(dag: &Dag, kind: &str) -> Profile {
    let times = [(kind, 5.0)];
    let rows: Vec<Row<'_>> = dag.ids().iter().map(|id| (id.as_str(), 1, &times[..])).collect();
    Profile::parse(&profile_document(&rows), dag).unwrap()
}

#[test]
fn a_chain_of_n_has_two_to_the_n_minus_one_partitions() {
    for n in 1..=16 {
        let dag = chain(n);
        let profile = uniform(&dag, 1, 1.0);
        assert_eq!(
            enumerate(&dag, &profile, Mode::Serial).unwrap().len(),
            1 << (n - 1)
        );
        assert_eq!(
            enumerate(&dag, &profile, Mode::Lanes).unwrap().len(),
            1 << (n - 1)
        );
        if n <= 8 {
            assert_eq!(
                enumerate(&dag, &profile, Mode::Convex).unwrap().len(),
                1 << (n - 1)
            );
        }
    }
}
