//! The REST API as OpenWhisk's controller has it: documents, answers, texts.
#![allow(clippy::unwrap_used)]

#[path = "../support/mod.rs"]
mod support;

mod documents;
mod entities;
mod invocations;
mod refusals;

use crate::support::standalone::Standalone;
use ffs_invoker::store::Database;
use serde_json::{Value, json};
use std::path::Path;

/// What a real controller wrote or sent.
fn recorded(path: &str) -> Value {
    let file = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../proto/fixtures")
        .join(path);
    let text = std::fs::read_to_string(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    serde_json::from_str(&text).unwrap()
}

/// Without what differs each time.
fn without(mut document: Value, members: &[&str]) -> Value {
    document
        .as_object_mut()
        .unwrap()
        .retain(|name, _| !members.contains(&&**name));
    document
}

async fn stored(api: &Standalone, id: &str) -> Value {
    let document = api.store.get(Database::Entity, id, None).await.unwrap();
    document.expect("it is in the store").body
}

const HELLO: &str =
    "def main(args):\n    return {\"greeting\": \"Hello \" + args.get(\"name\", \"stranger\")}\n";
const ECHO: &str = "def main(args):\n    print(\"stdout line: %s\" % sorted(args.keys()))\n    import sys\n    print(\"stderr line\", file=sys.stderr)\n    return args\n";

/// The recorded package, its action and its binding.
async fn packages(api: &Standalone) {
    let pkg = json!({"publish": true, "annotations": [{"key": "description", "value": "a package"}],
        "parameters": [{"key": "pkgparam", "value": "frompkg"}, {"key": "color", "value": "blue"}]});
    api.put("_/packages/pkg", pkg).await.ok();
    let echo = json!({"exec": {"kind": "python:3", "code": ECHO}, "parameters": [{"key": "color", "value": "green"}]});
    api.put("_/actions/pkg/echo", echo).await.ok();
    let bound = json!({"binding": {"namespace": "_", "name": "pkg"},
        "parameters": [{"key": "bindparam", "value": "frombind"}, {"key": "color", "value": "yellow"}]});
    api.put("_/packages/bound", bound).await.ok();
}
