//! Acks, events and records: their shapes, their order, and which there are.

use crate::kafka::shared;
use crate::world::{LOGGED, Running, SILENT, Wishes, World, eventually, hex, message, record};
use ffs_invoker::bus::Bus;
use ffs_invoker::config::{RecordLevel, RecordSettings};
use serde_json::{Value, json};

fn members(value: &Value) -> Vec<&str> {
    let mut members: Vec<&str> = value.as_object().unwrap().keys().map(String::as_str).collect();
    members.sort_unstable();
    members
}

/// The acks of one activation, oldest first.
fn of(acks: &[Value], id: u128) -> Vec<&Value> {
    let id = hex(id);
    let whose = |ack: &&Value| {
        let response = &ack["response"];
        [&ack["activationId"], response, &response["activationId"]]
            .into_iter()
            .any(|member| *member == id.as_str())
    };
    acks.iter().filter(whose).collect()
}

const RESULT: &[&str] = &["response", "transid"];
const COMPLETION: &[&str] = &["activationId", "instance", "isSystemError", "transid"];
const COMBINED: &[&str] = &["instance", "isSystemError", "response", "transid"];

/// S-10, S-10a, S-10b, S-10c, S-10d, S-10e, S-12, S-13, M-30, M-31, M-32, M-33, M-34, M-35, M-36, M-37, S-20:
/// the messages of each situation, in their order.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_situation_has_its_acks_in_their_order() {
    let broker = tokio::task::spawn_blocking(shared).await.unwrap();
    let world = World::new(broker).await;
    let running = world.start(&Wishes::default()).await;
    let cases = [
        (1, LOGGED, true, json!({}), vec![RESULT, COMPLETION]),
        (2, LOGGED, false, json!({}), vec![COMPLETION]),
        (3, SILENT, true, json!({}), vec![COMBINED]),
        (4, SILENT, false, json!({}), vec![COMPLETION]),
        (5, "deleted", true, json!({}), vec![COMBINED]),
        (6, "deleted", false, json!({}), vec![COMBINED]),
        (
            7,
            LOGGED,
            true,
            json!({ "answer": { "error": "no" } }),
            vec![RESULT, COMPLETION],
        ),
        (
            8,
            LOGGED,
            true,
            json!({ "status": 500 }),
            vec![RESULT, COMPLETION],
        ),
    ];
    for (id, action, blocking, content, _) in &cases {
        world
            .send(&message(*id, action, *blocking, content.clone()))
            .await;
    }
    world.freed(cases.len()).await;
    let acks = world.read("completed0").await;
    let name = world.read("health").await.pop().unwrap()["name"].clone();
    for (id, action, blocking, _, expected) in cases {
        let found = of(&acks, id);
        assert_eq!(
            found.iter().map(|ack| members(ack)).collect::<Vec<_>>(),
            expected,
            "{id}"
        );
        for ack in found {
            assert_eq!(ack["transid"][0], format!("tid{id}"));
            if ack.get("instance").is_some() {
                assert_eq!(ack["instance"], name);
                assert_eq!(ack["isSystemError"], false, "{id}");
            }
            match ack.get("response") {
                Some(Value::String(text)) => assert!(!blocking && *text == hex(id)),
                Some(whole) => assert!(blocking && whole["logs"] == json!([]), "{whole}"),
                None => {}
            }
        }
        let record = running.record(id).await;
        let logs = record["logs"].as_array().unwrap().len();
        assert_eq!(logs > 0, action == LOGGED, "{record}");
    }
    running.stop().await;
}

/// M-38: each controller gets its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acks_go_to_the_controller_that_sent_the_message() {
    let broker = tokio::task::spawn_blocking(shared).await.unwrap();
    let world = World::new(broker).await;
    let running = world.start(&Wishes::default()).await;
    for id in 1..=20 {
        let mut sent = message(id, LOGGED, true, json!({}));
        sent["rootControllerIndex"]["asString"] = (id % 2).to_string().into();
        world.send(&sent).await;
    }
    world.freed(10).await;
    eventually("both have theirs", async || {
        world.read("completed1").await.len() == 20
    })
    .await;
    let (zero, one) = (world.read("completed0").await, world.read("completed1").await);
    for id in 1..=20 {
        let (theirs, others) = if id % 2 == 0 { (&zero, &one) } else { (&one, &zero) };
        assert_eq!((of(theirs, id).len(), of(others, id).len()), (2, 0), "{id}");
    }
    running.stop().await;
}

/// S-13, S-11, S-12, K-10: a result is before its completion, a thousand times, and there is one of each.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn results_come_before_completions_under_load() {
    let broker = tokio::task::spawn_blocking(shared).await.unwrap();
    let world = World::new(broker).await;
    let running = world.start(&Wishes::default()).await;
    let sends = (1..=1000).map(|id| {
        let world = &world;
        async move { world.send(&message(id, LOGGED, true, json!({}))).await }
    });
    futures::future::join_all(sends).await;
    world.freed(1000).await;
    let acks = world.read("completed0").await;
    for id in 1..=1000 {
        let found = of(&acks, id);
        assert_eq!(
            found.iter().map(|ack| members(ack)).collect::<Vec<_>>(),
            [RESULT, COMPLETION]
        );
    }
    running.stop().await;
}

/// K-33, S-14, K-34, K-03, M-35: an ack that is too large goes with the id alone, once; one of exactly the
/// payload limit goes whole.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_too_large_for_kafka_is_shrunk() {
    let broker = tokio::task::spawn_blocking(shared).await.unwrap();
    let world = World::new(broker).await;
    let running = world.start(&Wishes::default()).await;
    let most = (1 << 20) - r#"{"text":""}"#.len();
    let (fits, blown_up) = (json!({ "bytes": most }), json!({ "bytes": most }));
    for (id, action) in [(1, LOGGED), (2, SILENT)] {
        world.send(&message(id, action, true, fits.clone())).await;
    }
    for (id, action) in [(3, LOGGED), (4, SILENT)] {
        let mut sent = message(id, action, true, blown_up.clone());
        sent["transid"][0] = "t".repeat(7000).into();
        world.send(&sent).await;
    }
    world.freed(4).await;
    let acks = world.read("completed0").await;
    for id in [1, 2] {
        let whole = of(&acks, id)[0];
        assert_eq!(
            whole["response"]["response"]["result"]["text"]
                .as_str()
                .unwrap()
                .len(),
            most
        );
    }
    let shapes = |id| of(&acks, id).into_iter().map(members).collect::<Vec<_>>();
    assert_eq!(shapes(3), [RESULT, COMPLETION]);
    assert_eq!(shapes(4), [COMBINED]);
    for id in [3, 4] {
        assert_eq!(of(&acks, id)[0]["response"], hex(id).as_str());
        // The controller finds it there (K-34).
        let record = running.record(id).await;
        assert_eq!(record["response"]["result"]["text"].as_str().unwrap().len(), most);
    }
    running.stop().await;
}

/// H-38, N-10, N-11, N-12, M-70, M-71, M-72, M-73, S-15: one event for each slot-freeing ack, from the whole
/// activation.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_slot_that_is_freed_has_its_event() {
    let broker = tokio::task::spawn_blocking(shared).await.unwrap();
    let world = World::new(broker).await;
    let wishes = Wishes {
        events: true,
        ..Wishes::default()
    };
    let running = world.start(&wishes).await;
    let status = |answer: Value| json!({ "answer": answer });
    let cases = [
        (1, LOGGED, true, json!({}), Value::Null),
        (
            2,
            SILENT,
            false,
            status(json!({ "error": { "statusCode": 404 } })),
            json!(404),
        ),
        (3, SILENT, true, status(json!({ "statusCode": 201 })), json!(201)),
        (4, LOGGED, false, status(json!({ "statusCode": "x" })), json!(400)),
        (5, "deleted", false, json!({}), Value::Null),
    ];
    for (id, action, blocking, content, _) in &cases {
        let mut sent = message(*id, action, *blocking, content.clone());
        if *id == 1 {
            sent["user"]["namespace"] = json!({ "name": "whisk.system", "uuid": "u-1" });
            sent["user"]["subject"] = "whisk.system".into();
        }
        world.send(&sent).await;
        world.freed(usize::try_from(*id).unwrap()).await; // one after the other, so that the second is warm
    }
    world.send(&message(6, SILENT, false, json!({}))).await;
    world.freed(6).await;
    eventually("an event each", async || world.read("events").await.len() == 6).await;
    let events = world.read("events").await;
    for (event, (id, action, _, _, code)) in events.iter().zip(&cases) {
        assert_eq!(
            members(event),
            [
                "body",
                "eventType",
                "namespace",
                "source",
                "subject",
                "timestamp",
                "userId"
            ]
        );
        assert_eq!(
            (&event["source"], &event["eventType"]),
            (&json!("invoker0"), &json!("Activation"))
        );
        let body = &event["body"];
        assert_eq!(body["activationId"], hex(*id).as_str());
        assert_eq!(body["name"], format!("guest/{action}"));
        assert_eq!(
            body.get("userDefinedStatusCode").cloned().unwrap_or_default(),
            *code,
            "{event}"
        );
        assert_eq!(body["conductor"], false);
        let known = *id != 5;
        assert_eq!(body["kind"], if known { "python:3" } else { "unknown" });
        assert_eq!(body["memory"], if known { 128 } else { 0 });
        assert_eq!(body["size"].is_u64(), known, "from the whole activation: {event}");
        if *id != 1 {
            let record = running.record(*id).await;
            let notes = record["annotations"].as_array().unwrap();
            let init = notes.iter().find(|note| note["key"] == "initTime");
            let init = init.map_or(json!(0), |note| note["value"].clone());
            assert_eq!(body["initTime"], init);
            assert_eq!(body["duration"], record["duration"]);
        }
    }
    assert_eq!(
        (&events[0]["namespace"], &events[0]["userId"]),
        (&json!("whisk.system"), &json!("u-1"))
    );
    assert_eq!(events[5]["body"]["initTime"], 0, "warm");
    running.stop().await;
}

/// S-15, N-10: a topic for events that is not there holds up nothing; without the setting there are none.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_that_cannot_be_sent_hold_up_nothing() {
    let broker = tokio::task::spawn_blocking(shared).await.unwrap();
    let world = World::new(broker).await;
    let running = world.start(&Wishes::default()).await;
    world.send(&message(1, LOGGED, true, json!({}))).await;
    world.freed(1).await;
    running.stop().await;
    assert!(world.read("events").await.is_empty());

    let mut nowhere = world.settings(&Wishes::default());
    nowhere.topics.events = Some("no-such-topic".to_owned());
    let running = world.start_as(nowhere).await;
    for id in 2..=30 {
        world.send(&message(id, LOGGED, true, json!({}))).await;
    }
    world.freed(30).await;
    running.stop().await;
}

/// D-48, D-49: who has a record: level, type, status, extra logging, and the user's own wish.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_are_kept_as_the_levels_say() {
    let broker = tokio::task::spawn_blocking(shared).await.unwrap();
    for level in [
        RecordLevel::Failures,
        RecordLevel::FailuresNotApplicationErrors,
        RecordLevel::Always,
    ] {
        for of_blocking in [true, false] {
            let world = World::new(broker).await;
            let (blocking, non_blocking) = if of_blocking {
                (level, RecordLevel::Always)
            } else {
                (RecordLevel::Always, level)
            };
            let wishes = Wishes {
                records: RecordSettings {
                    blocking,
                    non_blocking,
                    unstored_logs: true,
                },
                ..Wishes::default()
            };
            let running = world.start(&wishes).await;
            let answers = [
                json!({}),
                json!({ "answer": { "error": "no" } }),
                json!({ "status": 500 }),
            ];
            let mut expected = Vec::new();
            let mut id = 0;
            for (status, content) in answers.iter().enumerate() {
                for blocking in [true, false] {
                    for (extra, store) in [
                        (false, None),
                        (true, None),
                        (true, Some(false)),
                        (false, Some(true)),
                    ] {
                        id += 1;
                        let mut sent = message(id, SILENT, blocking, content.clone());
                        if extra {
                            sent["transid"].as_array_mut().unwrap().push(true.into());
                        }
                        if let Some(store) = store {
                            sent["user"]["limits"] = json!({ "storeActivations": store });
                        }
                        world.send(&sent).await;
                        let allowed = blocking != of_blocking
                            || match level {
                                RecordLevel::Always => true,
                                RecordLevel::Failures => status > 0,
                                RecordLevel::FailuresNotApplicationErrors => status > 1,
                            };
                        expected.push((id, store != Some(false) && (extra || allowed)));
                    }
                }
            }
            world.freed(expected.len()).await;
            let wrong = unstored(&running, &expected).await;
            assert!(
                wrong.is_empty(),
                "{level:?} of blocking: {of_blocking}: {wrong:?}"
            );
            running.stop().await;
        }
    }
}

/// Those that have a record and should not, or the other way round, once nothing is owed any more.
async fn unstored(running: &Running, expected: &[(u128, bool)]) -> Vec<u128> {
    let journal = running.daemon.journal();
    eventually("nothing is owed", async || journal.size().activations == 0).await;
    let mut wrong = Vec::new();
    for (id, stored) in expected {
        if record(&*running.store, *id).await.is_some() != *stored {
            wrong.push(*id);
        }
    }
    wrong
}

/// M-75, K-22, K-01: the daemon reads its own topic, as a group of that name, and no other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_but_its_own_topic_is_read() {
    use rdkafka::consumer::{BaseConsumer, Consumer};
    let broker = tokio::task::spawn_blocking(shared).await.unwrap();
    let world = World::new(broker).await;
    world.make("cacheInvalidation", &[]).await;
    let running = world.start(&Wishes::default()).await;
    world.send(&message(1, LOGGED, true, json!({}))).await;
    world.freed(1).await;
    let invalidation = json!({ "key": { "mainId": "guest/logged" }, "instanceId": "controller0" });
    let topic = world.topic("cacheInvalidation");
    world
        .bus
        .send(&topic, invalidation.to_string().into_bytes())
        .await
        .unwrap();
    let (hosts, prefix) = (world.hosts.clone(), world.prefix.clone());
    let groups = tokio::task::spawn_blocking(move || {
        let client: BaseConsumer = rdkafka::ClientConfig::new()
            .set("bootstrap.servers", hosts)
            .create()
            .unwrap();
        let list = client
            .fetch_group_list(None, std::time::Duration::from_secs(30))
            .unwrap();
        let named = list.groups().iter().map(|group| group.name().to_owned());
        named.filter(|name| name.starts_with(&prefix)).collect::<Vec<_>>()
    });
    let own: Vec<String> = groups.await.unwrap();
    assert_eq!(own, [world.topic("invoker0")]);
    running.stop().await;
}
