//! Locked arguments, as OpenWhisk's controller locks them.
//!
//! The vectors were made with Node's `crypto`, an implementation that is not ours: nonces count up from 1.

use crate::bench::{Bench, error, message, told};
use crate::stub::{Reply, Stub};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ffs_invoker::config::ParameterKeys;
use serde_json::{Value, json};
use std::sync::Arc;

const KEYS: ParameterKeys = ParameterKeys {
    aes_128: Some(*b"0123456789abcdef"),
    aes_256: Some(*b"0123456789abcdef0123456789abcdef"),
};

const TEXT_128: &str = "AAAADAECAwQFBgcICQoLDOLj5WZDe7Oas17wl4YX1/sJviAJuXbJC+Y=";
const NULL_128: &str = "AAAADAECAwQFBgcICQoLDK7lSqPkiUVKMNlbdUr1DCpUcrAj";
const NOT_JSON_128: &str = "AAAADAECAwQFBgcICQoLDLNTj6xSbKLrHxv6Z2evb6ZMS7okT/Ly";
const TEXT_OTHER_KEY: &str = "AAAADAECAwQFBgcICQoLDFkcbM1RC37+ov3z1WRvHJTAedAxq32KLLE=";
const TEXT_256: &str = "AAAAgAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8gISIjJCUmJygpKissLS4vMDEyMzQ1Njc4OTo7PD0+P0BBQkNERUZHSElKS0xNTk9QUVJTVFVWV1hZWltcXV5fYGFiY2RlZmdoaWprbG1ub3BxcnN0dXZ3eHl6e3x9fn+AZgP4CWjD0udxQDvgWwhR170SpAVunlc2wg==";
const OBJECT_256: &str = "AAAAgAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8gISIjJCUmJygpKissLS4vMDEyMzQ1Njc4OTo7PD0+P0BBQkNERUZHSElKS0xNTk9QUVJTVFVWV1hZWltcXV5fYGFiY2RlZmdoaWprbG1ub3BxcnN0dXZ3eHl6e3x9fn+AP1JagjGAyo/Q3NirkOK13VOeLbIumkA=";
const NUMBER_256: &str = "AAAAgAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8gISIjJCUmJygpKissLS4vMDEyMzQ1Njc4OTo7PD0+P0BBQkNERUZHSElKS0xNTk9QUVJTVFVWV1hZWltcXV5fYGFiY2RlZmdoaWprbG1ub3BxcnN0dXZ3eHl6e3x9fn+Ac+jNXL5dtg++bWOUvJeTRGQ=";

async fn invoker(keys: ParameterKeys) -> (Stub, Bench) {
    let stub = Stub::start(|asked| match asked.is_bulk() {
        true => Reply::written(asked),
        false => Reply::json(
            200,
            json!({
                "_id": "guest/a", "_rev": "1-a", "entityType": "action", "namespace": "guest", "name": "a",
                "version": "0.0.1", "publish": false, "parameters": [], "annotations": [],
                "exec": {"kind": "nodejs:20", "code": "function main() {}", "binary": false},
                "limits": {"timeout": 60000, "memory": 256, "logs": 10, "concurrency": 1},
            }),
        ),
    })
    .await;
    let store = Arc::new(stub.store().await);
    let bench = Bench::start_with(store, |settings| settings.parameter_keys = keys).await;
    (stub, bench)
}

fn locked(content: Value, locked: Value, init: Value) -> Value {
    let mut message = message("guest/a", Some("1-a"), content);
    (message["lockedArgs"], message["initArgs"]) = (locked, init);
    message
}

/// D-35, D-36, D-37, D-38: each scheme's values become what they were before, and then go to `/init` or `/run`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn locked_arguments_are_opened_before_the_container_gets_them() {
    let (_stub, mut bench) = invoker(KEYS).await;
    let content = json!({
        "text": TEXT_128, "object": OBJECT_256, "number": NUMBER_256, "nothing": NULL_128, "secret": TEXT_256,
        "plain": TEXT_128, "seven": 7,
    });
    let schemes = json!({
        "text": "aes-128", "object": "aes-256", "number": "aes-256", "nothing": "aes-128", "secret": "aes-256",
        "seven": "aes-128", "absent": "aes-128",
    });
    let told = told(&bench.run(&locked(content, schemes, json!(["secret"]))).await);
    let expected = json!({
        "text": "sécret", "object": {"a": 1}, "number": 7, "nothing": null, "plain": TEXT_128, "seven": 7,
    });
    assert_eq!(told["run"]["value"], expected);
    assert_eq!(told["init"]["env"]["secret"], "sécret");
    bench.stop().await;
}

/// D-35: arguments that are an array are passed on untouched.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_array_is_left_alone() {
    let (_stub, mut bench) = invoker(KEYS).await;
    let array = json!([{"text": TEXT_128}, TEXT_128]);
    let sent = locked(array.clone(), json!({"text": "aes-128"}), json!([]));
    assert_eq!(told(&bench.run(&sent).await)["run"]["value"], array);
    bench.stop().await;
}

/// D-36: an unknown scheme, and one without a key, leave the value as it is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scheme_without_a_key_leaves_the_value_as_it_is() {
    let (_stub, mut bench) = invoker(ParameterKeys::default()).await;
    let content = json!({"a": TEXT_128, "b": TEXT_256, "c": "uryyb"});
    let schemes = json!({"a": "aes-128", "b": "aes-256", "c": "rot13"});
    let sent = locked(content.clone(), schemes, json!([]));
    assert_eq!(told(&bench.run(&sent).await)["run"]["value"], content);
    bench.stop().await;
}

/// D-37, D-39: what cannot be opened is a whisk error that says nothing of the value, and nothing is started.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_argument_that_cannot_be_opened_is_a_whisk_error() {
    let (_stub, mut bench) = invoker(KEYS).await;
    let mut tampered = STANDARD.decode(TEXT_128).unwrap();
    *tampered.last_mut().unwrap() ^= 1;
    let mut long_nonce = STANDARD.decode(TEXT_128).unwrap();
    long_nonce[3] = 16;
    let mut huge_nonce = STANDARD.decode(TEXT_256).unwrap();
    huge_nonce[0] = 255;
    for (what, text, scheme) in [
        ("sealed with another key", TEXT_OTHER_KEY.to_owned(), "aes-128"),
        ("of the other scheme", TEXT_256.to_owned(), "aes-128"),
        ("of the other scheme", TEXT_128.to_owned(), "aes-256"),
        ("tampered with", STANDARD.encode(tampered), "aes-128"),
        ("with a nonce of 16 bytes", STANDARD.encode(long_nonce), "aes-128"),
        (
            "with a nonce of no length at all",
            STANDARD.encode(huge_nonce),
            "aes-256",
        ),
        ("too short", "AAAA".to_owned(), "aes-128"),
        ("without its nonce", "AAAADA==".to_owned(), "aes-128"),
        ("not base64", "*".to_owned(), "aes-128"),
        ("empty", String::new(), "aes-256"),
        ("not JSON inside", NOT_JSON_128.to_owned(), "aes-128"),
    ] {
        let sent = locked(json!({"text": text}), json!({"text": scheme}), json!([]));
        let activation = bench.run(&sent).await;
        let said = "The action did not produce a valid response and exited unexpectedly.";
        assert_eq!(error(&activation), (3, said.to_owned()), "{what}");
        assert_eq!(activation.annotations.get("kind"), Some(&json!("nodejs:20")));
    }
    assert_eq!(bench.engine.started.load(std::sync::atomic::Ordering::Relaxed), 0);
    bench.stop().await;
}
