//! Which container runs an activation, and what becomes of both when it goes wrong.

use crate::NO_VALID_RESPONSE;
use crate::bench::{self, Bench, action, message, recording};
use crate::probe::{Probe, Reply, ok};
use ffs_invoker::container::Logs;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;

/// C-02, C-03, L-20, L-30, L-31, S-01d, S-01e, S-02, S-30, S-34, S-35: a warm run has its own connection, no
/// `/init` and no `initTime`, and `start`, `end` and `duration` agree. Another namespace gets a container of its own.
#[tokio::test]
async fn a_warm_run_starts_at_once_in_the_container_of_its_namespace() {
    let mut bench = Bench::start(Probe::new(|_| ok("{}"))).await;
    let document = action("echo", json!({}));
    bench.put(&document).await;
    let cold = bench.call(&message(&document, json!({}))).await;
    for _ in 0..4 {
        let warm = bench.call(&message(&document, json!({}))).await;
        let keys = |activation: &Value| -> Vec<String> {
            let all = activation["annotations"].as_array().unwrap();
            all.iter()
                .map(|a| a["key"].as_str().unwrap().to_owned())
                .collect()
        };
        assert!(
            keys(&cold).contains(&"initTime".to_owned()) && !keys(&warm).contains(&"initTime".to_owned())
        );
        let number = |member: &str| warm[member].as_i64().unwrap();
        assert_eq!(number("end") - number("start"), number("duration"));
    }
    bench
        .call(&message(
            &document,
            json!({"user": {"namespace": {"name": "joan"}}}),
        ))
        .await;

    let seen = bench.engine.seen();
    let of = |container, path: &str| {
        seen.iter()
            .filter(|s| s.container == container && s.path == path)
            .count()
    };
    assert_eq!(
        (of(1, "/init"), of(1, "/run"), of(2, "/init"), of(2, "/run")),
        (1, 5, 1, 1)
    );
    bench
        .until("connections are closed", |probe| probe.connections().0 == 0)
        .await;
    assert_eq!(bench.engine.connections().1, 1, "one at a time");
    bench.stop().await;
}

/// C-34, C-36a, C-45, S-11, S-12, S-16, V-07: a warm container that says 503 is dropped, and another one answers.
#[tokio::test]
async fn a_container_that_is_shutting_down_hands_its_activation_on() {
    let document = recording("db/whisks/guest__v_warm503.json").unwrap();
    let mut bench = Bench::start(Probe::new(|seen| match (&*seen.path, seen.nth) {
        ("/run", 2) => Reply::Whole(503, "{\"error\":\"x\"}".to_owned()),
        _ => ok("{\"a\":1}"),
    }))
    .await;
    bench.put(&document).await;
    for _ in 0..2 {
        let activation = bench.call(&message(&document, json!({}))).await;
        assert_eq!(activation["response"]["result"], json!({"a": 1}));
    }
    let runs: Vec<usize> = bench.engine.seen().iter().map(|seen| seen.container).collect();
    assert_eq!(runs, [1, 1, 1, 2, 2]);
    bench
        .until("the first is removed", |p| {
            p.deeds().contains(&"remove 1".to_owned())
        })
        .await;
    bench.stop().await;
}

/// C-34, C-35a, C-45, E-02, S-11: 503 from one new container after the other ends after three, with an answer.
#[tokio::test]
async fn three_containers_that_are_shutting_down_are_enough() {
    for path in ["/init", "/run"] {
        let mut bench = Bench::start(Probe::new(move |seen| match seen.path == path {
            true => Reply::Whole(503, String::new()),
            false => ok("{}"),
        }))
        .await;
        let document = action("busy", json!({}));
        bench.put(&document).await;
        let activation = bench.call(&message(&document, json!({}))).await;
        assert_eq!(
            activation["response"],
            json!({"statusCode": 2, "result": {"error": NO_VALID_RESPONSE}})
        );
        let deeds = bench.engine.deeds();
        assert_eq!(
            deeds.iter().filter(|deed| deed.starts_with("start")).count(),
            3,
            "{deeds:?}"
        );
        bench.stop().await;
    }
}

/// C-43, L-21, L-24, S-01f, S-01g, S-16: a container that was idle or paused and cannot be connected to is
/// dropped, unnoticed by the user.
#[tokio::test]
async fn a_container_that_does_not_listen_any_more_is_replaced() {
    for pauses in [false, true] {
        let mut bench = Bench::with(Probe::new(|_| ok("{}")), |settings| {
            settings.pool.pause_grace = if pauses {
                Duration::ZERO
            } else {
                Duration::from_secs(600)
            };
        })
        .await;
        let document = action("gone", json!({}));
        bench.put(&document).await;
        bench.call(&message(&document, json!({}))).await;
        if pauses {
            bench
                .until("it is paused", |p| p.deeds().contains(&"pause 1".to_owned()))
                .await;
        }
        bench.engine.deafen(1);
        let activation = bench.call(&message(&document, json!({}))).await;
        assert_eq!(activation["response"]["statusCode"], 0);
        let containers: Vec<usize> = bench.engine.seen().iter().map(|seen| seen.container).collect();
        assert_eq!(containers, [1, 1, 2, 2]);
        assert_eq!(bench.engine.deeds().contains(&"resume 1".to_owned()), pauses);
        bench.stop().await;
    }
}

/// L-40, L-41, S-10g, S-43: those that wait for another one's `/init` get its failure too, with times of zero.
#[tokio::test]
async fn who_waits_for_an_init_that_fails_ends_like_the_first() {
    let held = Arc::new(Notify::new());
    let gate = Arc::clone(&held);
    let mut bench = Bench::start(Probe::new(move |seen| match seen.container {
        1 => Reply::Held(Arc::clone(&gate), 502, "{\"error\":\"no main\"}".to_owned()),
        _ => ok("{}"),
    }))
    .await;
    let document = action("many", json!({"limits": {"concurrency": 3}}));
    bench.put(&document).await;
    let first = message(&document, json!({}));
    bench.send(&first).await;
    bench
        .until("the first initialises", |probe| probe.seen().len() == 1)
        .await;
    let others = [
        message(&document, json!({})),
        message(&document, json!({"blocking": false})),
    ];
    for other in &others {
        bench.send(other).await;
    }
    // Both are in the same container before its answer comes: a later message overtakes nothing.
    let later = action("later", json!({}));
    bench.put(&later).await;
    bench.call(&message(&later, json!({}))).await;
    held.notify_one();
    let mut acks = BTreeMap::new();
    for _ in 0..3 {
        let ack = bench.ack().await;
        let id = ack["response"]["activationId"]
            .as_str()
            .or(ack["activationId"].as_str());
        acks.insert(id.unwrap().to_owned(), ack);
    }
    let of = |message: &Value| &acks[message["activationId"].as_str().unwrap()];
    let response = |ack: &Value| {
        (
            ack["response"]["response"]["statusCode"].clone(),
            ack["response"]["response"]["result"].clone(),
        )
    };
    let expected = (json!(2), json!({"error": "no main"}));
    assert_eq!(
        (response(of(&first)), response(of(&others[0]))),
        (expected.clone(), expected)
    );
    assert_ne!(of(&first)["response"]["response"]["size"], Value::Null);
    let waited = &of(&others[0])["response"];
    assert_eq!(
        (&waited["duration"], &waited["start"]),
        (&json!(0), &waited["end"])
    );
    // Nobody waits for the third: a completion, which names the activation (S-10g).
    assert_eq!(of(&others[1])["response"], Value::Null);
    let asked = bench
        .engine
        .seen()
        .iter()
        .filter(|seen| seen.container == 1)
        .count();
    assert_eq!(asked, 1, "nothing was tried again");
    bench.stop().await;
}

/// C-02, C-80, L-40, L-31, O-24: sixteen activations run at once in one container whose memory counts once,
/// and the seventeenth waits.
#[tokio::test]
async fn sixteen_activations_share_a_container() {
    let held = Arc::new(Notify::new());
    let gate = Arc::clone(&held);
    let probe = Probe::new(move |seen| match &*seen.path {
        "/run" if seen.nth > 1 => Reply::Held(Arc::clone(&gate), 200, "{}".to_owned()),
        _ => ok("{}"),
    });
    let mut bench = Bench::with(probe, bench::small).await;
    let document = action("many", json!({"limits": {"concurrency": 16}}));
    bench.put(&document).await;
    bench.call(&message(&document, json!({}))).await;
    for _ in 0..17 {
        bench.send(&message(&document, json!({"blocking": false}))).await;
    }
    bench
        .until("sixteen run", |probe| probe.connections().0 == 16)
        .await;
    held.notify_one();
    bench.ack().await;
    bench
        .until("the seventeenth runs too", |probe| probe.seen().len() == 1 + 18)
        .await;
    for _ in 0..16 {
        held.notify_one();
        bench.ack().await;
    }
    assert_eq!(bench.engine.connections().1, 16);
    let starts = bench
        .engine
        .deeds()
        .iter()
        .filter(|deed| deed.starts_with("start"))
        .count();
    assert_eq!(starts, 1);
    bench.stop().await;
}

/// L-33, L-37, E-32, K-45: memory above the budget is a violated limit, and holds up nobody.
#[tokio::test]
async fn memory_above_the_budget_violates_a_limit() {
    let mut bench = Bench::with(Probe::new(|_| ok("{}")), bench::small).await;
    let (large, fits) = (
        action("large", json!({"limits": {"memory": 512}})),
        action("fits", json!({})),
    );
    bench.put(&large).await;
    bench.put(&fits).await;
    bench.send(&message(&large, json!({}))).await;
    let ack = bench.ack().await;
    let activation = &ack["response"];
    assert_eq!(
        activation["response"],
        json!({"statusCode": 1, "result": {"error":
            "requirement failed: memory size 512 MB exceeds allowed threshold of 256 MB"}})
    );
    assert_eq!(ack["isSystemError"], false);
    assert_eq!(
        activation["annotations"],
        json!([{"key": "path", "value": "guest/large"}, {"key": "kind", "value": "unknown"}])
    );
    let activation = bench.call(&message(&fits, json!({}))).await;
    assert_eq!(activation["response"]["statusCode"], 0);
    bench.stop().await;
}

/// C-20, C-22, C-35c, C-36b, C-50, C-51, E-07, E-08, S-04, S-36d: a limit that has passed is said without a
/// look for a memory kill, and ends the container.
#[tokio::test]
async fn an_action_that_takes_too_long_ends_with_its_container() {
    for (path, sentence) in [
        (
            "/init",
            "The action exceeded its time limits of 100 milliseconds during initialization.",
        ),
        ("/run", "The action exceeded its time limits of 100 milliseconds."),
    ] {
        let mut bench = Bench::start(Probe::new(move |seen| match seen.path == path {
            true => Reply::Never,
            false => ok("{}"),
        }))
        .await;
        let document = action("slow", json!({"limits": {"timeout": 100}}));
        bench.put(&document).await;
        let activation = bench.call(&message(&document, json!({}))).await;
        assert_eq!(
            activation["response"],
            json!({"statusCode": 2, "result": {"error": sentence}})
        );
        let annotations = activation["annotations"].as_array().unwrap();
        assert!(
            annotations.contains(&json!({"key": "timeout", "value": true})),
            "{annotations:?}"
        );
        assert!(activation["duration"].as_i64().unwrap() >= 100);
        bench
            .until("it goes", |p| p.deeds().contains(&"remove 1".to_owned()))
            .await;
        bench.stop().await;
    }
}

/// C-70, C-72, L-20, S-03, S-04, S-10a, S-10b, S-10c, S-10d, S-20: the result does not wait for logs, the
/// container does, and a container whose logs are not whole goes.
#[tokio::test]
async fn logs_hold_up_the_container_and_not_the_caller() {
    let mut probe = Probe::new(|_| ok("{}"));
    probe.logging = Box::new(|_| Logs {
        lines: vec!["2026-01-01T00:00:00Z           stdout: x".to_owned()],
        failed: true,
    });
    let mut bench = Bench::start(probe).await;
    let quiet = action("quiet", json!({}));
    let loud = action("loud", json!({"limits": {"logs": 1}}));
    bench.put(&quiet).await;
    bench.put(&loud).await;
    let shape = |ack: &Value| ["response", "instance", "activationId"].map(|member| !ack[member].is_null());
    let (result, completion, combined) = ([true, false, false], [false, true, true], [true, true, false]);
    for (document, blocking, expected) in [
        (&quiet, true, vec![combined]),
        (&quiet, false, vec![completion]),
        (&loud, true, vec![result, completion]),
        (&loud, false, vec![completion]),
    ] {
        let message = message(document, json!({"blocking": blocking}));
        bench.send(&message).await;
        let acks = bench.acks().await;
        assert_eq!(acks.iter().map(shape).collect::<Vec<_>>(), expected);
        if let Some(activation) = acks.iter().find(|ack| ack["response"].is_object()) {
            assert_eq!(activation["response"]["logs"], json!([]));
        }
        let record = bench
            .record("jane", message["activationId"].as_str().unwrap())
            .await;
        assert_eq!(
            record["logs"].as_array().unwrap().len(),
            usize::from(*document == loud)
        );
    }
    let removals = |probe: &Probe| {
        probe
            .deeds()
            .iter()
            .filter(|deed| deed.starts_with("remove"))
            .count()
    };
    bench
        .until("both containers with bad logs go", |probe| removals(probe) == 2)
        .await;
    bench.stop().await;
}

/// S-11, S-44: a fault of ours in the middle of a run leaves one slot-freeing ack, and no container.
#[tokio::test]
async fn a_fault_of_ours_frees_the_slot_and_ends_the_container() {
    let mut probe = Probe::new(|_| ok("{}"));
    probe.logging = Box::new(|_| panic!("as if the invoker were broken"));
    let mut bench = Bench::start(probe).await;
    let document = action("loud", json!({"limits": {"logs": 1}}));
    bench.put(&document).await;
    bench.send(&message(&document, json!({"blocking": false}))).await;
    let acks = bench.acks().await;
    assert_eq!(acks.len(), 1, "{acks:?}");
    bench
        .until("it goes", |p| p.deeds().contains(&"remove 1".to_owned()))
        .await;
    bench.stop().await;
}
