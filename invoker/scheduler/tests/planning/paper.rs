//! The paper's applications, variants and layouts (FluidFaaS §10), with memory numbers that are
//! consistent with its table; the numbers themselves were never published.

use crate::given::{Row, chain, free, gpus, profile_document, ranking};
use proto::ffs::migs::MigsDocument;
use proto::ffs::ranking::Mode;
use scheduler::policy::find;
use scheduler::profile::Profile;
use scheduler::ranking::{RankOptions, Ranking};
use std::collections::BTreeMap;
use std::time::Duration;

const P1: &[&str] = &["4g.40gb", "2g.20gb", "1g.10gb"];
const P2: &[&str] = &["3g.40gb", "2g.20gb", "2g.20gb"];

/// Smaller slices are slower, but by less than their share of the GPU.
const TIMES: &[(&str, f64)] = &[
    ("1g.10gb", 100.0),
    ("2g.20gb", 55.0),
    ("3g.40gb", 48.0),
    ("4g.40gb", 45.0),
    ("7g.80gb", 40.0),
];

/// A chain of components of this size each.
fn app(components: usize, mib: u64, migs: &MigsDocument) -> Ranking {
    let dag = chain(components);
    let rows: Vec<Row<'_>> = dag.ids().iter().map(|id| (id.as_str(), mib, TIMES)).collect();
    let profile = Profile::parse(&profile_document(&rows), &dag).unwrap();
    ranking(&dag, &profile, migs, Mode::Lanes, &RankOptions::default())
}

/// The smallest slice for the whole function, and for the largest lane when fully split.
fn minimum(ranking: &Ranking) -> (Option<String>, Option<String>) {
    let document = ranking.document(String::new());
    let least = &document.partitions[ranking.least_demanding()];
    let lanes = least.stages.iter().flat_map(|stage| &stage.lanes);
    let largest = lanes.max_by_key(|lane| lane.memory_bytes).unwrap();
    let whole = &document.partitions[0].stages[0].lanes[0];
    let name = |profile: &Option<proto::id::ProfileName>| profile.as_ref().map(ToString::to_string);
    (name(&whole.min_profile), name(&largest.min_profile))
}

#[test]
fn the_table_of_variants_comes_out_as_printed() {
    let all = gpus(&[&["4g.40gb", "3g.40gb"], &["2g.20gb", "1g.10gb"]]);
    let p1 = gpus(&[P1]);
    let some = |baseline: &str, fluid: &str| (Some(baseline.to_owned()), Some(fluid.to_owned()));

    // Applications 1 to 3: three components each.
    assert_eq!(minimum(&app(3, 2_500, &all)), some("1g.10gb", "1g.10gb"), "small");
    assert_eq!(
        minimum(&app(3, 5_500, &all)),
        some("2g.20gb", "1g.10gb"),
        "medium"
    );
    assert_eq!(
        minimum(&app(3, 12_000, &all)),
        some("3g.40gb", "2g.20gb"),
        "large"
    );
    // Application 4: five. Medium names 4g.40gb, which is P1's only slice of that memory.
    assert_eq!(minimum(&app(5, 3_000, &all)), some("2g.20gb", "1g.10gb"), "small");
    assert_eq!(minimum(&app(5, 7_000, &p1)), some("4g.40gb", "1g.10gb"), "medium");
    assert_eq!(minimum(&app(5, 50_000, &p1)), (None, None), "large does not run");
}

#[test]
fn esg_takes_the_minimum_slice_of_each_variant_or_the_next_larger_one_that_is_free() {
    let all = gpus(&[&["4g.40gb", "3g.40gb"], &["2g.20gb", "1g.10gb"]]);
    let esg = find("esg").unwrap();
    for (components, mib, smallest, next) in [
        (3, 2_500, "1g.10gb", "2g.20gb"),
        (3, 5_500, "2g.20gb", "3g.40gb"),
        (3, 12_000, "3g.40gb", "4g.40gb"),
        (5, 3_000, "2g.20gb", "3g.40gb"),
    ] {
        let ranking = app(components, mib, &all);
        let mut free = free(&all);
        for expected in [smallest, next] {
            // The SLO is a multiple of the time on the smallest, which therefore always meets it.
            let slo = Some(Duration::from_secs(2));
            let placement = esg.place(&ranking, &free, slo).unwrap();
            assert_eq!(placement.lanes.len(), 1);
            assert_eq!(placement.lanes[0].slice.profile.as_str(), expected);
            assert!(free.take(&placement.lanes[0].slice.uuid));
        }
    }
}

#[test]
fn esg_passes_over_slices_that_are_too_slow_and_whole_does_not() {
    let migs = gpus(&[P1]);
    // 300 ms on 1g, 165 ms on 2g, 135 ms on 4g.
    let ranking = app(3, 2_500, &migs);
    let taken = |policy: &str, ms| {
        let slo = Some(Duration::from_millis(ms));
        let placement = find(policy).unwrap().place(&ranking, &free(&migs), slo).unwrap();
        placement.lanes[0].slice.profile.to_string()
    };
    assert_eq!(taken("esg", 400), "1g.10gb");
    assert_eq!(taken("esg", 200), "2g.20gb");
    assert_eq!(taken("esg", 100), "4g.40gb", "nothing meets it: the fastest");
    assert_eq!(taken("whole", 100), "1g.10gb");
}

#[test]
fn policies_of_one_slice_say_what_the_whole_function_needs() {
    let migs = gpus(&[&["2g.20gb", "1g.10gb"]]);
    let ranking = app(3, 12_000, &migs);
    for policy in ["esg", "whole"] {
        let none = find(policy)
            .unwrap()
            .place(&ranking, &free(&migs), None)
            .unwrap_err();
        let because = none.because(&ranking);
        assert!(
            because.contains("n01,n02,n03: lane n01,n02,n03 needs 36001 MiB"),
            "{because}"
        );
    }
}

/// Places instances until none fits; which slices each policy used.
fn filled(ranking: &Ranking, migs: &MigsDocument, policy: &str) -> BTreeMap<String, usize> {
    let mut free = free(migs);
    let mut used = BTreeMap::new();
    while let Ok(placement) = find(policy).unwrap().place(ranking, &free, None) {
        for lane in &placement.lanes {
            assert!(free.take(&lane.slice.uuid));
            *used.entry(lane.slice.profile.to_string()).or_default() += 1;
        }
    }
    used
}

fn used(expected: &[(&str, usize)]) -> BTreeMap<String, usize> {
    expected
        .iter()
        .map(|(profile, count)| ((*profile).to_owned(), *count))
        .collect()
}

#[test]
fn in_the_heavy_workload_the_baseline_is_stuck_on_4g_and_pipelines_use_the_2g_slices_too() {
    let migs = gpus(&[P1; 8]);
    let heavy = app(3, 12_000, &migs);

    assert_eq!(filled(&heavy, &migs, "esg"), used(&[("4g.40gb", 8)]));
    // Three lanes on three 2g slices: two pipelines use six of the eight.
    assert_eq!(
        filled(&heavy, &migs, "fluidfaas"),
        used(&[("4g.40gb", 8), ("2g.20gb", 6)])
    );
}

#[test]
fn in_the_medium_workload_pipelines_use_every_slice_and_the_baseline_none_of_the_1g() {
    let migs = gpus(&[P1; 9]);
    let medium = app(3, 5_500, &migs);

    assert_eq!(
        filled(&medium, &migs, "esg"),
        used(&[("2g.20gb", 9), ("4g.40gb", 9)])
    );
    assert_eq!(
        filled(&medium, &migs, "fluidfaas"),
        used(&[("1g.10gb", 9), ("2g.20gb", 9), ("4g.40gb", 9)])
    );
}

#[test]
fn in_layout_p2_the_heavy_workload_fits_the_3g_slices_and_pipelines_on_pairs_of_2g() {
    let migs = gpus(&[P2; 3]);
    // Two components of one lane still fit 2g here.
    let heavy = app(3, 9_900, &migs);

    assert_eq!(filled(&heavy, &migs, "esg"), used(&[("3g.40gb", 3)]));
    assert_eq!(
        filled(&heavy, &migs, "fluidfaas"),
        used(&[("3g.40gb", 3), ("2g.20gb", 6)])
    );
}

#[test]
fn in_the_hybrid_layout_the_heavy_workload_runs_on_everything_from_2g_up() {
    let seven: &[&str] = &["1g.10gb"; 7];
    let three: &[&str] = &["2g.20gb", "2g.20gb", "2g.20gb", "1g.10gb"];
    let two: &[&str] = &["4g.40gb", "3g.40gb"];
    let migs = gpus(&[seven, three, three, two, two, two, two, P1]);
    let heavy = app(3, 12_000, &migs);

    assert_eq!(
        filled(&heavy, &migs, "esg"),
        used(&[("3g.40gb", 4), ("4g.40gb", 5)])
    );
    assert_eq!(
        filled(&heavy, &migs, "fluidfaas"),
        used(&[("2g.20gb", 6), ("3g.40gb", 4), ("4g.40gb", 5)])
    );
}
