//! What the recordings do not show of acks, records, pings and events: one test per fact, with the contract's numbers.

mod example;

use example::{message, read};
use proto::decode::decode;
use proto::unit::Bytes;
use proto::whisk::acknowledgement::{AckResponse, Acknowledgement};
use proto::whisk::activation::{Activation, Response, Status};
use proto::whisk::event::{EventBody, EventMessage};
use proto::whisk::instance::InvokerId;
use proto::whisk::ping::PingMessage;
use proto::whisk::record::Record;
use proto::whisk::transid::TransactionId;
use serde_json::{Value, json};

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
