//! What is refused, and in which words; and who gets in.

use crate::support::http;
use crate::support::standalone::{Standalone, basic};
use ffs_invoker::runtimes::Runtimes;
use ffs_invoker::standalone::key::Key;
use ffs_invoker::standalone::{Error, listen};
use ffs_invoker::store::Database;
use hyper::Method;
use serde_json::{Value, json};

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
