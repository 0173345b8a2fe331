//! What the recordings do not show of messages for invokers: one test per fact, with the contract's numbers.

mod example;

use example::{message, read};
use proto::decode::decode;
use proto::json::Json;
use proto::unit::Bytes;
use proto::whisk::activation_message::ActivationMessage;
use proto::whisk::name::{EntityName, EntityPath};
use proto::whisk::size::ByteSize;
use proto::whisk::transid::TransactionId;
use proto::whisk::version::Version;
use serde_json::{Value, json};

/// The same with the value at a JSON pointer replaced or added.
fn with(pointer: &str, value: Value) -> Value {
    let mut message = message();
    let (parent, name) = pointer.rsplit_once('/').expect("a pointer");
    let parent = message
        .pointer_mut(parent)
        .and_then(Value::as_object_mut)
        .expect("an object");
    parent.insert(name.to_owned(), value);
    message
}

fn without(pointer: &str) -> Value {
    let mut message = message();
    let (parent, name) = pointer.rsplit_once('/').expect("a pointer");
    let parent = message
        .pointer_mut(parent)
        .and_then(Value::as_object_mut)
        .expect("an object");
    parent.remove(name).expect("it is there");
    message
}

fn comes_out_the_same(message: &Value) {
    let read = read(message).expect("readable");
    assert_eq!(serde_json::to_value(&read).expect("encodes"), *message);
}

/// M-20, M-21, M-22, M-23, M-24, M-25, M-26, M-27, M-28, M-29, M-51: the message of the contract is read and written without loss.
#[test]
fn the_example_comes_out_as_it_went_in() {
    comes_out_the_same(&message());
}

/// M-01: unknown members are ignored and optional ones may be null.
#[test]
fn m_01_unknown_members_are_ignored_and_optional_ones_may_be_null() {
    for (pointer, value) in [
        ("/new", json!(1)),
        ("/user/new", json!({})),
        ("/user/limits/new", json!([])),
        ("/action/new", json!("x")),
        ("/cause", json!(null)),
        ("/traceContext", json!(null)),
    ] {
        let read = read(&with(pointer, value)).expect(pointer);
        assert_eq!(
            serde_json::to_value(&read).expect("encodes"),
            message(),
            "{pointer}"
        );
    }
    assert_eq!(
        read(&with("/content", json!(null))).expect("readable").content,
        None
    );
}

/// M-01: required members are required even where they could be empty.
#[test]
fn m_01_required_members_are_required_even_where_they_could_be_empty() {
    for pointer in [
        "/transid",
        "/action",
        "/revision",
        "/user",
        "/activationId",
        "/rootControllerIndex",
        "/blocking",
        "/initArgs",
        "/lockedArgs",
        "/user/subject",
        "/user/namespace",
        "/user/namespace/uuid",
        "/user/authkey",
        "/user/rights",
        "/user/limits",
        "/action/path",
        "/action/name",
        "/rootControllerIndex/asString",
    ] {
        let error = read(&without(pointer)).expect_err(pointer);
        let name = pointer.rsplit('/').next().expect("a name");
        assert!(
            error.contains(&format!("missing field `{name}`")),
            "{pointer}: {error}"
        );
    }
    for pointer in [
        "/content",
        "/user/authkey/api_key",
        "/action/version",
        "/action/binding",
    ] {
        comes_out_the_same(&without(pointer));
    }
}

#[test]
fn errors_name_the_member_its_value_and_what_was_expected() {
    let error = read(&with("/user/namespace/name", json!("-x"))).expect_err("no name");
    assert!(
        error.starts_with("user.namespace.name: name \"-x\" is not valid: expected 1 to 256 characters"),
        "{error}"
    );
    let error = read(&with("/blocking", json!("yes"))).expect_err("no bool");
    assert!(
        error.starts_with("blocking: invalid type: string \"yes\", expected a boolean"),
        "{error}"
    );
    assert!(decode::<ActivationMessage>(b"not json").is_err());
    assert!(
        decode::<ActivationMessage>(b"{\"transid\":[\"\xff\",1]}").is_err(),
        "not UTF-8"
    );
}

/// M-03: arguments keep every digit and every character.
#[test]
fn m_03_arguments_keep_every_digit_and_every_character() {
    let content = r#"{"n":12345678901234567890123,"x":1e400,"y":0.10000000000000000000000000001,"s":"é😀\u0000","half":"\ud83d","deep":[[{"a":-0.0}]]}"#;
    let text = message()
        .to_string()
        .replace(r#"{"url":"http://example.org/a.png","top":3}"#, content);
    let read: ActivationMessage = decode(text.as_bytes()).expect("readable");
    assert_eq!(read.content.as_ref().expect("arguments").as_str(), content);
    let encoded = serde_json::to_string(&read).expect("encodes");
    assert!(encoded.contains(&format!("\"content\":{content}")), "{encoded}");
}

/// M-03: arguments that came on several lines leave on one.
#[test]
fn m_03_arguments_that_came_on_several_lines_leave_on_one() {
    let text =
        serde_json::to_string_pretty(&with("/content", json!({"a": "b\n\r", "c": [1, 2]}))).expect("encodes");
    let read: ActivationMessage = decode(text.as_bytes()).expect("readable");
    let content = read.content.expect("arguments");
    assert!(!content.as_str().contains('\n'), "{content}");
    assert_eq!(content, Json::from(json!({"a": "b\n\r", "c": [1, 2]})));
}

/// M-05: activation ids are exactly 32 lower case hex digits.
#[test]
fn m_05_activation_ids_are_exactly_32_lower_case_hex_digits() {
    for bad in [
        "3f0e7c1a9b2d4e5f8a6b7c8d9e0f1a2",
        "3F0E7C1A9B2D4E5F8A6B7C8D9E0F1A2B",
        "+f0e7c1a9b2d4e5f8a6b7c8d9e0f1a2b",
        "",
    ] {
        let error = read(&with("/activationId", json!(bad))).expect_err(bad);
        assert!(
            error.contains("expected exactly 32 characters of 0-9 a-f"),
            "{error}"
        );
        assert!(read(&with("/cause", json!(bad))).is_err(), "{bad:?}");
    }
    comes_out_the_same(&with("/cause", json!("00000000000000000000000000000000")));
    let number = message().to_string().replace(
        "\"3f0e7c1a9b2d4e5f8a6b7c8d9e0f1a2b\"",
        "12345678901234567890123456789012",
    );
    let read: ActivationMessage = decode(number.as_bytes()).expect("a number with 32 digits will do");
    assert_eq!(read.activation_id.to_string(), "12345678901234567890123456789012");
    assert!(decode::<ActivationMessage>(number.replace("3456789012", "").as_bytes()).is_err());
}

/// M-06: names have word characters and inside them blanks and a few signs.
#[test]
fn m_06_names_have_word_characters_and_inside_them_blanks_and_a_few_signs() {
    let longest = "a".repeat(256);
    for good in [
        "jane doe@example.org",
        "guest_dev",
        "my act.v-2",
        "_",
        "0",
        "a&b",
        "x-",
        "x.",
        longest.as_str(),
    ] {
        assert!(good.parse::<EntityName>().is_ok(), "{good:?}");
    }
    let too_long = "a".repeat(257);
    for bad in [
        "",
        " ",
        "-x",
        "@x",
        ".x",
        " x",
        "x ",
        "a/b",
        "é",
        "a\nb",
        "a:b",
        too_long.as_str(),
    ] {
        assert!(bad.parse::<EntityName>().is_err(), "{bad:?}");
    }
}

/// M-07: paths are names joined by slashes and a leading one is dropped.
#[test]
fn m_07_paths_are_names_joined_by_slashes_and_a_leading_one_is_dropped() {
    let path: EntityPath = "/guest/img".parse().expect("a path");
    assert_eq!(
        (path.as_str(), path.root(), path.package()),
        ("guest/img", "guest", Some("img"))
    );
    assert_eq!("guest".parse::<EntityPath>().expect("a path").package(), None);
    for bad in ["", "/", "//a", "a//b", "a/", "a/-b"] {
        assert!(bad.parse::<EntityPath>().is_err(), "{bad:?}");
    }
    let read = read(&with("/action/path", json!("/guest/img"))).expect("readable");
    assert_eq!(read.action.to_string(), "guest/img/classify");
}

/// M-08: versions fill missing parts with zero and all zeros are invalid.
#[test]
fn m_08_versions_fill_missing_parts_with_zero_and_all_zeros_are_invalid() {
    for (text, read) in [
        ("1.2.3", "1.2.3"),
        ("1.2", "1.2.0"),
        ("7", "7.0.0"),
        ("0.0.1", "0.0.1"),
    ] {
        assert_eq!(text.parse::<Version>().expect(text).to_string(), read);
    }
    for bad in [
        "0.0.0",
        "",
        "1.2.x",
        "1..2",
        "-1.0.0",
        "+1.0.0",
        "1.2.3.4",
        "99999999999.0.0",
    ] {
        assert!(bad.parse::<Version>().is_err(), "{bad:?}");
    }
    assert_eq!(Version::default().to_string(), "0.0.1");
    assert_eq!(Version::default().next().to_string(), "0.0.2");
}

/// M-09: the revision may be null but not missing.
#[test]
fn m_09_the_revision_may_be_null_but_not_missing() {
    comes_out_the_same(&with("/revision", json!(null)));
    assert!(read(&without("/revision")).is_err());
}

/// M-10: a trace context is carried on.
#[test]
fn m_10_a_trace_context_is_carried_on() {
    comes_out_the_same(&with(
        "/traceContext",
        json!({"X-B3-TraceId": "463ac35c9f6413ad"}),
    ));
}

/// M-11: all forms of a transaction id are read and written.
#[test]
fn m_11_all_forms_of_a_transaction_id_are_read_and_written() {
    for form in [
        json!(["id", 17]),
        json!(["id", 17, true]),
        json!(["id", 17, ["parent", 16]]),
        json!(["id", 17, true, ["parent", 16, ["grandparent", 15, true]]]),
        json!(["id", -5]),
    ] {
        comes_out_the_same(&with("/transid", form));
    }
    let read = read(&with("/transid", json!(["id", 17, false, ["parent", 16]])))
        .expect("readable")
        .transid;
    assert_eq!(
        serde_json::to_value(&read).expect("encodes"),
        json!(["id", 17, ["parent", 16]])
    );
}

/// M-11, M-13: anything else is the unknown transaction, which starts when the process did.
#[test]
fn m_11_anything_else_is_the_unknown_transaction() {
    for form in [
        json!("abc"),
        json!([]),
        json!(["id"]),
        json!([1, 2]),
        json!(["id", "17"]),
        json!(["id", 17, 1]),
        json!({}),
        json!(null),
        json!(["id", 17, true, ["parent"]]),
        json!(["id", 17, true, ["p", 1], 4]),
    ] {
        let read = read(&with("/transid", form.clone())).expect("readable").transid;
        assert_eq!(read, TransactionId::unknown(), "{form}");
        assert!(read.is_system() && read.start > 1_600_000_000_000, "{read:?}");
    }
    assert!(!TransactionId::new("id", 1).is_system());
}

/// M-12: sizes are powers of 1024 in any case with at most one blank.
#[test]
fn m_12_sizes_are_powers_of_1024_in_any_case_with_at_most_one_blank() {
    for (text, bytes, written) in [
        ("0 B", 0, "0 B"),
        ("8589934592 B", 8_589_934_592, "8589934592 B"),
        ("1 mb", 1 << 20, "1 MB"),
        ("1M", 1 << 20, "1 MB"),
        ("1024 KB", 1 << 20, "1024 KB"),
        (" 3k ", 3 << 10, "3 KB"),
        ("2 gB", 2 << 30, "2 GB"),
    ] {
        let size: ByteSize = text.parse().expect(text);
        assert_eq!((size.bytes(), size.to_string().as_str()), (Bytes(bytes), written));
    }
    for bad in [
        "",
        "1",
        "B",
        "-1 B",
        "1  B",
        "  1 B",
        "1 TB",
        "1.5 MB",
        "1 B B",
        "17179869184 GB",
        "1\u{a0}B",
    ] {
        assert!(bad.parse::<ByteSize>().is_err(), "{bad:?}");
    }
    let equal = ["1 mb", "1M", "1024 KB"]
        .map(|text| read(&with("/user/limits/maxPayloadSize", json!(text))).expect(text));
    assert!(
        equal
            .iter()
            .all(|message| message.user.limits == equal[0].user.limits)
    );
    let error = read(&with("/user/limits/maxPayloadSize", json!(1_048_576))).expect_err("a bare number");
    assert!(error.contains("user.limits.maxPayloadSize"), "{error}");
}

/// M-21: the action may be one string.
#[test]
fn m_21_the_action_may_be_one_string() {
    let read = read(&with("/action", json!("guest/img/classify")))
        .expect("readable")
        .action;
    assert_eq!(
        serde_json::to_value(&read).expect("encodes"),
        json!({"path": "guest/img", "name": "classify"})
    );
    for bad in [
        json!("classify"),
        json!("/classify"),
        json!(""),
        json!("guest/-"),
        json!(7),
        json!({"path": "guest"}),
    ] {
        assert!(self::read(&with("/action", bad.clone())).is_err(), "{bad}");
    }
}

/// M-25: controllers have names that topics may have.
#[test]
fn m_25_controllers_have_names_that_topics_may_have() {
    comes_out_the_same(&with("/rootControllerIndex", json!({"asString": "c-1.eu"})));
    for bad in [
        json!(""),
        json!("a b"),
        json!("a/b"),
        json!("x".repeat(129)),
        json!(0),
    ] {
        assert!(
            read(&with("/rootControllerIndex/asString", bad.clone())).is_err(),
            "{bad}"
        );
    }
}

/// M-27, V-04: arguments are an object or an array.
#[test]
fn m_27_arguments_are_an_object_or_an_array() {
    comes_out_the_same(&with("/content", json!([1, {"a": null}])));
    comes_out_the_same(&with("/content", json!({})));
    for bad in [json!(1), json!("text"), json!(true)] {
        let error = read(&with("/content", bad)).expect_err("no arguments");
        assert!(
            error.starts_with("content: ") && error.contains("expected an object or an array"),
            "{error}"
        );
    }
}

/// M-28, M-29: the names of special arguments are kept.
#[test]
fn m_28_and_m_29_the_names_of_special_arguments_are_kept() {
    comes_out_the_same(&with("/initArgs", json!(["k", "l"])));
    comes_out_the_same(&with("/lockedArgs", json!({"p": "aes-256", "q": "rot13"})));
}

/// M-50: subjects have at least five characters.
#[test]
fn m_50_subjects_have_at_least_five_characters() {
    assert!(read(&with("/user/subject", json!("anna"))).is_err());
    assert!(read(&with("/user/subject", json!(" anna "))).is_err());
    comes_out_the_same(&with("/user/subject", json!("annas")));
}

/// M-52: every member of a generic key survives.
#[test]
fn m_52_every_member_of_a_generic_key_survives() {
    comes_out_the_same(&with(
        "/user/authkey",
        json!({"tok": "x", "org": {"n": 1e40}, "flags": [true, null]}),
    ));
    assert_eq!(
        read(&with("/user/authkey", json!({"tok": "x"})))
            .expect("readable")
            .user
            .api_key(),
        None
    );
}

/// M-53: rights are not judged.
#[test]
fn m_53_rights_are_not_judged() {
    comes_out_the_same(&with("/user/rights", json!([])));
    comes_out_the_same(&with("/user/rights", json!(["FOO"])));
}

/// M-54, M-54a, M-54b, M-54c, M-54d, M-54e, M-54f, M-54g, M-54h, M-54i, V-08: every limit of a namespace survives, and each may be missing.
#[test]
fn m_54_every_limit_of_a_namespace_survives() {
    comes_out_the_same(&with(
        "/user/limits",
        json!({
            "invocationsPerMinute": 1, "concurrentInvocations": 2, "firesPerMinute": 3, "allowedKinds": ["python:3"],
            "storeActivations": false, "minActionMemory": 4, "maxActionMemory": 5, "minActionLogs": 6, "maxActionLogs": 7,
            "minActionTimeout": 8, "maxActionTimeout": 9, "minActionConcurrency": 10, "maxActionConcurrency": 11,
            "maxParameterSize": "12 KB", "maxPayloadSize": "13 MB", "truncationSize": "14 GB",
            "warmedContainerKeepingCount": 15, "warmedContainerKeepingTimeout": "16 minutes", "maxActionInstances": 17,
        }),
    ));
    assert!(read(&with("/user/limits/maxActionMemory", json!("5"))).is_err());
}
