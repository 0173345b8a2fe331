//! What a lane needs and how long it takes, and which profiles are refused.

use crate::given::{MIB, chain, dag, dag_document, gpus, id, profile_document};
use proto::ffs::profile::{EdgeProfile, ProfileDocument};
use proto::unit::{Bytes, Millis};
use scheduler::dag::{ComponentSet, Dag, Origin};
use scheduler::free::Kind;
use scheduler::profile::Profile;
use std::time::Duration;

const TIMES: &[(&str, f64)] = &[("1g.10gb", 35.0), ("2g.20gb", 19.5)];

/// Two components of 100 and 200 MiB.
fn document() -> ProfileDocument {
    profile_document(&[("n01", 100, TIMES), ("n02", 200, &[("1g.10gb", 12.0)])])
}

fn parsed(document: &ProfileDocument) -> Profile {
    Profile::parse(document, &chain(2)).unwrap()
}

/// The sentence that refuses what `change` makes of the document.
fn refused(change: impl FnOnce(&mut ProfileDocument)) -> String {
    let mut document = document();
    change(&mut document);
    Profile::parse(&document, &chain(2))
        .expect_err("it must be refused")
        .to_string()
}

#[test]
fn a_lane_needs_all_weights_one_workspace_one_set_of_tensors_and_one_context() {
    let mut document = document();
    document.context_bytes = Bytes::mib(400);
    let workspace = |document: &mut ProfileDocument, name, mib| {
        document.components.get_mut(&id(name)).unwrap().workspace_bytes = Bytes::mib(mib);
    };
    workspace(&mut document, "n01", 30);
    workspace(&mut document, "n02", 50);

    let profile = parsed(&document);

    // One input and one output of 1000 float32 each.
    let tensors = 2 * 4000;
    assert_eq!(
        profile.memory(ComponentSet::of(0)).0,
        (100 + 30 + 400) * MIB + tensors
    );
    assert_eq!(
        profile.memory(ComponentSet::first_n(2)).0,
        (300 + 50 + 400) * MIB + tensors
    );
}

#[test]
fn components_of_one_lane_share_weights_with_the_same_key() {
    let mut document = dag_document("n01>n02 n02>n03");
    document.nodes[0].weights_key = Some("backbone".to_owned());
    document.nodes[2].weights_key = Some("backbone".to_owned());
    let dag = Dag::parse(&document).unwrap();
    let rows = [("n01", 100, TIMES), ("n02", 200, TIMES), ("n03", 110, TIMES)];

    let profile = Profile::parse(&profile_document(&rows), &dag).unwrap();

    let weights = |lane: &[usize]| profile.memory(lane.iter().copied().collect()).as_mib();
    assert_eq!(weights(&[0, 2]), 110, "the larger measurement, once");
    assert_eq!(weights(&[0]), 110);
    assert_eq!(weights(&[0, 1, 2]), 310);
}

#[test]
fn a_lane_takes_the_sum_of_its_components_where_all_were_measured() {
    let profile = parsed(&document());
    let both = ComponentSet::first_n(2);

    assert_eq!(
        profile.time(both, &id("1g.10gb")),
        Some(Duration::from_millis(47))
    );
    assert_eq!(
        profile.time(ComponentSet::of(0), &id("2g.20gb")),
        Some(Duration::from_micros(19_500))
    );
    assert_eq!(
        profile.time(both, &id("2g.20gb")),
        None,
        "n02 was not measured there"
    );
    assert_eq!(
        profile.time(both, &id("3g.40gb")),
        None,
        "nothing was measured there"
    );
}

#[test]
fn a_measured_edge_replaces_the_size_of_the_shape() {
    let mut document = document();
    document
        .edges
        .insert("n01:0->n02:0".to_owned(), EdgeProfile { bytes: Bytes(77) });
    let dag = chain(2);

    let profile = Profile::parse(&document, &dag).unwrap();

    let edge = Origin::Port {
        component: 0,
        port: 0,
    };
    assert_eq!(profile.tensor_bytes(&dag, edge), Bytes(77));
    assert_eq!(profile.tensor_bytes(&dag, Origin::Input(0)), Bytes(4000));
}

#[test]
fn components_of_profile_and_dag_must_be_the_same() {
    assert_eq!(
        refused(|p| drop(p.components.remove(&id("n02")))),
        "component n02 of the DAG is missing in the profile"
    );
    assert_eq!(
        refused(|p| drop(p.components.insert(id("n03"), p.components[&id("n01")].clone()))),
        "the profile has a component n03, which is not in the DAG"
    );
}

#[test]
fn impossible_values_are_refused() {
    let row = |p: &mut ProfileDocument, change: fn(&mut proto::ffs::profile::ExecutionTimes)| {
        let component = p.components.get_mut(&id("n01")).unwrap();
        change(component.by_mig.get_mut(&id("1g.10gb")).unwrap());
    };

    assert_eq!(
        refused(|p| p.components.get_mut(&id("n01")).unwrap().by_mig.clear()),
        "component n01: `by_mig` is empty; expected a time on at least one slice profile"
    );
    assert_eq!(
        refused(|p| row(p, |row| row.exec_ms_p50 = Millis(0.0))),
        "component n01: exec_ms_p50 on 1g.10gb is 0; expected more than 0 and at most a day"
    );
    assert_eq!(
        refused(|p| row(p, |row| row.exec_ms_p95 = Millis(34.9))),
        "component n01: exec_ms_p95 on 1g.10gb is 34.9; expected at least exec_ms_p50"
    );
    assert_eq!(
        refused(|p| row(p, |row| row.samples = 0)),
        "component n01: samples on 1g.10gb is 0; expected at least 1"
    );
    assert_eq!(
        refused(|p| p.components.get_mut(&id("n02")).unwrap().load_ms = Millis(-1.0)),
        "component n02: load_ms is -1; expected 0 or more and at most a day"
    );
    assert_eq!(
        refused(|p| p.components.get_mut(&id("n02")).unwrap().weights_bytes = Bytes(u64::MAX)),
        "component n02: weights_bytes is 18446744073709551615; expected at most 1 TiB"
    );
    assert_eq!(refused(|p| p.batch = 0), "`batch` is 0; expected at least 1");
}

#[test]
fn an_edge_that_the_dag_does_not_have_is_refused() {
    let with_edge = |edge: &str| {
        refused(|p| {
            p.edges.insert(edge.to_owned(), EdgeProfile { bytes: Bytes(1) });
        })
    };

    assert_eq!(
        with_edge("n02:0->n01:0"),
        "edge \"n02:0->n01:0\": the DAG has no such edge"
    );
    assert_eq!(
        with_edge("n01:0->n09:0"),
        "edge \"n01:0->n09:0\": component \"n09\" is not in the DAG"
    );
    assert_eq!(
        with_edge("n01:0"),
        "edge \"n01:0\": expected source:port->destination:port"
    );
    assert_eq!(
        with_edge("n01:x->n02:0"),
        "edge \"n01:x->n02:0\": \"x\" is not a port number"
    );
}

#[test]
fn a_component_that_no_slice_holds_is_named_with_the_largest_slice() {
    let dag = dag("a>b");
    let document = profile_document(&[("a", 10_000, TIMES), ("b", 41_000, TIMES)]);
    let profile = Profile::parse(&document, &dag).unwrap();
    let migs = gpus(&[&["4g.40gb", "2g.20gb"]]);

    let refused = profile.check_fits(&dag, &Kind::all(&migs)).unwrap_err();

    assert_eq!(
        refused.to_string(),
        "component b needs 41001 MiB on a slice of its own; the largest slice (4g.40gb) has 40192 MiB"
    );
    assert!(
        profile
            .check_fits(&dag, &Kind::all(&gpus(&[&["7g.80gb"]])))
            .is_ok()
    );
    assert_eq!(
        profile.check_fits(&dag, &[]).unwrap_err().to_string(),
        "component b needs 41001 MiB on a slice of its own; there is no slice"
    );
}

#[test]
fn loading_and_swapping_a_lane_is_that_of_its_components() {
    let profile = parsed(&document());
    let both = ComponentSet::first_n(2);

    assert_eq!(profile.load_time(both), Duration::from_millis(200));
    assert_eq!(profile.swap_in_time(both), Duration::from_millis(40));
    assert_eq!(
        profile.swap_out_time(ComponentSet::of(1)),
        Duration::from_millis(10)
    );
}
