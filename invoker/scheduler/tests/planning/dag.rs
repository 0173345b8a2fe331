//! What is accepted as a DAG, and what is said about the rest.

use crate::given::{dag, dag_document, id};
use proto::ffs::dag::{DagDocument, Dim, Output, Source};
use scheduler::dag::{Dag, MAX_COMPONENTS, Origin};

/// The sentence that refuses what `change` makes of a → b.
fn refused(change: impl FnOnce(&mut DagDocument)) -> String {
    let mut document = dag_document("a>b");
    change(&mut document);
    Dag::parse(&document).expect_err("it must be refused").to_string()
}

#[test]
fn components_are_in_topological_order_and_ties_are_broken_by_id() {
    let dag = dag("c>z b>z a>c z>d");

    let ids: Vec<&str> = dag.ids().iter().map(|id| id.as_str()).collect();

    assert_eq!(ids, ["a", "b", "c", "z", "d"]);
}

#[test]
fn inputs_are_in_the_order_of_their_ports_however_they_are_written() {
    let mut document = dag_document("x:a a>c b>c");
    document.nodes.iter_mut().for_each(|node| node.inputs.reverse());

    let dag = Dag::parse(&document).unwrap();

    let c = dag.component(dag.position(&id("c")).unwrap());
    let from = |component| Origin::Port { component, port: 0 };
    assert_eq!(c.inputs, [from(0), from(1)]);
}

#[test]
fn sizes_come_from_dtype_and_shape_with_symbols_resolved() {
    let mut document = dag_document("a>b");
    document.nodes[0].outputs[0].shape = vec![
        Dim::Symbol("B".into()),
        Dim::Fixed(3),
        Dim::Symbol("Height2".into()),
    ];
    document.symbols = [("B".to_owned(), 2), ("Height2".to_owned(), 50)].into();

    let dag = Dag::parse(&document).unwrap();

    let a = Origin::Port {
        component: 0,
        port: 0,
    };
    assert_eq!(dag.size(a).bytes.0, 2 * 3 * 50 * 4);
}

#[test]
fn a_scalar_has_the_size_of_one_element() {
    let mut document = dag_document("a>b");
    document.nodes[0].outputs[0].shape.clear();

    let dag = Dag::parse(&document).unwrap();

    assert_eq!(
        dag.size(Origin::Port {
            component: 0,
            port: 0
        })
        .bytes
        .0,
        4
    );
}

#[test]
fn a_cycle_is_named_from_its_smallest_id_in_the_direction_of_the_data() {
    let refused = Dag::parse(&dag_document("x:in in>b b>c c>a a>b a>out"))
        .unwrap_err()
        .to_string();

    assert_eq!(refused, "the nodes form a cycle: a → b → c → a");
}

#[test]
fn a_node_that_reads_itself_is_a_cycle() {
    let refused = Dag::parse(&dag_document("x:a a>b b>b")).unwrap_err().to_string();

    assert_eq!(refused, "the nodes form a cycle: b → b");
}

#[test]
fn too_few_and_too_many_nodes_are_refused() {
    let many: Vec<String> = (0..=MAX_COMPONENTS).map(|n| format!("n{n}")).collect();

    assert_eq!(
        refused(|d| d.nodes.clear()),
        "the DAG has no node; a function needs at least one"
    );
    assert_eq!(
        Dag::parse(&dag_document(&many.join(" ")))
            .unwrap_err()
            .to_string(),
        "the DAG has 65 nodes; at most 64 are supported"
    );
    assert_eq!(Dag::parse(&dag_document(&many[1..].join(" "))).unwrap().len(), 64);
}

#[test]
fn names_must_be_unique() {
    assert_eq!(
        refused(|d| d.nodes[1].id = id("a")),
        "two nodes are called a; ids must be unique"
    );
    assert_eq!(
        refused(|d| d.inputs.extend_from_within(..)),
        "two inputs of the function are called \"x\"; names must be unique"
    );
    assert_eq!(
        refused(|d| d.outputs.extend_from_within(..)),
        "two outputs of the function are called \"y-b\"; names must be unique"
    );
    assert_eq!(
        refused(|d| d.nodes[1].inputs.extend_from_within(..)),
        "node b: input port 0 appears twice"
    );
    assert_eq!(
        refused(|d| d.nodes[1].outputs.extend_from_within(..)),
        "node b: output port 0 appears twice"
    );
}

#[test]
fn too_many_ports_are_refused() {
    assert_eq!(
        refused(|d| {
            let output = d.nodes[0].outputs[0].clone();
            d.nodes[0].outputs = (0..257)
                .map(|port| proto::ffs::dag::NodeOutput {
                    port,
                    ..output.clone()
                })
                .collect();
        }),
        "node a has 257 output ports; at most 256 are supported"
    );
}

#[test]
fn every_end_of_an_edge_must_exist() {
    assert_eq!(
        refused(|d| d.nodes[1].inputs[0].from = Source::Node {
            node: id("c"),
            port: 0
        }),
        "node b: input port 0 reads node c, which does not exist"
    );
    assert_eq!(
        refused(|d| d.nodes[1].inputs[0].from = Source::Node {
            node: id("a"),
            port: 7
        }),
        "node b: input port 0 reads output port 7 of a, which has no such port"
    );
    assert_eq!(
        refused(|d| d.nodes[0].inputs[0].from = Source::Input {
            input: "z".to_owned()
        }),
        "node a: input port 0 reads the external input \"z\", which does not exist"
    );
    assert_eq!(
        refused(|d| d.outputs[0].node = id("c")),
        "output \"y-b\": node c does not exist"
    );
    assert_eq!(
        refused(|d| d.outputs[0].port = 1),
        "output \"y-b\": node b has no output port 1"
    );
}

#[test]
fn every_node_must_matter_to_an_output() {
    assert_eq!(
        refused(|d| d.outputs.clear()),
        "the function returns nothing: the DAG has no output"
    );
    assert_eq!(
        refused(|d| d.outputs[0] = Output {
            name: "y".to_owned(),
            node: id("a"),
            port: 0
        }),
        "node b: no output of the function depends on it"
    );
}

#[test]
fn a_shape_must_have_a_size() {
    let with_shape = |shape: Vec<Dim>| refused(|d| d.nodes[1].outputs[0].shape = shape);

    assert_eq!(
        with_shape(vec![Dim::Symbol("B".to_owned())]),
        "node b, output port 0: the dimension B has no value in `symbols`, so its size is unknown"
    );
    assert_eq!(
        with_shape(vec![Dim::Symbol("-1".to_owned())]),
        "node b, output port 0: dimension \"-1\" is neither a number nor the name of a symbol, such as B or Height"
    );
    assert_eq!(
        with_shape(vec![Dim::Fixed(3), Dim::Fixed(0)]),
        "node b, output port 0: a dimension is 0; expected at least 1"
    );
    assert_eq!(
        with_shape(vec![Dim::Fixed(u64::MAX), Dim::Fixed(u64::MAX)]),
        "node b, output port 0: it is larger than 1 TiB"
    );
    assert_eq!(
        refused(|d| d.inputs[0].shape = vec![Dim::Fixed(1 << 39)]),
        "input \"x\": it is larger than 1 TiB"
    );
}
