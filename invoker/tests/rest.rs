//! The REST API as OpenWhisk's controller has it: documents, answers, texts.
#![allow(clippy::unwrap_used)]

mod support;

use ffs_invoker::runtimes::Runtimes;
use ffs_invoker::standalone::key::Key;
use ffs_invoker::standalone::{Error, listen};
use ffs_invoker::store::Database;
use hyper::Method;
use serde_json::{Value, json};
use std::path::Path;
use std::time::Duration;
use support::http;
use support::standalone::{Standalone, basic};

/// What a real controller wrote or sent.
fn recorded(path: &str) -> Value {
    let file = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../proto/fixtures")
        .join(path);
    let text = std::fs::read_to_string(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    serde_json::from_str(&text).unwrap()
}

/// Without what differs each time.
fn without(mut document: Value, members: &[&str]) -> Value {
    document
        .as_object_mut()
        .unwrap()
        .retain(|name, _| !members.contains(&&**name));
    document
}

async fn stored(api: &Standalone, id: &str) -> Value {
    let document = api.store.get(Database::Entity, id, None).await.unwrap();
    document.expect("it is in the store").body
}

const HELLO: &str =
    "def main(args):\n    return {\"greeting\": \"Hello \" + args.get(\"name\", \"stranger\")}\n";
const ECHO: &str = "def main(args):\n    print(\"stdout line: %s\" % sorted(args.keys()))\n    import sys\n    print(\"stderr line\", file=sys.stderr)\n    return args\n";

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

/// The recorded package, its action and its binding.
async fn packages(api: &Standalone) {
    let pkg = json!({"publish": true, "annotations": [{"key": "description", "value": "a package"}],
        "parameters": [{"key": "pkgparam", "value": "frompkg"}, {"key": "color", "value": "blue"}]});
    api.put("_/packages/pkg", pkg).await.ok();
    let echo = json!({"exec": {"kind": "python:3", "code": ECHO}, "parameters": [{"key": "color", "value": "green"}]});
    api.put("_/actions/pkg/echo", echo).await.ok();
    let bound = json!({"binding": {"namespace": "_", "name": "pkg"},
        "parameters": [{"key": "bindparam", "value": "frombind"}, {"key": "color", "value": "yellow"}]});
    api.put("_/packages/bound", bound).await.ok();
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

#[tokio::test]
async fn an_action_is_created_read_changed_listed_and_deleted() {
    let api = Standalone::start().await;
    let created = api.create("hello", HELLO).await;
    assert_eq!(
        created["exec"],
        json!({"kind": "python:3", "code": HELLO, "binary": false})
    );
    assert_eq!(
        (&created["version"], &created["namespace"]),
        (&json!("0.0.1"), &json!("guest"))
    );
    assert_eq!(api.get("_/actions/hello").await.ok(), created);
    let without_code = api.get("_/actions/hello?code=false").await.ok();
    assert_eq!(without_code["exec"], json!({"kind": "python:3", "binary": false}));
    let again = api
        .put(
            "_/actions/hello",
            json!({"exec": {"kind": "python:3", "code": ""}}),
        )
        .await;
    assert_eq!(again.refused(409), "resource already exists");

    let change = json!({"annotations": [{"key": "ffs", "value": {"slo_ms": 450.5}}],
        "limits": {"memory": 512}, "parameters": [{"key": "name", "value": "you"}]});
    let changed = api.put("_/actions/hello?overwrite=true", change).await.ok();

    assert_eq!(changed["version"], "0.0.2");
    assert_eq!(changed["exec"], created["exec"]);
    assert_eq!(
        changed["limits"],
        json!({"concurrency": 1, "logs": 10, "memory": 512, "timeout": 60000})
    );
    let annotations = json!([{"key": "provide-api-key", "value": false}, {"key": "exec", "value": "python:3"},
        {"key": "ffs", "value": {"slo_ms": 450.5}}]);
    assert_eq!(changed["annotations"], annotations);
    let removal = json!({"delAnnotations": ["ffs"], "exec": {"kind": "python:3.11", "code": "x = 1"}});
    let removed = api.put("_/actions/hello?overwrite=true", removal).await.ok();
    assert_eq!(
        removed["annotations"][1],
        json!({"key": "exec", "value": "python:3.11"})
    );
    assert_eq!(removed["annotations"].as_array().unwrap().len(), 2);
    assert_eq!(removed["parameters"], json!([{"key": "name", "value": "you"}]));

    api.create("other", HELLO).await;
    let listed = api.get("_/actions?limit=10").await.ok();
    let names: Vec<&str> = listed
        .as_array()
        .unwrap()
        .iter()
        .map(|a| a["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["other", "hello"]);
    assert_eq!(listed[1]["exec"], json!({"binary": false}));
    assert_eq!(api.get("_/actions?count=true").await.ok(), json!({"actions": 2}));
    assert_eq!(
        api.get("_/actions/?skip=1").await.ok().as_array().unwrap().len(),
        1
    );

    assert_eq!(api.delete("_/actions/hello").await.ok()["version"], "0.0.3");
    assert_eq!(
        api.get("_/actions/hello").await.refused(404),
        "The requested resource does not exist."
    );
    assert_eq!(
        api.delete("_/actions/hello").await.refused(404),
        "The requested resource does not exist."
    );
    api.stop().await;
}

#[tokio::test]
async fn large_and_binary_code_is_kept_beside_the_document_and_comes_back_as_it_was() {
    use base64::Engine;
    let api = Standalone::start().await;
    let zip: Vec<u8> = (0..40_000u32).map(|n| (n % 253) as u8).collect();
    let zip = base64::engine::general_purpose::STANDARD.encode(zip);
    let text = format!("# echo é\n{}", "x = 1\n".repeat(4000));
    for (code, binary, kind) in [
        (&zip, true, "application/octet-stream"),
        (&text, false, "text/plain; charset=UTF-8"),
    ] {
        let put = json!({"exec": {"kind": "python:3", "code": code, "main": "handler"}});
        api.put("_/actions/big?overwrite=true", put).await.ok();
        let document = stored(&api, "guest/big").await;
        let name = document["exec"]["code"]["attachmentName"].as_str().unwrap();
        let name = name
            .strip_prefix("couch:")
            .expect("an attachment of the document");
        assert_eq!(document["exec"]["code"]["attachmentType"], kind);
        assert_eq!(
            document["_attachments"]
                .as_object()
                .unwrap()
                .keys()
                .collect::<Vec<_>>(),
            [name]
        );
        let read = api.get("_/actions/big").await.ok();
        assert_eq!(
            read["exec"],
            json!({"kind": "python:3", "code": code, "binary": binary, "main": "handler"})
        );
    }
    let ended = api
        .post("_/actions/big?blocking=true&result=true", json!({"a": 1}))
        .await;
    assert_eq!(ended.ok(), json!({"a": 1}));
    let annotated = api
        .put(
            "_/actions/big?overwrite=true",
            json!({"annotations": [{"key": "a", "value": 1}]}),
        )
        .await;
    assert_eq!(annotated.ok()["exec"]["code"], json!(text));
    assert_eq!(api.get("_/actions/big").await.ok()["exec"]["code"], json!(text));
    api.stop().await;
}

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
async fn packages_are_read_listed_changed_and_deleted() {
    let api = Standalone::start().await;
    packages(&api).await;
    let pkg = api.get("_/packages/pkg").await.ok();
    assert_eq!(pkg["binding"], json!({}));
    assert_eq!(
        (&pkg["actions"][0]["name"], &pkg["feeds"]),
        (&json!("echo"), &json!([]))
    );
    let bound = api.get("_/packages/bound").await.ok();
    assert_eq!(bound["binding"], json!({"namespace": "guest", "name": "pkg"}));
    let parameters = json!([{"key": "pkgparam", "value": "frompkg"}, {"key": "color", "value": "yellow"},
        {"key": "bindparam", "value": "frombind"}]);
    assert_eq!(bound["parameters"], parameters);
    assert_eq!(bound["actions"][0]["name"], "echo");
    let listed = api.get("_/packages").await.ok();
    assert_eq!(
        (&listed[0]["name"], &listed[1]["binding"]),
        (&json!("bound"), &json!(false))
    );
    assert_eq!(
        api.get("_/actions/bound/").await.ok()[0]["namespace"],
        "guest/pkg"
    );
    let merged = api.get("_/actions/bound/echo").await.ok();
    assert_eq!(merged["parameters"][1], json!({"key": "color", "value": "green"}));

    let refused = [
        (
            api.put(
                "_/actions/nopkg/a",
                json!({"exec": {"kind": "python:3", "code": ""}}),
            )
            .await,
            404,
            "The requested resource does not exist.",
        ),
        (
            api.put(
                "_/actions/bound/a",
                json!({"exec": {"kind": "python:3", "code": ""}}),
            )
            .await,
            400,
            "Operation not permitted on package binding.",
        ),
        (
            api.put(
                "_/packages/b2",
                json!({"binding": {"namespace": "_", "name": "bound"}}),
            )
            .await,
            400,
            "Cannot bind to another package binding.",
        ),
        (
            api.put(
                "_/packages/b2",
                json!({"binding": {"namespace": "_", "name": "none"}}),
            )
            .await,
            400,
            "Binding references a package that does not exist.",
        ),
        (
            api.put("_/packages/default", json!({})).await,
            400,
            "Package name 'default' is reserved.",
        ),
        (
            api.get("_/actions/pkg").await,
            409,
            "Resource by this name exists but is not in this collection.",
        ),
        (
            api.delete("_/packages/pkg").await,
            409,
            "Package not empty (contains 1 entity). Set force param or delete package contents.",
        ),
    ];
    for (reply, status, text) in refused {
        assert_eq!(reply.refused(status), text);
    }
    assert_eq!(
        api.put("_/packages/pkg?overwrite=true", json!({"publish": false}))
            .await
            .ok()["version"],
        "0.0.2"
    );
    api.delete("_/packages/bound").await.ok();
    api.delete("_/packages/pkg?force=true").await.ok();
    assert_eq!(api.get("_/actions").await.ok(), json!([]));
    assert_eq!(api.get("_/packages").await.ok(), json!([]));
    api.stop().await;
}

#[tokio::test]
async fn final_parameters_cannot_be_given_and_init_parameters_are_named() {
    let mut api = Standalone::start().await;
    let parameters = json!([{"key": "fixed", "value": 1}, {"key": "open", "value": null},
        {"key": "env", "value": "e", "init": true}]);
    let action = json!({"exec": {"kind": "python:3", "code": "# echo"}, "parameters": parameters,
        "annotations": [{"key": "final", "value": true}]});
    api.put("_/actions/sealed", action).await.ok();
    let refused = api
        .post("_/actions/sealed?blocking=true", json!({"fixed": 2}))
        .await
        .refused(400);
    assert_eq!(
        refused,
        "Request defines parameters that are not allowed (e.g., reserved properties)."
    );
    let result = api
        .post("_/actions/sealed?blocking=true&result=true", json!({"open": 2}))
        .await
        .ok();
    assert_eq!(result, json!({"fixed": 1, "open": 2, "env": "e"}));
    assert_eq!(
        api.invoker.messages.recv().await.unwrap()["initArgs"],
        json!(["env"])
    );
    api.stop().await;
}

#[tokio::test]
async fn limits_are_checked_in_openwhisks_words() {
    let api = Standalone::start().await;
    for (limits, text) in [
        (
            json!({"timeout": 300_001}),
            "duration 300001 milliseconds exceeds allowed threshold of 300000 milliseconds",
        ),
        (
            json!({"timeout": 99}),
            "duration 99 milliseconds below allowed threshold of 100 milliseconds",
        ),
        (
            json!({"memory": 513}),
            "memory size 513 MB exceeds allowed threshold of 512 MB",
        ),
        (
            json!({"memory": 127}),
            "memory size 127 MB below allowed threshold of 128 MB",
        ),
        (
            json!({"logs": 11}),
            "log size 11 MB exceeds allowed threshold of 10 MB",
        ),
        (
            json!({"concurrency": 501}),
            "concurrency 501 exceeds allowed threshold of 500",
        ),
        (
            json!({"concurrency": 0}),
            "concurrency 0 below allowed threshold of 1",
        ),
    ] {
        let action = json!({"exec": {"kind": "python:3", "code": ""}, "limits": limits});
        let refused = api.put("_/actions/a", action).await.refused(400);
        assert_eq!(refused, format!("requirement failed: {text}"));
    }
    api.stop().await;
}

#[tokio::test]
async fn what_is_wrong_with_a_request_is_said() {
    let api = Standalone::start().await;
    api.create("echo", "# echo").await;
    let malformed = |text: &str| format!("The request content was malformed:\n{text}");
    let exec = |exec: Value| json!({ "exec": exec });
    let kinds = "Valid values are: 'python:3', 'python:3.11', 'blackbox'.";
    let cases = [
        (
            exec(json!({"kind": "ruby:2.5", "code": ""})),
            malformed(&format!(
                "The specified runtime 'ruby:2.5' is not supported by this platform. {kinds}"
            )),
        ),
        (
            exec(json!({"code": ""})),
            malformed("'kind' must be a string defined in 'exec'"),
        ),
        (
            exec(json!({"kind": "python:3"})),
            malformed(
                "'code' must be a string or attachment object defined in 'exec' for 'python:3' actions",
            ),
        ),
        (
            exec(json!({"kind": "blackbox"})),
            malformed("'image' must be a string defined in 'exec' for 'blackbox' actions"),
        ),
        (
            exec(json!({"kind": "sequence", "components": []})),
            malformed("actions of kind 'sequence' need a cluster: the standalone runs single actions only"),
        ),
        (json!({}), "exec undefined".into()),
        (
            json!({"limits": {"memory": "much"}}),
            malformed("limits.memory: invalid type: string \"much\", expected u64 at line 1 column 26"),
        ),
    ];
    for (body, text) in cases {
        assert_eq!(
            api.put("_/actions/new", body.clone()).await.refused(400),
            text,
            "{body}"
        );
    }
    let broken = api
        .send(Method::PUT, "_/actions/new", "{\"exec\":")
        .await
        .refused(400);
    assert!(
        broken.starts_with("The request content was malformed:\nexec: EOF while parsing"),
        "{broken}"
    );
    let list = api.post("_/actions/echo", json!([1])).await.refused(400);
    assert_eq!(list, malformed("Object expected"));
    let image = exec(json!({"kind": "blackbox", "image": "No Image"}));
    assert!(
        api.put("_/actions/new", image)
            .await
            .refused(400)
            .contains("image \"No Image\" is not valid")
    );

    let query = |name: &str, text: &str| format!("The query parameter '{name}' was malformed:\n{text}");
    for (path, text) in [
        (
            "_/actions?limit=201",
            query(
                "limit",
                "The value '201' is not in the range of 0 to 200 for actions.",
            ),
        ),
        (
            "_/actions?limit=x",
            query("limit", "The value 'x' is not an integer for actions."),
        ),
        (
            "_/activations?skip=-1",
            query(
                "skip",
                "The value '-1' is not greater than or equal to 0 for activations.",
            ),
        ),
        (
            "_/activations?since=now",
            query("since", "Parameter is not a valid value for epoch seconds: now"),
        ),
        (
            "_/activations?name=a/b/c",
            query(
                "name",
                "Parameter may be a 'simple' name or 'package-name/simple' name: a/b/c",
            ),
        ),
        (
            "_/activations?count=true&docs=true",
            "The parameter 'docs' is not permitted with 'count'.".into(),
        ),
        (
            "_/actions/echo?code=perhaps",
            query("code", "'perhaps' is not a valid Boolean value"),
        ),
        (
            "_/activations/abc",
            "Activation id length is 3 but must be 32.".into(),
        ),
        (
            &format!("_/activations/{}", "x".repeat(32)),
            "The activation id is not valid.".into(),
        ),
        (
            "_/actions/a$b",
            "The name of the entity contains illegal characters.".into(),
        ),
        (
            &format!("_/actions/{}", "a".repeat(257)),
            "Name segement longer than allowed: 257 > 256.".into(),
        ),
    ] {
        assert_eq!(api.get(path).await.refused(400), text, "{path}");
    }
    let timeout = api
        .post("_/actions/echo?blocking=true&timeout=60001", json!({}))
        .await
        .refused(400);
    assert_eq!(
        timeout,
        query("timeout", "Timeout must be number of milliseconds up to 60000.")
    );
    api.stop().await;
}

#[tokio::test]
async fn what_is_too_large_or_of_the_wrong_kind_is_refused() {
    let api = Standalone::start().await;
    api.create("echo", "# echo").await;
    let large = "x".repeat(1 << 20);
    let refused = api
        .post("_/actions/echo", json!({ "a": large }))
        .await
        .refused(413);
    assert_eq!(refused, "Request larger than allowed: 1048584 > 1048576 bytes.");
    let action =
        json!({"exec": {"kind": "python:3", "code": ""}, "parameters": [{"key": "a", "value": large}]});
    let refused = api.put("_/actions/a", action).await.refused(413);
    assert_eq!(
        refused,
        "parameters larger than allowed: 1048579 > 1048576 bytes."
    );
    let action = json!({"exec": {"kind": "python:3", "code": "é".repeat((24 << 20) + 1)}});
    let refused = api.put("_/actions/a", action).await.refused(413);
    assert_eq!(refused, "exec larger than allowed: 50331650 > 50331648 bytes.");
    let form = [
        ("authorization", &*api.authorization()),
        ("content-type", "application/x-www-form-urlencoded"),
    ];
    let refused = api
        .send_as(&form, Method::POST, "_/actions/echo", "a=1")
        .await
        .refused(415);
    assert!(refused.contains("Expected:\napplication/json"), "{refused}");
    // Within the limit of a request, but not of a message once the action's own are added.
    let action = json!({"exec": {"kind": "python:3", "code": "# echo"},
        "parameters": [{"key": "b", "value": "x".repeat(900_000)}]});
    api.put("_/actions/heavy", action).await.ok();
    let refused = api
        .post("_/actions/heavy", json!({"a": "x".repeat(900_000)}))
        .await
        .refused(413);
    assert_eq!(
        refused,
        "The request content is larger than the server is willing or able to process."
    );
    api.stop().await;
}

#[tokio::test]
async fn nobody_gets_in_without_the_key_or_into_another_namespace() {
    let api = Standalone::start().await;
    let anonymous = api.send_as(&[], Method::GET, "_/actions", "").await;
    assert_eq!(
        anonymous.headers["www-authenticate"],
        "Basic realm=\"OpenWhisk secure realm\""
    );
    let text = "The resource requires authentication, which was not supplied with the request";
    assert_eq!(anonymous.refused(401), text);
    let other = Key::random().to_string();
    let half = format!("{}:{}", api.key.uuid, "x".repeat(64));
    for header in [
        &*basic(&other),
        &basic(&half),
        &basic("guest"),
        "Basic %%%",
        "Bearer x",
    ] {
        let refused = api
            .send_as(&[("authorization", header)], Method::GET, "_/actions", "")
            .await;
        assert_eq!(
            refused.refused(401),
            "The supplied authentication is invalid",
            "{header}"
        );
    }
    let refused = api.get("whisk.system/actions").await.refused(403);
    assert_eq!(
        refused,
        "The supplied authentication is not authorized to access 'whisk.system'."
    );
    let refused = api.put("other/actions/pkg/a", json!({})).await.refused(403);
    assert_eq!(
        refused,
        "The supplied authentication is not authorized to access 'other/pkg/a'."
    );
    assert_eq!(api.get("").await.ok(), json!(["guest"]));

    let guest = api
        .store
        .get(Database::Auth, "guest", None)
        .await
        .unwrap()
        .unwrap();
    let mut blocked = guest.body;
    blocked["blocked"] = true.into();
    api.store
        .put(Database::Auth, "guest", Some(&guest.revision), &blocked)
        .await
        .unwrap();
    assert_eq!(
        api.get("").await.refused(401),
        "The supplied authentication is invalid"
    );
    api.stop().await;
}

#[tokio::test]
async fn what_is_not_there_is_not_found_and_what_a_cluster_has_is_named() {
    let api = Standalone::start().await;
    assert_eq!(
        api.get("_/nothing").await.refused(404),
        "The requested resource could not be found."
    );
    assert_eq!(
        api.post("_/actions/none", json!({})).await.refused(404),
        "The requested resource does not exist."
    );
    let missing = format!("_/activations/{}", "0".repeat(32));
    assert_eq!(
        api.get(&missing).await.refused(404),
        "The requested resource does not exist."
    );
    assert_eq!(
        api.send(Method::POST, "_/actions", "{}").await.refused(405),
        "HTTP method not allowed."
    );
    for kind in ["triggers", "rules"] {
        assert_eq!(api.get(&format!("_/{kind}")).await.ok(), json!([]));
        let refused = api.put(&format!("_/{kind}/t"), json!({})).await.refused(501);
        assert_eq!(
            refused,
            "Triggers and rules need a cluster: the standalone runs actions only."
        );
    }
    assert_eq!(api.get("_/limits").await.ok()["maxActionMemory"], 512);
    api.stop().await;
}

#[tokio::test]
async fn anybody_may_ask_what_this_is() {
    let api = Standalone::start().await;
    let get = |path: &'static str| http::send(api.address, http::request(Method::GET, path, &[], ""));
    let root = get("/").await.ok();
    assert_eq!(root["runtimes"], Runtimes::built_in().to_info());
    assert_eq!(root["limits"]["max_action_memory"], 512 << 20);
    assert_eq!(root["limits"]["min_action_duration"], 100);
    assert_eq!(get("/api/v1").await.ok()["api_version_path"], "v1");
    assert_eq!(&get("/ping").await.bytes[..], b"pong");
    let preflight = http::request(Method::OPTIONS, "/api/v1/namespaces/_/actions", &[], "");
    let preflight = http::send(api.address, preflight).await;
    assert_eq!(preflight.status, 200);
    assert_eq!(preflight.headers["access-control-allow-origin"], "*");
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
async fn a_port_that_is_taken_is_named() {
    let first = listen("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = first.local_addr().unwrap();
    let error = listen(address).await.unwrap_err();
    assert!(matches!(error, Error::PortInUse(_)));
    let text = format!(
        "port {} of 127.0.0.1 is in use by another process: end that one, or choose another port",
        address.port()
    );
    assert_eq!(error.to_string(), text);
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

#[tokio::test]
async fn of_two_changes_at_the_same_time_one_is_told_of_the_other() {
    let api = Standalone::start().await;
    api.create("echo", "# echo").await;
    let change = |n: u32| {
        let body = json!({"parameters": [{"key": "n", "value": n}]});
        let api = &api;
        async move { api.put("_/actions/echo?overwrite=true", body).await }
    };
    let replies = futures::future::join_all((0..20).map(change)).await;
    let (done, refused): (Vec<_>, Vec<_>) = replies.into_iter().partition(|reply| reply.status == 200);
    for reply in refused {
        assert_eq!(
            reply.refused(409),
            "Concurrent modification to resource detected."
        );
    }
    let version = format!("0.0.{}", done.len() + 1);
    assert_eq!(api.get("_/actions/echo").await.ok()["version"], version);
    api.stop().await;
}
