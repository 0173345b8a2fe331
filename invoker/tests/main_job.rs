//! The main job: pictures of text are read by a function of three networks, unsplit, in two stages
//! and in three, and every split gives byte for byte what the unsplit function gives.
#![allow(clippy::unwrap_used)]

mod support;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::process::Command;
use support::daemon::{Daemon, python, root, script};

/// Pictures with the text that is on them, if that is known.
fn pictures(folder: &tempfile::TempDir) -> Vec<(PathBuf, Option<Vec<String>>)> {
    script("ocr-example");
    let rendered = Command::new(python())
        .arg(root().join("invoker/tests/support/pictures.py"))
        .arg(folder.path())
        .status()
        .expect("Python runs");
    assert!(rendered.success(), "the pictures were not rendered");
    let mut pictures = vec![(root().join(".cache/ocr/page.png"), None)];
    for entry in std::fs::read_dir(folder.path()).expect("it is there") {
        let path = entry.expect("it can be read").path();
        if path.extension().is_some_and(|extension| extension == "png") {
            let text = std::fs::read(path.with_extension("json")).expect("the text lies beside it");
            pictures.push((path, Some(serde_json::from_slice(&text).expect("it is a list"))));
        }
    }
    pictures.sort();
    assert!(pictures.len() >= 6);
    pictures
}

fn arguments(picture: &PathBuf) -> Value {
    json!({ "image": STANDARD.encode(std::fs::read(picture).expect("it can be read")) })
}

fn ocr() -> Value {
    let code = std::fs::read(root().join(".cache/ocr/ocr.zip")).expect("it was packed");
    json!({ "kind": "python:3", "code": STANDARD.encode(code), "binary": true })
}

/// Words, so that a line that was found in two pieces counts as one.
fn words(text: &str) -> Vec<&str> {
    text.split_whitespace().collect()
}

/// The lanes run one after the other, so what they took is within what the head took. What rings took is so by
/// itself: the ring to a later lane is filled while the next lane computes.
fn assert_explained(ffs: &Value, activation: &Value) {
    let ms = |value: &Value| value.as_f64().unwrap_or_else(|| panic!("{value} in {ffs}"));
    let lanes = ffs["lanes"].as_array().expect("they are a list");
    let parts = lanes
        .iter()
        .flat_map(|lane| [&lane["queue_ms"], &lane["exec_ms"]]);
    let computed: f64 = parts.map(ms).sum();
    let moved = ms(&ffs["transfer_ms"]);
    let duration = ms(&activation["duration"]) + 1.0; // it is cut to whole milliseconds
    assert!(
        computed > 0.0 && computed < duration && moved < duration,
        "{duration} ms: {ffs}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_split_function_reads_every_picture_as_the_unsplit_one_does() {
    let folder = tempfile::tempdir().expect("a directory");
    let pictures = pictures(&folder);
    // The page is the example that is profiled with; it needs as much memory as any.
    let page = arguments(&root().join(".cache/ocr/page.png"));

    let plain = Daemon::start(&[]);
    plain.put("ocr", &ocr(), 512, &json!({})).await;
    let mut expected = Vec::new();
    for (picture, text) in &pictures {
        let activation = plain.invoke("ocr", &arguments(picture)).await;
        assert_eq!(activation["response"]["status"], "success", "{activation}");
        let result = activation["response"]["result"].to_string();
        let read = activation["response"]["result"]["text"]
            .as_str()
            .expect("it is a text");
        if let Some(text) = text {
            let (read, written) = (words(read), text.join(" "));
            let found = words(&written).iter().filter(|word| read.contains(word)).count();
            assert!(
                found * 10 >= words(&written).len() * 8,
                "{}: {read:?}",
                picture.display()
            );
        }
        expected.push(result);
    }
    drop(plain);

    let layouts = [
        (1, "[7g.80gb]@A100-80GB", "2GiB"),
        (2, "[4g.40gb+2g.20gb+1g.10gb]@A100-80GB", "545MiB"),
        (3, "[3g.40gb+2g.20gb+2g.20gb]@A100-80GB", "482MiB"),
    ];
    for (stages, topology, memory) in layouts {
        let split = Daemon::start(&[
            "--topology",
            topology,
            "--gpu-memory",
            memory,
            "--gpu-cpus",
            "3.5",
        ]);
        split.put("ocr", &ocr(), 512, &json!({ "ffs": true })).await;
        let first = split.invoke("ocr", &page).await;
        assert_eq!(first["response"]["status"], "success", "{first}");
        for ((picture, _), expected) in pictures.iter().zip(&expected) {
            let activation = split.invoke("ocr", &arguments(picture)).await;
            assert_eq!(
                activation["response"]["result"].to_string(),
                *expected,
                "{stages} stages, {}",
                picture.display()
            );
            let notes = activation["annotations"].as_array().expect("they are a list");
            let ffs = &notes
                .iter()
                .find(|note| note["key"] == "ffs")
                .expect("it ran as a pipeline")["value"];
            let plan = ffs["plan"].as_str().expect("it is a key");
            assert_eq!(
                plan.split('|').count(),
                stages,
                "{plan}\n{}",
                split.page("/explain/guest/ocr").await
            );
            assert_eq!(ffs["lanes"].as_array().map(Vec::len), Some(stages));
            assert_explained(ffs, &activation);
        }
    }
}
