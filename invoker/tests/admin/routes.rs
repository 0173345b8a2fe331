//! Routes, their credentials and their texts (contract 8.1).

use crate::node::{Node, basic, text};
use hyper::{Method, StatusCode};

const RIGHT: &str = "invoker.user:invoker.pass";

/// H-03, H-03a, H-03b, H-03c, H-03d, H-03e, H-03f, H-03g, H-08, V-10: each route with right, wrong and no credentials.
#[tokio::test]
async fn each_route_answers_as_the_original_does() {
    let node = Node::start().await;
    let right = basic(RIGHT);
    let none: &[(&str, &str)] = &[];
    let wrong = [("authorization", &*basic("invoker.user:invoker"))];
    let right = [("authorization", &*right)];
    let (get, post) = (Method::GET, Method::POST);
    for (method, path, without, with) in [
        (&get, "/ping", 200, 200),
        (&get, "/metrics", 200, 200),
        (&post, "/ping", 401, 405),
        (&Method::HEAD, "/ping", 401, 405),
        (&post, "/metrics", 401, 405),
        (&get, "/enable", 401, 405),
        (&get, "/disable", 401, 405),
        (&post, "/isEnabled", 401, 405),
        (&get, "/isEnabled", 401, 200),
        (&get, "/config", 401, 404),
        (&get, "/pool", 401, 404),
        (&get, "/pool/count", 401, 404),
        (&get, "/", 401, 404),
        (&get, "/ping/", 401, 404),
        (&get, "/status", 401, 200),
        (&get, "/status.json", 401, 200),
        (&get, "/explain/guest/unknown", 401, 404),
        (&post, "/enable", 401, 200),
        (&post, "/disable", 401, 200),
        (&Method::DELETE, "/disable", 401, 405),
    ] {
        for (headers, expected) in [(none, without), (&wrong[..], without), (&right[..], with)] {
            let reply = node.send_as(method.clone(), path, headers).await;
            assert_eq!(reply.status.as_u16(), expected, "{method} {path} {headers:?}");
        }
    }
    node.stop().await;
}

/// H-03a, H-03c, H-03d, H-03e, H-05, M-43: the exact texts, with all parts of the invoker's name.
#[tokio::test]
async fn texts_name_the_invoker_and_what_it_is_now() {
    let node = Node::with(|wishes| {
        wishes.settings.identity.id = 2;
        wishes.settings.identity.unique_name = Some("u".to_owned());
        wishes.settings.identity.displayed_name = Some("d".to_owned());
    })
    .await;
    assert_eq!(node.text(Method::GET, "/ping").await, "pong");
    for (method, path, expected) in [
        (Method::GET, "/isEnabled", r#"{"enabled":true}"#),
        (Method::POST, "/enable", "invoker2/u/d is already enabled."),
        (Method::POST, "/disable", "invoker2/u/d is now disabled."),
        (Method::GET, "/isEnabled", r#"{"enabled":false}"#),
        (Method::POST, "/disable", "invoker2/u/d is already disabled."),
        (Method::POST, "/enable", "invoker2/u/d is now enabled."),
        (Method::GET, "/isEnabled", r#"{"enabled":true}"#),
    ] {
        let reply = node.send(method, path).await;
        assert_eq!(text(&reply), expected);
        let kind = reply.headers["content-type"].to_str().unwrap();
        assert!(kind.starts_with("text/plain"), "{path}: {kind}");
    }
    node.stop().await;
}

/// H-04, P-88: credentials are compared whole; a refusal is JSON that names the transaction, without a challenge.
#[tokio::test]
async fn only_the_operators_credentials_are_taken() {
    let node = Node::with(|wishes| wishes.admin.password = "se:cret".to_owned()).await;
    for wrong in [
        "invoker.user:invoker.pass",
        "invoker.user:se",
        "invoker.user:se:crets",
        "invoker.user:",
        "invoker.use:r:se:cret",
        "INVOKER.USER:se:cret",
        "",
    ] {
        let headers = [("authorization", &*basic(wrong))];
        let reply = node.send_as(Method::GET, "/isEnabled", &headers).await;
        assert!(!reply.headers.contains_key("www-authenticate"));
        assert_eq!(reply.headers["content-type"], "application/json");
        let sentence = reply.refused(401);
        assert!(
            sentence.contains("valid authentication credentials"),
            "{wrong}: {sentence}"
        );
    }
    for scheme in ["Bearer abc", "Basic ???", "Basic"] {
        let reply = node
            .send_as(Method::GET, "/isEnabled", &[("authorization", scheme)])
            .await;
        assert_eq!(reply.status, StatusCode::UNAUTHORIZED, "{scheme}");
    }
    let headers = [("authorization", &*basic("invoker.user:se:cret"))];
    let reply = node.send_as(Method::GET, "/isEnabled", &headers).await;
    assert_eq!(reply.status, StatusCode::OK);
    node.stop().await;
}

/// H-04: other refusals are JSON too, and a wrong method is told which one is right.
#[tokio::test]
async fn refusals_say_what_is_wrong() {
    let node = Node::start().await;
    let reply = node.send(Method::GET, "/nowhere").await;
    assert_eq!(reply.refused(404), "The requested resource could not be found.");
    let reply = node.send(Method::GET, "/disable").await;
    assert_eq!(reply.headers["allow"], "POST");
    assert_eq!(
        reply.refused(405),
        "HTTP method not allowed, supported methods: POST"
    );
    node.stop().await;
}

/// H-07, P-87: the caller's id comes back under the header that is configured, unless it is one of the system's.
#[tokio::test]
async fn a_request_has_one_transaction_id() {
    let node = Node::with(|wishes| wishes.admin.transaction_header = "X-Tid".to_owned()).await;
    let given = node.send_as(Method::GET, "/isEnabled", &[("x-tid", "abc")]).await;
    assert_eq!(given.headers["x-tid"], "abc");
    assert_eq!(given.json()["code"], "abc");
    for headers in [
        &[("x-tid", "sid_invokerHealth")][..],
        &[("x-request-id", "abc")],
        &[],
    ] {
        let made = node.send_as(Method::GET, "/ping", headers).await;
        let id = made.headers["x-tid"].to_str().unwrap();
        assert_eq!(id.len(), 32, "{id}");
        assert!(id.bytes().all(|b| b.is_ascii_alphanumeric()), "{id}");
    }
    node.stop().await;
}
