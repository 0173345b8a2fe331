//! The order of partitions: CV by hand, deviations, references, ties and what is dropped.

use crate::given::{Row, chain, dag, gpus, id, profile_document, ranking, uniform};
use proto::ffs::migs::MigsDocument;
use proto::ffs::ranking::{Deviation, Mode};
use proto::unit::{Bytes, Millis};
use scheduler::dag::Dag;
use scheduler::profile::Profile;
use scheduler::ranking::{RankBy, RankOptions, Ranking, Reference, rank};
use std::num::NonZeroUsize;

fn machine() -> MigsDocument {
    gpus(&[&["4g.40gb", "2g.20gb", "1g.10gb"]])
}

/// A chain with these times on 1g, each component of 1 MiB.
fn timed(times: &[f64], options: &RankOptions) -> Ranking {
    let dag = chain(times.len());
    let times: Vec<[(&str, f64); 1]> = times.iter().map(|ms| [("1g.10gb", *ms)]).collect();
    let rows: Vec<Row<'_>> = dag
        .ids()
        .iter()
        .zip(&times)
        .map(|(id, t)| (id.as_str(), 1, &t[..]))
        .collect();
    let profile = Profile::parse(&profile_document(&rows), &dag).unwrap();
    ranking(&dag, &profile, &machine(), Mode::Lanes, options)
}

fn keys(ranking: &Ranking) -> Vec<String> {
    (0..ranking.len()).map(|rank| ranking.key(rank)).collect()
}

fn cv_of(ranking: &Ranking, key: &str) -> f64 {
    ranking.cv(ranking.find(key).expect("the partition exists"))
}

#[test]
fn cv_is_deviation_over_mean_of_the_stage_times() {
    let ranking = timed(&[35.0, 12.0], &RankOptions::default());

    // mean 23.5, both 11.5 away from it
    assert_eq!(cv_of(&ranking, "n01|n02"), 0.489361702);
    assert_eq!(cv_of(&ranking, "n01,n02"), 0.0);
}

#[test]
fn the_sample_deviation_divides_by_one_less() {
    let population = timed(&[1.0, 2.0, 3.0], &RankOptions::default());
    let sample = timed(
        &[1.0, 2.0, 3.0],
        &RankOptions {
            std: Deviation::Sample,
            ..RankOptions::default()
        },
    );

    assert_eq!(cv_of(&population, "n01|n02|n03"), 0.408248290); // sqrt(2/3) / 2
    assert_eq!(cv_of(&sample, "n01|n02|n03"), 0.5); // sqrt(2/2) / 2
    assert_eq!(
        cv_of(&sample, "n01,n02,n03"),
        0.0,
        "one stage has nothing to vary"
    );
}

#[test]
fn the_deviation_changes_the_order_between_partitions_of_different_length() {
    let times = [8.0, 9.0, 12.0];

    let population = timed(&times, &RankOptions::default());
    let sample = timed(
        &times,
        &RankOptions {
            std: Deviation::Sample,
            ..RankOptions::default()
        },
    );

    assert_eq!(keys(&population)[1..3], ["n01,n02|n03", "n01|n02|n03"]);
    assert_eq!(keys(&sample)[1..3], ["n01|n02|n03", "n01,n02|n03"]);
}

#[test]
fn the_unsplit_function_is_first_and_equal_stages_come_before_unequal_ones() {
    let ranking = timed(&[10.0, 10.0, 20.0], &RankOptions::default());

    assert_eq!(
        keys(&ranking),
        ["n01,n02,n03", "n01,n02|n03", "n01|n02|n03", "n01|n02,n03"]
    );
}

#[test]
fn ties_are_broken_by_stages_then_memory_then_key() {
    let ranking = timed(&[10.0, 10.0, 10.0, 10.0], &RankOptions::default());

    let zeroes: Vec<String> = keys(&ranking)
        .into_iter()
        .filter(|key| cv_of(&ranking, key) == 0.0)
        .collect();

    assert_eq!(zeroes, ["n01,n02,n03,n04", "n01,n02|n03,n04", "n01|n02|n03|n04"]);
    let mirrored: Vec<String> = keys(&ranking)
        .into_iter()
        .filter(|key| key.matches('|').count() == 2)
        .collect();
    assert_eq!(
        mirrored,
        ["n01,n02|n03|n04", "n01|n02,n03|n04", "n01|n02|n03,n04"]
    );
}

#[test]
fn parallel_lanes_count_as_their_longest() {
    let dag = dag("x:a x:b a>c b>c");
    let rows: [Row<'_>; 3] = [
        ("a", 1, &[("1g.10gb", 10.0)]),
        ("b", 1, &[("1g.10gb", 30.0)]),
        ("c", 1, &[("1g.10gb", 30.0)]),
    ];
    let profile = Profile::parse(&profile_document(&rows), &dag).unwrap();

    let ranking = ranking(&dag, &profile, &machine(), Mode::Lanes, &RankOptions::default());

    assert_eq!(cv_of(&ranking, "a;b|c"), 0.0);
    assert!(cv_of(&ranking, "a,b|c") > 0.1);
}

#[test]
fn each_lane_is_timed_on_the_smallest_slice_that_holds_it() {
    let dag = chain(2);
    let times: &[(&str, f64)] = &[("1g.10gb", 40.0), ("2g.20gb", 20.0), ("4g.40gb", 10.0)];
    let document = profile_document(&[("n01", 9_000, times), ("n02", 11_000, times)]);
    let profile = Profile::parse(&document, &dag).unwrap();

    let ranking = ranking(&dag, &profile, &machine(), Mode::Lanes, &RankOptions::default());

    let document = ranking.document("sha256:00".to_owned());
    let split = document.partitions.iter().find(|p| p.key == "n01|n02").unwrap();
    let lane = |stage: usize| &split.stages[stage].lanes[0];
    assert_eq!(
        (lane(0).min_profile.clone(), lane(0).time_ms),
        (Some(id("1g.10gb")), Millis(40.0))
    );
    assert_eq!(
        (lane(1).min_profile.clone(), lane(1).time_ms),
        (Some(id("2g.20gb")), Millis(20.0))
    );
    let whole = &document.partitions[0].stages[0].lanes[0];
    assert_eq!(
        (whole.min_profile.clone(), whole.time_ms),
        (Some(id("4g.40gb")), Millis(20.0))
    );
}

#[test]
fn a_slice_without_times_is_not_the_smallest_that_fits() {
    let dag = chain(1);
    let document = profile_document(&[("n01", 1, &[("2g.20gb", 20.0)])]);
    let profile = Profile::parse(&document, &dag).unwrap();

    let ranking = ranking(&dag, &profile, &machine(), Mode::Lanes, &RankOptions::default());

    let document = ranking.document(String::new());
    assert_eq!(
        document.partitions[0].stages[0].lanes[0].min_profile,
        Some(id("2g.20gb"))
    );
}

#[test]
fn what_no_slice_holds_has_no_smallest_profile_and_its_slowest_time() {
    let dag = chain(1);
    let times: &[(&str, f64)] = &[("1g.10gb", 40.0), ("2g.20gb", 20.0)];
    let document = profile_document(&[("n01", 50_000, times)]);
    let profile = Profile::parse(&document, &dag).unwrap();

    let ranking = ranking(&dag, &profile, &machine(), Mode::Lanes, &RankOptions::default());

    let lane = ranking.document(String::new()).partitions[0].stages[0].lanes[0].clone();
    assert_eq!((lane.min_profile, lane.time_ms), (None, Millis(40.0)));
}

#[test]
fn a_named_reference_times_all_lanes_on_one_profile() {
    let dag = chain(2);
    let rows: [Row<'_>; 2] = [
        ("n01", 9_000, &[("1g.10gb", 40.0), ("2g.20gb", 10.0)]),
        ("n02", 11_000, &[("1g.10gb", 40.0), ("2g.20gb", 30.0)]),
    ];
    let profile = Profile::parse(&profile_document(&rows), &dag).unwrap();
    let on = |profile_name: &str| {
        let reference = Reference::Profile(id(profile_name));
        let options = RankOptions {
            reference,
            ..RankOptions::default()
        };
        ranking(&dag, &profile, &machine(), Mode::Lanes, &options)
    };

    assert_eq!(cv_of(&on("1g.10gb"), "n01|n02"), 0.0);
    assert_eq!(cv_of(&on("2g.20gb"), "n01|n02"), 0.5);
    assert_eq!(on("2g.20gb").document(String::new()).reference, "ref:2g.20gb");
}

#[test]
fn a_reference_that_was_not_measured_is_refused() {
    let dag = chain(2);
    let profile = uniform(&dag, 1, 1.0);
    let partitions = scheduler::partition::enumerate(&dag, &profile, Mode::Lanes).unwrap();
    let reference = Reference::Profile(id("1g.5gb"));
    let options = RankOptions {
        reference,
        ..RankOptions::default()
    };

    let refused = rank(&dag, &profile, &partitions, &[], &options).unwrap_err();

    assert_eq!(
        refused.to_string(),
        "reference profile 1g.5gb was not measured; the profile has 1g.10gb, 2g.20gb, 3g.40gb, 4g.40gb, 7g.80gb"
    );
}

#[test]
fn transfers_count_when_they_are_asked_for() {
    let with = RankOptions {
        include_transfer: true,
        ..RankOptions::default()
    };

    let without = timed(&[10.0, 10.0], &RankOptions::default());
    let with = timed(&[10.0, 10.0], &with);

    assert_eq!(cv_of(&without, "n01|n02"), 0.0);
    assert!(
        cv_of(&with, "n01|n02") > 0.0,
        "the second stage receives, the first one does not"
    );
}

#[test]
fn throughput_prefers_the_shortest_bottleneck_and_slo_the_fewest_slices() {
    let by = |by| {
        timed(
            &[10.0, 10.0, 20.0],
            &RankOptions {
                by,
                ..RankOptions::default()
            },
        )
    };

    assert_eq!(keys(&by(RankBy::Throughput))[..2], ["n01,n02|n03", "n01|n02|n03"]);
    assert_eq!(keys(&by(RankBy::Slo))[0], "n01,n02,n03");
    assert_eq!(keys(&by(RankBy::Slo))[3], "n01|n02|n03");
}

#[test]
fn the_partition_with_the_smallest_largest_lane_is_never_dropped() {
    // Fully split, n04 is the largest lane; its CV is the worst of all.
    let options = RankOptions {
        max_ranked: NonZeroUsize::new(3).unwrap(),
        ..RankOptions::default()
    };

    let few = timed(&[1.0, 1.0, 1.0, 100.0], &options);

    let all = timed(&[1.0, 1.0, 1.0, 100.0], &RankOptions::default());
    assert_eq!((few.total, few.len()), (8, 3));
    assert_eq!(keys(&few)[..2], keys(&all)[..2]);
    assert_eq!(keys(&few)[2], "n01|n02|n03|n04");
    assert_eq!(few.least_demanding(), 2);
}

#[test]
fn the_document_lists_what_was_computed() {
    let dag = dag(crate::given::PAPER);
    let ranking = ranking(
        &dag,
        &uniform(&dag, 100, 5.0),
        &machine(),
        Mode::Lanes,
        &RankOptions::default(),
    );

    let document = ranking.document("sha256:00ff".to_owned());

    assert_eq!(
        (document.total, document.kept, document.coarsened),
        (12, 12, None)
    );
    assert_eq!(document.profile_hash, "sha256:00ff");
    assert_eq!(document.atoms[0], [id("m1"), id("m2")]);
    assert_eq!(
        document.partitions.iter().map(|p| p.rank).collect::<Vec<_>>(),
        (0..12).collect::<Vec<_>>()
    );
    assert!(document.partitions.is_sorted_by(|a, b| a.cv <= b.cv));
    let whole = &document.partitions[0].stages[0].lanes[0];
    assert_eq!(
        whole.memory_bytes,
        Bytes((500 << 20) + 3 * 4000),
        "m3 and m5 have three tensors"
    );
}

#[test]
fn the_kinds_of_the_machine_may_come_in_any_order() {
    let dag: Dag = chain(3);
    let profile = uniform(&dag, 4000, 5.0);
    let partitions = scheduler::partition::enumerate(&dag, &profile, Mode::Lanes).unwrap();
    let mut kinds = scheduler::free::Kind::all(&machine());
    let sorted = rank(&dag, &profile, &partitions, &kinds, &RankOptions::default()).unwrap();
    kinds.reverse();

    let reversed = rank(&dag, &profile, &partitions, &kinds, &RankOptions::default()).unwrap();

    assert_eq!(sorted.document(String::new()), reversed.document(String::new()));
}
