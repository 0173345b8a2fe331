//! Blocked namespaces: where they are read, how often, and what becomes of their messages.

use crate::bench::{Bench, message, record_id};
use crate::couch::Couch;
use crate::stub::{Asked, Reply, Stub};
use ffs_invoker::blacklist::Blacklist;
use ffs_invoker::store::{Database, Store};
use proto::whisk::acknowledgement::{AckResponse, Acknowledgement};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

const EVERY: Duration = Duration::from_millis(10);

fn rows(namespaces: &[&str]) -> Reply {
    let rows: Vec<Value> = namespaces
        .iter()
        .map(|name| json!({"id": "x", "key": name, "value": 1}))
        .collect();
    Reply::json(200, json!({"total_rows": rows.len(), "offset": 0, "rows": rows}))
}

/// A blacklist that looks all the time until the test ends.
struct Looking {
    list: Arc<Blacklist>,
    _stop: tokio_util::sync::DropGuard,
}

impl Looking {
    fn at(store: Arc<dyn Store>) -> Self {
        let (list, stop) = (Arc::new(Blacklist::default()), CancellationToken::new());
        tokio::spawn(Arc::clone(&list).run(store, EVERY, stop.clone()));
        Self {
            list,
            _stop: stop.drop_guard(),
        }
    }

    async fn until(&self, what: &str, holds: impl Fn(&Blacklist) -> bool) {
        let end = Instant::now() + crate::bench::PATIENCE;
        while !holds(&self.list) {
            assert!(Instant::now() < end, "{what}");
            tokio::time::sleep(EVERY).await;
        }
    }
}

/// N-01: that view, with that query; only the key of a row counts.
#[tokio::test]
async fn the_view_of_blocked_namespaces_is_read_whole() {
    let stub = Stub::start(|_| {
        Reply::json(
            200,
            json!({"rows": [{"key": "jane", "value": 1}, {"id": "y", "key": "joe", "value": null}, {"key": 7, "value": 1}]}),
        )
    })
    .await;
    let blocked = stub.store().await.blocked_namespaces().await.unwrap();
    assert_eq!(Vec::from_iter(blocked), ["jane", "joe"]);
    let asked = stub.asked().pop().unwrap();
    let view = "/whisk_subjects/_design/namespaceThrottlings/_view/blockedNamespaces";
    let (path, query) = asked.path.split_once('?').unwrap();
    assert_eq!((&*asked.method, path), ("GET", view));
    for member in ["descending=true", "reduce=false", "stale=update_after"] {
        assert!(query.split('&').any(|asked| asked == member), "{query}");
    }
    assert!(!query.contains("limit"), "{query}");
}

/// N-01: namespaces with a limit of zero, and those of blocked subjects, on a real server.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn namespaces_are_blocked_by_a_limit_of_zero_and_with_their_subject() {
    let store = Couch::shared().store().await;
    for (id, document) in [
        ("rate/limits", json!({"invocationsPerMinute": 0})),
        (
            "many/limits",
            json!({"concurrentInvocations": 0, "invocationsPerMinute": 5}),
        ),
        (
            "fine/limits",
            json!({"concurrentInvocations": 1, "invocationsPerMinute": 1}),
        ),
        (
            "bad",
            json!({"subject": "bad", "blocked": true, "namespaces": [{"name": "bad1"}, {"name": "bad2"}]}),
        ),
        (
            "good",
            json!({"subject": "good", "blocked": false, "namespaces": [{"name": "good"}]}),
        ),
    ] {
        store.put(Database::Auth, id, None, &document).await.unwrap();
    }
    let store: Arc<dyn Store> = Arc::new(store);
    let looking = Looking::at(store);
    // The view is brought up to date after it was read.
    looking
        .until("all four are blocked", |list| {
            ["rate", "many", "bad1", "bad2"]
                .iter()
                .all(|name| list.is_blocked(name))
        })
        .await;
    for name in ["fine", "good", "guest", "bad"] {
        assert!(!looking.list.is_blocked(name), "{name}");
    }
}

/// N-02: before the first good look nothing is blocked; one that fails leaves the set as it is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_look_keeps_the_old_set() {
    let looks = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&looks);
    let stub = Stub::start(move |_| match count.fetch_add(1, Ordering::Relaxed) {
        0 | 1 => Reply::json(500, json!({})),
        2 => rows(&["jane"]),
        3..=10 => Reply::Text(200, "{\"rows\": [".into()),
        _ => rows(&["joe"]),
    })
    .await;
    let looking = Looking::at(Arc::new(stub.store().await));
    looking
        .until("jane is blocked", |list| list.is_blocked("jane"))
        .await;
    assert!(looks.load(Ordering::Relaxed) >= 3);
    looking
        .until("jane stays blocked until a look succeeds", |list| {
            let (blocked, looks) = (list.is_blocked("jane"), looks.load(Ordering::Relaxed));
            assert!(blocked || looks > 11, "after {looks} looks");
            !blocked
        })
        .await;
    assert!(looking.list.is_blocked("joe"));
}

/// N-02: the first look holds up nothing, and the next does not begin before it has ended.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_look_does_not_hold_up_the_start() {
    let stub = Stub::start(|asked| match asked.path.contains("_design") {
        true => Reply::Silence,
        false if asked.is_bulk() => Reply::written(asked),
        false => Reply::not_found(),
    })
    .await;
    let mut bench = Bench::start_with(Arc::new(stub.store().await), |settings| {
        settings.blacklist_interval = EVERY
    })
    .await;
    for _ in 0..20 {
        bench.run(&message("guest/a", Some("1-a"), json!({}))).await;
        tokio::time::sleep(EVERY).await;
    }
    let looks = stub
        .asked()
        .iter()
        .filter(|asked| asked.path.contains("_design"))
        .count();
    assert_eq!(looks, 1);
    bench.stop().await;
}

/// N-03, E-16: not fetched, not run, no record; one shrunk combined ack, blocking or not, and room for more.
/// N-04: others are not refused anything.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_blocked_namespace_is_turned_away() {
    let stub = Stub::start(|asked| match asked.path.contains("_design") {
        true => rows(&["guest"]),
        false if asked.is_bulk() => Reply::written(asked),
        false => Reply::not_found(),
    })
    .await;
    let mut bench = Bench::start(stub.store().await).await;
    let other = || {
        let mut other = message("jane/a", Some("1-a"), json!({}));
        other["user"]["namespace"]["name"] = json!("jane");
        other["user"]["limits"] = json!({"invocationsPerMinute": 0, "concurrentInvocations": 0});
        other
    };
    // The first look is under way.
    let end = Instant::now() + crate::bench::PATIENCE;
    let mut early = Vec::new();
    loop {
        let sent = message("guest/probe", Some("1-a"), json!({}));
        bench.send(&sent).await;
        let ack = bench.ack().await;
        if matches!(&ack, Acknowledgement::Combined(ack) if matches!(ack.response, AckResponse::Id(_))) {
            break;
        }
        early.push(sent);
        assert!(Instant::now() < end, "guest is never blocked");
    }
    let before = stub
        .asked()
        .iter()
        .filter(|asked| asked.path.contains("guest%2F"))
        .count();
    for n in 0..40 {
        let mut sent = message("guest/a", Some("1-a"), json!({}));
        sent["blocking"] = json!(n % 2 == 0);
        bench.send(&sent).await;
        let Acknowledgement::Combined(ack) = bench.ack().await else {
            panic!("one combined ack");
        };
        assert_eq!(json!(ack.response.activation_id()), sent["activationId"]);
        assert!(matches!(ack.response, AckResponse::Id(_)) && !ack.is_system_error);
    }
    let jane = other();
    bench.run(&jane).await;
    assert_eq!(bench.engine.started.load(Ordering::Relaxed), 0);
    bench.stop().await;
    let asked = stub.asked();
    assert_eq!(
        asked
            .iter()
            .filter(|asked| asked.path.contains("guest%2F"))
            .count(),
        before
    );
    let records: Vec<Value> = asked
        .iter()
        .filter(|asked| asked.is_bulk())
        .flat_map(Asked::documents)
        .collect();
    let expected: Vec<String> = early.iter().chain([&jane]).map(record_id).collect();
    let mut ids: Vec<&str> = records
        .iter()
        .map(|record| record["_id"].as_str().unwrap())
        .collect();
    ids.sort_by_key(|id| expected.iter().position(|expected| expected == id));
    assert_eq!(ids, expected);
}
