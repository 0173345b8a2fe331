//! Invocations and their records.

use crate::packages;
use crate::support::http;
use crate::support::standalone::Standalone;
use hyper::Method;
use serde_json::json;
use std::time::Duration;

#[tokio::test]
async fn a_blocking_invocation_returns_the_activation_or_its_result() {
    let api = Standalone::start().await;
    api.create("echo", "# echo").await;
    let arguments = json!({"name": "é😀", "n": 12_345_678_901_234_567_890_u64});
    let reply = api.post("_/actions/echo?blocking=true", arguments.clone()).await;
    let id = reply.headers["x-openwhisk-activation-id"]
        .to_str()
        .unwrap()
        .to_owned();
    let activation = reply.ok();
    assert_eq!(activation["activationId"], id);
    assert_eq!(
        activation["response"],
        json!({"result": arguments, "size": 2, "status": "success", "success": true})
    );
    assert_eq!(
        (&activation["logs"], &activation["duration"]),
        (&json!([]), &json!(7))
    );
    let result = api
        .post("_/actions/echo?blocking=true&result=true", arguments.clone())
        .await;
    assert_eq!(result.ok(), arguments);
    let empty = api
        .send(Method::POST, "_/actions/echo?blocking=true&result=true", "")
        .await;
    assert_eq!(empty.ok(), json!({}));
    api.create("list", "# list").await;
    let list = api.post("_/actions/list?blocking=true", json!({})).await;
    assert_eq!(list.ok(), json!([1, "two", {}]));
    api.stop().await;
}

#[tokio::test]
async fn whose_fault_it_was_is_told_by_the_status() {
    let api = Standalone::start().await;
    let crash = "The action did not initialize and exited unexpectedly.";
    for (order, status, text, error) in [
        ("fail", 502, "application error", "no"),
        ("crash", 502, "action developer error", crash),
        (
            "lost",
            500,
            "whisk internal error",
            "Action could not be fetched.",
        ),
    ] {
        api.create(order, &format!("# {order}")).await;
        let whole = api
            .post(&format!("_/actions/{order}?blocking=true"), json!({}))
            .await;
        assert_eq!(whole.status, status);
        let response = json!({"result": {"error": error}, "status": text, "success": false});
        assert_eq!(whole.json()["response"], response);
        let result = api
            .post(&format!("_/actions/{order}?blocking=true&result=true"), json!({}))
            .await;
        assert_eq!(result.status, status);
        assert_eq!(result.json(), json!({ "error": error }));
    }
    api.stop().await;
}

#[tokio::test]
async fn an_invocation_that_does_not_block_returns_its_id_and_leaves_a_record() {
    let mut api = Standalone::start().await;
    api.create("echo", "# echo").await;
    let reply = api.post("_/actions/echo", json!({"a": 1})).await;
    assert_eq!(reply.status, 202);
    let body = reply.json();
    let id = body["activationId"].as_str().unwrap();
    assert_eq!(body, json!({ "activationId": id }));
    assert_eq!(api.invoker.messages.recv().await.unwrap()["blocking"], false);
    // The answers come in order, so that of the second says that the first is done.
    api.post("_/actions/echo?blocking=true", json!({})).await.ok();

    let record = api.get(&format!("_/activations/{id}")).await.ok();
    assert_eq!(record["response"]["result"], json!({"a": 1}));
    let result = api.get(&format!("_/activations/{id}/result")).await.ok();
    assert_eq!(
        result,
        json!({"result": {"a": 1}, "size": 2, "status": "success", "success": true})
    );
    let logs = api.get(&format!("_/activations/{id}/logs")).await.ok();
    assert_eq!(
        logs,
        json!({"logs": ["2026-01-01T00:00:00.000000001Z stdout: hello from the stand-in"]})
    );
    assert_eq!(record["logs"], logs["logs"]);
    assert!(record.get("updated").is_none() && record.get("entityType").is_none());
    api.stop().await;
}

#[tokio::test]
async fn an_answer_that_only_the_record_has_is_found_there() {
    let api = Standalone::start().await;
    api.create("large", "# large").await;
    let reply = api
        .post("_/actions/large?blocking=true&result=true", json!({"a": 1}))
        .await;
    assert_eq!(reply.ok(), json!({"a": 1}));
    api.create("unanswered", "# unanswered").await;
    let reply = api
        .post(
            "_/actions/unanswered?blocking=true&result=true&timeout=2000",
            json!({"a": 1}),
        )
        .await;
    assert_eq!(reply.ok(), json!({"a": 1}));
    api.stop().await;
}

#[tokio::test]
async fn who_waits_too_long_gets_the_id() {
    let api = Standalone::start().await;
    api.create("silent", "# silent").await;
    let reply = api
        .post("_/actions/silent?blocking=true&timeout=1", json!({}))
        .await;
    assert_eq!(reply.status, 202);
    assert_eq!(reply.json()["activationId"].as_str().unwrap().len(), 32);
    api.stop().await;
}

#[tokio::test]
async fn who_waits_when_the_api_stops_gets_the_id() {
    let mut api = Standalone::start().await;
    api.create("silent", "# silent").await;
    let (address, authorization) = (api.address, api.authorization());
    let waiting = tokio::spawn(async move {
        let headers = [("authorization", &*authorization)];
        let path = "/api/v1/namespaces/_/actions/silent?blocking=true";
        http::send(address, http::request(Method::POST, path, &headers, "{}")).await
    });
    api.invoker.messages.recv().await.unwrap();
    api.stop().await;
    assert_eq!(waiting.await.unwrap().status, 202);
}

#[tokio::test]
async fn activations_are_listed_newest_first_and_by_name() {
    let api = Standalone::start().await;
    packages(&api).await;
    api.create("echo", "# echo").await;
    for action in ["echo", "pkg/echo", "bound/echo", "echo"] {
        api.post(&format!("_/actions/{action}?blocking=true"), json!({}))
            .await
            .ok();
    }
    let all = api.get("_/activations").await.ok();
    let starts: Vec<i64> = all
        .as_array()
        .unwrap()
        .iter()
        .map(|a| a["start"].as_i64().unwrap())
        .collect();
    assert_eq!(starts.len(), 4);
    assert!(starts.windows(2).all(|two| two[0] >= two[1]));
    let newest = &all[0];
    assert_eq!(
        (&newest["name"], &newest["duration"], &newest["statusCode"]),
        (&json!("echo"), &json!(7), &json!(0))
    );
    assert!(newest.get("logs").is_none() && newest.get("response").is_none());
    for (query, count) in [
        ("name=echo", 2),
        ("name=pkg/echo", 1),
        ("name=bound%2Fecho", 1),
        ("name=nobody", 0),
        ("limit=3", 3),
        ("skip=3", 1),
        (&format!("since={}", starts[0] + 1), 0),
        (&format!("upto={}", starts[0]), 4),
        ("docs=true&limit=2", 2),
    ] {
        let found = api.get(&format!("_/activations?{query}")).await.ok();
        assert_eq!(found.as_array().unwrap().len(), count, "{query}");
    }
    assert_eq!(
        api.get("_/activations?count=true").await.ok(),
        json!({"activations": 4})
    );
    let docs = api.get("_/activations?docs=true").await.ok();
    assert_eq!(docs[0]["response"]["success"], true);
    api.stop().await;
}

#[tokio::test]
async fn the_callers_transaction_id_is_kept_unless_it_is_one_of_the_systems() {
    let mut api = Standalone::start().await;
    api.create("echo", "# echo").await;
    let authorization = api.authorization();
    for (given, kept) in [("my-request-7", true), ("sid_invokerHealth", false)] {
        let headers = [
            ("authorization", &*authorization),
            ("x-request-id", given),
            ("x-ow-extra-logging", "on"),
        ];
        let reply = api.send_as(&headers, Method::POST, "_/actions/echo", "").await;
        assert_eq!(reply.headers["x-request-id"] == given, kept);
        let sent = api.invoker.messages.recv().await.unwrap();
        assert_eq!(sent["transid"][0] == given, kept);
        assert_eq!(sent["transid"][2], true);
    }
    api.stop().await;
}

#[tokio::test]
async fn an_invocation_whose_client_went_away_is_still_carried_out() {
    let mut api = Standalone::start().await;
    api.create("silent", "# silent").await;
    let headers = [("authorization", &*api.authorization())];
    let path = "/api/v1/namespaces/_/actions/silent?blocking=true";
    let request = http::request(Method::POST, path, &headers, "{}");
    let left = tokio::time::timeout(Duration::from_secs(60), async {
        tokio::select! {
            _ = http::send(api.address, request) => panic!("nobody answers"),
            message = api.invoker.messages.recv() => message.unwrap(),
        }
    });
    assert_eq!(left.await.unwrap()["blocking"], true);
    api.stop().await;
}
