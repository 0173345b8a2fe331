//! Where instances run: which partition, which slices, and why not the others.

mod given;

use given::{PAPER, chain, dag, gpus, id, machine, placed, profile_document, ranking, uniform};
use proto::ffs::ranking::Mode;
use proto::id::SliceUuid;
use scheduler::profile::Profile;
use scheduler::ranking::RankOptions;

const P1: &[&str] = &["4g.40gb", "2g.20gb", "1g.10gb"];

fn slices(placement: &scheduler::placement::Placement) -> Vec<SliceUuid> {
    placement
        .lanes
        .iter()
        .map(|lane| lane.slice.uuid.clone())
        .collect()
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
    assert_eq!(slices(&placement), [id("MIG-0000-2")]);
    assert!(placement.rejected.is_empty());
}

#[test]
fn two_small_slices_serve_what_no_single_free_slice_can() {
    let dag = chain(2);
    let times: &[(&str, f64)] = &[("1g.10gb", 10.0), ("2g.20gb", 6.0)];
    let document = profile_document(&[("n01", 15_000, times), ("n02", 5_000, times)]);
    let profile = Profile::parse(&document, &dag).unwrap();
    let migs = machine(&[&[("2g.20gb", 2, 19968), ("1g.10gb", 1, 9856)]]);
    let ranking = ranking(&dag, &profile, &migs, Mode::Lanes, &RankOptions::default());

    let placement = placed(&ranking, &migs).unwrap();

    assert_eq!(placement.key, "n01|n02");
    assert_eq!(slices(&placement), [id("MIG-0000-0"), id("MIG-0000-1")]);
    assert_eq!(
        placement.rejected[0].because(&ranking).to_string(),
        "lane n01,n02 needs 20001 MiB; the largest slice (2g.20gb) has 19968 MiB"
    );
}
