//! Records: when they are written, together with which others, and what becomes of those that are not.

use crate::bench::{Bench, error, message, record_id};
use crate::couch::Couch;
use crate::stub::{Asked, Reply, Stub};
use ffs_invoker::store::couchdb::{CouchSettings, CouchStore};
use ffs_invoker::store::{Database, Error, Store};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::watch;

async fn write(store: &CouchStore, id: &str) -> Result<String, Error> {
    store.put(Database::Activation, id, None, &json!({"n": 1})).await
}

async fn eventually(what: &str, holds: impl Fn() -> bool) {
    let end = Instant::now() + crate::bench::PATIENCE;
    while !holds() {
        assert!(Instant::now() < end, "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// D-42, D-43: one POST to `_bulk_docs` with `docs`, also for a single record, without a revision; no PUT.
#[tokio::test]
async fn a_single_record_is_written_in_bulk_too() {
    let stub = Stub::start(Reply::written).await;
    let store = stub.store().await;
    let body = json!({"activationId": "1", "logs": ["é\n\"x\""], "n": 9_007_199_254_740_991_u64});
    let revision = store
        .put(Database::Activation, "guest/1", None, &body)
        .await
        .unwrap();
    assert_eq!(revision, "1-a");
    store
        .put(Database::Activation, "guest/2", None, &json!({}))
        .await
        .unwrap();
    let [first, second] = <[Asked; 2]>::try_from(stub.asked()).unwrap();
    assert_eq!(
        (&*first.method, &*first.path),
        ("POST", "/whisk_activations/_bulk_docs")
    );
    assert_eq!(first.header("content-type"), Some("application/json"));
    let mut expected = json!({"_id": "guest/1"});
    expected
        .as_object_mut()
        .unwrap()
        .extend(body.as_object().unwrap().clone());
    assert_eq!(first.documents(), [expected]);
    assert_eq!(second.documents(), [json!({"_id": "guest/2"})]);
}

/// D-44: one goes at once, those that come meanwhile go together, at most 500 in a request, and as long as
/// requests are full half of the connections are used.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_that_follow_closely_go_together() {
    let (open, gate) = watch::channel(false);
    let stub = Stub::start(move |asked| Reply::After(gate.clone(), Box::new(Reply::written(asked)))).await;
    let settings = CouchSettings {
        max_connections: 8,
        ..stub.settings()
    };
    let store = Arc::new(CouchStore::open(settings).await.unwrap());
    let mut writes = tokio::task::JoinSet::new();
    let mut next = 0;
    let mut put = |records: usize| {
        for n in next..next + records {
            let store = Arc::clone(&store);
            writes.spawn(async move { write(&store, &format!("guest/{n}")).await });
        }
        next += records;
    };
    put(1);
    eventually("the first is sent at once", || stub.asked().len() == 1).await;
    put(5);
    // What they are to wait in is not to be seen from outside; that they wait, is.
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(stub.asked().len(), 1);
    put(2994);
    eventually("full requests do not wait", || stub.asked().len() == 4).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(stub.asked().len(), 4, "half of eight");

    open.send(true).unwrap();

    while let Some(written) = writes.join_next().await {
        written.unwrap().unwrap();
    }
    let sizes: Vec<usize> = stub.asked().iter().map(|asked| asked.documents().len()).collect();
    assert_eq!(sizes[0], 1);
    assert_eq!(sizes.iter().sum::<usize>(), 3000);
    assert_eq!(sizes.iter().max(), Some(&500));
    assert!(sizes.len() <= 9, "{sizes:?}");
}

/// D-43: a record that is there already is said to be, not tried again, and costs the other nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_records_in_one_request_only_the_double_is_refused() {
    let (open, gate) = watch::channel(false);
    let stub = Stub::start(move |asked| {
        let row = |document: &Value| match document["_id"].as_str().unwrap() {
            "guest/double" => {
                json!({"id": "guest/double", "error": "conflict", "reason": "Document update conflict."})
            }
            "guest/odd" => json!({"id": "guest/odd", "error": "forbidden", "reason": "a validation says no"}),
            "guest/unlucky" => json!({"id": "guest/unlucky", "error": "timeout", "reason": "of the disk"}),
            id => json!({"id": id, "rev": "1-b"}),
        };
        let reply = Reply::json(202, asked.documents().iter().map(row).collect());
        Reply::After(gate.clone(), Box::new(reply))
    })
    .await;
    let settings = CouchSettings {
        max_connections: 2,
        ..stub.settings()
    };
    let store = CouchStore::open(settings).await.unwrap();
    let opened = async {
        eventually("the first is on its way", || stub.asked().len() == 1).await;
        open.send(true).unwrap();
    };
    let ids = [
        "guest/first",
        "guest/double",
        "guest/odd",
        "guest/unlucky",
        "guest/other",
    ];
    let writes = futures::future::join_all(ids.map(|id| write(&store, id)));
    let (outcomes, ()) = futures::join!(writes, opened);

    let sizes: Vec<usize> = stub.asked().iter().map(|asked| asked.documents().len()).collect();
    assert_eq!(sizes.iter().sum::<usize>(), 5);
    assert!(
        sizes.len() <= 2,
        "those that follow the first go together: {sizes:?}"
    );
    let finals: Vec<Option<bool>> = outcomes
        .iter()
        .map(|o| o.as_ref().err().map(Error::is_final))
        .collect();
    assert_eq!(finals, [None, Some(true), Some(true), Some(false), None]);
    assert!(matches!(&outcomes[1], Err(Error::Conflict { id, .. }) if id == "guest/double"));
    let refused = outcomes[2].as_ref().unwrap_err().to_string();
    assert_eq!(
        refused,
        "document guest/odd cannot be written: forbidden, a validation says no"
    );
}

/// D-43: of the same record twice, a real server keeps the first.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_records_at_once_are_all_kept_and_none_is_replaced() {
    let store = Couch::shared().store().await;
    let ids: Vec<String> = (0..300).map(|n| format!("guest/{n}")).collect();
    let written = futures::future::join_all(ids.iter().map(|id| write(&store, id))).await;
    for outcome in written {
        outcome.unwrap();
    }
    let again = store
        .put(Database::Activation, "guest/7", None, &json!({"n": 2}))
        .await
        .unwrap_err();
    assert!(matches!(again, Error::Conflict { .. }), "{again:?}");
    for id in &ids {
        let read = store.get(Database::Activation, id, None).await.unwrap().unwrap();
        assert_eq!(read.body, json!({"n": 1}));
    }
}

/// D-47: three more tries at once after a connection error, and no fifth.
#[tokio::test]
async fn a_broken_connection_is_tried_three_more_times() {
    for (broken, stored) in [(3, true), (4, false)] {
        let tries = AtomicUsize::new(0);
        let stub = Stub::start(
            move |asked| match tries.fetch_add(1, Ordering::Relaxed) < broken {
                true => Reply::Nothing,
                false => Reply::written(asked),
            },
        )
        .await;
        let outcome = write(&stub.store().await, "guest/1").await;
        assert_eq!(stub.asked().len(), 4);
        assert_eq!(outcome.is_ok(), stored);
        if let Err(error) = outcome {
            assert!(!error.is_final(), "{error}");
        }
    }
}

/// D-47: an overloaded database is asked again after a pause; what it refuses for good is not.
#[tokio::test]
async fn an_overloaded_database_is_asked_again() {
    for status in [429, 500, 503] {
        let tries = AtomicUsize::new(0);
        let stub = Stub::start(move |asked| match tries.fetch_add(1, Ordering::Relaxed) {
            0 | 1 => Reply::json(status, json!({"error": "busy"})),
            _ => Reply::written(asked),
        })
        .await;
        let began = Instant::now();
        write(&stub.store().await, "guest/1").await.unwrap();
        assert_eq!(stub.asked().len(), 3);
        assert!(began.elapsed() >= Duration::from_millis(300), "100 ms, then 200");
    }
    for status in [400, 401, 404] {
        let stub = Stub::start(move |_| Reply::json(status, json!({"error": "no"}))).await;
        let error = write(&stub.store().await, "guest/1").await.unwrap_err();
        assert_eq!(stub.asked().len(), 1, "{status}");
        // The operator can put the password and the database right, but not the record.
        assert_eq!(error.is_final(), status == 400, "{error:?}");
    }
}

/// D-54: too large for the database is for good, and costs no other record that was in the same request.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_that_is_too_large_is_not_tried_again_and_harms_no_other() {
    let (open, gate) = watch::channel(false);
    let stub = Stub::start(move |asked| {
        let large = asked
            .documents()
            .iter()
            .any(|document| document["_id"] == "guest/large");
        let reply = match large {
            true => Reply::json(
                413,
                json!({"error": "document_too_large", "reason": "guest/large"}),
            ),
            false => Reply::written(asked),
        };
        Reply::After(gate.clone(), Box::new(reply))
    })
    .await;
    let settings = CouchSettings {
        max_connections: 2,
        ..stub.settings()
    };
    let store = CouchStore::open(settings).await.unwrap();
    let opened = async {
        eventually("the first is on its way", || stub.asked().len() == 1).await;
        open.send(true).unwrap();
    };
    let ids = ["guest/first", "guest/a", "guest/large", "guest/b"];
    let writes = futures::future::join_all(ids.map(|id| write(&store, id)));
    let (outcomes, ()) = futures::join!(writes, opened);
    let stored: Vec<bool> = outcomes.iter().map(Result::is_ok).collect();
    assert_eq!(stored, [true, true, false, true]);
    let error = outcomes[2].as_ref().unwrap_err();
    assert!(error.is_final());
    assert!(
        error.to_string().contains("answered 413 Payload Too Large"),
        "{error}"
    );
    let large = stub
        .asked()
        .iter()
        .filter(|asked| asked.documents() == [json!({"_id": "guest/large", "n": 1})])
        .count();
    assert_eq!(large, 1, "alone it is tried once");
}

/// D-54: 10 MB of logs and a result of 1 MB are kept as they are.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_record_is_kept_whole() {
    let store = Couch::shared().store().await;
    let body = json!({
        "activationId": "1", "namespace": "guest", "start": 1, "end": 2, "annotations": [],
        "logs": vec!["é".repeat(500); 10_000], "response": {"statusCode": 0, "result": {"text": "x".repeat(1 << 20)}},
    });
    store
        .put(Database::Activation, "guest/1", None, &body)
        .await
        .unwrap();
    let read = store
        .get(Database::Activation, "guest/1", None)
        .await
        .unwrap()
        .unwrap();
    assert!(read.body == body, "nothing is cut");
}

/// D-45: a database that takes its time delays no answer, and one that refuses changes none.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_or_failing_write_changes_no_answer() {
    let (open, gate) = watch::channel(false);
    let stub = Stub::start(move |asked| match asked.is_bulk() {
        false => Reply::json(200, action("2-b")),
        true if asked.documents()[0]["response"]["result"]["refuse"] == true => Reply::json(400, json!({})),
        true => Reply::After(gate.clone(), Box::new(Reply::written(asked))),
    })
    .await;
    let mut bench = Bench::start(stub.store().await).await;
    let slow = message("guest/a", Some("2-b"), json!({"answer": {"slow": true}}));
    let answer = bench.run(&slow).await;
    assert_eq!(
        serde_json::to_value(&answer.response).unwrap()["result"],
        json!({"slow": true})
    );
    let refused = message("guest/a", Some("2-b"), json!({"answer": {"refuse": true}}));
    let answer = bench.run(&refused).await;
    assert_eq!(error(&answer), (0, String::new()));
    open.send(true).unwrap();
    bench.stop().await;
    let bulk: Vec<Asked> = stub.asked().into_iter().filter(Asked::is_bulk).collect();
    let written: Vec<Value> = bulk.iter().flat_map(|asked| asked.documents()).collect();
    assert!(
        written.iter().any(|document| document["_id"] == record_id(&slow)),
        "{written:?}"
    );
    let tries = written
        .iter()
        .filter(|document| document["_id"] == record_id(&refused))
        .count();
    assert_eq!(tries, 1, "what is refused for good is not tried again");
}

/// D-40: the document is the activation with its logs, an id, a kind and a time, and no revision.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_is_the_activation_with_its_logs() {
    let store = Couch::shared().store().await;
    let revision = store
        .put(Database::Entity, "guest/a", None, &action_body())
        .await
        .unwrap();
    let mut bench = Bench::start(store).await;
    let line = "2026-11-25T10:00:00.000000000Z  stdout: hello";
    bench.engine.lines.lock().unwrap().push(line.to_owned());
    let sent = message("guest/a", Some(&revision), json!({"answer": {"ok": 1}}));
    let activation = bench.run(&sent).await;
    let record = bench.record(&sent).await;
    assert_eq!(record.id, record_id(&sent));
    assert!(record.revision.starts_with("1-"));
    let mut body = record.body;
    assert_eq!(body["entityType"], "activation");
    assert!(body["updated"].as_i64().unwrap() >= activation.end);
    assert_eq!(body["logs"], json!([line]));
    body["logs"] = json!([]);
    body.as_object_mut()
        .unwrap()
        .retain(|name, _| name != "entityType" && name != "updated");
    assert_eq!(body, serde_json::to_value(&activation).unwrap());
    bench.stop().await;
}

/// K-52: the health action's record is kept in its namespace like any other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_health_activation_is_recorded_like_any_other() {
    let store = Couch::shared().store().await;
    let mut body = action_body();
    (body["namespace"], body["name"]) = (json!("whisk.system"), json!("invokerHealthTestAction0"));
    let id = "whisk.system/invokerHealthTestAction0";
    let revision = store.put(Database::Entity, id, None, &body).await.unwrap();
    let mut bench = Bench::start(store).await;
    let recorded = include_str!("../../../proto/fixtures/wire/invoker0/health-test-1.json");
    let mut sent: Value = serde_json::from_str(recorded).unwrap();
    sent["revision"] = json!(revision);
    bench.send(&sent).await;
    while bench.ack().await.activation_id().to_string() != sent["activationId"] {}
    let record = bench.record(&sent).await;
    assert!(record.id.starts_with("whisk.system/"), "{}", record.id);
    assert_eq!(record.body["name"], "invokerHealthTestAction0");
    bench.stop().await;
}

fn action_body() -> Value {
    let mut body = action("");
    body.as_object_mut()
        .unwrap()
        .retain(|name, _| !name.starts_with('_'));
    body
}

/// `guest/a`.
fn action(revision: &str) -> Value {
    json!({
        "_id": "guest/a", "_rev": revision, "entityType": "action", "namespace": "guest", "name": "a",
        "version": "0.0.1", "publish": false, "parameters": [], "annotations": [],
        "exec": {"kind": "nodejs:20", "code": "function main() {}", "binary": false},
        "limits": {"timeout": 60000, "memory": 256, "logs": 10, "concurrency": 1},
    })
}
