//! Messages that were not recorded, or whose outcome is meant to be better than the original's.

use super::world::{PATIENCE, in_world};
use serde_json::{Value, json};
use stand_in_controller::controller::{Call, fresh};
use std::time::{Duration, Instant};

/// K-43a, K-43e, K-44, K-46, K-47, K-48, K-49, M-40, M-41, M-42, V-01, V-02, V-03
#[test]
fn an_invoker_that_starts_becomes_healthy_and_goes_on_pinging() {
    in_world(async |world| {
        // Tests beside this one send activations that end with whisk errors, which count against it (K-45).
        world.controller.until_healthy(0, PATIENCE).await.unwrap();
        let (sent, answered) = world.controller.tests();
        assert!(sent >= 1 && answered >= 1, "{sent} tests, {answered} answers");
        let begun = Instant::now();
        while world.controller.pings().len() < 5 {
            assert!(begun.elapsed() < PATIENCE);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let pings = world.controller.pings();
        let (_, ping) = &pings[0];
        assert_eq!(ping.is_enabled, Some(true));
        let mut name = serde_json::to_value(&ping.name).unwrap();
        let unique = name.as_object_mut().unwrap().remove("uniqueName");
        assert!(unique.is_some_and(|unique| unique.is_string()));
        assert_eq!(
            name,
            json!({ "dedicatedNamespaces": [], "instance": 0, "instanceType": "invoker", "tags": [],
                "userMemory": "8589934592 B" })
        );
    });
}

/// K-60, K-61, K-62, K-67, S-10: through the balancer, more at once than there is room for
#[test]
fn three_times_what_fits_is_answered_without_an_error() {
    in_world(async |world| {
        let script = json!({ "run": { "delay_ms": 20, "body": { "ok": true } } });
        let template = world.probe("surplus", script).await;
        let mut running = Vec::new();
        for _ in 0..96 {
            let call = Call {
                memory_mb: 256,
                ..Call::new(fresh(&template))
            };
            running.push(world.controller.schedule_within(call, PATIENCE).await.unwrap());
        }
        for one in &mut running {
            let answer = tokio::time::timeout(PATIENCE, one.answer())
                .await
                .unwrap()
                .unwrap();
            assert_eq!(answer["response"]["statusCode"], 0, "{answer}");
            assert!(one.finished().await.is_some());
        }
    });
}

/// V-04, M-27: an array, then an object, as they are
#[test]
fn arguments_reach_the_action_as_they_were_sent() {
    in_world(async |world| {
        let template = world.probe("arguments", json!({})).await;
        for content in [json!([1, "two"]), json!({ "z": 1, "a": 1.50 })] {
            let mut message = fresh(&template);
            message.content = Some(content.clone().into());
            let ended = world.run(message).await;
            let requests = ended.result()["requests"].as_array().unwrap();
            let run = requests.last().unwrap();
            assert_eq!((&run["path"], &run["body"]["value"]), (&json!("/run"), &content));
        }
    });
}

/// V-08, M-54: no limits, those of 1.0.0, all of today
#[test]
fn limits_of_every_version_are_read() {
    in_world(async |world| {
        let template = world
            .probe("limits", json!({ "run": { "body": { "ok": true } } }))
            .await;
        let old = json!({ "invocationsPerMinute": 1, "concurrentInvocations": 1, "firesPerMinute": 1,
            "allowedKinds": ["probe:1"], "storeActivations": true });
        let mut all = old.clone();
        for (name, value) in [
            ("minActionMemory", json!(128)),
            ("maxActionMemory", json!(512)),
            ("minActionLogs", json!(0)),
            ("maxActionLogs", json!(10)),
            ("minActionTimeout", json!(100)),
            ("maxActionTimeout", json!(300_000)),
            ("minActionConcurrency", json!(1)),
            ("maxActionConcurrency", json!(1)),
            ("maxParameterSize", json!("1048576 B")),
            ("maxPayloadSize", json!("1048576 B")),
            ("truncationSize", json!("1048576 B")),
            ("warmedContainerKeepingCount", json!(1)),
            ("warmedContainerKeepingTimeout", json!("10 minutes")),
            ("maxActionInstances", json!(3)),
        ] {
            all[name] = value;
        }
        for limits in [json!({}), old, all] {
            let mut message = fresh(&template);
            message.user.limits = serde_json::from_value(limits.clone()).unwrap();
            let ended = world.run(message).await;
            assert_eq!(ended.status(), 0, "{limits}: {}", ended.activation());
        }
    });
}

/// V-07, C-45: another container answers
#[test]
fn a_container_that_says_503_is_replaced_and_the_caller_does_not_notice() {
    in_world(async |world| {
        let script = json!({ "run": [{ "body": { "n": 1 } }, { "status": 503, "body": { "error": "x" } }] });
        let template = world.probe("warm503", script).await;
        for _ in 0..3 {
            let ended = world.run(fresh(&template)).await;
            assert_eq!((ended.status(), ended.result()), (0, &json!({ "n": 1 })));
        }
        // Cold, the original loses it; here it is tried elsewhere, and then answered.
        for (name, script) in [
            ("cold503run", json!({ "run": { "status": 503, "body": {} } })),
            ("cold503init", json!({ "init": { "status": 503, "body": {} } })),
        ] {
            let ended = world.run(world.probe(name, script).await).await;
            assert_eq!(ended.status(), 2, "{}", ended.activation());
        }
    });
}

/// M-01, M-02: fields of a newer controller are passed over, and what cannot be read is skipped
#[test]
fn a_newer_controllers_message_runs_and_a_poisoned_one_stops_nothing() {
    in_world(async |world| {
        let template = world
            .probe("newer", json!({ "run": { "body": { "ok": true } } }))
            .await;
        for poison in [
            &b"{"[..],
            b"",
            b"\xff\xfe",
            b"[]",
            b"{\"action\":1}",
            br#""text""#,
        ] {
            world.controller.send_raw(0, poison).await.unwrap();
        }
        let mut call = Call::new(fresh(&template));
        call.more
            .insert("schedulingHints".to_owned(), json!({ "gpu": [1, 2] }));
        let ended = world.call(call).await;
        assert_eq!(ended.status(), 0);
        assert!(world.invoker.lock().unwrap().is_alive());
    });
}

/// M-28, C-11: also when the container is warm
#[test]
fn arguments_for_init_go_to_the_environment_and_not_to_run() {
    in_world(async |world| {
        let template = world.probe("initargs", json!({})).await;
        for _ in 0..2 {
            let mut message = fresh(&template);
            message.init_args = vec!["k".to_owned()];
            message.content = Some(json!({ "k": "v", "x": 1 }).into());
            let ended = world.run(message).await;
            let requests = ended.result()["requests"].as_array().unwrap();
            assert_eq!(requests[0]["body"]["value"]["env"]["k"], "v");
            assert_eq!(requests.last().unwrap()["body"]["value"], json!({ "x": 1 }));
        }
    });
}

/// M-52, W-12: every member of the key, whatever its name, if the action asks for it
#[test]
fn a_key_of_any_form_reaches_an_action_that_asks_for_it() {
    in_world(async |world| {
        let template = world.probe("keys", json!({})).await;
        let database = world.couch.lock().unwrap().database();
        let mut document = database
            .get(&database.entities, "guest/keys")
            .await
            .unwrap()
            .unwrap();
        document["annotations"] = json!([{ "key": "provide-api-key", "value": true }]);
        let revision = database.put(&database.entities, document).await.unwrap();
        for (key, names) in [
            (json!({ "api_key": "a:b" }), vec!["api_key"]),
            (json!({ "tok": "x", "org": "y" }), vec!["tok", "org"]),
        ] {
            let mut message = fresh(&template);
            message.revision = Some(revision.clone());
            message.user.authkey = serde_json::from_value(key.clone()).unwrap();
            let ended = world.run(message).await;
            let run = ended.result()["requests"].as_array().unwrap().last().unwrap()["body"].clone();
            for name in names {
                assert_eq!(run[name], key[name], "{run}");
            }
        }
    });
}

/// M-38, M-25
#[test]
fn each_controller_gets_its_own_answers() {
    in_world(async |world| {
        use stand_in_controller::controller::{Controller, Settings};
        let hosts = world.broker.lock().unwrap().hosts();
        let settings = Settings {
            name: "c-1.eu".to_owned(),
            ..Settings::new(hosts)
        };
        let other = Controller::start(settings).await.unwrap();
        let template = world
            .probe("controllers", json!({ "run": { "body": { "ok": true } } }))
            .await;
        let mut message = fresh(&template);
        message.root_controller_index = serde_json::from_value(json!({ "asString": "c-1.eu" })).unwrap();
        let mut running = other.send_to(0, Call::new(message)).await.unwrap();
        let finished = tokio::time::timeout(PATIENCE, running.finished())
            .await
            .unwrap()
            .unwrap();
        assert_eq!(finished.acks.len(), 2);
        assert_eq!(other.audit(), []);
    });
}

/// K-33, K-34, S-14: the acks carry the id, and the caller gets the result from the database
#[test]
fn a_result_too_large_for_a_message_is_answered_by_its_record() {
    in_world(async |world| {
        let script = json!({ "run": { "bytes": 1_048_576 } });
        for (name, logs) in [("large", 10), ("largenologs", 0)] {
            let exec = json!({ "kind": "probe:1", "code": script.to_string(), "binary": false });
            let limits = json!({ "concurrency": 1, "logs": logs, "memory": 128, "timeout": 10000 });
            let mut message = world.action(name, exec, limits).await;
            message.transid.id = "t".repeat(8000);
            let id = message.activation_id.to_string();
            let mut running = world.controller.send_to(0, Call::new(message)).await.unwrap();
            let finished = tokio::time::timeout(PATIENCE, running.finished())
                .await
                .unwrap()
                .unwrap();
            let first: Value = serde_json::from_slice(&finished.acks[0]).unwrap();
            assert_eq!(first["response"], json!(id), "{name}");
            let answer = running.answer().await.unwrap();
            assert_eq!(answer["response"]["size"], 1_048_576);
        }
    });
}

/// C-30, M-54: better than recorded, where such an answer counted as none
#[test]
fn an_answer_shorter_than_where_it_would_be_cut_is_shown_whole() {
    in_world(async |world| {
        let ended = world
            .run(world.message("direct-payload-cut-longer-than-body"))
            .await;
        assert_eq!(ended.status(), 1, "{}", ended.activation());
        let error = ended.result()["error"].as_str().unwrap();
        let said = "The action produced a response that exceeded the allowed length: 326 > 20 bytes. \
                    The truncated response was: ";
        let shown = error.strip_prefix(said).unwrap_or_else(|| panic!("{error}"));
        assert_eq!(shown.len(), 326);
    });
}

#[test]
fn answers_that_come_late_half_or_never_are_the_developers_fault() {
    in_world(async |world| {
        for (name, script) in [
            ("garbage", json!({ "run": { "text": "no json" } })),
            (
                "half",
                json!({ "run": { "framing": "half", "body": { "ok": true } } }),
            ),
            ("exits", json!({ "run": { "exit": 3 } })),
            ("late", json!({ "run": { "delay_ms": 20_000 } })),
        ] {
            let exec = json!({ "kind": "probe:1", "code": script.to_string(), "binary": false });
            let limits = json!({ "concurrency": 1, "logs": 10, "memory": 128, "timeout": 1000 });
            let ended = world.run(world.action(name, exec, limits).await).await;
            assert_eq!(ended.status(), 2, "{name}: {}", ended.activation());
        }
    });
}

/// C-32a: better than recorded, where such an answer counted as none
#[test]
fn answers_in_pieces_or_without_a_length_are_read_like_others() {
    in_world(async |world| {
        for framing in ["chunked", "close"] {
            let script = json!({ "run": { "framing": framing, "body": { "a": 1 } } });
            let ended = world
                .run(world.probe(&format!("{framing}run"), script).await)
                .await;
            assert_eq!((ended.status(), ended.result()), (0, &json!({ "a": 1 })));
            let script = json!({ "init": { "framing": framing, "status": 502, "body": { "error": "compile failed" } } });
            let ended = world
                .run(world.probe(&format!("{framing}init"), script).await)
                .await;
            assert_eq!(
                (ended.status(), ended.result()),
                (2, &json!({ "error": "compile failed" }))
            );
        }
    });
}

/// S-11, M-34, K-50: each activation of this process once, in one of the three forms, with its transaction id
#[test]
fn nothing_was_answered_twice_or_in_a_wrong_form() {
    in_world(async |world| {
        let template = world
            .probe("last", json!({ "run": { "body": { "ok": true } } }))
            .await;
        for blocking in [true, false] {
            let mut message = fresh(&template);
            message.blocking = blocking;
            let ended = world.run(message).await;
            assert_eq!(ended.finished.acks.len(), if blocking { 2 } else { 1 });
        }
        let problems = world.controller.audit();
        assert!(problems.is_empty(), "{problems:?}");
    });
}
