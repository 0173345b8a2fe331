//! Every recorded message and document comes out as it went in, number texts included.

mod recorded;

use proto::decode::decode;
use proto::whisk::acknowledgement::Acknowledgement;
use proto::whisk::action::ActionDocument;
use proto::whisk::action_proxy::{InitBody, RunBody};
use proto::whisk::activation_message::ActivationMessage;
use proto::whisk::event::EventMessage;
use proto::whisk::ping::PingMessage;
use proto::whisk::record::Record;
use proto::whisk::subject::AuthDocument;
use recorded::Recorded;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// M-01, M-02, M-03, M-05, M-06, M-07, M-08, M-11: recorded messages, and one that lacks a member.
#[test]
fn every_recorded_activation_message_comes_out_as_it_went_in() {
    for message in recorded::all("wire/invoker0") {
        if message.label == "direct-absent-optional" {
            assert!(
                decode::<ActivationMessage>(&message.bytes).is_err(),
                "initArgs is required (M-01)"
            );
            continue;
        }
        goes_through::<ActivationMessage>(&message);
    }
}

/// M-02, M-30, M-31, M-32, M-35, M-36, M-37, M-64, M-6A, M-6B: recorded acks.
#[test]
fn every_recorded_ack_comes_out_as_the_same_bytes() {
    for message in recorded::all("wire/completed0") {
        let encoded = goes_through::<Acknowledgement>(&message);
        assert_eq!(encoded, message.text(), "{}", message.label);
    }
}

#[test]
fn every_recorded_ping_comes_out_as_the_same_bytes() {
    for message in recorded::all("wire/health") {
        let encoded = goes_through::<PingMessage>(&message);
        assert_eq!(encoded, message.text(), "{}", message.label);
    }
}

#[test]
fn every_recorded_event_comes_out_as_the_same_bytes() {
    for message in recorded::all("wire/events") {
        let encoded = goes_through::<EventMessage>(&message);
        assert_eq!(encoded, message.text(), "{}", message.label);
    }
}

/// M-60, M-61, M-62, M-63, M-65, M-66, M-67, M-68, M-69, D-40: recorded records.
#[test]
fn every_recorded_record_comes_out_as_it_went_in() {
    for document in recorded::all("db/activations") {
        goes_through::<Record>(&document);
    }
}

/// D-10, D-11, D-12, D-13, D-15, D-16, D-18: recorded documents.
#[test]
fn every_recorded_action_comes_out_as_it_went_in_and_other_entities_are_refused() {
    for document in recorded::all("db/whisks") {
        let value: Value = decode(&document.bytes).expect("JSON");
        match value["entityType"].as_str() {
            Some("action") => drop(goes_through::<ActionDocument>(&document)),
            Some(other) => {
                let error = decode::<ActionDocument>(&document.bytes)
                    .expect_err(other)
                    .to_string();
                assert!(
                    error.contains(&format!(
                        "entityType: unknown variant `{other}`, expected `action`"
                    )),
                    "{error}"
                );
            }
            None => panic!("{}: no entityType", document.label),
        }
    }
}

#[test]
fn every_recorded_subject_limit_and_view_comes_out_as_it_went_in() {
    for document in recorded::all("db/subjects") {
        goes_through::<AuthDocument>(&document);
    }
}

/// C-04, C-05: recorded requests come out as they went in.
#[test]
fn c_04_and_c_05_recorded_requests_come_out_as_they_went_in() {
    for recorded in recorded::all("container-http") {
        let outer: Value = decode(&recorded.bytes).expect("JSON");
        let body = |name: &str| outer[name]["body"].as_str().expect("a body").to_owned();
        let (init, run) = (body("init"), body("run"));
        let read: InitBody<'_> = serde_json::from_str(&init).expect("readable");
        assert_eq!(
            serde_json::to_value(&read).expect("encodes"),
            decode::<Value>(init.as_bytes()).expect("JSON")
        );
        let read: RunBody = decode(run.as_bytes()).expect("readable");
        assert_eq!(
            serde_json::to_string(&read).expect("encodes"),
            run,
            "{}",
            recorded.label
        );
    }
}

/// Decodes, encodes, compares as JSON values, and returns the encoding.
fn goes_through<T: DeserializeOwned + Serialize>(recorded: &Recorded) -> String {
    let document: T = decode(&recorded.bytes).unwrap_or_else(|error| panic!("{}: {error}", recorded.label));
    let encoded = serde_json::to_string(&document).expect("a document can be encoded");
    let (before, after): (Value, Value) = (
        decode(&recorded.bytes).expect("JSON"),
        decode(encoded.as_bytes()).expect("JSON"),
    );
    assert_eq!(before, after, "{}", recorded.label);
    encoded
}
