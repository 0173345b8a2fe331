//! Documents and messages are those that a real controller wrote and sent.

use crate::support::standalone::Standalone;
use crate::{ECHO, HELLO, packages, recorded, stored, without};
use serde_json::json;

#[tokio::test]
async fn the_document_of_an_action_is_the_one_that_openwhisk_writes() {
    let api = Standalone::start().await;
    api.put(
        "_/actions/echopy",
        json!({"exec": {"kind": "python:default", "code": ECHO}}),
    )
    .await
    .ok();
    let bound = json!({
        "exec": {"kind": "python:3", "code": ECHO},
        "annotations": [{"key": "description", "value": "bound params"}, {"key": "custom", "value": {"x": 1}}],
        "parameters": [{"key": "color", "value": "red"}, {"key": "count", "value": 3},
                       {"key": "nested", "value": {"a": [1, 2, {"b": null}]}}],
        "limits": {"timeout": 30000, "memory": 192, "logs": 2},
    });
    api.put("guest/actions/boundpy", bound).await.ok();
    let blackbox = json!({"exec": {"kind": "blackbox", "image": "localimg/blackbox:v1", "code": HELLO}});
    api.put("_/actions/bbox", blackbox).await.ok();

    for name in ["echopy", "boundpy", "bbox"] {
        let expected = recorded(&format!("db/whisks/guest__{name}.json"));
        let document = stored(&api, &format!("guest/{name}")).await;
        assert_eq!(
            without(document, &["updated"]),
            without(expected, &["_id", "_rev", "updated"]),
            "{name}"
        );
    }
    api.stop().await;
}

#[tokio::test]
async fn the_documents_of_packages_are_the_ones_that_openwhisk_writes() {
    let api = Standalone::start().await;
    packages(&api).await;
    for (id, file) in [
        ("guest/pkg", "pkg"),
        ("guest/bound", "bound"),
        ("guest/pkg/echo", "pkg__echo"),
    ] {
        let expected = recorded(&format!("db/whisks/guest__{file}.json"));
        let document = stored(&api, id).await;
        assert_eq!(
            without(document, &["updated"]),
            without(expected, &["_id", "_rev", "updated"]),
            "{id}"
        );
    }
    api.stop().await;
}

#[tokio::test]
async fn the_message_for_the_invoker_is_the_one_that_openwhisk_sends() {
    let mut api = Standalone::with(|settings| {
        let key = "23bc46b1-71f6-4ed5-8c54-816aa4f8c502:123zO3xZCLrMN6v2BKK1dXYFpXlPkccOFqm12CdAsMgRU4VrNZ9lyGVCGuMDGIwP";
        settings.key = key.parse().unwrap();
    })
    .await;
    packages(&api).await;
    let parameters = json!([{"key": "color", "value": "red"}, {"key": "count", "value": 3},
        {"key": "nested", "value": {"a": [1, 2, {"b": null}]}}]);
    let boundpy = json!({"exec": {"kind": "python:3", "code": ECHO}, "parameters": parameters});
    api.put("_/actions/boundpy", boundpy).await.ok();
    for (action, arguments, file) in [
        ("boundpy", json!({"color": "blue", "extra": 1}), "bound-params"),
        ("pkg/echo", json!({"x": 1}), "package-action"),
        ("bound/echo", json!({"x": 2}), "package-binding"),
    ] {
        let ended = api
            .post(&format!("_/actions/{action}?blocking=true"), arguments)
            .await;
        assert_eq!(ended.status, 200);
        let sent = api.invoker.messages.recv().await.unwrap();
        let expected = recorded(&format!("wire/invoker0/{file}.json"));
        let varying = ["activationId", "transid", "revision"];
        assert_eq!(
            without(sent.clone(), &varying),
            without(expected.clone(), &varying),
            "{file}"
        );
        assert_eq!(
            sent["content"].to_string(),
            expected["content"].to_string(),
            "the order is kept"
        );
        assert_eq!(
            sent["activationId"].as_str().unwrap(),
            ended.headers["x-openwhisk-activation-id"]
        );
        let transid = sent["transid"].as_array().unwrap();
        assert_eq!(transid[0].as_str().unwrap(), ended.headers["x-request-id"]);
        assert_eq!(transid[0].as_str().unwrap().len(), 32);
    }
    api.stop().await;
}
