//! Actions and packages: created, read, changed, listed, deleted.

use crate::support::standalone::Standalone;
use crate::{HELLO, packages, stored};
use serde_json::json;

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
