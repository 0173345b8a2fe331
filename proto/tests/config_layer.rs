//! What the types of the config layer do not say: whether the parts of a document agree.

use proto::ffs::assignment::AssignmentDocument;
use proto::ffs::dag::DagDocument;
use proto::ffs::migs::MigsDocument;
use proto::ffs::profile::ProfileDocument;
use proto::ffs::ranking::{RankingDocument, key};
use proto::ffs::state::StateDocument;
use proto::ffs::{Document, read};
use serde_json::{Value, json};
use std::path::Path;

fn example(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/specification")
        .join(format!("{name}.example.json"));
    serde_json::from_slice(&std::fs::read(path).expect("readable")).expect("JSON")
}

/// Why the example is refused once the values at these pointers are replaced (or added, with `-`).
fn refused<D: Document>(name: &str, edits: &[(&str, Value)]) -> String {
    match read::<D>(edited(name, edits).to_string().as_bytes()) {
        Ok(_) => panic!("{edits:?} is accepted"),
        Err(error) => error.to_string(),
    }
}

fn edited(name: &str, edits: &[(&str, Value)]) -> Value {
    let mut document = example(name);
    for (pointer, value) in edits {
        if let Some(array) = pointer.strip_suffix("/-") {
            let array = document
                .pointer_mut(array)
                .and_then(Value::as_array_mut)
                .expect("an array");
            array.push(value.clone());
        } else {
            *document
                .pointer_mut(pointer)
                .unwrap_or_else(|| panic!("{pointer}")) = value.clone();
        }
    }
    document
}

#[test]
fn a_dag_has_symbols_that_stand_for_sizes_and_an_instant() {
    let why = |edits: &[(&str, Value)]| refused::<DagDocument>("dag", edits);
    assert_eq!(
        why(&[("/symbols/B", json!(0))]),
        "symbols.B: 0, expected at least 1"
    );
    assert_eq!(
        why(&[("/built_at", json!("today"))]),
        "built_at: \"today\", expected an instant such as 2026-01-02T03:04:05Z"
    );
    assert!(why(&[("/nodes/0/outputs/0/shape/0", json!("b"))]).starts_with(
        "nodes[0].outputs[0].shape[0]: invalid value: string \"b\", expected a dimension: an integer of at least 1, or a symbol such as B"
    ));
    assert!(
        why(&[("/nodes/0/inputs/0/from", json!({"node": "a"}))])
            .starts_with("nodes[0].inputs[0].from: expected either node and port, or input")
    );
    assert!(why(&[("/nodes/0/inputs/0/from", json!({"input": "x", "port": 0}))]).contains("expected either"));
    assert!(
        why(&[("/nodes/0/inputs/0/from", json!({"input": "x", "colour": 0}))])
            .contains("unknown field `colour`")
    );
    assert_eq!(
        why(&[(
            "/nodes/0",
            json!({"id": "a", "module": "m", "inputs": [], "outputs": [{"port": 0, "dtype": "int8", "shape": []}], "batch": 0})
        )]),
        "nodes[0].batch: 0, expected at least 1"
    );
    let many: Vec<_> = (0..65).map(|n| json!({"id": format!("n{n}"), "module": "m", "inputs": [], "outputs": [{"port": 0, "dtype": "int8", "shape": []}]})).collect();
    assert_eq!(
        why(&[("/nodes", json!(many))]),
        "nodes: 65 nodes, expected at most 64"
    );
}

#[test]
fn a_profile_has_positive_times_in_order() {
    let why = |edits: &[(&str, Value)]| refused::<ProfileDocument>("profile", edits);
    let row = "/components/seg/by_mig/1g.10gb";
    assert_eq!(
        why(&[(&format!("{row}/exec_ms_p95"), json!(34.9))]),
        "components.seg.by_mig.1g.10gb.exec_ms_p95: 34.9 is less than exec_ms_p50, which is 35"
    );
    assert_eq!(
        why(&[(&format!("{row}/exec_ms_p50"), json!(0))]),
        "components.seg.by_mig.1g.10gb.exec_ms_p50: 0, expected more than 0"
    );
    assert!(
        why(&[(&format!("{row}/exec_ms_p50"), json!(-1))])
            .contains("exec_ms_p50: -1 is not a number of milliseconds: expected 0 or more")
    );
    let huge = edited("profile", &[]).to_string().replace("36.2", "1e999");
    assert!(
        read::<ProfileDocument>(huge.as_bytes())
            .expect_err("not finite")
            .to_string()
            .contains("1e+999 is not a number of milliseconds")
    );
    let batches = |batches: Value| {
        why(&[(
            row,
            json!({"exec_ms_p50": 1.0, "exec_ms_p95": 1.0, "samples": 1, "batches": batches}),
        )])
    };
    assert!(
        batches(json!({"04": {"exec_ms_p50": 1}}))
            .contains("batches.04: a batch size, expected a number of at least 1")
    );
    assert!(
        batches(json!({"4": {"exec_ms_p50": 2, "exec_ms_p95": 1}}))
            .contains("batches.4.exec_ms_p95: 1 is less")
    );
    let observed = |p50: f64, p95: f64, samples: u32| {
        let times = json!({"exec_ms_p50": p50, "exec_ms_p95": p95, "samples": samples});
        why(&[(
            row,
            json!({"exec_ms_p50": 1.0, "exec_ms_p95": 1.0, "samples": 1, "observed": times}),
        )])
    };
    assert!(observed(2.0, 1.0, 30).contains("observed.exec_ms_p95: 1 is less"));
    assert!(observed(0.0, 1.0, 30).contains("observed.exec_ms_p50: 0, expected more than 0"));
    assert!(observed(1.0, 1.0, 0).contains("observed.samples: 0, expected at least 1"));
    assert_eq!(
        why(&[("/components", json!({}))]),
        "components: 0, expected at least 1"
    );
}

#[test]
fn the_key_of_a_partition_is_what_its_stages_say() {
    let document: RankingDocument = read(example("ranking").to_string().as_bytes()).expect("the example");
    assert_eq!(
        document
            .partitions
            .iter()
            .map(|partition| key(&partition.stages))
            .collect::<Vec<_>>(),
        ["seg,cls", "seg|cls"]
    );
    let lane = |components: Value| json!({"components": components, "memory_bytes": 1, "min_profile": null, "time_ms": 1});
    let stages = json!([{"time_ms": 1, "lanes": [lane(json!(["m1"])), lane(json!(["m2"]))]}, {"time_ms": 1, "lanes": [lane(json!(["m3"]))]},
        {"time_ms": 1, "lanes": [lane(json!(["m4", "m5"]))]}]);
    let good = edited(
        "ranking",
        &[
            ("/partitions/0/stages", stages),
            ("/partitions/0/key", json!("m1;m2|m3|m4,m5")),
        ],
    );
    assert!(read::<RankingDocument>(good.to_string().as_bytes()).is_ok());

    let why = |edits: &[(&str, Value)]| refused::<RankingDocument>("ranking", edits);
    assert_eq!(
        why(&[("/partitions/1/key", json!("seg,cls"))]),
        "partitions[1].key: \"seg,cls\", but the stages say \"seg|cls\""
    );
    assert_eq!(
        why(&[("/partitions/1/stages/1/lanes/0/components/0", json!("seg"))]),
        "partitions[1].stages[1].lanes[0].components: component seg stands in this partition twice"
    );
    assert_eq!(
        why(&[("/kept", json!(3))]),
        "kept: 3, but 2 partitions are listed"
    );
    assert_eq!(
        why(&[("/partitions/1/rank", json!(0))]),
        "partitions[1].rank: ranks do not rise"
    );
    assert_eq!(
        why(&[("/reference", json!("ref:"))]),
        "reference: \"ref:\", expected min_fit or ref:<profile>"
    );
    assert_eq!(
        why(&[("/partitions/0/cv", json!(-0.5))]),
        "partitions[0].cv: -0.5, expected 0 or more"
    );
}

#[test]
fn each_component_of_an_assignment_is_in_one_lane_and_each_slice_under_one() {
    let why = |edits: &[(&str, Value)]| refused::<AssignmentDocument>("assignment", edits);
    assert_eq!(
        why(&[("/stages/1/lanes/0/components/-", json!("seg"))]),
        "stages[1].lanes[0].components: component seg is in lane s0l0 too"
    );
    assert_eq!(
        why(&[("/stages/0/lanes/0/components/-", json!("seg"))]),
        "stages[0].lanes[0].components: component seg is in lane s0l0 too"
    );
    assert_eq!(
        why(&[(
            "/stages/1/lanes/0/mig/uuid",
            json!("MIG-11111111-1111-5111-8111-111111111111")
        )]),
        "stages[1].lanes[0].mig.uuid: slice MIG-11111111-1111-5111-8111-111111111111 is under lane s0l0 too"
    );
    assert_eq!(
        why(&[("/stages/1/lanes/0/id", json!("s1l1"))]),
        "stages[1].lanes[0].id: s1l1, expected s1l0"
    );
    assert_eq!(
        why(&[("/stages/1/index", json!(2))]),
        "stages[1].index: 2, expected 1"
    );
    assert_eq!(why(&[("/epoch", json!(0))]), "epoch: 0, expected at least 1");
    assert_eq!(why(&[("/slo_ms", json!(0))]), "slo_ms: 0, expected more than 0");
}

#[test]
fn a_replica_has_the_components_of_a_lane_of_its_stage_that_is_no_replica() {
    let lane = |id: &str, of: &str, component: &str, slice: u8| {
        json!({"id": id, "replica_of": of, "components": [component], "rings_in": [], "rings_out": [],
               "mig": {"uuid": format!("MIG-33333333-3333-5333-8333-33333333333{slice}"), "profile": "1g.10gb",
                       "gpu_uuid": "GPU-1", "memory_bytes": 1 << 30}})
    };
    let good = edited(
        "assignment",
        &[("/stages/1/lanes/-", lane("s1l1", "s1l0", "cls", 1))],
    );
    let read: AssignmentDocument = serde_json::from_value(good).expect("a replica");
    let replica = read.lanes().last().expect("it was added");
    assert_eq!(replica.original().to_string(), "s1l0");

    let why = |lanes: &[Value]| {
        let edits: Vec<(&str, Value)> = lanes
            .iter()
            .map(|lane| ("/stages/1/lanes/-", lane.clone()))
            .collect();
        refused::<AssignmentDocument>("assignment", &edits)
    };
    assert_eq!(
        why(&[lane("s1l1", "s0l0", "cls", 1)]),
        "stages[1].lanes[1].replica_of: s0l0, and the head has no replicas"
    );
    assert_eq!(
        why(&[lane("s1l1", "s1l1", "cls", 1)]),
        "stages[1].lanes[1].replica_of: s1l1, expected a lane of this stage before it that is no replica"
    );
    assert_eq!(
        why(&[lane("s1l1", "s1l0", "seg", 1)]),
        "stages[1].lanes[1].replica_of: s1l0, which has other components"
    );
    assert_eq!(
        why(&[lane("s1l1", "s1l0", "cls", 1), lane("s1l2", "s1l1", "cls", 2)]),
        "stages[1].lanes[2].replica_of: s1l1, expected a lane of this stage before it that is no replica"
    );
}

#[test]
fn each_ring_of_an_assignment_has_two_ends_that_know_of_it() {
    let why = |edits: &[(&str, Value)]| refused::<AssignmentDocument>("assignment", edits);
    assert_eq!(
        why(&[("/rings/0/consumer", json!("s1l1"))]),
        "rings[0].consumer: there is no lane s1l1"
    );
    assert_eq!(
        why(&[("/rings/0/consumer", json!("s0l0"))]),
        "rings[0]: both ends of ring r0 are lane s0l0"
    );
    assert_eq!(
        why(&[("/stages/1/lanes/0/rings_in", json!([]))]),
        "rings[0].consumer: lane s1l0 does not name ring r0"
    );
    assert_eq!(
        why(&[("/stages/1/lanes/0/rings_out", json!([]))]),
        "rings[1].producer: lane s1l0 does not name ring ret"
    );
    assert_eq!(
        why(&[("/stages/0/lanes/0/rings_out/-", json!("r9"))]),
        "stages[0].lanes[0].rings_out: no ring r9 comes from this lane"
    );
    assert_eq!(
        why(&[("/stages/1/lanes/0/rings_in/-", json!("ret"))]),
        "stages[1].lanes[0].rings_in: no ring ret leads to this lane"
    );
    assert_eq!(
        why(&[("/rings/1/id", json!("r0"))]),
        "rings[1].id: ring r0 is there twice"
    );
    assert_eq!(
        why(&[("/rings/0/tensors/0/node", json!("cls"))]),
        "rings[0].tensors[0]: lane s0l0 does not make this tensor"
    );
    assert_eq!(
        why(&[("/rings/1/tensors/0", json!({"input": "x"}))]),
        "rings[1].tensors[0]: lane s1l0 does not make this tensor"
    );
    assert!(
        why(&[("/rings/0/tensors/0", json!({"node": "seg"}))])
            .starts_with("rings[0].tensors[0]: expected either node and port, or input")
    );
    let with_input = edited(
        "assignment",
        &[
            ("/rings/0/tensors/-", json!({"input": "x"})),
            ("/stages/0/lanes/0/rings_in/-", json!("ret")),
        ],
    );
    let read: AssignmentDocument =
        read(with_input.to_string().as_bytes()).expect("the head sends inputs and may name its return rings");
    assert_eq!(
        serde_json::to_value(&read).expect("encodes")["rings"][0]["tensors"][1],
        json!({"input": "x"})
    );
    assert_eq!(read.lanes().count(), 2);
}

#[test]
fn slices_are_unique_and_on_gpus_that_are_there() {
    let why = |edits: &[(&str, Value)]| refused::<MigsDocument>("migs", edits);
    assert_eq!(
        why(&[("/slices/0/gpu_uuid", json!("GPU-b"))]),
        "slices[0].gpu_uuid: there is no GPU GPU-b"
    );
    let slice = example("migs")["slices"][0].clone();
    assert_eq!(
        why(&[("/slices/-", slice)]),
        "slices[1].uuid: MIG-11111111-1111-5111-8111-111111111111 is there twice"
    );
    let gpu = example("migs")["gpus"][0].clone();
    assert_eq!(
        why(&[("/gpus/-", gpu)]),
        "gpus[1].uuid: GPU-aaaaaaaa-0000-0000-0000-000000000000 is there twice"
    );
    assert!(why(&[("/slices/0/profile", json!("10gb"))]).contains("slice profile \"10gb\" is not valid"));
}

#[test]
fn epochs_begin_with_one() {
    assert_eq!(
        refused::<StateDocument>("state", &[("/epoch", json!(0))]),
        "epoch: 0, expected at least 1"
    );
}

#[test]
fn unknown_members_are_ignored_and_another_version_is_refused() {
    for name in ["dag", "profile", "ranking", "assignment", "migs", "state"] {
        let mut document = example(name);
        document["new"] = json!({"a": 1});
        let old = document.to_string().replace("/1\"", "/2\"");
        let (new, old) = (document.to_string(), old);
        let read = |text: &str| match name {
            "dag" => read::<DagDocument>(text.as_bytes()).map(drop),
            "profile" => read::<ProfileDocument>(text.as_bytes()).map(drop),
            "ranking" => read::<RankingDocument>(text.as_bytes()).map(drop),
            "assignment" => read::<AssignmentDocument>(text.as_bytes()).map(drop),
            "migs" => read::<MigsDocument>(text.as_bytes()).map(drop),
            _ => read::<StateDocument>(text.as_bytes()).map(drop),
        };
        assert_eq!(read(&new), Ok(()), "{name}");
        let error = read(&old).expect_err(name).to_string();
        assert!(
            error.contains(&format!(
                "unknown variant `ffs.{name}/2`, expected `ffs.{name}/1`"
            )),
            "{error}"
        );
    }
}
