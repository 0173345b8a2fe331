//! What an author may say in the annotation `ffs`, and what is said back.

use proto::ffs::annotation::Annotation;
use proto::unit::Millis;
use serde_json::{Value, json};

fn refused(value: Value) -> String {
    Annotation::parse(&value).expect_err("refused").to_string()
}

#[test]
fn true_is_the_empty_annotation_and_false_and_null_are_none() {
    assert_eq!(Annotation::parse(&json!(true)), Ok(Some(Annotation::default())));
    assert_eq!(Annotation::parse(&json!({})), Ok(Some(Annotation::default())));
    assert_eq!(Annotation::parse(&json!(false)), Ok(None));
    assert_eq!(Annotation::parse(&json!(null)), Ok(None));
}

/// W-01: a text that is JSON stands for its value.
#[test]
fn w_01_a_text_that_is_json_stands_for_its_value() {
    assert_eq!(Annotation::parse(&json!("true")), Ok(Some(Annotation::default())));
    assert_eq!(Annotation::parse(&json!("false")), Ok(None));
    let read = Annotation::parse(&json!("{\"slo_ms\": 450}"))
        .expect("readable")
        .expect("there is one");
    assert_eq!(read.slo_ms, Some(Millis(450.0)));
}

#[test]
fn every_key_is_read() {
    let value = json!({"slo_ms": 450, "slo_scale": 1.5, "policy": "esg", "min_instances": 0, "max_instances": 3, "retry": true,
        "keep_alive_s": 0, "example": {"n": 1.5}});
    let read = Annotation::parse(&value)
        .expect("readable")
        .expect("there is one");
    assert_eq!(
        (read.slo_ms, read.slo_scale, read.policy.as_deref()),
        (Some(Millis(450.0)), Some(1.5), Some("esg"))
    );
    assert_eq!(
        (
            read.min_instances,
            read.max_instances,
            read.retry,
            read.keep_alive_s
        ),
        (Some(0), Some(3), Some(true), Some(0.0))
    );
    assert_eq!(read.example.map(Value::Object), Some(json!({"n": 1.5})));
}

#[test]
fn what_is_no_annotation_is_named_with_what_was_expected() {
    let keys =
        "slo_ms, slo_scale, policy, min_instances, max_instances, retry, keep_alive_s, dag, profile, example";
    for value in [json!(3), json!("gpu"), json!(""), json!([]), json!("\"true\"")] {
        assert_eq!(
            refused(value.clone()),
            format!("annotation ffs is {value}: expected true, or an object with some of the keys {keys}")
        );
    }
    assert_eq!(
        refused(json!({"slo": 1})),
        format!("annotation ffs has the unknown key \"slo\": expected {keys}")
    );
}

#[test]
fn an_impossible_value_is_named_with_its_key_and_what_was_expected() {
    for (value, sentence) in [
        (
            json!({"slo_ms": "fast"}),
            "slo_ms is \"fast\": expected a number greater than 0",
        ),
        (
            json!({"slo_ms": 0}),
            "slo_ms is 0: expected a number greater than 0",
        ),
        (
            json!({"slo_scale": -1}),
            "slo_scale is -1: expected a number greater than 0",
        ),
        (
            json!({"policy": ""}),
            "policy is \"\": expected the name of a policy",
        ),
        (
            json!({"min_instances": -1}),
            "min_instances is -1: expected a whole number of instances, 0 or more",
        ),
        (
            json!({"max_instances": 1.5}),
            "max_instances is 1.5: expected a whole number of instances, 0 or more",
        ),
        (
            json!({"max_instances": 4294967296_u64}),
            "max_instances is 4294967296: expected a whole number of instances, 0 or more",
        ),
        (
            json!({"retry": "yes"}),
            "retry is \"yes\": expected true or false",
        ),
        (json!({"retry": null}), "retry is null: expected true or false"),
        (
            json!({"keep_alive_s": -0.5}),
            "keep_alive_s is -0.5: expected a number of seconds, 0 or more",
        ),
        (json!({"example": [1]}), "example is [1]: expected an object"),
        (
            json!({"min_instances": 3, "max_instances": 2}),
            "min_instances is 3: expected at most max_instances",
        ),
    ] {
        assert_eq!(refused(value), format!("annotation ffs: {sentence}"));
    }
    let long = refused(json!({"slo_ms": "x".repeat(10_000)}));
    assert!(long.len() < 200, "{long}");
    let text = json!({"slo_ms": 1}).to_string().replace('1', "1e999");
    let value: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(
        refused(value),
        "annotation ffs: slo_ms is 1e+999: expected a number greater than 0"
    );
}

#[test]
fn a_dag_or_profile_of_ones_own_is_checked_like_any_other() {
    let sentence = refused(json!({"dag": {"schema": "ffs.dag/1"}}));
    assert!(
        sentence.starts_with("annotation ffs: dag is not valid: missing field `function`"),
        "{sentence}"
    );
    let sentence = refused(json!({"profile": 7}));
    assert!(
        sentence.starts_with("annotation ffs: profile is not valid: invalid type: integer `7`"),
        "{sentence}"
    );
    let dag = json!({"schema": "ffs.dag/1", "function": "guest/f", "revision": "1-a", "built_at": "2026-01-02T03:04:05Z", "inputs": [],
        "nodes": [{"id": "a b", "module": "m", "inputs": [], "outputs": [{"port": 0, "dtype": "int8", "shape": [1]}]}],
        "outputs": [{"name": "y", "node": "a", "port": 0}]});
    let sentence = refused(json!({"dag": dag}));
    assert!(
        sentence
            .starts_with("annotation ffs: dag is not valid: nodes[0].id: component id \"a b\" is not valid"),
        "{sentence}"
    );
}

#[test]
fn an_annotation_comes_out_as_it_went_in() {
    let value = json!({"slo_ms": 450.5, "retry": false, "example": {"picture": "x"}});
    let read: Annotation = serde_json::from_value(value.clone()).expect("readable");
    assert_eq!(serde_json::to_value(&read).expect("encodes"), value);
    assert!(serde_json::from_value::<Annotation>(json!(false)).is_err());
}
