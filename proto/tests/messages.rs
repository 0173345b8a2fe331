//! What the recordings do not show: one test per fact, with the contract's numbers.

use proto::decode::decode;
use proto::json::Json;
use proto::unit::Bytes;
use proto::whisk::acknowledgement::{AckResponse, Acknowledgement};
use proto::whisk::activation::{Activation, Response, Status};
use proto::whisk::activation_message::ActivationMessage;
use proto::whisk::event::{EventBody, EventMessage};
use proto::whisk::instance::InvokerId;
use proto::whisk::name::{EntityName, EntityPath};
use proto::whisk::ping::PingMessage;
use proto::whisk::record::Record;
use proto::whisk::size::ByteSize;
use proto::whisk::transid::TransactionId;
use proto::whisk::version::Version;
use serde_json::{Value, json};

/// The example of section 3.2.
fn message() -> Value {
    json!({
        "transid": ["nF3kq0ZbVYxUu2d8yC1rT5hM7wSaE9Lg", 1767225600123_u64],
        "action": {"path": "guest/img", "name": "classify", "version": "0.0.4", "binding": "jane/pictures"},
        "revision": "4-5c1d7a0b2e9f4c6d8a1b3c5d7e9f0a2b",
        "user": {
            "subject": "jane-doe",
            "namespace": {"name": "jane", "uuid": "0d5b1d5e-6f2a-4a51-9d0b-7f3c2e1a9b88"},
            "authkey": {"api_key": "0d5b1d5e-6f2a-4a51-9d0b-7f3c2e1a9b88:Zk3vQ9xW1rT7yU5iO2pA4sD6"},
            "rights": ["READ", "PUT", "DELETE", "ACTIVATE"], "limits": {},
        },
        "activationId": "3f0e7c1a9b2d4e5f8a6b7c8d9e0f1a2b",
        "rootControllerIndex": {"asString": "0", "instanceType": "controller"},
        "blocking": true, "content": {"url": "http://example.org/a.png", "top": 3}, "initArgs": [], "lockedArgs": {},
    })
}

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

fn read(message: &Value) -> Result<ActivationMessage, String> {
    decode(message.to_string().as_bytes()).map_err(|error| error.to_string())
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

/// The example of section 3.5.
fn activation() -> Activation {
    let text = json!({
        "namespace": "jane", "name": "classify", "subject": "jane-doe",
        "activationId": "3f0e7c1a9b2d4e5f8a6b7c8d9e0f1a2b", "start": 1767225600301_u64, "end": 1767225600342_u64,
        "response": {"statusCode": 0, "result": {"n": 1}, "size": 9}, "logs": ["2026-01-01T00:00:00Z stdout: hello"],
        "version": "0.0.4", "publish": false, "duration": 41,
        "annotations": [
            {"key": "limits", "value": {"concurrency": 1, "logs": 10, "memory": 256, "timeout": 60000}},
            {"key": "path", "value": "guest/img/classify"}, {"key": "kind", "value": "python:3.11"},
            {"key": "timeout", "value": false}, {"key": "waitTime", "value": 178},
            {"key": "binding", "value": "jane/pictures"},
        ],
    });
    decode(text.to_string().as_bytes()).expect("readable")
}

fn failed(status: Status) -> Activation {
    Activation {
        response: Response::failure(status, "because"),
        ..activation()
    }
}

fn invoker() -> InvokerId {
    InvokerId::new(0, Bytes::mib(2048))
}

fn transid() -> TransactionId {
    TransactionId::new("nF3kq0ZbVYxUu2d8yC1rT5hM7wSaE9Lg", 1_767_225_600_123)
}

fn members(value: &Value) -> Vec<&str> {
    let mut names: Vec<_> = value
        .as_object()
        .expect("an object")
        .keys()
        .map(String::as_str)
        .collect();
    names.sort_unstable();
    names
}

/// M-30, M-31, M-32, M-33, M-34, M-37: each ack has the members of its kind and no other.
#[test]
fn m_30_to_m_34_each_ack_has_the_members_of_its_kind_and_no_other() {
    let (full, shrunk) = (activation(), activation());
    let acks = [
        (
            Acknowledgement::completion(transid(), &full, invoker()),
            vec!["activationId", "instance", "isSystemError", "transid"],
            true,
        ),
        (
            Acknowledgement::result(transid(), full.clone()),
            vec!["response", "transid"],
            false,
        ),
        (
            Acknowledgement::combined(transid(), full, invoker()),
            vec!["instance", "isSystemError", "response", "transid"],
            true,
        ),
        (
            Acknowledgement::combined(transid(), shrunk, invoker()).shrunk(),
            vec!["instance", "isSystemError", "response", "transid"],
            true,
        ),
    ];
    for (ack, names, frees_slot) in acks {
        let encoded = serde_json::to_value(&ack).expect("encodes");
        assert_eq!(members(&encoded), names);
        assert_eq!(ack.frees_slot(), frees_slot);
        assert_eq!(ack.activation_id(), activation().activation_id);
        assert_eq!(
            decode::<Acknowledgement>(encoded.to_string().as_bytes()).expect("readable"),
            ack
        );
    }
}

/// M-33: only a whisk error is a system error.
#[test]
fn m_33_only_a_whisk_error_is_a_system_error() {
    for (status, expected) in [
        (Status::Success, false),
        (Status::ApplicationError, false),
        (Status::DeveloperError, false),
        (Status::WhiskError, true),
    ] {
        for ack in [
            Acknowledgement::completion(transid(), &failed(status), invoker()),
            Acknowledgement::combined(transid(), failed(status), invoker()).shrunk(),
        ] {
            assert_eq!(
                serde_json::to_value(&ack).expect("encodes")["isSystemError"],
                json!(expected)
            );
        }
    }
}

/// M-34: an ack that is of no kind says what it lacks.
#[test]
fn m_34_an_ack_that_is_of_no_kind_says_what_it_lacks() {
    for (text, lacking) in [
        (r#"{"transid":["a",1]}"#, "expected at least one of them"),
        (
            r#"{"response":"3f0e7c1a9b2d4e5f8a6b7c8d9e0f1a2b"}"#,
            "missing field `transid`",
        ),
        (
            r#"{"transid":["a",1],"instance":{"instance":0,"instanceType":"invoker","userMemory":"1 B","tags":[],"dedicatedNamespaces":[]}}"#,
            "missing field `isSystemError`",
        ),
        (
            r#"{"transid":["a",1],"isSystemError":false,"instance":{"instance":0,"instanceType":"invoker","userMemory":"1 B","tags":[],"dedicatedNamespaces":[]}}"#,
            "missing field `activationId`",
        ),
    ] {
        let error = decode::<Acknowledgement>(text.as_bytes())
            .expect_err(text)
            .to_string();
        assert!(error.contains(lacking), "{error}");
    }
}

/// M-35, M-36: a full ack has the activation without logs and a shrunk one its id.
#[test]
fn m_35_and_m_36_a_full_ack_has_the_activation_without_logs_and_a_shrunk_one_its_id() {
    let full = Acknowledgement::result(transid(), activation());
    let Some(AckResponse::Full(sent)) = full.response() else {
        panic!("a full response")
    };
    assert_eq!(
        **sent,
        Activation {
            logs: Vec::new(),
            ..activation()
        }
    );
    let shrunk = serde_json::to_value(full.shrunk()).expect("encodes");
    assert_eq!(shrunk["response"], json!("3f0e7c1a9b2d4e5f8a6b7c8d9e0f1a2b"));
}

/// M-02: nothing absent is written as null.
#[test]
fn m_02_nothing_absent_is_written_as_null() {
    let bare = Activation {
        cause: None,
        duration: None,
        response: Response::success(None, None),
        ..activation()
    };
    let encoded =
        serde_json::to_string(&Acknowledgement::combined(transid(), bare, invoker())).expect("encodes");
    assert!(
        !encoded.contains("null") && encoded.contains("\"logs\":[]") && encoded.contains("\"tags\":[]"),
        "{encoded}"
    );
}

/// M-64: instants are read as numbers or iso texts and written as numbers.
#[test]
fn m_64_instants_are_read_as_numbers_or_iso_texts_and_written_as_numbers() {
    for (read, millis) in [
        (json!(1767225600301_u64), 1_767_225_600_301),
        (json!("2026-01-01T00:00:00.301Z"), 1_767_225_600_301),
        (json!("2026-01-01T00:00:00Z"), 1_767_225_600_000),
        (json!("1969-12-31T23:59:59.999Z"), -1),
        (json!(0), 0),
    ] {
        let mut encoded = serde_json::to_value(activation()).expect("encodes");
        encoded["start"] = read;
        let activation: Activation = decode(encoded.to_string().as_bytes()).expect("readable");
        assert_eq!(activation.start, millis);
        assert_eq!(
            serde_json::to_value(&activation).expect("encodes")["start"],
            json!(millis)
        );
    }
    let text = serde_json::to_string(&activation())
        .expect("encodes")
        .replace("1767225600301", "\"yesterday\"");
    let error = decode::<Activation>(text.as_bytes())
        .expect_err("no instant")
        .to_string();
    assert!(
        error.starts_with("start: instant \"yesterday\" is not valid"),
        "{error}"
    );
}

/// M-66, C-37: status codes are 0 to 3.
#[test]
fn m_66_status_codes_are_0_to_3() {
    for bad in ["4", "-1", "256", "\"0\"", "1.5"] {
        let text = serde_json::to_string(&activation()).expect("encodes");
        let text = text.replace("\"statusCode\":0", &format!("\"statusCode\":{bad}"));
        assert!(decode::<Activation>(text.as_bytes()).is_err(), "{bad}");
    }
    assert_eq!(
        [0_u8, 1, 2, 3].map(|code| Status::try_from(code).expect("a status").to_string()),
        [
            "success",
            "application error",
            "action developer error",
            "whisk internal error"
        ],
    );
}

/// D-40: a record is the activation with its logs and three members more.
#[test]
fn d_40_a_record_is_the_activation_with_its_logs_and_three_members_more() {
    let record = Record::new(activation(), 7);
    let encoded = serde_json::to_value(&record).expect("encodes");
    let mut expected = serde_json::to_value(activation()).expect("encodes");
    expected["_id"] = json!("jane/3f0e7c1a9b2d4e5f8a6b7c8d9e0f1a2b");
    expected["entityType"] = json!("activation");
    expected["updated"] = json!(7);
    assert_eq!(encoded, expected);
    assert_eq!(
        decode::<Record>(encoded.to_string().as_bytes()).expect("readable"),
        record
    );
    let action = encoded
        .to_string()
        .replace("\"entityType\":\"activation\"", "\"entityType\":\"action\"");
    assert!(decode::<Record>(action.as_bytes()).is_err());
}

/// M-40, M-41, M-42, M-43: a ping names the invoker.
#[test]
fn m_40_to_m_43_a_ping_names_the_invoker() {
    let mut name = invoker();
    name.tags = vec!["ssd".to_owned()];
    name.unique_name = Some("0".to_owned());
    name.displayed_name = Some("host-a".to_owned());
    let encoded = serde_json::to_value(PingMessage::new(name.clone(), true)).expect("encodes");
    let expected = json!({"name": {"instance": 0, "userMemory": "2147483648 B", "instanceType": "invoker", "tags": ["ssd"],
        "dedicatedNamespaces": [], "uniqueName": "0", "displayedName": "host-a"}, "isEnabled": true});
    assert_eq!(encoded, expected);
    assert_eq!(name.to_string(), "invoker0/0/host-a");
    assert_eq!(invoker().to_string(), "invoker0");
    let old = expected.to_string().replace(",\"isEnabled\":true", "");
    assert_eq!(
        decode::<PingMessage>(old.as_bytes())
            .expect("V-02: not every version says it")
            .is_enabled,
        None
    );
}

fn event(activation: &Activation) -> Option<EventMessage> {
    EventMessage::of(
        activation,
        &read(&message()).expect("readable").user,
        &invoker(),
        99,
    )
}

/// M-70, M-71: an event is made from the annotations.
#[test]
fn m_70_and_m_71_an_event_is_made_from_the_annotations() {
    let mut cold = activation();
    cold.annotations.set("initTime", 30);
    cold.annotations.set("causedBy", "sequence");
    let encoded = serde_json::to_value(event(&cold).expect("an event")).expect("encodes");
    assert_eq!(
        encoded,
        json!({
            "source": "invoker0", "eventType": "Activation", "namespace": "jane", "subject": "jane-doe", "timestamp": 99,
            "userId": "0d5b1d5e-6f2a-4a51-9d0b-7f3c2e1a9b88",
            "body": {"name": "guest/img/classify", "activationId": "3f0e7c1a9b2d4e5f8a6b7c8d9e0f1a2b", "statusCode": 0,
                "duration": 41, "waitTime": 178, "initTime": 30, "kind": "python:3.11", "conductor": false, "memory": 256,
                "causedBy": "sequence", "size": 9},
        })
    );
}

/// M-72: the users own status code is taken from the error first.
#[test]
fn m_72_the_users_own_status_code_is_taken_from_the_error_first() {
    for (result, code) in [
        (
            json!({"error": {"statusCode": 404}, "statusCode": 200}),
            Some(404),
        ),
        (json!({"statusCode": 201}), Some(201)),
        (json!({"statusCode": "x"}), Some(400)),
        (json!({"statusCode": 1.5}), Some(400)),
        (json!({"error": "statusCode"}), None),
        (json!([{"statusCode": 1}]), None),
        (json!({"n": 1}), None),
    ] {
        let activation = Activation {
            response: Response::success(Some(result.clone().into()), None),
            ..activation()
        };
        let EventBody::Activation(body) = event(&activation).expect("an event").body else {
            panic!("an activation")
        };
        assert_eq!(body.user_defined_status_code, code, "{result}");
    }
}

/// M-73: without path or kind there is no event.
#[test]
fn m_73_without_path_or_kind_there_is_no_event() {
    for key in ["path", "kind"] {
        let mut activation = activation();
        activation
            .annotations
            .0
            .retain(|annotation| annotation.key != key);
        assert_eq!(event(&activation), None, "{key}");
    }
}

/// M-70: the type of an event decides its body.
#[test]
fn m_70_the_type_of_an_event_decides_its_body() {
    let metric = json!({"body": {"metricName": "ConcurrentInvocations", "metricValue": 1}, "eventType": "Metric", "namespace": "guest",
        "source": "controller0", "subject": "guest", "timestamp": 1, "userId": "u"});
    assert!(decode::<EventMessage>(metric.to_string().as_bytes()).is_ok());
    let wrong = metric.to_string().replace("\"Metric\"", "\"Activation\"");
    let error = decode::<EventMessage>(wrong.as_bytes())
        .expect_err("a metric is no activation")
        .to_string();
    assert!(error.contains("body: missing field `activationId`"), "{error}");
}
