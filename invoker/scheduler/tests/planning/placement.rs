//! Where instances run: which partition, which slices, and why not the others.

use crate::given::{
    PAPER, Row, chain, dag, free, gpus, id, machine, placed, profile_document, ranking, uniform,
};
use proto::ffs::migs::MigsDocument;
use proto::ffs::ranking::Mode;
use proto::id::SliceUuid;
use scheduler::dag::Dag;
use scheduler::placement::{PlaceOptions, Placement, place};
use scheduler::profile::Profile;
use scheduler::ranking::{RankBy, RankOptions, Ranking};
use std::time::Duration;

const P1: &[&str] = &["4g.40gb", "2g.20gb", "1g.10gb"];

fn slices(placement: &Placement) -> Vec<SliceUuid> {
    placement
        .lanes
        .iter()
        .map(|lane| lane.slice.uuid.clone())
        .collect()
}

/// A chain whose components need this many MiB (less one, for their tensors), timed alike on all kinds.
fn needing(mib: &[u64], migs: &MigsDocument) -> Ranking {
    let dag = chain(mib.len());
    let times: &[(&str, f64)] = &[
        ("1g.10gb", 40.0),
        ("2g.20gb", 20.0),
        ("3g.40gb", 14.0),
        ("4g.40gb", 10.0),
        ("7g.80gb", 6.0),
    ];
    let rows: Vec<Row<'_>> = dag
        .ids()
        .iter()
        .zip(mib)
        .map(|(id, mib)| (id.as_str(), mib - 1, times))
        .collect();
    of_chain(&dag, &rows, migs, RankBy::Cv)
}

fn of_chain(dag: &Dag, rows: &[Row<'_>], migs: &MigsDocument, by: RankBy) -> Ranking {
    let profile = Profile::parse(&profile_document(rows), dag).unwrap();
    ranking(
        dag,
        &profile,
        migs,
        Mode::Lanes,
        &RankOptions {
            by,
            ..RankOptions::default()
        },
    )
}

fn reasons(ranking: &Ranking, rejected: &[scheduler::rejection::Rejection]) -> Vec<String> {
    let line =
        |r: &scheduler::rejection::Rejection| format!("{}: {}", ranking.key(r.rank), r.because(ranking));
    rejected.iter().map(line).collect()
}

#[test]
fn the_unsplit_function_is_taken_wherever_it_fits() {
    let dag = dag(PAPER);
    let migs = gpus(&[P1]);
    let ranking = ranking(
        &dag,
        &uniform(&dag, 1000, 10.0),
        &migs,
        Mode::Lanes,
        &RankOptions::default(),
    );

    let placement = placed(&ranking, &migs).unwrap();

    assert_eq!(placement.key, "m1,m2,m3,m4,m5");
    assert_eq!(
        slices(&placement),
        [id("MIG-0000-2")],
        "the smallest slice that holds it"
    );
    assert!(placement.rejected.is_empty());
}

#[test]
fn two_small_slices_serve_what_no_single_free_slice_can() {
    let migs = gpus(&[&["2g.20gb", "1g.10gb"]]);
    let ranking = needing(&[15_000, 5_000], &migs);

    let placement = placed(&ranking, &migs).unwrap();

    assert_eq!(placement.key, "n01|n02");
    assert_eq!(slices(&placement), [id("MIG-0000-0"), id("MIG-0000-1")]);
    assert_eq!(
        reasons(&ranking, &placement.rejected),
        ["n01,n02: lane n01,n02 needs 19999 MiB; the largest slice (2g.20gb) has 19968 MiB"]
    );
}

#[test]
fn the_largest_lane_goes_first_so_that_a_small_one_does_not_strand_it() {
    let migs = gpus(&[&["2g.20gb", "1g.10gb"]]);
    let ranking = needing(&[5_000, 15_000], &migs);

    let placement = placed(&ranking, &migs).unwrap();

    assert_eq!(slices(&placement), [id("MIG-0000-1"), id("MIG-0000-0")]);
}

#[test]
fn what_a_slice_holds_is_its_memory_and_not_its_name() {
    let migs = gpus(&[&["1g.10gb"]]);

    assert!(placed(&needing(&[9_856], &migs), &migs).is_ok());
    assert!(placed(&needing(&[9_857], &migs), &migs).is_err());
}

#[test]
fn rejections_say_what_is_needed_and_what_there_is() {
    let migs = gpus(&[P1]);
    let ranking = needing(&[15_000, 9_000, 9_000], &migs);
    let mut left = free(&migs);
    left.take(&id("MIG-0000-0"));

    let refused = place(&ranking, &left, PlaceOptions::default()).unwrap_err();

    assert_eq!(
        reasons(&ranking, &refused.rejected),
        [
            "n01,n02,n03: lane n01,n02,n03 needs 32998 MiB; the largest free slice (2g.20gb) has 19968 MiB",
            "n01|n02|n03: lane n03 needs 9000 MiB; 3 lanes compete for 2 free slices that can take them",
            "n01,n02|n03: lane n01,n02 needs 23999 MiB; the largest free slice (2g.20gb) has 19968 MiB",
            "n01|n02,n03: lane n01 needs 15000 MiB; 2 lanes compete for 1 free slice that can take them",
        ]
    );
    assert_eq!(
        refused.because(&ranking),
        "none of 4 partitions fits the free slices; the least demanding, n01|n02|n03: \
         lane n03 needs 9000 MiB; 3 lanes compete for 2 free slices that can take them"
    );
}

#[test]
fn without_a_free_slice_that_is_the_reason() {
    let migs = gpus(&[&["1g.10gb"]]);
    let ranking = needing(&[1_000], &migs);
    let mut left = free(&migs);
    left.take(&id("MIG-0000-0"));

    let refused = place(&ranking, &left, PlaceOptions::default()).unwrap_err();

    assert_eq!(reasons(&ranking, &refused.rejected), ["n01: no slice is free"]);
}

#[test]
fn a_component_without_a_time_on_the_free_slices_is_the_reason() {
    let migs = gpus(&[&["2g.20gb"]]);
    let rows: [Row<'_>; 2] = [("n01", 10, &[("2g.20gb", 5.0)]), ("n02", 10, &[("1g.10gb", 5.0)])];
    let ranking = of_chain(&chain(2), &rows, &migs, RankBy::Cv);

    let refused = placed(&ranking, &migs).unwrap_err();

    assert_eq!(
        reasons(&ranking, &refused.rejected),
        [
            "n01,n02: lane n01,n02 would fit 2g.20gb, but n02 has no time on 2g.20gb",
            "n01|n02: lane n02 would fit 2g.20gb, but n02 has no time on 2g.20gb",
        ]
    );
}

#[test]
fn a_missing_row_does_not_hide_a_placement() {
    // Best fit gives the larger n01 the 1g slice, which is the only one that n02 was measured on.
    let migs = gpus(&[&["2g.20gb", "1g.10gb"]]);
    let rows: [Row<'_>; 2] = [
        ("n01", 9_000, &[("1g.10gb", 5.0), ("2g.20gb", 5.0)]),
        ("n02", 8_000, &[("1g.10gb", 5.0)]),
    ];
    let ranking = of_chain(&chain(2), &rows, &migs, RankBy::Cv);

    let placement = placed(&ranking, &migs).unwrap();

    assert_eq!(placement.key, "n01|n02");
    assert_eq!(slices(&placement), [id("MIG-0000-0"), id("MIG-0000-1")]);
}

#[test]
fn neighbouring_stages_share_a_gpu_where_they_can() {
    let migs = gpus(&[&["1g.10gb"], &["1g.10gb", "2g.20gb"], &["2g.20gb", "1g.10gb"]]);
    let ranking = needing(&[15_000, 5_000], &migs);

    let placement = placed(&ranking, &migs).unwrap();

    assert_eq!(slices(&placement), [id("MIG-0001-1"), id("MIG-0001-0")]);
}

#[test]
fn else_the_gpu_with_the_fewest_free_slices_is_used_up_first() {
    let migs = gpus(&[P1, &["2g.20gb", "1g.10gb"], P1]);
    let ranking = needing(&[1_000], &migs);

    assert_eq!(slices(&placed(&ranking, &migs).unwrap()), [id("MIG-0001-1")]);
}

#[test]
fn latency_is_all_stages_and_transfers_and_the_bottleneck_the_longest_stage() {
    let migs = gpus(&[&["2g.20gb", "1g.10gb"]]);
    let ranking = needing(&[15_000, 5_000], &migs);

    let placement = placed(&ranking, &migs).unwrap();

    assert_eq!(placement.bottleneck, Duration::from_millis(40));
    // One frame there and one back, 4000 bytes each.
    let frame = ranking.options.transfer.time(proto::unit::Bytes(4000));
    assert_eq!(placement.transfer, 2 * frame);
    assert_eq!(placement.latency, Duration::from_millis(60) + 2 * frame);
    assert_eq!(placement.stages(), 2);
}

#[test]
fn the_slo_is_checked_on_the_slices_really_taken() {
    let migs = gpus(&[P1]);
    let ranking = needing(&[9_000, 9_000], &migs);
    let check = |ms| {
        let slo = Some(Duration::from_millis(ms));
        place(
            &ranking,
            &free(&migs),
            PlaceOptions {
                slo,
                slo_check: true,
                ..PlaceOptions::default()
            },
        )
        .unwrap()
    };

    // Unsplit on 2g: 40 ms. Split on 1g and 2g: 60 ms and transfers.
    assert_eq!(check(40).key, "n01,n02");
    assert!(check(40).rejected.is_empty());
    let missed = check(39);
    assert_eq!(missed.key, "n01,n02", "none meets it, and this comes closest");
    assert_eq!(
        reasons(&ranking, &missed.rejected),
        ["n01|n02: it would take 60.6 ms on the free slices; the SLO is 39.0 ms"]
    );
}

#[test]
fn throughput_takes_the_shortest_bottleneck_on_the_free_slices() {
    let migs = gpus(&[P1]);
    let times: &[(&str, f64)] = &[("1g.10gb", 40.0), ("2g.20gb", 20.0), ("4g.40gb", 10.0)];
    let rows: [Row<'_>; 2] = [("n01", 1_000, times), ("n02", 1_000, times)];
    let ranking = of_chain(&chain(2), &rows, &migs, RankBy::Throughput);

    let placement = placed(&ranking, &migs).unwrap();

    // Unsplit 20 ms on 4g; split on 2g and 4g is no quicker and takes two slices.
    assert_eq!(placement.key, "n01,n02");
    assert_eq!(slices(&placement), [id("MIG-0000-0")]);
    assert_eq!(
        reasons(&ranking, &placement.rejected),
        ["n01|n02: its slowest stage takes 20.0 ms too, with more slices or latency"]
    );

    let two = gpus(&[P1, P1]);
    let placement = placed(&ranking, &two).unwrap();

    assert_eq!(placement.key, "n01|n02");
    assert_eq!(slices(&placement), [id("MIG-0000-0"), id("MIG-0001-0")]);
    assert_eq!(placement.bottleneck, Duration::from_millis(10));
    assert_eq!(
        reasons(&ranking, &placement.rejected),
        ["n01,n02: its slowest stage takes at least 20.0 ms"]
    );
}

#[test]
fn throughput_weighs_what_each_lane_gains_from_the_same_fast_slice() {
    let migs = machine(&[&[
        ("2g.20gb", 2, 30_000),
        ("3g.40gb", 3, 30_000),
        ("4g.40gb", 4, 30_000),
    ]]);
    let rows: [Row<'_>; 3] = [
        (
            "n01",
            21_000,
            &[("2g.20gb", 100.0), ("3g.40gb", 95.0), ("4g.40gb", 10.0)],
        ),
        (
            "n02",
            21_000,
            &[("2g.20gb", 100.0), ("3g.40gb", 96.0), ("4g.40gb", 5.0)],
        ),
        (
            "n03",
            21_000,
            &[("2g.20gb", 20.0), ("3g.40gb", 30.0), ("4g.40gb", 40.0)],
        ),
    ];
    let ranking = of_chain(&chain(3), &rows, &migs, RankBy::Throughput);

    let placement = placed(&ranking, &migs).unwrap();

    assert_eq!(
        slices(&placement),
        [id("MIG-0000-1"), id("MIG-0000-2"), id("MIG-0000-0")]
    );
    assert_eq!(placement.bottleneck, Duration::from_millis(95));
}

#[test]
fn slo_takes_the_fewest_slices_that_are_fast_enough() {
    let migs = gpus(&[P1, &["1g.10gb"]]);
    let times: &[(&str, f64)] = &[("1g.10gb", 40.0), ("2g.20gb", 20.0), ("4g.40gb", 10.0)];
    let rows: [Row<'_>; 2] = [("n01", 1_000, times), ("n02", 1_000, times)];
    let ranking = of_chain(&chain(2), &rows, &migs, RankBy::Slo);
    let within = |ms| {
        let slo = Some(Duration::from_millis(ms));
        place(
            &ranking,
            &free(&migs),
            PlaceOptions {
                slo,
                ..PlaceOptions::default()
            },
        )
        .unwrap()
    };

    assert_eq!(
        slices(&within(80)),
        [id("MIG-0001-0")],
        "the smallest is fast enough"
    );
    assert_eq!(slices(&within(40)), [id("MIG-0000-1")]);
    assert_eq!(slices(&within(20)), [id("MIG-0000-0")]);
    let impossible = within(19);
    assert_eq!(
        impossible.key, "n01,n02",
        "none is fast enough; this comes closest"
    );
    assert_eq!(impossible.latency, Duration::from_millis(20));
}

#[test]
fn a_free_slice_on_a_profile_that_nobody_measured_is_left_alone() {
    let migs = gpus(&[&["3g.40gb"], &["1g.10gb"]]);
    let rows: [Row<'_>; 1] = [("n01", 1_000, &[("1g.10gb", 40.0)])];
    let ranking = of_chain(&chain(1), &rows, &migs, RankBy::Throughput);

    assert_eq!(slices(&placed(&ranking, &migs).unwrap()), [id("MIG-0001-0")]);
}
