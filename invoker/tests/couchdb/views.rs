//! The views of `docker/couchdb/design` show what OpenWhisk's showed of the same documents.

use crate::couch::Couch;
use crate::http;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ffs_invoker::store::couchdb::CouchStore;
use ffs_invoker::store::{Database, Store};
use serde_json::{Value, json};
use stand_in_controller::couch::{ADMIN, PASSWORD};
use std::path::Path;

fn fixture(path: &str) -> Value {
    let file = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../proto/fixtures/db")
        .join(path);
    serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap()
}

/// A document without what the database adds.
fn bare(mut document: Value) -> Value {
    document
        .as_object_mut()
        .unwrap()
        .retain(|name, _| !name.starts_with('_'));
    document
}

async fn rows(couch: &Couch, path: &str) -> Vec<Value> {
    let credentials = format!("Basic {}", STANDARD.encode(format!("{ADMIN}:{PASSWORD}")));
    let headers = [("authorization", credentials.as_str())];
    let request = http::request(hyper::Method::GET, path, &headers, "");
    let answer = http::send(couch.address(), request).await.ok();
    answer["rows"].as_array().unwrap().clone()
}

fn encoded(key: &Value) -> String {
    percent_encoding::utf8_percent_encode(&key.to_string(), percent_encoding::NON_ALPHANUMERIC).to_string()
}

/// N-01: as recorded, the keys of a subject, its limits beside them, and how many namespaces are blocked.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn subjects_are_shown_as_recorded() {
    let couch = Couch::shared();
    let databases = couch.databases();
    let store = CouchStore::open(couch.settings(databases.clone())).await.unwrap();
    for name in ["blockedguy", "limited", "limited__limits"] {
        let document = fixture(&format!("subjects/{name}.json"));
        let id = document["_id"].as_str().unwrap().to_owned();
        store
            .put(Database::Auth, &id, None, &bare(document))
            .await
            .unwrap();
    }
    let identities = format!("/{}/_design/subjects.v2.0.0/_view/identities", databases.auth);
    for name in [
        "identities_by_namespace_guest",
        "identities_by_uuid_key_guest",
        "identities_limited",
    ] {
        let mut expected = fixture(&format!("subjects/view.{name}.json"))["rows"][0].clone();
        let path = format!("{identities}?key={}&include_docs=true", encoded(&expected["key"]));
        let mut found = rows(couch, &path).await;
        assert_eq!(found.len(), 1, "{name}");
        let (found, recorded) = (&mut found[0], &mut expected);
        for row in [&mut *found, recorded] {
            let doc = row
                .as_object_mut()
                .unwrap()
                .shift_remove("doc")
                .filter(|doc| !doc.is_null());
            row["limits"] = doc.map_or(json!(null), bare);
        }
        assert_eq!(*found, expected, "{name}");
    }
    let blocked = format!(
        "/{}/_design/namespaceThrottlings/_view/blockedNamespaces",
        databases.auth
    );
    let recorded = fixture("subjects/view.blockedNamespaces.json");
    assert_eq!(json!(rows(couch, &blocked).await), recorded["rows"]);
    let whole = rows(couch, &format!("{blocked}?reduce=false")).await;
    assert_eq!(
        whole,
        [json!({"id": "blockedguy", "key": "blockedguy", "value": 1})]
    );
}

/// D-41: entities and records are shown by the members that `wsk` lists.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn entities_are_shown_by_kind_with_what_wsk_lists() {
    let couch = Couch::shared();
    let databases = couch.databases();
    let store = CouchStore::open(couch.settings(databases.clone())).await.unwrap();
    for name in [
        "guest__hellopy",
        "guest__pkg",
        "guest__pkg__echo",
        "guest__bound",
        "guest__rule",
        "guest__trig",
    ] {
        let document = fixture(&format!("whisks/{name}.json"));
        let id = document["_id"].as_str().unwrap().to_owned();
        store
            .put(Database::Entity, &id, None, &bare(document))
            .await
            .unwrap();
    }
    for (view, expected) in [
        ("actions", ["echo", "hellopy"].as_slice()),
        ("packages", &["bound", "pkg"]),
        ("rules", &["rule"]),
        ("triggers", &["trig"]),
    ] {
        let view = format!("/{}/_design/whisks.v2.1.0/_view/{view}", databases.entity);
        let range = format!(
            "startkey={}&endkey={}",
            encoded(&json!(["guest"])),
            encoded(&json!(["guest", {}]))
        );
        let found = rows(couch, &format!("{view}?reduce=false&include_docs=true&{range}")).await;
        let mut names: Vec<&str> = found
            .iter()
            .map(|row| row["doc"]["name"].as_str().unwrap())
            .collect();
        names.sort_unstable();
        assert_eq!(names, expected, "{view}");
        for row in &found {
            assert_eq!(row["key"], json!(["guest", row["doc"]["updated"]]), "{view}");
            for (member, shown) in row["value"].as_object().into_iter().flatten() {
                let whole = &row["doc"][member];
                match member.as_str() {
                    "exec" => assert_eq!(*shown, json!({"binary": whole["binary"]})),
                    "binding" => assert_eq!(
                        *shown,
                        if *whole == json!({}) {
                            json!(false)
                        } else {
                            whole.clone()
                        }
                    ),
                    _ => assert_eq!(shown, whole, "{view} {member}"),
                }
            }
        }
        let counted = rows(couch, &format!("{view}?{range}")).await;
        assert_eq!(counted[0]["value"], expected.len());
    }
}
