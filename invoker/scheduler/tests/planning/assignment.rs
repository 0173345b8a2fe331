//! Lanes and rings of an instance.

use crate::given::{PAPER, dag, dag_document, gpus, id, placed, profile_document, ranking, uniform};
use proto::ffs::Document;
use proto::ffs::assignment::{AssignmentDocument, Batch, LaneSlice, Ring, RingTensor};
use proto::ffs::dag::{Dim, Dtype, NodeInput, Output};
use proto::ffs::ranking::Mode;
use proto::unit::{Bytes, Millis};
use scheduler::assignment::{
    AssignOptions, assign, in_flight_limit, ring_bytes, room_for_rings, with_replica, without_replica,
};
use scheduler::dag::Dag;
use scheduler::profile::Profile;
use scheduler::ranking::RankOptions;
use std::collections::BTreeSet;
use std::time::Duration;

fn options() -> AssignOptions {
    AssignOptions {
        instance: id("i-7"),
        epoch: 1,
        policy: "fluidfaas".to_owned(),
        slo: Some(Duration::from_millis(141)),
        batch: Batch {
            max: 1,
            wait_ms: Millis(0.0),
        },
    }
}

/// The assignment of the partition with this key on as many 1g slices as it has lanes.
fn assigned(dag: &Dag, key: &str) -> AssignmentDocument {
    let lanes = key.split(['|', ';']).count();
    let migs = gpus(&[&vec!["1g.10gb"; lanes]]);
    // So heavy that nothing with fewer lanes fits.
    let largest = key
        .split(['|', ';'])
        .map(|lane| lane.split(',').count())
        .max()
        .unwrap();
    let weights = 9_800 / largest as u64;
    let ranking = ranking(
        dag,
        &uniform(dag, weights, 10.0),
        &migs,
        Mode::Lanes,
        &RankOptions::default(),
    );
    let placement = placed(&ranking, &migs).unwrap();
    assert_eq!(placement.key, key);
    assign(dag, &placement, &options())
}

/// `producer>consumer: tensor tensor`, one a ring.
fn rings(assignment: &AssignmentDocument) -> Vec<String> {
    let tensor = |tensor: &RingTensor| match tensor {
        RingTensor::Port { node, port } => format!("{node}:{port}"),
        RingTensor::Input { input } => input.clone(),
    };
    let ring = |ring: &Ring| {
        let tensors: Vec<String> = ring.tensors.iter().map(tensor).collect();
        format!("{}>{}: {}", ring.producer, ring.consumer, tensors.join(" "))
    };
    assignment.rings.iter().map(ring).collect()
}

#[test]
fn a_function_of_one_lane_has_no_ring() {
    let assignment = assigned(&dag(PAPER), "m1,m2,m3,m4,m5");

    assert!(assignment.rings.is_empty());
    let lane = &assignment.stages[0].lanes[0];
    assert_eq!(lane.id, id("s0l0"));
    assert_eq!(lane.components, ["m1", "m2", "m3", "m4", "m5"].map(id));
    assert!(lane.rings_in.is_empty() && lane.rings_out.is_empty());
}

#[test]
fn a_chain_has_a_ring_for_each_boundary_and_one_back_to_the_head() {
    let assignment = assigned(&dag("x:a a>b b>c"), "a|b|c");

    assert_eq!(
        rings(&assignment),
        ["s0l0>s1l0: a:0", "s1l0>s2l0: b:0", "s2l0>s0l0: c:0"]
    );
    let head = &assignment.stages[0].lanes[0];
    assert_eq!(head.rings_in, [id("s2l0-s0l0")]);
    assert_eq!(head.rings_out, [id("s0l0-s1l0")]);
}

#[test]
fn the_papers_example_with_two_lanes_and_a_late_input() {
    let rows = [
        ("m1", 9_000),
        ("m2", 9_000),
        ("m3", 6_000),
        ("m4", 6_000),
        ("m5", 6_000),
    ];
    let times: &[(&str, f64)] = &[("1g.10gb", 10.0), ("2g.20gb", 10.0)];
    let rows = rows.map(|(name, mib)| (name, mib, times));
    let dag = dag(PAPER);
    let profile = Profile::parse(&profile_document(&rows), &dag).unwrap();
    let migs = gpus(&[&["1g.10gb", "1g.10gb", "2g.20gb"]]);
    let ranking = ranking(&dag, &profile, &migs, Mode::Lanes, &RankOptions::default());
    let placement = placed(&ranking, &migs).unwrap();

    let assignment = assign(&dag, &placement, &options());

    assert_eq!(placement.key, "m1;m2|m3,m4,m5");
    assert_eq!(
        rings(&assignment),
        [
            "s0l0>s0l1: x",      // the head has all inputs, and m2 reads one
            "s0l0>s1l0: m1:0 y", // m5's late input shares the ring of m1's output
            "s0l1>s1l0: m2:0",
            "s1l0>s0l0: m5:0",
        ]
    );
    let mig = &assignment.stages[1].lanes[0].mig;
    assert_eq!(
        (mig.uuid.as_str(), mig.memory_bytes),
        ("MIG-0000-2", Bytes::mib(19_968))
    );
    assert_eq!(
        (assignment.rank, assignment.cv),
        (placement.rank as u64, placement.cv)
    );
    assert_eq!(assignment.slo_ms, Some(Millis(141.0)));
}

#[test]
fn a_tensor_with_several_consumers_goes_over_each_of_their_rings_once() {
    let assignment = assigned(&dag("x:a a>b a>c b>c"), "a|b|c");

    assert_eq!(
        rings(&assignment),
        [
            "s0l0>s1l0: a:0",
            "s0l0>s2l0: a:0",
            "s1l0>s2l0: b:0",
            "s2l0>s0l0: c:0"
        ]
    );
}

#[test]
fn a_component_that_reads_a_tensor_twice_gets_it_once() {
    let mut document = dag_document("x:a a>b");
    let first = document.nodes[1].inputs[0].clone();
    document.nodes[1].inputs.push(NodeInput { port: 1, ..first });

    let assignment = assigned(&Dag::parse(&document).unwrap(), "a|b");

    assert_eq!(rings(&assignment), ["s0l0>s1l0: a:0", "s1l0>s0l0: b:0"]);
}

#[test]
fn an_intermediate_output_returns_from_where_it_is_made() {
    let mut document = dag_document("x:a a>b b>c");
    let output = |name: &str, node: &str| Output {
        name: name.to_owned(),
        node: id(node),
        port: 0,
    };
    document.outputs.push(output("early", "b"));
    document.outputs.push(output("again", "b"));
    document.outputs.push(output("head's own", "a"));

    let assignment = assigned(&Dag::parse(&document).unwrap(), "a|b|c");

    assert_eq!(
        rings(&assignment),
        [
            "s0l0>s1l0: a:0",
            "s1l0>s0l0: b:0",
            "s1l0>s2l0: b:0",
            "s2l0>s0l0: c:0"
        ]
    );
}

#[test]
fn a_lane_that_reads_nothing_is_told_of_requests_by_the_head() {
    let mut document = dag_document("x:a x:b a>c b>c");
    document
        .nodes
        .iter_mut()
        .find(|node| node.id == id("b"))
        .unwrap()
        .inputs
        .clear();

    let assignment = assigned(&Dag::parse(&document).unwrap(), "a;b|c");

    assert_eq!(
        rings(&assignment),
        [
            "s0l0>s0l1: ",
            "s0l0>s1l0: a:0",
            "s0l1>s1l0: b:0",
            "s1l0>s0l0: c:0"
        ]
    );
}

#[test]
fn a_slot_holds_the_aligned_tensors_and_four_kibibytes() {
    let mut document = dag_document("x:a a>b");
    document.nodes[0].outputs[0].shape = vec![Dim::Symbol("N".to_owned())];
    document.nodes[0].outputs[0].dtype = Dtype::Uint8;
    document.symbols.insert("N".to_owned(), 65);
    let dag = Dag::parse(&document).unwrap();

    let assignment = assigned(&dag, "a|b");

    let ring = &assignment.rings[0];
    // Two stages: three requests in flight, and one slot more.
    assert_eq!((in_flight_limit(2, 1), ring.slots), (3, 4));
    assert_eq!(ring.bytes, Bytes((128 + 4096) * 4));
    assert_eq!(ring.path, "/dev/shm/ffs-i-7-s0l0-s1l0");
}

#[test]
fn a_shape_that_nothing_bounds_may_be_only_the_examples_and_gets_twice_the_room() {
    let mut document = dag_document("x:a a>b");
    document.nodes[0].outputs[0].shape = vec![Dim::Fixed(65)];
    document.nodes[0].outputs[0].dtype = Dtype::Uint8;

    let assignment = assigned(&Dag::parse(&document).unwrap(), "a|b");

    // 130 bytes, aligned.
    assert_eq!(assignment.rings[0].bytes, Bytes((192 + 4096) * 4));
}

fn slice(number: u8) -> LaneSlice {
    LaneSlice {
        uuid: format!("MIG-99999999-9999-5999-8999-99999999999{number}")
            .parse()
            .expect("a slice"),
        profile: id("2g.20gb"),
        gpu_uuid: "GPU-9".parse().expect("a GPU"),
        memory_bytes: Bytes(1 << 30),
    }
}

#[test]
fn a_replica_has_a_ring_from_and_to_each_neighbour_and_leaves_none_behind() {
    let plain = assigned(&dag(PAPER), "m1;m2|m3|m4|m5");
    let (one, lane) = with_replica(&plain, id("s1l0"), slice(1), 1).expect("the lane is there");
    assert_eq!(lane, id("s1l1"));
    assert_eq!(Document::check(&one), Ok(()));
    assert_eq!(one.lane(lane).expect("it was added").original(), id("s1l0"));
    let (two, lane) = with_replica(&one, id("s2l0"), slice(2), 2).expect("the lane is there");
    assert_eq!(lane, id("s2l1"));
    assert_eq!(Document::check(&two), Ok(()));
    assert_eq!(
        rings(&two)[plain.rings.len()..],
        [
            "s0l0>s1l1: m1:0",
            "s0l1>s1l1: m2:0",
            "s1l1>s2l0: m3:0",
            "s1l0>s2l1: m3:0",
            "s2l1>s3l0: m4:0",
            "s1l1>s2l1: m3:0",
        ]
    );
    let (again, _) = with_replica(&two, id("s1l0"), slice(3), 3).expect("the lane is there");
    let paths: BTreeSet<&str> = again.rings.iter().map(|ring| ring.path.as_str()).collect();
    assert_eq!(paths.len(), again.rings.len(), "each has a name of its own");

    let left = without_replica(&without_replica(&two, id("s2l1")), id("s1l1"));
    assert_eq!(left, plain);
    assert!(ring_bytes(&plain) * 2 < room_for_rings(&plain).0);
}
