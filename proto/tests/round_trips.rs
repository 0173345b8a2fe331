//! Laws: what is written is read again as the same, and whatever is read is written so that it is.

use proptest::collection::{btree_map, vec};
use proptest::option::of;
use proptest::prelude::*;
use proptest::sample::select;
use proto::decode::decode;
use proto::id::ActivationId;
use proto::json::Json;
use proto::unit::Bytes;
use proto::whisk::acknowledgement::Acknowledgement;
use proto::whisk::action::ActionDocument;
use proto::whisk::activation::{Activation, Response, Status};
use proto::whisk::activation_message::ActivationMessage;
use proto::whisk::event::EventMessage;
use proto::whisk::identity::{Identity, Namespace};
use proto::whisk::instance::{ControllerId, InvokerId};
use proto::whisk::limits::UserLimits;
use proto::whisk::name::{EntityName, EntityPath, FullyQualifiedName, Subject};
use proto::whisk::parameter::Annotations;
use proto::whisk::ping::PingMessage;
use proto::whisk::record::Record;
use proto::whisk::size::ByteSize;
use proto::whisk::subject::AuthDocument;
use proto::whisk::transid::TransactionId;
use proto::whisk::version::Version;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use std::fmt::Debug;
use std::path::Path;

/// Any JSON, with numbers that no machine type holds.
fn json() -> impl Strategy<Value = Value> {
    let number = "-?(0|[1-9][0-9]{0,30})(\\.[0-9]{1,30})?([eE][+-]?[0-9]{1,3})?";
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        number.prop_map(|text| serde_json::from_str(&text).expect("a number")),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 5, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..5).prop_map(Value::from),
            object(inner).prop_map(Value::Object)
        ]
    })
}

fn object(value: impl Strategy<Value = Value>) -> impl Strategy<Value = Map<String, Value>> {
    btree_map(any::<String>(), value, 0..5).prop_map(|members| members.into_iter().collect())
}

fn arguments() -> impl Strategy<Value = Json> {
    let objects = object(json()).prop_map(Value::Object);
    prop_oneof![objects, vec(json(), 0..4).prop_map(Value::from)].prop_map(Json::from)
}

fn name() -> impl Strategy<Value = EntityName> {
    "[A-Za-z0-9_]([A-Za-z0-9_@ .&-]{0,12}[A-Za-z0-9_@.&-])?".prop_map(|text| text.parse().expect("a name"))
}

fn path() -> impl Strategy<Value = EntityPath> {
    vec(name(), 1..3).prop_map(|names| {
        let names: Vec<_> = names.iter().map(EntityName::as_str).collect();
        names.join("/").parse().expect("a path")
    })
}

fn version() -> impl Strategy<Value = Version> {
    (0..3_u32, any::<u32>(), 1..9_u32)
        .prop_map(|(a, b, c)| format!("{a}.{b}.{c}").parse().expect("a version"))
}

fn subject() -> impl Strategy<Value = Subject> {
    "[a-z@-]{5,20}".prop_map(|text| text.parse().expect("a subject"))
}

fn id() -> impl Strategy<Value = ActivationId> {
    any::<u128>().prop_map(ActivationId::from_u128)
}

fn transid() -> impl Strategy<Value = TransactionId> {
    let one = (any::<String>(), any::<i64>(), any::<bool>());
    vec(one, 1..4).prop_map(|ids| {
        let mut parent = None;
        for (id, start, extra_logging) in ids {
            parent = Some(Box::new(TransactionId {
                id,
                start,
                extra_logging,
                parent,
            }));
        }
        *parent.expect("at least one")
    })
}

fn limits() -> impl Strategy<Value = UserLimits> {
    (
        of(any::<u64>()),
        of(any::<i64>()),
        of(any::<u32>()),
        of(any::<bool>()),
        of(vec(any::<String>(), 0..3)),
    )
        .prop_map(
            |(memory, rate, payload, store_activations, allowed_kinds)| UserLimits {
                max_action_memory: memory,
                invocations_per_minute: rate,
                max_payload_size: payload.map(|bytes| Bytes(bytes.into()).into()),
                store_activations,
                allowed_kinds,
                ..UserLimits::default()
            },
        )
}

fn identity() -> impl Strategy<Value = Identity> {
    (
        object(json()),
        limits(),
        name(),
        any::<String>(),
        vec(any::<String>(), 0..5),
        subject(),
    )
        .prop_map(|(authkey, limits, name, uuid, rights, subject)| Identity {
            authkey,
            limits,
            namespace: Namespace { name, uuid },
            rights,
            subject,
        })
}

fn action() -> impl Strategy<Value = FullyQualifiedName> {
    (of(path()), name(), path(), of(version())).prop_map(|(binding, name, path, version)| {
        FullyQualifiedName {
            binding,
            name,
            path,
            version,
        }
    })
}

fn message() -> impl Strategy<Value = ActivationMessage> {
    let texts = || btree_map(any::<String>(), any::<String>(), 0..3);
    let controller = "[A-Za-z0-9._-]{1,9}".prop_map(|text| ControllerId::new(text.parse().expect("a name")));
    let first = (
        action(),
        id(),
        any::<bool>(),
        of(id()),
        of(arguments()),
        vec(any::<String>(), 0..3),
    );
    (
        first,
        (
            texts(),
            of(any::<String>()),
            controller,
            of(texts()),
            transid(),
            identity(),
        ),
    )
        .prop_map(
            |(
                (action, activation_id, blocking, cause, content, init_args),
                (locked_args, revision, controller, trace, transid, user),
            )| {
                ActivationMessage {
                    action,
                    activation_id,
                    blocking,
                    cause,
                    content,
                    init_args,
                    locked_args,
                    revision,
                    root_controller_index: controller,
                    trace_context: trace,
                    transid,
                    user,
                }
            },
        )
}

fn activation() -> impl Strategy<Value = Activation> {
    let status = select(vec![
        Status::Success,
        Status::ApplicationError,
        Status::DeveloperError,
        Status::WhiskError,
    ]);
    let response = (of(json()), of(any::<u64>()), status).prop_map(|(result, size, status_code)| Response {
        result: result.filter(|json| !json.is_null()).map(Json::from),
        size,
        status_code,
    });
    let annotations = vec((any::<String>(), json()), 0..4).prop_map(Annotations::from_iter);
    let first = (
        id(),
        annotations,
        of(id()),
        of(any::<i64>()),
        any::<i64>(),
        vec(any::<String>(), 0..3),
    );
    (
        first,
        (
            name(),
            path(),
            any::<bool>(),
            response,
            any::<i64>(),
            subject(),
            version(),
        ),
    )
        .prop_map(
            |(
                (activation_id, annotations, cause, duration, end, logs),
                (name, namespace, publish, response, start, subject, version),
            )| {
                Activation {
                    activation_id,
                    annotations,
                    cause,
                    duration,
                    end,
                    logs,
                    name,
                    namespace,
                    publish,
                    response,
                    start,
                    subject,
                    version,
                }
            },
        )
}

fn invoker() -> impl Strategy<Value = InvokerId> {
    (
        any::<u32>(),
        any::<u64>(),
        vec(any::<String>(), 0..3),
        of(any::<String>()),
    )
        .prop_map(|(instance, bytes, tags, unique_name)| InvokerId {
            tags,
            unique_name,
            ..InvokerId::new(instance, Bytes(bytes))
        })
}

fn is_read_again<T: Serialize + DeserializeOwned + PartialEq + Debug>(
    written: &T,
) -> Result<(), TestCaseError> {
    let text = serde_json::to_vec(written).expect("encodes");
    let read = decode::<T>(&text).map_err(|error| TestCaseError::fail(error.to_string()))?;
    prop_assert_eq!(&read, written);
    Ok(())
}

proptest! {
    #[test]
    fn messages_are_read_as_they_were_written(message in message()) {
        is_read_again(&message)?;
    }

    #[test]
    fn acks_are_read_as_they_were_written(activation in activation(), transid in transid(), invoker in invoker()) {
        is_read_again(&Acknowledgement::completion(transid.clone(), &activation, invoker.clone()))?;
        is_read_again(&Acknowledgement::result(transid.clone(), activation.clone()))?;
        let combined = Acknowledgement::combined(transid, activation, invoker);
        is_read_again(&combined)?;
        is_read_again(&combined.shrunk())?;
    }

    #[test]
    fn records_are_read_as_they_were_written(activation in activation(), rev in of(any::<String>()), now in any::<i64>()) {
        is_read_again(&Record { rev, ..Record::new(activation, now) })?;
    }

    #[test]
    fn arguments_taken_apart_and_put_together_are_the_same(arguments in arguments()) {
        if let Some(members) = arguments.members() {
            let again = Json::object(members.iter().map(|(name, value)| (name.as_str(), value)));
            prop_assert_eq!(again.as_str(), arguments.as_str());
        } else {
            prop_assert!(arguments.is_array());
        }
    }

    #[test]
    fn sizes_keep_their_bytes_in_every_spelling(amount in 0..1_u64 << 33, unit in select(vec!["b", "K", "kB", "m", "MB", "G", "gb"]),
        blanks in select(vec![("", "", ""), (" ", " ", " "), ("", " ", "")]))
    {
        let spelled = format!("{}{amount}{}{unit}{}", blanks.0, blanks.1, blanks.2);
        let size: ByteSize = spelled.parse().expect("a size");
        prop_assert_eq!(size.to_string().parse::<ByteSize>().expect("a size").bytes(), size.bytes());
        let shift = match unit.as_bytes()[0].to_ascii_uppercase() { b'K' => 10, b'M' => 20, b'G' => 30, _ => 0 };
        prop_assert_eq!(size.bytes(), Bytes(amount << shift));
    }
}

/// A recorded document, and what reading, writing and reading it again comes to.
type Kind = (&'static str, fn(&[u8]) -> bool);

/// Whether the text is read; if it is, it is written so that it is read as the same.
fn stable<T: Serialize + DeserializeOwned + PartialEq + Debug>(text: &[u8]) -> bool {
    let Ok(read) = decode::<T>(text) else {
        return false;
    };
    let written = serde_json::to_vec(&read).expect("what is read can be written");
    assert_eq!(
        decode::<T>(&written).expect("what is written can be read"),
        read,
        "{}",
        String::from_utf8_lossy(text)
    );
    true
}

const KINDS: [Kind; 9] = [
    ("wire/invoker0/limited-user.json", stable::<ActivationMessage>),
    ("wire/invoker0/package-binding.json", stable::<ActivationMessage>),
    (
        "wire/completed0/nologs-combined.combined.json",
        stable::<Acknowledgement>,
    ),
    ("wire/events/web-get.activation.json", stable::<EventMessage>),
    ("wire/health/ping-1.json", stable::<PingMessage>),
    ("db/activations/py-cold.json", stable::<Record>),
    ("db/whisks/guest__zipjs.json", stable::<ActionDocument>),
    ("db/subjects/limited__limits.json", stable::<AuthDocument>),
    ("db/subjects/blockedguy.json", stable::<AuthDocument>),
];

fn recorded(path: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(path)).expect("a recording")
}

/// All places in a document.
fn places(value: &Value, path: &str, all: &mut Vec<String>) {
    all.push(path.to_owned());
    match value {
        Value::Object(members) => members
            .iter()
            .for_each(|(name, value)| places(value, &format!("{path}/{name}"), all)),
        Value::Array(items) => items
            .iter()
            .enumerate()
            .for_each(|(index, value)| places(value, &format!("{path}/{index}"), all)),
        _ => {}
    }
}

proptest! {
    #[test]
    fn whatever_stands_in_place_of_a_value_is_refused_or_survives(kind in select(&KINDS[..]), place in any::<prop::sample::Index>(), value in json()) {
        let mut document: Value = decode(&recorded(kind.0)).expect("JSON");
        let mut all = Vec::new();
        places(&document, "", &mut all);
        *document.pointer_mut(&all[place.index(all.len())]).expect("a place") = value;
        kind.1(document.to_string().as_bytes());
    }

    #[test]
    fn bytes_that_are_no_document_are_refused_without_a_panic(kind in select(&KINDS[..]), at in any::<prop::sample::Index>(), junk in vec(any::<u8>(), 0..4)) {
        let mut text = recorded(kind.0);
        let at = at.index(text.len());
        let end = (at + junk.len()).min(text.len());
        text.splice(at..end, junk);
        kind.1(&text);
    }
}

#[test]
fn the_recordings_that_the_laws_start_from_are_read() {
    for (path, stable) in KINDS {
        assert!(stable(&recorded(path)), "{path}");
    }
}
