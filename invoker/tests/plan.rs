//! `ffs-invoker plan` as a person runs it: the paper's function on the paper's layouts, and what it
//! says when something is wrong. The profile's numbers are ours; the paper printed none.
#![allow(clippy::unwrap_used)] // in tests and in what they are made of, a panic is the report

use proto::ffs::ranking::RankingDocument;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const P1: &str = "8x[4g.40gb+2g.20gb+1g.10gb]@A100-80GB";
const P2: &str = "8x[3g.40gb+2x2g.20gb]@A100-80GB";
const HYBRID: &str = "[7x1g.10gb]@A100-80GB,2x[3x2g.20gb+1g.10gb]@A100-80GB,\
                      4x[3g.40gb+4g.40gb]@A100-80GB,[4g.40gb+2g.20gb+1g.10gb]@A100-80GB";

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data/plan")
        .join(name)
}

fn invoker(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ffs-invoker"))
        .args(arguments)
        .output()
        .unwrap()
}

/// `plan` on the paper's function.
fn plan(arguments: &[&str]) -> Output {
    plan_of(&data("five.dag.json"), &data("five.profile.json"), arguments)
}

fn plan_of(dag: &Path, profile: &Path, arguments: &[&str]) -> Output {
    let files = [
        "plan",
        "--dag",
        dag.to_str().unwrap(),
        "--profile",
        profile.to_str().unwrap(),
    ];
    invoker(&[&files, arguments].concat())
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// The JSON of a plan that was found.
fn document(arguments: &[&str]) -> Value {
    let output = plan(&[arguments, &["--format", "json"]].concat());
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Profile and components of each lane.
fn lanes(document: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let lane = |lane: &Value| {
        let components: Vec<String> = lane["components"].as_array().unwrap().iter().map(text).collect();
        (text(&lane["mig"]["profile"]), components.join(","))
    };
    document["chosen"]["lanes"]
        .as_array()
        .unwrap()
        .iter()
        .map(lane)
        .collect()
}

/// A topology as `migs.json`, with what `change` does to its slices.
struct Machine {
    _folder: tempfile::TempDir,
    path: PathBuf,
}

impl Machine {
    fn new(topology: &str, change: impl Fn(&mut Value)) -> Self {
        let output = invoker(&["migs", "--topology", topology, "--format", "json"]);
        let mut migs: Value = serde_json::from_slice(&output.stdout).unwrap();
        migs["slices"].as_array_mut().unwrap().iter_mut().for_each(change);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("migs.json");
        std::fs::write(&path, migs.to_string()).unwrap();
        Self {
            _folder: folder,
            path,
        }
    }

    /// Slices of these profiles are taken by others.
    fn without(topology: &str, profiles: &[&str]) -> Self {
        Self::new(topology, |slice| {
            if profiles.contains(&slice["profile"].as_str().unwrap()) {
                slice["state"] = json!("hot");
                slice["owners"] = json!(["i-1"]);
            }
        })
    }

    fn path(&self) -> &str {
        self.path.to_str().unwrap()
    }
}

/// A copy of a fixture with one change.
fn changed(fixture: &str, change: impl Fn(&mut Value)) -> (tempfile::TempDir, PathBuf) {
    let mut value: Value = serde_json::from_slice(&std::fs::read(data(fixture)).unwrap()).unwrap();
    change(&mut value);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(fixture);
    std::fs::write(&path, value.to_string()).unwrap();
    (folder, path)
}

#[test]
fn json_is_the_ranking_the_choice_and_the_rejections() {
    let document = document(&["--topology", P1]);

    let members: Vec<&String> = document.as_object().unwrap().keys().collect();
    assert_eq!(members, ["ranking", "chosen", "rejected"]);
    let chosen: Vec<&String> = document["chosen"].as_object().unwrap().keys().collect();
    assert_eq!(
        chosen,
        ["rank", "key", "cv", "latency_ms", "bottleneck_ms", "lanes"]
    );
    let lane: Vec<&String> = document["chosen"]["lanes"][0]
        .as_object()
        .unwrap()
        .keys()
        .collect();
    assert_eq!(lane, ["id", "components", "mig"]);
    let ranking: RankingDocument = serde_json::from_value(document["ranking"].clone()).unwrap();
    assert_eq!((ranking.total, ranking.kept), (12, 12));
    assert!(ranking.profile_hash.starts_with("sha256:"));
}

#[test]
fn where_a_large_slice_is_free_the_function_is_not_split() {
    for topology in [P1, P2, HYBRID] {
        let document = document(&["--topology", topology]);
        assert_eq!(document["chosen"]["key"], "m1,m2,m3,m4,m5", "{topology}");
        assert_eq!(document["rejected"], json!([]), "{topology}");
    }
}

#[test]
fn on_the_fragments_of_p1_it_is_a_pipeline() {
    let machine = Machine::without(P1, &["4g.40gb"]);

    let document = document(&["--migs", machine.path()]);

    let taken = lanes(&document);
    assert!(taken.len() > 1, "{taken:?}");
    assert!(taken.iter().all(|(profile, _)| profile != "4g.40gb"), "{taken:?}");
    let first = &document["rejected"][0];
    assert_eq!(first["key"], "m1,m2,m3,m4,m5");
    assert_eq!(
        first["because"],
        "lane m1,m2,m3,m4,m5 needs 27702 MiB; the largest free slice (2g.20gb) has 19968 MiB"
    );
}

#[test]
fn on_the_1g_slices_alone_it_is_fully_split_with_its_two_branches_side_by_side() {
    let machine = Machine::without(HYBRID, &["2g.20gb", "3g.40gb", "4g.40gb"]);

    let document = document(&["--migs", machine.path()]);

    let expected = ["m1", "m2", "m3", "m4", "m5"].map(|name| ("1g.10gb".to_owned(), name.to_owned()));
    assert_eq!(document["chosen"]["key"], "m1;m2|m3|m4|m5");
    assert_eq!(lanes(&document), expected);
}

#[test]
fn throughput_and_slo_choose_otherwise_than_balance() {
    let machine = Machine::without(HYBRID, &["4g.40gb"]);
    let bottleneck = |rank: &str| {
        let document = document(&["--migs", machine.path(), "--rank", rank]);
        document["chosen"]["bottleneck_ms"].as_f64().unwrap()
    };
    let latency = |slo: &str| {
        let document = document(&["--migs", machine.path(), "--rank", "slo", "--slo-ms", slo]);
        (
            document["chosen"]["latency_ms"].as_f64().unwrap(),
            lanes(&document).len(),
        )
    };

    assert!(bottleneck("throughput") < bottleneck("cv"));
    assert_eq!(latency("1000").1, 1, "one slice is enough");
    assert!(latency("1").0 < 200.0, "nothing meets it, and this comes closest");
}

#[test]
fn modes_and_deviations_are_passed_on() {
    let ranking = |arguments: &[&str]| {
        let document = document(&[&["--topology", P1], arguments].concat());
        serde_json::from_value::<RankingDocument>(document["ranking"].clone()).unwrap()
    };
    let cv = |ranking: &RankingDocument, key: &str| {
        ranking
            .partitions
            .iter()
            .find(|partition| partition.key == key)
            .unwrap()
            .cv
    };

    assert_eq!(ranking(&["--mode", "serial"]).total, 8);
    assert!(ranking(&["--mode", "convex"]).total > 12);
    let (population, sample) = (ranking(&[]), ranking(&["--std", "sample"]));
    let key = "m1,m2|m3,m4,m5";
    assert!((cv(&sample, key) / cv(&population, key) - 2_f64.sqrt()).abs() < 1e-6);
}

#[test]
fn two_runs_say_the_same() {
    assert_eq!(
        document(&["--topology", HYBRID]),
        document(&["--topology", HYBRID])
    );
}

#[test]
fn the_table_shows_graph_ranking_choice_rejections_and_other_goals() {
    let machine = Machine::without(P1, &["4g.40gb"]);

    let output = plan(&["--migs", machine.path()]);

    let text = stdout(&output);
    assert_eq!(output.status.code(), Some(0));
    for expected in [
        "guest/five (1-a): 5 components, 4 atoms; returns classes from m5",
        "Ranking by cv: 12 partitions in mode lanes",
        "Chosen: ",
        "because rank ",
        "not taken",
        "lane m1,m2,m3,m4,m5 needs 27702 MiB; the largest free slice (2g.20gb) has 19968 MiB",
        "On the same free slices",
        "cv (asked for)",
        "throughput",
        "slo",
    ] {
        assert!(text.contains(expected), "{expected:?} is missing in\n{text}");
    }
}

#[test]
fn the_picture_shows_every_lane_and_every_gpu_and_is_well_formed() {
    let machine = Machine::without(HYBRID, &["4g.40gb", "3g.40gb"]);

    let text = stdout(&plan(&["--migs", machine.path(), "--format", "svg"]));

    assert!(
        text.starts_with("<svg xmlns=\"http://www.w3.org/2000/svg\""),
        "{text}"
    );
    assert!(text.ends_with("</svg>\n"), "{text}");
    assert_eq!(text.matches("<g>").count(), text.matches("</g>").count());
    assert_eq!(text.matches("<text ").count(), text.matches("</text>").count());
    for gpu in 0..8 {
        assert!(
            text.contains(&format!("GPU {gpu} · A100-80GB")),
            "GPU {gpu} is missing"
        );
    }
    for component in ["m1", "m2", "m3", "m4", "m5"] {
        assert!(text.contains(component), "{component} is missing");
    }
}

#[test]
fn where_nothing_fits_the_exit_code_is_3_and_all_is_explained() {
    let machine = Machine::without(P1, &["4g.40gb", "2g.20gb", "1g.10gb"]);

    let json = plan(&["--migs", machine.path(), "--format", "json"]);
    let table = plan(&["--migs", machine.path()]);

    assert_eq!((json.status.code(), table.status.code()), (Some(3), Some(3)));
    let document: Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(document["chosen"], Value::Null);
    assert_eq!(document["rejected"].as_array().unwrap().len(), 12);
    assert_eq!(document["rejected"][0]["because"], "no slice is free");
    assert!(
        stdout(&table).contains("No plan: none of 12 partitions fits"),
        "{}",
        stdout(&table)
    );
}

#[test]
fn a_component_larger_than_any_slice_is_named_with_what_it_needs_and_what_there_is() {
    let output = plan(&["--topology", P1, "--gpu-memory", "40GiB"]);

    assert_eq!(
        output.status.code(),
        Some(0),
        "scaled by half it still fits the 4g slices"
    );

    let output = plan(&["--topology", "[7x1g.10gb]@A100-80GB", "--gpu-memory", "40GiB"]);

    assert_eq!(output.status.code(), Some(3));
    let sentence = stderr(&output);
    assert!(
        sentence.starts_with(
            "ffs-invoker: component m3 needs 7902 MiB on a slice of its own; the largest slice (1g.10gb) has "
        ),
        "{sentence}"
    );
    assert!(
        stdout(&output).contains("No plan: component m3 needs 7902 MiB"),
        "{}",
        stdout(&output)
    );
}

#[test]
fn a_picture_of_no_plan_says_why() {
    let output = plan(&[
        "--topology",
        "[7x1g.10gb]@A100-80GB",
        "--gpu-memory",
        "40GiB",
        "--format",
        "svg",
    ]);

    assert_eq!(output.status.code(), Some(3));
    assert!(
        stdout(&output).contains("No plan: component m3 needs 7902 MiB"),
        "{}",
        stdout(&output)
    );
}

/// What is said on standard error, with exit code 1 and nothing on standard output.
fn refused(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{}", stdout(output));
    assert_eq!(stdout(output), "");
    stderr(output)
}

#[test]
fn a_missing_file_is_named() {
    let said = refused(&plan_of(
        Path::new("nowhere/dag.json"),
        &data("five.profile.json"),
        &["--topology", P1],
    ));

    assert_eq!(
        said,
        "ffs-invoker: nowhere/dag.json cannot be read: No such file or directory (os error 2)\n"
    );
}

#[test]
fn malformed_json_is_named_with_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("dag.json");
    std::fs::write(&path, "{\"schema\": \"ffs.dag/1\",\n").unwrap();

    let said = refused(&plan_of(&path, &data("five.profile.json"), &["--topology", P1]));

    assert!(said.contains("dag.json cannot be decoded"), "{said}");
    assert!(said.contains("EOF while parsing"), "{said}");
    assert!(said.contains("line 2"), "{said}");
}

#[test]
fn a_document_of_another_kind_is_named() {
    let said = refused(&plan_of(
        &data("five.profile.json"),
        &data("five.profile.json"),
        &["--topology", P1],
    ));

    assert!(
        said.contains("schema: unknown variant `ffs.profile/1`, expected `ffs.dag/1`"),
        "{said}"
    );
}

#[test]
fn a_wrong_type_is_named_with_its_member() {
    let (_folder, path) = changed("five.profile.json", |profile| {
        profile["components"]["m1"]["by_mig"]["1g.10gb"]["samples"] = json!("many");
    });

    let said = refused(&plan_of(&data("five.dag.json"), &path, &["--topology", P1]));

    assert!(said.contains("components.m1.by_mig"), "{said}");
    assert!(
        said.contains("samples: invalid type: string \"many\", expected u32"),
        "{said}"
    );
}

#[test]
fn a_cycle_is_named() {
    let (_folder, path) = changed("five.dag.json", |dag| {
        dag["nodes"][0]["inputs"][0]["from"] = json!({"node": "m4", "port": 0});
    });

    let said = refused(&plan_of(&path, &data("five.profile.json"), &["--topology", P1]));

    assert_eq!(
        said,
        "ffs-invoker: the DAG is not valid: the nodes form a cycle: m1 → m3 → m4 → m1\n"
    );
}

#[test]
fn a_profile_of_another_function_is_refused_where_components_differ_and_noted_where_not() {
    let (_folder, other) = changed("five.profile.json", |profile| {
        drop(profile["components"].as_object_mut().unwrap().remove("m2"));
    });
    let (_other, stale) = changed("five.profile.json", |profile| profile["revision"] = json!("2-b"));

    let said = refused(&plan_of(&data("five.dag.json"), &other, &["--topology", P1]));
    let noted = plan_of(&data("five.dag.json"), &stale, &["--topology", P1]);

    assert_eq!(
        said,
        "ffs-invoker: the profile is not valid: component m2 of the DAG is missing in the profile\n"
    );
    assert_eq!(noted.status.code(), Some(0));
    assert_eq!(
        stderr(&noted),
        "ffs-invoker: the DAG is of guest/five (1-a), the profile of guest/five (2-b); planned all the same\n"
    );
}

#[test]
fn wrong_arguments_are_named_with_exit_code_2() {
    let says = |arguments: &[&str], expected: &str| {
        let output = plan(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(stderr(&output).contains(expected), "{}", stderr(&output));
    };

    says(&[], "--migs <FILE>|");
    says(&["--topology", P1, "--migs", "migs.json"], "cannot be used with");
    says(
        &["--topology", P1, "--slo-ms", "-5"],
        "expected milliseconds, more than 0",
    );
    says(
        &["--topology", P1, "--rank", "fastest"],
        "possible values: cv, throughput, slo",
    );
    says(&["--topology", "8x[4g.40gb+4g.40gb]@A100-80GB"], "4g.40gb");
}
