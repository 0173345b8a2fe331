//! How long it takes to rank a function's partitions and to place one of them.
//!
//! The free slices are kept grouped by kind, as the daemon's ledger keeps them: placing reads that
//! structure, and taking a slice or giving it back changes it.

use criterion::{Criterion, criterion_group, criterion_main};
use proto::ffs::dag::{DagDocument, Dim, Dtype, Input, Node, NodeInput, NodeOutput, Output, Source};
use proto::ffs::migs::{Gpu, InventorySource, MigsDocument, Slice, SliceState};
use proto::ffs::profile::{ComponentProfile, ExecutionTimes, ProfileDocument, ProfileSource};
use proto::ffs::ranking::Mode;
use proto::unit::{Bytes, Millis};
use scheduler::dag::Dag;
use scheduler::free::{FreeSlices, Kind};
use scheduler::partition::enumerate;
use scheduler::placement::{PlaceOptions, place};
use scheduler::profile::Profile;
use scheduler::ranking::{RankBy, RankOptions, Ranking, rank};
use std::collections::BTreeMap;
use std::hint::black_box;

/// The default layout of the FluidFaaS paper: profile, compute slices, usable MiB.
const P1: [(&str, u32, u64); 3] = [("4g.40gb", 4, 40192), ("2g.20gb", 2, 19968), ("1g.10gb", 1, 9856)];

fn ranking_benches(c: &mut Criterion) {
    for n in [5, 16] {
        let (dag, profile) = chain(n, |_| 3_000);
        let kinds = Kind::all(&gpus(8));
        c.bench_function(&format!("rank/chain of {n}"), |b| {
            b.iter(|| {
                let partitions = enumerate(&dag, &profile, Mode::Lanes).expect("few enough components");
                rank(&dag, &profile, &partitions, &kinds, &RankOptions::default()).expect("no reference")
            });
        });
    }
    // Every second atom is a region of two branches, which may be one lane or two.
    let (dag, profile) = costs(&diamonds(8), |_| 3_000);
    let kinds = Kind::all(&gpus(8));
    let total = enumerate(&dag, &profile, Mode::Lanes)
        .expect("few enough components")
        .len();
    c.bench_function(
        &format!("rank/16 atoms, 8 of them divisible, {total} partitions"),
        |b| {
            b.iter(|| {
                let partitions = enumerate(&dag, &profile, Mode::Lanes).expect("few enough components");
                rank(&dag, &profile, &partitions, &kinds, &RankOptions::default()).expect("no reference")
            });
        },
    );
}

fn placement_benches(c: &mut Criterion) {
    for count in [8, 1000] {
        let migs = gpus(count);
        let all = FreeSlices::new(&migs).expect("a valid inventory");
        let only = |profile: &str| {
            let mut free = all.clone();
            for slice in migs
                .slices
                .iter()
                .filter(|slice| slice.profile.as_str() != profile)
            {
                assert!(free.take(&slice.uuid));
            }
            free
        };
        let case = |case: &str| format!("place/{case}, {} slices", migs.slices.len());
        let mut bench = |name: &str, ranking: &Ranking, free: &FreeSlices, rank: Option<usize>| {
            let placed = place(ranking, free, PlaceOptions::default()).ok();
            assert_eq!(placed.map(|placement| placement.rank), rank, "{name}");
            c.bench_function(&case(name), |b| {
                b.iter(|| place(black_box(ranking), black_box(free), PlaceOptions::default()));
            });
        };

        let small = ranked(5, RankBy::Cv, &migs, |_| 1_000);
        bench("unsplit fits", &small, &all, Some(0));
        // Only single components fit a 1g slice: 15 partitions are passed over.
        let large = ranked(5, RankBy::Cv, &migs, |_| 9_000);
        let last = large.find("n01|n02|n03|n04|n05");
        let only_1g = only("1g.10gb");
        bench("only the fully split one fits", &large, &only_1g, last);
        let larger = ranked(5, RankBy::Cv, &migs, |_| 9_900);
        bench("none fits", &larger, &only_1g, None);
        // Two 1g slices and one 2g hold four of five components: every partition fails in a matching.
        let mut three = only("1g.10gb");
        for slice in three.iter().skip(2).cloned().collect::<Vec<_>>() {
            assert!(three.take(&slice.uuid));
        }
        assert!(three.give_back(&migs.slices[1].uuid));
        bench("none fits, three are left", &large, &three, None);
        let quick = ranked(5, RankBy::Throughput, &migs, |_| 3_000);
        let best = place(&quick, &all, PlaceOptions::default())
            .expect("there is room")
            .rank;
        bench("shortest bottleneck", &quick, &all, Some(best));

        let mut free = all.clone();
        let slice = &migs.slices[migs.slices.len() / 2].uuid;
        c.bench_function(
            &format!("ledger/take and give back, {} slices", migs.slices.len()),
            |b| {
                b.iter(|| black_box(free.take(slice)) && black_box(free.give_back(slice)));
            },
        );
    }
}

criterion_group!(benches, ranking_benches, placement_benches);
criterion_main!(benches);

/// A chain with weights in MiB by position.
fn chain(n: usize, mib: impl Fn(usize) -> u64) -> (Dag, Profile) {
    let nodes: Vec<(String, Vec<String>)> = (1..=n)
        .map(|i| {
            (
                format!("n{i:02}"),
                (i > 1).then(|| format!("n{:02}", i - 1)).into_iter().collect(),
            )
        })
        .collect();
    costs(&nodes, mib)
}

/// `n` times one component and two branches after it, and one component at the end of the last.
fn diamonds(n: usize) -> Vec<(String, Vec<String>)> {
    let mut nodes = Vec::new();
    for i in 0..n {
        let before = match i {
            0 => Vec::new(),
            _ => vec![format!("b{:02}", i - 1), format!("c{:02}", i - 1)],
        };
        nodes.push((format!("a{i:02}"), before));
        nodes.push((format!("b{i:02}"), vec![format!("a{i:02}")]));
        nodes.push((format!("c{i:02}"), vec![format!("a{i:02}")]));
    }
    nodes
}

/// A function of components and what they read, with times that differ from component to component.
fn costs(nodes: &[(String, Vec<String>)], mib: impl Fn(usize) -> u64) -> (Dag, Profile) {
    let shape = || vec![Dim::Fixed(1), Dim::Fixed(3), Dim::Fixed(224), Dim::Fixed(224)];
    let read: Vec<&String> = nodes.iter().flat_map(|(_, reads)| reads).collect();
    let document = DagDocument {
        schema: Default::default(),
        function: "guest/bench".to_owned(),
        revision: "1-a".to_owned(),
        built_at: "2026-01-02T03:04:05Z".to_owned(),
        inputs: vec![Input {
            name: "x".to_owned(),
            dtype: Dtype::Float32,
            shape: shape(),
        }],
        nodes: nodes
            .iter()
            .map(|(name, reads)| {
                let mut from: Vec<Source> = reads
                    .iter()
                    .map(|other| Source::Node {
                        node: other.parse().expect("an id"),
                        port: 0,
                    })
                    .collect();
                if from.is_empty() {
                    from.push(Source::Input {
                        input: "x".to_owned(),
                    });
                }
                Node {
                    id: name.parse().expect("an id"),
                    module: "app:Net".to_owned(),
                    init: None,
                    weights_key: None,
                    batch: None,
                    inputs: (0..)
                        .zip(from)
                        .map(|(port, from)| NodeInput { port, from })
                        .collect(),
                    outputs: vec![NodeOutput {
                        port: 0,
                        dtype: Dtype::Float32,
                        shape: shape(),
                    }],
                }
            })
            .collect(),
        outputs: nodes
            .iter()
            .filter(|(name, _)| !read.contains(&name))
            .map(|(name, _)| Output {
                name: format!("y-{name}"),
                node: name.parse().expect("an id"),
                port: 0,
            })
            .collect(),
        symbols: BTreeMap::new(),
    };
    let dag = Dag::parse(&document).expect("a valid DAG");
    let profile = profile(&dag, mib);
    (dag, profile)
}

fn profile(dag: &Dag, mib: impl Fn(usize) -> u64) -> Profile {
    let row = |at: usize| ComponentProfile {
        weights_bytes: Bytes::mib(mib(at)),
        workspace_bytes: Bytes::mib(200),
        load_ms: Millis(100.0),
        swap_in_ms: Millis(20.0),
        swap_out_ms: Millis(10.0),
        by_mig: P1
            .iter()
            .map(|(name, slices, _)| {
                let ms = (20 + 7 * (at % 5)) as f64 / f64::from(*slices).powf(0.8);
                let times = ExecutionTimes {
                    exec_ms_p50: Millis(ms),
                    exec_ms_p95: Millis(ms),
                    samples: 30,
                    batches: BTreeMap::new(),
                    observed: None,
                };
                (name.parse().expect("a profile"), times)
            })
            .collect(),
    };
    let document = ProfileDocument {
        schema: Default::default(),
        function: dag.function().to_owned(),
        revision: dag.revision().to_owned(),
        source: ProfileSource::Declared,
        gpu_model: "NVIDIA A100 80GB PCIe".to_owned(),
        batch: 1,
        context_bytes: Bytes::mib(400),
        components: dag
            .ids()
            .iter()
            .enumerate()
            .map(|(at, id)| (id.clone(), row(at)))
            .collect(),
        edges: BTreeMap::new(),
    };
    Profile::parse(&document, dag).expect("a valid profile")
}

fn ranked(n: usize, by: RankBy, migs: &MigsDocument, mib: impl Fn(usize) -> u64) -> Ranking {
    let (dag, profile) = chain(n, mib);
    ranking(&dag, &profile, by, migs)
}

fn ranking(dag: &Dag, profile: &Profile, by: RankBy, migs: &MigsDocument) -> Ranking {
    let partitions = enumerate(dag, profile, Mode::Lanes).expect("few enough components");
    let options = RankOptions {
        by,
        ..RankOptions::default()
    };
    rank(dag, profile, &partitions, &Kind::all(migs), &options).expect("no reference")
}

fn gpus(count: usize) -> MigsDocument {
    let gpu_uuid = |gpu: usize| format!("GPU-{gpu:08}-0000-0000-0000-000000000000");
    let gpu = |gpu: usize| Gpu {
        uuid: gpu_uuid(gpu).parse().expect("a GPU UUID"),
        index: gpu as u32,
        model: "NVIDIA A100 80GB PCIe".to_owned(),
        memory_bytes: Bytes(80 << 30),
        mig: true,
        numa: None,
        pci: None,
    };
    let slice = |gpu: usize, at: usize| Slice {
        uuid: format!("MIG-{gpu:08}-{at:04}-5000-8000-000000000000")
            .parse()
            .expect("a slice UUID"),
        gpu_uuid: gpu_uuid(gpu).parse().expect("a GPU UUID"),
        profile: P1[at].0.parse().expect("a profile"),
        gi: None,
        ci: None,
        placement: None,
        compute_slices: P1[at].1,
        sms: None,
        memory_bytes: Bytes::mib(P1[at].2),
        state: SliceState::Free,
        owners: Vec::new(),
        cpu_quota: None,
        mem_limit: None,
    };
    MigsDocument {
        schema: Default::default(),
        taken_at: "2026-01-02T03:04:05Z".to_owned(),
        source: InventorySource::Simulated,
        driver: None,
        gpus: (0..count).map(gpu).collect(),
        slices: (0..count)
            .flat_map(|gpu| (0..P1.len()).map(move |at| slice(gpu, at)))
            .collect(),
    }
}
