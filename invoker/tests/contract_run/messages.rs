//! What the message and the document of the action say reaches the container and the record.

use crate::bench::{self, Bench, action, comparable, message};
use crate::probe::{Probe, ok};
use proto::unit::Bytes;
use serde_json::{Value, json};

/// C-06, M-27, V-04, V-08: arguments may be an object, an array or missing, and limits all or none.
#[tokio::test]
async fn arguments_arrive_as_they_were_sent() {
    let mut bench = Bench::start(Probe::new(|seen| {
        let value = if seen.path == "/run" {
            seen.json()["value"].clone()
        } else {
            json!({})
        };
        ok(&json!({"got": value}).to_string())
    }))
    .await;
    let document = action("echo", json!({}));
    bench.put(&document).await;
    let five = json!({"invocationsPerMinute": 1, "concurrentInvocations": 1, "firesPerMinute": 1,
        "allowedKinds": ["blackbox"], "storeActivations": true});
    let all = json!({"invocationsPerMinute": 1, "concurrentInvocations": 1, "firesPerMinute": 1,
        "allowedKinds": ["blackbox"], "storeActivations": true, "minActionMemory": 128,
        "maxActionMemory": 512, "minActionLogs": 0, "maxActionLogs": 10, "minActionTimeout": 100,
        "maxActionTimeout": 300_000, "minActionConcurrency": 1, "maxActionConcurrency": 1,
        "maxParameterSize": "1 MB", "maxPayloadSize": "1 MB", "truncationSize": "1 MB",
        "warmedContainerKeepingCount": 1, "warmedContainerKeepingTimeout": "1 minute", "maxActionInstances": 1});
    for (content, limits) in [
        (json!([1, {"a": 2}]), json!({})),
        (json!({"z": 1.10, "a": "é😀"}), five),
        (Value::Null, all),
    ] {
        let mut message = message(&document, json!({"user": {"limits": limits}}));
        message["content"] = content.clone();
        let activation = bench.call(&message).await;
        let expected = if content.is_null() { json!({}) } else { content };
        assert_eq!(
            activation["response"]["result"],
            json!({"got": expected}),
            "{activation}"
        );
    }
    bench.stop().await;
}

/// S-36g, S-36h, S-45, M-2A, M-65, W-10, W-11, W-15, W-16, W-17: a member of a sequence through a binding is an
/// ordinary activation that says who caused it; annotations of the action stay where they are, known or not (W-13, W-14).
#[tokio::test]
async fn an_activation_says_what_it_is_a_part_of() {
    let mut bench = Bench::start(Probe::new(|_| ok("{}"))).await;
    let document = action(
        "part",
        json!({"annotations": [{"key": "final", "value": true}, {"key": "never-heard-of", "value": {"a": []}},
            {"key": "conductor", "value": true}, {"key": "provide-api-key", "value": ""}]}),
    );
    bench.put(&document).await;
    let cause = "0".repeat(32);
    let activation = bench
        .call(&message(
            &document,
            json!({"cause": cause, "action": {"binding": "jane/pictures"}}),
        ))
        .await;
    assert_eq!(activation["cause"], json!(cause));
    let annotations = comparable(&activation)["annotations"].clone();
    assert_eq!(annotations["causedBy"], "sequence");
    assert_eq!(annotations["binding"], "jane/pictures");
    assert_eq!(annotations["path"], "guest/part");
    assert_eq!(annotations["never-heard-of"], Value::Null);
    assert_eq!(bench.engine.seen()[1].json()["api_key"], Value::Null);
    bench.stop().await;
}

/// M-04, M-38, D-03, D-07, D-27, E-10: an unreadable message is passed over without an ack, an action whose code is gone is
/// answered like a missing one, and acks go to the controller that asked.
#[tokio::test]
async fn what_cannot_be_read_holds_up_nobody() {
    let mut bench = Bench::with(Probe::new(|_| ok("{}")), bench::small).await;
    let document = action("fine", json!({}));
    let gone = action(
        "gone",
        json!({"exec": {"code": {"attachmentName": "couch:3c5f", "attachmentType": "text/plain"}}}),
    );
    bench.put(&document).await;
    bench.put(&gone).await;
    let other = bench.listen("completed1").await;
    // More than the feed has room for at once.
    for _ in 0..20 {
        bench
            .send(&json!({"transid": ["x", 1], "activationId": "not an id"}))
            .await;
    }
    let activation = bench.call(&message(&gone, json!({}))).await;
    assert_eq!(
        activation["response"],
        json!({"statusCode": 1, "result": {"error": "Action could not be found or may have been deleted."}})
    );
    bench
        .send(&message(
            &document,
            json!({"rootControllerIndex": {"asString": "1"}, "blocking": false}),
        ))
        .await;
    let acks = bench::read(other).await;
    assert_eq!(acks.len(), 1, "{acks:?}");
    assert_eq!(
        bench.engine.seen().len(),
        2,
        "one `/init` and one `/run` of all that was sent"
    );
    bench.stop().await;
}

/// D-25, D-26, D-28, D-29, D-30, D-31, D-32, C-10, E-11, W-04, W-05: how code reaches `/init`, and what cannot be run.
#[tokio::test]
async fn code_reaches_init_as_its_document_says() {
    let mut bench = Bench::with(Probe::new(|_| ok("{}")), |settings| {
        settings.user_memory = Bytes::mib(8192)
    })
    .await;
    let python = json!({"kind": "python:default"});
    let with = |exec: Value| {
        let mut all = python.clone();
        all.as_object_mut()
            .unwrap()
            .extend(exec.as_object().unwrap().clone());
        all
    };
    for (name, exec, expected) in [
        ("none", json!({}), json!({"main": "main", "binary": false})),
        (
            "blank",
            json!({"code": " \n"}),
            json!({"main": "main", "binary": false}),
        ),
        (
            "plain",
            with(json!({"code": "x = 1", "main": "run"})),
            json!({"main": "run", "binary": false, "code": "x = 1"}),
        ),
        (
            "zip",
            with(json!({"code": " UEsDBA== "})),
            json!({"main": "main", "binary": true, "code": " UEsDBA== "}),
        ),
        (
            "attached",
            with(json!({"code": {"attachmentName": "mem:_-8", "attachmentType": "x/y"}, "binary": true})),
            json!({"main": "main", "binary": true, "code": "/+8="}),
        ),
        (
            "text",
            with(json!({"code": {"attachmentName": "mem:w6k=", "attachmentType": "text/plain"}})),
            json!({"main": "main", "binary": false, "code": "é"}),
        ),
    ] {
        let mut document = action(name, json!({}));
        let image = document["exec"].clone();
        document["exec"] = exec.clone();
        if exec["kind"].is_null() {
            document["exec"]["kind"] = json!(" BlackBox ");
            document["exec"]["image"] = image["image"].clone();
        }
        bench.put(&document).await;
        let activation = bench.call(&message(&document, json!({}))).await;
        assert_eq!(activation["response"]["statusCode"], 0, "{name}: {activation}");
        let seen = bench.engine.seen();
        let init = seen.iter().rfind(|seen| seen.path == "/init").unwrap().json();
        for member in ["main", "binary", "code"] {
            assert_eq!(
                init["value"].get(member),
                expected.get(member),
                "{name}: {member}"
            );
        }
    }
    for (name, exec) in [
        ("unknown", json!({"kind": "cobol:85", "code": "x"})),
        ("codeless", json!({"kind": "python:3"})),
        ("imageless", json!({"kind": "blackbox"})),
        ("misnamed", json!({"kind": "blackbox", "image": "Not An Image"})),
    ] {
        let mut document = action(name, json!({}));
        document["exec"] = exec;
        bench.put(&document).await;
        let activation = bench.call(&message(&document, json!({}))).await;
        assert_eq!(
            activation["response"],
            json!({"statusCode": 3, "result": {"error": "Action version is not compatible and cannot be invoked."}}),
            "{name}"
        );
    }
    bench.stop().await;
}
