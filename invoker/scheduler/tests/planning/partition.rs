//! The worked examples of FluidFaaS §4.4, with every partition written out.

use crate::given::{PAPER, chain, dag, keys, partitions, profile_document, uniform};
use proto::ffs::ranking::Mode::{Convex, Lanes, Serial};
use scheduler::partition::{MAX_ATOMS, PartitionError, enumerate};
use scheduler::profile::Profile;

const DIAMOND: &str = "x:a a>b a>c b>d c>d";

fn atoms(text: &str) -> Vec<Vec<String>> {
    let dag = dag(text);
    let atoms = scheduler::partition::atoms(&dag);
    let names =
        |atom: &scheduler::partition::Atom| atom.components.iter().map(|c| dag.id(c).to_string()).collect();
    atoms.iter().map(names).collect()
}

#[test]
fn a_chain_is_cut_or_not_at_each_gap() {
    assert_eq!(
        keys(&chain(3), Serial),
        ["n01,n02,n03", "n01|n02,n03", "n01,n02|n03", "n01|n02|n03"]
    );
    assert_eq!(keys(&chain(3), Lanes), keys(&chain(3), Serial));
}

#[test]
fn a_single_component_has_one_partition() {
    for mode in [Serial, Lanes, Convex] {
        assert_eq!(keys(&dag("x:only"), mode), ["only"]);
    }
}

#[test]
fn the_papers_example_spreads_its_two_first_models_where_they_are_a_stage() {
    let dag = dag(PAPER);

    assert_eq!(
        atoms(PAPER),
        [vec!["m1", "m2"], vec!["m3"], vec!["m4"], vec!["m5"]]
    );
    assert_eq!(
        keys(&dag, Serial),
        [
            "m1,m2,m3,m4,m5",
            "m1,m2|m3,m4,m5",
            "m1,m2,m3|m4,m5",
            "m1,m2|m3|m4,m5",
            "m1,m2,m3,m4|m5",
            "m1,m2|m3,m4|m5",
            "m1,m2,m3|m4|m5",
            "m1,m2|m3|m4|m5",
        ]
    );
    assert_eq!(
        keys(&dag, Lanes),
        [
            "m1,m2,m3,m4,m5",
            "m1,m2|m3,m4,m5",
            "m1;m2|m3,m4,m5",
            "m1,m2,m3|m4,m5",
            "m1,m2|m3|m4,m5",
            "m1;m2|m3|m4,m5",
            "m1,m2,m3,m4|m5",
            "m1,m2|m3,m4|m5",
            "m1;m2|m3,m4|m5",
            "m1,m2,m3|m4|m5",
            "m1,m2|m3|m4|m5",
            "m1;m2|m3|m4|m5",
        ]
    );
}

#[test]
fn a_diamond_has_a_region_of_two_branches() {
    let dag = dag(DIAMOND);

    assert_eq!(atoms(DIAMOND), [vec!["a"], vec!["b", "c"], vec!["d"]]);
    assert_eq!(keys(&dag, Serial), ["a,b,c,d", "a|b,c,d", "a,b,c|d", "a|b,c|d"]);
    assert_eq!(
        keys(&dag, Lanes),
        ["a,b,c,d", "a|b,c,d", "a,b,c|d", "a|b,c|d", "a|b;c|d"]
    );
    let mut convex = keys(&dag, Convex);
    convex.sort();
    assert_eq!(
        convex,
        [
            "a,b,c,d", "a,b,c|d", "a,b|c,d", "a,b|c|d", "a,c|b,d", "a,c|b|d", "a|b,c,d", "a|b,c|d",
            "a|b;c|d", "a|b|c,d", "a|c|b,d",
        ]
    );
}

#[test]
fn three_branches_have_38_convex_partitions() {
    let dag = dag("x:a a>b a>c a>d b>e c>e d>e");

    assert_eq!(partitions(&dag, Serial).len(), 4);
    assert_eq!(partitions(&dag, Lanes).len(), 5);
    assert_eq!(partitions(&dag, Convex).len(), 38);
}

#[test]
fn a_skip_edge_makes_what_it_skips_a_region_of_one_branch() {
    let text = "x:a a>b b>c a>c";

    assert_eq!(atoms(text), [["a"], ["b"], ["c"]]);
    assert_eq!(partitions(&dag(text), Lanes).len(), 4);
}

#[test]
fn a_branch_may_be_a_chain() {
    let dag = dag("x:a a>b1 b1>b2 b2>d a>c c>d");

    let extra: Vec<String> = keys(&dag, Lanes)
        .into_iter()
        .filter(|key| !keys(&dag, Serial).contains(key))
        .collect();

    assert_eq!(extra, ["a|b1,b2;c|d"]);
}

#[test]
fn what_is_not_series_parallel_is_one_branch() {
    let text = "x:a a>b a>c b>d b>e c>e d>f e>f";

    assert_eq!(atoms(text), [vec!["a"], vec!["b", "c", "d", "e"], vec!["f"]]);
    assert_eq!(partitions(&dag(text), Lanes).len(), 4);
    assert_eq!(keys(&dag(text), Lanes), keys(&dag(text), Serial));
}

#[test]
fn two_unconnected_chains_have_no_spine() {
    let dag = dag("x:a1 a1>a2 x:b1 b1>b2");

    assert_eq!(keys(&dag, Serial), ["a1,a2,b1,b2"]);
    assert_eq!(keys(&dag, Lanes), ["a1,a2,b1,b2", "a1,a2;b1,b2"]);
}

#[test]
fn a_late_external_input_does_not_change_the_shape() {
    assert_eq!(
        keys(&dag("x:a a>b b>c y:b z:c"), Lanes),
        keys(&dag("x:a a>b b>c"), Lanes)
    );
}

#[test]
fn convex_is_limited_to_eight_components() {
    let nine = chain(9);

    assert_eq!(partitions(&chain(8), Convex).len(), 128);
    let refused = enumerate(&nine, &uniform(&nine, 1, 1.0), Convex).unwrap_err();
    assert_eq!(refused, PartitionError::TooManyForConvex { count: 9 });
    assert_eq!(
        refused.to_string(),
        "mode convex is limited to 8 components; the DAG has 9: use lanes or serial"
    );
}

#[test]
fn beyond_sixteen_atoms_the_neighbours_with_the_smallest_joint_time_are_merged() {
    let dag = chain(18);
    let ids: Vec<String> = dag.ids().iter().map(ToString::to_string).collect();
    // n05 and n06 are the quickest pair; once merged (2 ms), n11 and n12 (4 ms) are.
    let time = |n: usize| match n {
        5 | 6 => 1.0,
        11 | 12 => 2.0,
        _ => 10.0,
    };
    let times: Vec<[(&str, f64); 1]> = (1..=18).map(|n| [("1g.10gb", time(n))]).collect();
    let rows: Vec<_> = ids
        .iter()
        .zip(&times)
        .map(|(id, times)| (id.as_str(), 1, &times[..]))
        .collect();
    let profile = Profile::parse(&profile_document(&rows), &dag).unwrap();

    let partitions = enumerate(&dag, &profile, Lanes).unwrap();

    assert!(partitions.coarsened);
    assert_eq!(partitions.atoms.len(), MAX_ATOMS);
    assert_eq!(partitions.len(), 1 << 15);
    let merged: Vec<Vec<usize>> = partitions
        .atoms
        .iter()
        .map(|atom| atom.components.iter().map(|c| c + 1).collect())
        .filter(|atom: &Vec<usize>| atom.len() > 1)
        .collect();
    assert_eq!(merged, [[5, 6], [11, 12]]);
}

#[test]
fn sixteen_atoms_are_not_merged() {
    assert!(!partitions(&chain(16), Lanes).coarsened);
}
