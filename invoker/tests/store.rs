//! The document store: the contract of `Store`, and what only the embedded one promises.
#![allow(clippy::unwrap_used)]

#[path = "../src/store/conformance.rs"]
#[macro_use]
mod conformance;

use ffs_invoker::store::embedded::{EmbeddedStore, Retention};
use ffs_invoker::store::{Database, Query, Store};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

store_conforms!(embedded, async {
    let folder = tempfile::tempdir().unwrap();
    (open(folder.path(), FOREVER), folder)
});

/// The tests' records are as old as the epoch.
const FOREVER: Retention = Retention {
    records: u64::MAX,
    age: Duration::MAX,
};

fn open(folder: &Path, retention: Retention) -> EmbeddedStore {
    EmbeddedStore::open(&folder.join("store"), retention).unwrap()
}

#[tokio::test]
async fn the_embedded_store_keeps_numbers_and_member_order_as_they_were_written() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path(), FOREVER);
    let text = r#"{"z":1e+400,"b":123456789012345678901234567890,"a":0.10,"m":{"y":1,"x":2}}"#;
    let body: Value = serde_json::from_str(text).unwrap();
    store.put(Database::Entity, "guest/a", None, &body).await.unwrap();
    let read = store
        .get(Database::Entity, "guest/a", None)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(read.body.to_string(), text);
}

#[tokio::test]
async fn the_embedded_store_remembers_documents_and_attachments() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path(), FOREVER);
    let first = store
        .put(
            Database::Entity,
            "guest/a",
            None,
            &json!({"updated": 5, "namespace": "guest"}),
        )
        .await
        .unwrap();
    let attached = store.put_attachment(
        Database::Entity,
        "guest/a",
        &first,
        "code",
        "text/plain",
        b"x".to_vec(),
    );
    let second = attached.await.unwrap();
    store.close(Duration::from_secs(60)).await;
    drop(store);

    let store = open(folder.path(), FOREVER);
    let read = store
        .get(Database::Entity, "guest/a", None)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(read.revision, second);
    assert_eq!(
        store
            .attachment(Database::Entity, "guest/a", None, "code")
            .await
            .unwrap()
            .unwrap(),
        b"x"
    );
    let query = Query {
        namespace: "guest".into(),
        limit: 9,
        ..Query::default()
    };
    assert_eq!(store.list(Database::Entity, &query).await.unwrap(), [read]);
}

#[tokio::test]
async fn the_embedded_store_loses_nothing_that_was_written_when_the_process_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "writes_until_it_is_killed", "--nocapture"])
        .env(VICTIM, folder.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut written = 0;
    while written < 20 {
        let line = lines
            .next()
            .expect("the child goes on until it is killed")
            .unwrap();
        written += usize::from(line.contains("written"));
    }
    child.kill().unwrap();
    child.wait().unwrap();

    let store = open(folder.path(), FOREVER);
    for n in 0..written {
        let read = store
            .get(Database::Entity, &format!("guest/{n}"), None)
            .await
            .unwrap();
        assert_eq!(read.unwrap().body["n"], n);
    }
}

const VICTIM: &str = "STORE_TEST_VICTIM";

/// Nothing by itself: the child of the test above.
#[tokio::test]
async fn writes_until_it_is_killed() {
    let Some(path) = std::env::var_os(VICTIM) else {
        return;
    };
    let store = open(Path::new(&path), FOREVER);
    for n in 0.. {
        store
            .put(Database::Entity, &format!("guest/{n}"), None, &json!({"n": n}))
            .await
            .unwrap();
        println!("written {n}");
    }
}

#[tokio::test]
async fn the_embedded_store_keeps_the_newest_records_only() {
    let folder = tempfile::tempdir().unwrap();
    let few = Retention {
        records: 3,
        ..FOREVER
    };
    let store = open(folder.path(), few);
    for start in [10, 30, 20, 50, 40, 60] {
        conformance::record(&store, "guest", "hello", start, json!([])).await;
    }
    assert_eq!(starts(&store).await, [60, 50, 40]);
}

#[tokio::test]
async fn the_embedded_store_forgets_records_that_are_too_old() {
    let folder = tempfile::tempdir().unwrap();
    let a_day = Retention {
        age: Duration::from_secs(24 * 3600),
        ..FOREVER
    };
    let store = open(folder.path(), a_day);
    let now = time::OffsetDateTime::now_utc().unix_timestamp() * 1000;
    for start in [1000, now - 1000, 2000, now] {
        conformance::record(&store, "guest", "hello", start, json!([])).await;
    }
    assert_eq!(starts(&store).await, [now, now - 1000]);
}

async fn starts(store: &EmbeddedStore) -> Vec<i64> {
    let query = Query {
        namespace: "guest".into(),
        limit: 100,
        ..Query::default()
    };
    let found = store.list(Database::Activation, &query).await.unwrap();
    found.iter().map(|d| d.body["start"].as_i64().unwrap()).collect()
}

#[tokio::test]
async fn an_embedded_store_that_is_open_elsewhere_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path(), FOREVER);
    let second = EmbeddedStore::open(&folder.path().join("store"), FOREVER).unwrap_err();
    let cause = std::error::Error::source(&second).unwrap().to_string();
    assert!(cause.ends_with("store is in use by another process"), "{cause}");
    store.close(Duration::from_secs(60)).await;
}
