//! Documents made from a few words: graphs from edges, profiles from numbers, slices from layouts.
#![allow(dead_code)] // each test program uses its part

use proto::ffs::dag::{DagDocument, Dim, Dtype, Input, Node, NodeInput, NodeOutput, Output, Source};
use proto::ffs::migs::{Gpu, InventorySource, MigsDocument, MigsSchema, Slice, SliceState};
use proto::ffs::profile::{ComponentProfile, ExecutionTimes, ProfileDocument, ProfileSchema, ProfileSource};
use proto::ffs::ranking::Mode;
use proto::unit::{Bytes, Millis};
use scheduler::dag::Dag;
use scheduler::free::{FreeSlices, Kind};
use scheduler::partition::{Partitions, enumerate};
use scheduler::placement::{NoPlacement, PlaceOptions, Placement, place};
use scheduler::profile::Profile;
use scheduler::ranking::{RankOptions, Ranking, rank};
use std::collections::BTreeMap;

pub(crate) const MIB: u64 = 1 << 20;
pub(crate) const GIB: u64 = 1 << 30;

/// `"a>b a>c x:b"`: an edge from a to b, one from a to c, and an external input x of b. A single
/// word is a node. Nodes that feed nobody are outputs; nodes that read nothing read the input `x`.
pub(crate) fn dag_document(text: &str) -> DagDocument {
    let mut order: Vec<&str> = Vec::new();
    let mut reads: BTreeMap<&str, Vec<Source>> = BTreeMap::new();
    let mut inputs = vec!["x"];
    let mut fed: Vec<&str> = Vec::new();
    for word in text.split_whitespace() {
        let (from, to) = match (word.split_once('>'), word.split_once(':')) {
            (Some((from, to)), _) => (
                Some(Source::Node {
                    node: id(from),
                    port: 0,
                }),
                to,
            ),
            (None, Some((input, to))) => {
                if !inputs.contains(&input) {
                    inputs.push(input);
                }
                (
                    Some(Source::Input {
                        input: input.to_owned(),
                    }),
                    to,
                )
            }
            (None, None) => (None, word),
        };
        if let Some((from, _)) = word.split_once('>') {
            fed.push(from);
            if !order.contains(&from) {
                order.push(from);
            }
        }
        if !order.contains(&to) {
            order.push(to);
        }
        reads.entry(to).or_default().extend(from);
    }
    let tensor = || vec![Dim::Fixed(1000)];
    let nodes = order
        .iter()
        .map(|name| {
            let mut from = reads.remove(name).unwrap_or_default();
            if from.is_empty() {
                from.push(Source::Input {
                    input: "x".to_owned(),
                });
            }
            Node {
                id: id(name),
                module: format!("app:{name}"),
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
                    shape: tensor(),
                }],
            }
        })
        .collect();
    let sinks = order.iter().filter(|name| !fed.contains(name));
    DagDocument {
        schema: Default::default(),
        function: "guest/made".to_owned(),
        revision: "1-a".to_owned(),
        built_at: "2026-01-02T03:04:05Z".to_owned(),
        inputs: inputs
            .iter()
            .map(|name| Input {
                name: (*name).to_owned(),
                dtype: Dtype::Float32,
                shape: tensor(),
            })
            .collect(),
        nodes,
        outputs: sinks
            .map(|name| Output {
                name: format!("y-{name}"),
                node: id(name),
                port: 0,
            })
            .collect(),
        symbols: BTreeMap::new(),
    }
}

pub(crate) fn dag(text: &str) -> Dag {
    Dag::parse(&dag_document(text)).expect("the test's DAG is valid")
}

/// n1 → n2 → … → n`n`; ids sort like their numbers.
pub(crate) fn chain(n: usize) -> Dag {
    let edges: Vec<String> = (1..n).map(|i| format!("n{i:02}>n{:02}", i + 1)).collect();
    dag(&format!("n01 {}", edges.join(" ")))
}

/// The paper's example: m1 and m2 side by side, then m3, m4, and m5 with a late input.
pub(crate) const PAPER: &str = "x:m1 x:m2 m1>m3 m2>m3 m3>m4 m4>m5 y:m5";

/// One component: its name, weights in MiB, and milliseconds on slice profiles.
pub(crate) type Row<'a> = (&'a str, u64, &'a [(&'a str, f64)]);

/// Context and workspace are 0.
pub(crate) fn profile_document(rows: &[Row<'_>]) -> ProfileDocument {
    let component = |weights: u64, times: &[(&str, f64)]| ComponentProfile {
        weights_bytes: Bytes::mib(weights),
        workspace_bytes: Bytes(0),
        load_ms: Millis(100.0),
        swap_in_ms: Millis(20.0),
        swap_out_ms: Millis(10.0),
        by_mig: times
            .iter()
            .map(|(profile, ms)| {
                let times = ExecutionTimes {
                    exec_ms_p50: Millis(*ms),
                    exec_ms_p95: Millis(*ms),
                    samples: 30,
                    batches: BTreeMap::new(),
                    observed: None,
                };
                (id(profile), times)
            })
            .collect(),
    };
    ProfileDocument {
        schema: ProfileSchema::V1,
        function: "guest/made".to_owned(),
        revision: "1-a".to_owned(),
        source: ProfileSource::Declared,
        gpu_model: "NVIDIA A100 80GB PCIe".to_owned(),
        batch: 1,
        context_bytes: Bytes(0),
        components: rows
            .iter()
            .map(|(name, weights, times)| (id(name), component(*weights, times)))
            .collect(),
        edges: BTreeMap::new(),
    }
}

/// Every component weighs `weights` MiB and takes `ms` on each of the A100-80GB's profiles.
pub(crate) fn uniform(dag: &Dag, weights: u64, ms: f64) -> Profile {
    let times: Vec<(&str, f64)> = A100.iter().map(|(name, _, _)| (*name, ms)).collect();
    let rows: Vec<_> = dag
        .ids()
        .iter()
        .map(|id| (id.as_str(), weights, &times[..]))
        .collect();
    Profile::parse(&profile_document(&rows), dag).expect("the test's profile is valid")
}

/// Profile, compute slices, usable MiB of the A100-80GB.
pub(crate) const A100: [(&str, u32, u64); 5] = [
    ("1g.10gb", 1, 9856),
    ("2g.20gb", 2, 19968),
    ("3g.40gb", 3, 40192),
    ("4g.40gb", 4, 40192),
    ("7g.80gb", 7, 80384),
];

/// GPUs with the given slices, all free: `[&["4g.40gb", "2g.20gb", "1g.10gb"]; 8]`.
pub(crate) fn gpus(layouts: &[&[&str]]) -> MigsDocument {
    let kinds: Vec<Vec<(&str, u32, u64)>> = layouts
        .iter()
        .map(|layout| {
            let kind = |name: &&str| *A100.iter().find(|kind| kind.0 == *name).expect("an A100 profile");
            layout.iter().map(kind).collect()
        })
        .collect();
    machine(&kinds.iter().map(Vec::as_slice).collect::<Vec<_>>())
}

/// GPUs with slices given as (profile, compute slices, MiB), all free.
pub(crate) fn machine(layouts: &[&[(&str, u32, u64)]]) -> MigsDocument {
    let gpu_id = |gpu: usize| format!("GPU-{gpu:04}");
    MigsDocument {
        schema: MigsSchema::V1,
        taken_at: "2026-01-02T03:04:05Z".to_owned(),
        source: InventorySource::Simulated,
        driver: None,
        gpus: (0..layouts.len())
            .map(|gpu| Gpu {
                uuid: id(&gpu_id(gpu)),
                index: gpu as u32,
                model: "NVIDIA A100 80GB PCIe".to_owned(),
                memory_bytes: Bytes(80 * GIB),
                mig: true,
                numa: None,
                pci: None,
            })
            .collect(),
        slices: layouts
            .iter()
            .enumerate()
            .flat_map(|(gpu, layout)| {
                layout
                    .iter()
                    .enumerate()
                    .map(move |(at, (profile, compute_slices, mib))| Slice {
                        uuid: id(&format!("MIG-{gpu:04}-{at}")),
                        gpu_uuid: id(&gpu_id(gpu)),
                        profile: id(profile),
                        gi: None,
                        ci: None,
                        placement: None,
                        compute_slices: *compute_slices,
                        sms: None,
                        memory_bytes: Bytes::mib(*mib),
                        state: SliceState::Free,
                        owners: Vec::new(),
                        cpu_quota: None,
                        mem_limit: None,
                    })
            })
            .collect(),
    }
}

pub(crate) fn free(migs: &MigsDocument) -> FreeSlices {
    FreeSlices::new(migs).expect("the test's inventory is valid")
}

pub(crate) fn partitions(dag: &Dag, mode: Mode) -> Partitions {
    enumerate(dag, &uniform(dag, 1, 1.0), mode).expect("few enough components")
}

/// Partition keys in the order of enumeration.
pub(crate) fn keys(dag: &Dag, mode: Mode) -> Vec<String> {
    let lane = |lane: &scheduler::dag::ComponentSet| {
        lane.iter()
            .map(|c| dag.id(c).as_str())
            .collect::<Vec<_>>()
            .join(",")
    };
    let stage = |stage: &Vec<_>| stage.iter().map(lane).collect::<Vec<_>>().join(";");
    partitions(dag, mode)
        .iter()
        .map(|p| p.iter().map(stage).collect::<Vec<_>>().join("|"))
        .collect()
}

pub(crate) fn ranking(
    dag: &Dag,
    profile: &Profile,
    migs: &MigsDocument,
    mode: Mode,
    options: &RankOptions,
) -> Ranking {
    let partitions = enumerate(dag, profile, mode).expect("few enough components");
    rank(dag, profile, &partitions, &Kind::all(migs), options).expect("the reference was measured")
}

pub(crate) fn placed(ranking: &Ranking, migs: &MigsDocument) -> Result<Placement, NoPlacement> {
    place(ranking, &free(migs), PlaceOptions::default())
}

pub(crate) fn id<T: std::str::FromStr>(text: &str) -> T
where
    T::Err: std::fmt::Debug,
{
    text.parse().expect("the test's id is valid")
}
