//! The published schemas are those of the types, and at least as strict as the specification's.

use jsonschema::Validator;
use proto::decode::DecodeError;
use proto::ffs::{self, Document, schema};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

#[test]
fn the_published_schemas_are_fresh() {
    let bless = std::env::var_os("FFS_BLESS").is_some();
    let mut names = Vec::new();
    for (name, schema) in schema::all() {
        let path = folder("schemas").join(format!("{name}.json"));
        let fresh = format!(
            "{}\n",
            serde_json::to_string_pretty(&schema).expect("a schema is JSON")
        );
        if bless {
            fs::write(&path, &fresh).expect("writable");
        }
        let published = fs::read_to_string(&path).unwrap_or_default();
        assert!(
            published == fresh,
            "schemas/{name}.json is stale: run the tests once with FFS_BLESS=1, and look at the difference"
        );
        names.push(format!("{name}.json"));
    }
    for entry in fs::read_dir(folder("schemas")).expect("a folder") {
        let name = entry.expect("an entry").file_name().into_string().expect("UTF-8");
        assert!(names.contains(&name), "schemas/{name} is of no type");
    }
}

/// A document of the specification: its schema there, ours, its example, and our reader.
struct Specified {
    name: &'static str,
    theirs: Validator,
    ours: Validator,
    example: Value,
    read: fn(&[u8]) -> Result<(), DecodeError>,
}

fn specified<D: Document>(name: &'static str) -> Specified {
    let file = |kind: &str| {
        let path = folder("tests/specification").join(format!("{name}.{kind}.json"));
        serde_json::from_slice::<Value>(&fs::read(path).expect("readable")).expect("JSON")
    };
    let published: Value = schema::all()
        .into_iter()
        .find(|(other, _)| *other == name)
        .expect("published")
        .1
        .into();
    Specified {
        name,
        theirs: jsonschema::draft202012::new(&file("schema")).expect("a schema"),
        ours: jsonschema::draft202012::new(&published).expect("a schema"),
        example: file("example"),
        read: |text| ffs::read::<D>(text).map(drop),
    }
}

fn all() -> [Specified; 6] {
    [
        specified::<ffs::dag::DagDocument>("dag"),
        specified::<ffs::profile::ProfileDocument>("profile"),
        specified::<ffs::ranking::RankingDocument>("ranking"),
        specified::<ffs::assignment::AssignmentDocument>("assignment"),
        specified::<ffs::migs::MigsDocument>("migs"),
        specified::<ffs::state::StateDocument>("state"),
    ]
}

/// The example with every optional member that the specification knows.
fn full(document: &Specified) -> Value {
    let mut example = document.example.clone();
    let additions: &[(&str, Value)] = match document.name {
        "dag" => &[("/nodes/0/init", json!({"classes": 21}))],
        "profile" => &[(
            "/components/seg/by_mig/1g.10gb/batches",
            json!({"4": {"exec_ms_p50": 100.0, "exec_ms_p95": 110.5, "workspace_bytes": 5}}),
        )],
        "ranking" => &[("/coarsened", json!(false))],
        "assignment" => &[
            ("/stages/0/lanes/0/container", json!("c")),
            ("/stages/0/lanes/0/env", json!({"CUDA_VISIBLE_DEVICES": "MIG-1"})),
        ],
        "migs" => &[
            ("/slices/0/cpu_quota", json!(0.5)),
            ("/slices/0/mem_limit", json!(5)),
        ],
        "state" => &[("/lanes", json!(["s0l0"]))],
        other => panic!("{other}"),
    };
    for (pointer, value) in additions {
        let (parent, name) = pointer.rsplit_once('/').expect("a pointer");
        let parent = example
            .pointer_mut(parent)
            .and_then(Value::as_object_mut)
            .expect("an object");
        assert!(
            parent.insert(name.to_owned(), value.clone()).is_none(),
            "{pointer}"
        );
    }
    example
}

#[test]
fn the_examples_of_the_specification_are_valid_and_come_out_as_they_went_in() {
    for document in all() {
        for example in [document.example.clone(), full(&document)] {
            let name = document.name;
            assert!(document.theirs.is_valid(&example), "{name}");
            let errors: Vec<_> = document
                .ours
                .iter_errors(&example)
                .map(|error| error.to_string())
                .collect();
            assert_eq!(errors, [""; 0], "{name}");
            assert_eq!((document.read)(example.to_string().as_bytes()), Ok(()), "{name}");
        }
    }
}

/// Every document that differs from `example` in one place: a member missing, or a value replaced.
fn mutants(example: &Value) -> Vec<(String, Value)> {
    let values = [
        json!(null),
        json!(true),
        json!(-1),
        json!(0),
        json!(1.5),
        json!(""),
        json!("no such thing!"),
        json!([]),
        json!({}),
        json!([{}]),
        json!({"x y": 1}),
        json!({"0": {}}),
    ];
    let mut mutants = Vec::new();
    for pointer in pointers(example, "") {
        for value in &values {
            let mut mutant = example.clone();
            let place = mutant.pointer_mut(&pointer).expect("it is there");
            if place != value {
                *place = value.clone();
                mutants.push((format!("{pointer} = {value}"), mutant));
            }
        }
        let (parent, name) = pointer.rsplit_once('/').unwrap_or_default();
        let mut mutant = example.clone();
        if let Some(Value::Object(parent)) = mutant.pointer_mut(parent)
            && parent.remove(&name.replace("~1", "/")).is_some()
        {
            mutants.push((format!("{pointer} missing"), mutant));
        }
    }
    mutants
}

fn pointers(value: &Value, path: &str) -> Vec<String> {
    let mut all = vec![path.to_owned()];
    match value {
        Value::Object(members) => members
            .iter()
            .for_each(|(name, value)| all.extend(pointers(value, &format!("{path}/{name}")))),
        Value::Array(items) => items
            .iter()
            .enumerate()
            .for_each(|(index, value)| all.extend(pointers(value, &format!("{path}/{index}")))),
        _ => {}
    }
    all
}

#[test]
fn what_the_specification_rejects_our_schemas_and_readers_reject() {
    for document in all() {
        let mut rejected = 0;
        for (what, mutant) in mutants(&full(&document)) {
            if document.theirs.is_valid(&mutant) {
                continue;
            }
            rejected += 1;
            assert!(!document.ours.is_valid(&mutant), "{}: {what}", document.name);
            // Readers take null for an absent member.
            if !what.ends_with("= null") {
                assert!(
                    (document.read)(mutant.to_string().as_bytes()).is_err(),
                    "{}: {what}",
                    document.name
                );
            }
        }
        assert!(
            rejected > 50,
            "{}: only {rejected} mutants were invalid",
            document.name
        );
    }
}

#[test]
fn what_our_schemas_reject_beyond_the_specification_are_ids_and_names() {
    let ids = [
        "id",
        "uuid",
        "gpu_uuid",
        "profile",
        "min_profile",
        "instance",
        "producer",
        "consumer",
        "node",
    ];
    for document in all() {
        for (what, mutant) in mutants(&full(&document)) {
            if document.theirs.is_valid(&mutant) && !document.ours.is_valid(&mutant) {
                let (place, _) = what.split_once([' ']).expect("a place");
                let name = place
                    .rsplit('/')
                    .find(|part| part.parse::<u32>().is_err())
                    .expect("a name");
                let of_ids = ["owners", "rings_in", "rings_out", "lanes"].contains(&name);
                assert!(ids.contains(&name) || of_ids, "{}: {what}", document.name);
            }
        }
    }
}
