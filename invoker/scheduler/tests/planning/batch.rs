//! How many requests run at once: by examples, and what holds for all measurements.

use crate::given::{MIB, chain, dag_document, id, profile_document};
use proptest::prelude::*;
use proto::ffs::profile::{BatchTimes, ProfileDocument};
use proto::id::{LaneId, ProfileName};
use proto::unit::{Bytes, Millis};
use scheduler::batch::{BatchLane, Paces, at_once, batched, choose};
use scheduler::dag::{ComponentSet, Dag};
use scheduler::profile::Profile;
use std::time::Duration;

const MS: Duration = Duration::from_millis(1);

/// Requests, milliseconds, and MiB of workspace.
type Rows<'a> = &'a [(u32, f64, u64)];

/// A chain of two, with 100 MiB of weights each, of 20 and 10 ms; what they allow, and what was measured.
fn function(allowed: [u32; 2], rows: [Rows<'_>; 2]) -> (Dag, Profile) {
    let mut dag = dag_document("n01>n02");
    let mut document = profile_document(&[
        ("n01", 100, &[("1g.10gb", 20.0)]),
        ("n02", 100, &[("1g.10gb", 10.0)]),
    ]);
    for (at, name) in ["n01", "n02"].into_iter().enumerate() {
        dag.nodes[at].batch = Some(allowed[at]);
        measure(&mut document, name, rows[at]);
    }
    let dag = Dag::parse(&dag).unwrap();
    let profile = Profile::parse(&document, &dag).unwrap();
    (dag, profile)
}

fn measure(document: &mut ProfileDocument, name: &str, rows: Rows<'_>) {
    let by_mig = &mut document.components.get_mut(&id(name)).unwrap().by_mig;
    let row = by_mig.values_mut().next().unwrap();
    for (requests, ms, mib) in rows {
        let times = BatchTimes {
            exec_ms_p50: Millis(*ms),
            exec_ms_p95: None,
            workspace_bytes: Some(Bytes::mib(*mib)),
        };
        row.batches.insert(requests.to_string(), times);
    }
}

fn kind() -> ProfileName {
    id("1g.10gb")
}

/// Each component in a lane of its own.
fn apart(kind: &ProfileName, memory: u64) -> [BatchLane<'_>; 2] {
    [0, 1].map(|at| BatchLane {
        original: LaneId::new(at as u16, 0),
        components: ComponentSet::of(at),
        kind,
        memory: Bytes(memory),
    })
}

fn chosen(function: &(Dag, Profile), memory: u64, slo_ms: Option<u32>) -> u32 {
    let kind = kind();
    let slo = slo_ms.map(|ms| MS * ms);
    let (dag, profile) = function;
    choose(dag, profile, &apart(&kind, memory), Duration::ZERO, slo).map_or(1, |batched| batched.most)
}

const LARGE: u64 = 1000 * MIB;

#[test]
fn the_size_with_the_highest_throughput_within_the_slo_is_chosen() {
    let rows: Rows<'_> = &[(2, 24.0, 0), (4, 30.0, 0), (8, 70.0, 0)];
    let function = function([8, 8], [rows, rows]);
    // Behind one batch, and part of one in both stages: 90 ms for 4, 72 ms for 2.
    assert_eq!(chosen(&function, LARGE, None), 4);
    assert_eq!(chosen(&function, LARGE, Some(90)), 4);
    assert_eq!(chosen(&function, LARGE, Some(89)), 2);
    assert_eq!(chosen(&function, LARGE, Some(71)), 1);
}

#[test]
fn what_gains_nothing_is_not_done() {
    let rows: Rows<'_> = &[(2, 40.0, 0), (4, 90.0, 0)];
    assert_eq!(chosen(&function([4, 4], [rows, rows]), LARGE, None), 1);
}

#[test]
fn a_lane_runs_as_many_at_once_as_each_of_its_components_allows() {
    let rows: Rows<'_> = &[(2, 11.0, 0), (4, 12.0, 0)];
    // The second one runs alone, so it takes 4 × 10 ms for what the first does in 12.
    let mixed = function([4, 1], [rows, &[]]);
    let kind = kind();
    let four = batched(&mixed.0, &mixed.1, &apart(&kind, LARGE), MS, 4).unwrap();
    assert_eq!((four.bottleneck, four.latency), (MS * 40, MS * 56));
    assert_eq!(at_once(&mixed.0, ComponentSet::of(0), 4), 4);
    assert_eq!(at_once(&mixed.0, ComponentSet::first_n(2), 4), 1);
}

#[test]
fn what_was_not_measured_or_does_not_fit_is_not_done() {
    let rows: Rows<'_> = &[(2, 21.0, 10), (4, 22.0, 50)];
    assert_eq!(chosen(&function([4, 4], [rows, &[]]), LARGE, None), 1);
    let function = function([4, 4], [rows, rows]);
    assert_eq!(chosen(&function, 151 * MIB, None), 4);
    assert_eq!(chosen(&function, 149 * MIB, None), 2);
    assert_eq!(chosen(&function, 105 * MIB, None), 1);
}

#[test]
fn a_function_that_allows_nothing_runs_one_request_at_a_time() {
    let dag = chain(2);
    let times: &[(&str, f64)] = &[("1g.10gb", 20.0)];
    let document = profile_document(&[("n01", 100, times), ("n02", 100, times)]);
    let profile = Profile::parse(&document, &dag).unwrap();
    assert_eq!(chosen(&(dag, profile), LARGE, None), 1);
}

#[test]
fn a_size_that_is_none_is_refused() {
    let mut document = profile_document(&[("n01", 1, &[("1g.10gb", 1.0)]), ("n02", 1, &[("1g.10gb", 1.0)])]);
    measure(&mut document, "n01", &[(2, 0.0, 0)]);
    let refused = Profile::parse(&document, &chain(2)).unwrap_err().to_string();
    assert!(refused.contains("batches.2 on 1g.10gb is 0"), "{refused}");
}

proptest! {
    /// Whatever was measured: what is chosen is allowed, fits, is within the SLO, and no size has more throughput.
    #[test]
    fn what_is_chosen_is_the_best_that_is_possible(
        times in prop::array::uniform2(prop::array::uniform3((1_u32..200, 0_u64..200))),
        allowed in prop::array::uniform2(1_u32..9),
        room in 100_u64..400,
        slo in prop::option::of(1_u32..500),
    ) {
        let rows = times.map(|times| {
            let sizes = [2, 4, 8].into_iter().zip(times);
            sizes.map(|(size, (ms, mib))| (size, f64::from(ms), mib)).collect::<Vec<_>>()
        });
        let (dag, profile) = function(allowed, [&rows[0], &rows[1]]);
        let kind = kind();
        let lanes = apart(&kind, room * MIB);
        let slo = slo.map(|ms| MS * ms);
        let possible = |size: u32| {
            let found = batched(&dag, &profile, &lanes, MS, size)?;
            slo.is_none_or(|slo| found.latency + found.bottleneck <= slo).then_some(found)
        };
        match choose(&dag, &profile, &lanes, MS, slo) {
            Some(best) => {
                prop_assert_eq!(possible(best.most), Some(best));
                let one = batched(&dag, &profile, &lanes, MS, 1).expect("it was measured");
                prop_assert!(best.bottleneck < one.bottleneck * best.most);
                for size in [2, 4, 8] {
                    if let Some(other) = possible(size) {
                        prop_assert!(best.bottleneck * other.most <= other.bottleneck * best.most);
                    }
                }
            }
            None => {
                let one = batched(&dag, &profile, &lanes, MS, 1);
                for size in [2, 4, 8] {
                    let gains = possible(size).zip(one).is_some_and(|(many, one)| many.bottleneck < one.bottleneck * size);
                    prop_assert!(!gains, "{size}");
                }
            }
        }
    }
}

#[test]
fn replicas_share_the_work_and_the_slowest_of_them_counts() {
    let mut paces = Paces::default();
    for (lane, ms) in [((0, 0), 20), ((1, 0), 50), ((1, 1), 30), ((2, 0), 40)] {
        paces.add(LaneId::new(lane.0, lane.1), MS * ms);
    }
    assert_eq!(paces.latency(), MS * 110);
    assert_eq!(paces.slowest(), Some((LaneId::new(1, 0), MS * 50)));
    paces.add(LaneId::new(1, 0), MS * 60);
    assert_eq!(paces.latency(), MS * 120);
    assert_eq!(paces.slowest(), Some((LaneId::new(2, 0), MS * 40)));
    paces.add(LaneId::new(2, 0), MS * 40);
    assert_eq!(
        (paces.bottleneck(), paces.slowest().map(|(lane, _)| lane)),
        (MS * 30, Some(LaneId::new(1, 0)))
    );
}
