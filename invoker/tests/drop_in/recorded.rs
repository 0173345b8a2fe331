//! Every recorded message is sent again; acks and record have to be those that were recorded.

use super::compare::{Allowed, kind, normal};
use super::world::{World, in_world, root};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use flate2::read::GzDecoder;
use futures::StreamExt;
use proto::whisk::activation_message::ActivationMessage;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::Read;

/// Everything has to be as recorded.
const EXACT: Allowed = Allowed {
    size: false,
    texts: false,
};
/// The runtime writes its JSON in its own way.
const SIZE: Allowed = Allowed {
    size: true,
    texts: false,
};
/// The runtime has error texts and log lines of its own.
const TEXTS: Allowed = Allowed {
    size: true,
    texts: true,
};

/// What is compared how.
const LABELS: &[(&str, Allowed)] = &[
    ("py-cold", SIZE),
    ("py-warm-blocking", SIZE),
    ("py-warm-nonblocking", SIZE),
    ("py-no-params", SIZE),
    ("py-empty-params", SIZE),
    ("js-prewarm", SIZE),
    ("js-warm", SIZE),
    ("nologs-combined", SIZE),
    ("nologs-nonblocking", SIZE),
    ("app-error", SIZE),
    ("js-throw", TEXTS),
    ("nonjson-py", TEXTS),
    ("array-result", SIZE),
    ("bound-params", SIZE),
    ("package-action", SIZE),
    ("package-binding", SIZE),
    ("sequence.component1", SIZE),
    ("sequence.component2", SIZE),
    ("sequence-array.component1", SIZE),
    ("sequence-array.component2", TEXTS),
    ("custom-transid", SIZE),
    ("extra-logging", SIZE),
    ("limited-user", SIZE),
    ("rule-fired-echopy", SIZE),
    ("init-error-js", TEXTS),
    ("init-error-py", TEXTS),
    ("exit-py", TEXTS),
    ("timeout-run", EXACT),
    ("timeout-run-nologs", EXACT),
    ("timeout-init", EXACT),
    ("big-result-ok", SIZE),
    ("ghost-runtime-missing-image", EXACT),
    ("blackbox-missing-image", EXACT),
    ("direct-missing-action", EXACT),
    ("direct-null-revision", SIZE),
    ("direct-stale-revision", SIZE),
    ("direct-array-content", TEXTS),
    ("direct-sequence-to-invoker", EXACT),
    ("direct-limits-exceeded", EXACT),
    ("direct-limit-concurrency-above", EXACT),
    ("direct-limit-concurrency-below", EXACT),
    ("direct-limit-logs-above", EXACT),
    ("direct-limit-logs-below", EXACT),
    ("direct-limit-memory-below", EXACT),
    ("direct-limit-timeout-above", EXACT),
    ("direct-limit-timeout-below", EXACT),
    ("direct-blacklisted", EXACT),
    ("direct-not-stored", TEXTS),
    ("status204-run", EXACT),
    ("closed-run", EXACT),
    ("empty-run", EXACT),
    ("run-number", EXACT),
    ("run-unicode", SIZE),
    ("run-201", EXACT),
    ("run-400-error", EXACT),
    ("run-error-null", EXACT),
    ("init-plain-error", EXACT),
    ("init-empty-error", EXACT),
    ("init-201", EXACT),
    ("response-1mib", EXACT),
    ("zip-attachment", SIZE),
    ("oom-py", TEXTS),
    ("logs-truncated", SIZE),
    ("big-result-truncated", SIZE),
    ("direct-payload-cut", SIZE),
    ("env-provide-api-key", SIZE),
    ("conductor.component1", SIZE),
    ("conductor.component2", SIZE),
    ("conductor.component3", SIZE),
    ("conductor.component4", SIZE),
    ("conductor.component5", SIZE),
    ("sequence-error.component1", SIZE),
    ("sequence-error.component2", TEXTS),
    ("resume-after-pause", SIZE),
    ("web-get", SIZE),
    ("web-post-json", SIZE),
];

/// K-50, M-20, M-21, M-22, M-23, M-24, M-25, M-26, M-27, M-2A: what the messages ask for is done
/// M-30, M-31, M-32, M-33, M-34, M-35, M-36, M-37, K-45, S-10, S-11: acks of the right kinds, each once
/// C-71: no logs and a single ack where the limit of logs is 0
/// M-50, M-51, M-53, M-54, M-55, V-04, V-08: whoever asks, and within whatever limits
/// M-60, M-61, M-62, M-63, M-64, M-65, M-66, M-67, M-68, M-69, M-6A, M-6B: and activations like the original's
#[test]
fn what_was_recorded_of_the_original_is_answered_and_recorded_alike() {
    in_world(async |world| {
        let compared = futures::stream::iter(LABELS).map(|(label, allowed)| async move {
            // One that panics must not hide the others.
            let differences = differences(world, label, *allowed).await;
            differences
                .into_iter()
                .map(|text| format!("{label}: {text}"))
                .collect::<Vec<_>>()
        });
        let found: Vec<String> = compared.buffer_unordered(4).collect::<Vec<_>>().await.concat();
        assert!(
            found.is_empty(),
            "{} differences:\n{}",
            found.len(),
            found.join("\n")
        );
    });
}

async fn differences(world: &World, label: &str, allowed: Allowed) -> Vec<String> {
    let ended = world.run(world.message(label)).await;
    let expected = acks(label);
    let kinds: Vec<&str> = ended.acks.iter().map(kind).collect();
    // Result first: what the original tells in no certain order has one here.
    let order: Vec<&str> = ["result", "completion", "combined"]
        .into_iter()
        .filter(|kind| expected.contains_key(kind))
        .collect();
    if kinds != order {
        return vec![format!("acks {kinds:?}, expected {order:?}: {:?}", ended.acks)];
    }
    let mut found = Vec::new();
    let mut compare = |what: &str, ours: &Value, theirs: &Value| {
        let (ours, theirs) = (normal(ours, allowed), normal(theirs, allowed));
        if ours != theirs {
            found.push(format!(
                "{what}\n  ours   {}\n  theirs {}",
                short(&ours),
                short(&theirs)
            ));
        }
    };
    for ack in &ended.acks {
        compare(kind(ack), ack, &expected[kind(ack)]);
    }
    if let Some(record) = read(&format!("db/activations/{label}.json")) {
        compare("record", &world.record(&ended).await, &record);
    } else if world.has_record(&ended).await {
        found.push("has a record, expected none".to_owned());
    }
    found
}

fn short(document: &Value) -> String {
    document.to_string().chars().take(1500).collect()
}

fn acks(label: &str) -> BTreeMap<&'static str, Value> {
    let kinds = ["result", "completion", "combined"].into_iter();
    kinds
        .filter_map(|kind| Some((kind, read(&format!("wire/completed0/{label}.{kind}.json"))?)))
        .collect()
}

/// A recorded document, zipped or not.
fn read(path: &str) -> Option<Value> {
    let path = root().join("proto/fixtures").join(path);
    if let Ok(text) = std::fs::read(&path) {
        return Some(serde_json::from_slice(&text).unwrap());
    }
    let zipped = std::fs::File::open(path.with_extension("json.gz")).ok()?;
    let mut text = String::new();
    GzDecoder::new(zipped).read_to_string(&mut text).unwrap();
    Some(serde_json::from_str(&text).unwrap())
}

pub(crate) fn message(label: &str) -> ActivationMessage {
    let message = read(&format!("wire/invoker0/{label}.json")).unwrap();
    proto::decode::decode(message.to_string().as_bytes()).unwrap()
}

/// The newest revision that the action had when it was recorded.
pub(crate) fn revision(id: &str) -> Option<String> {
    let document = read(&format!("db/whisks/{}.json", id.replace('/', "__")))?;
    Some(document["_rev"].as_str()?.to_owned())
}

/// The recorded actions, as the tests' images take them.
pub(crate) fn actions() -> Vec<Value> {
    let folder = std::fs::read_dir(root().join("proto/fixtures/db/whisks")).unwrap();
    let names = folder.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let documents = names
        .filter(|name| name.ends_with(".json"))
        .map(|name| read(&format!("db/whisks/{name}")).unwrap());
    documents
        .filter(|document| document["entityType"] == "action")
        .map(adapted)
        .collect()
}

/// The blackbox that the recordings were made with is not there; ours has scripts of another form.
fn adapted(mut action: Value) -> Value {
    let name = action["name"].as_str().unwrap().to_owned();
    // The recorded ones say how long it is; a new document carries it.
    for (attachment, about) in action["_attachments"].as_object_mut().into_iter().flatten() {
        let file = format!("proto/fixtures/db/whisks/guest__{name}.attachment.{attachment}");
        let content = std::fs::read(root().join(file)).unwrap();
        *about = json!({ "content_type": about["content_type"], "data": STANDARD.encode(content) });
    }
    let image = action["exec"]["image"].as_str().unwrap_or_default().to_owned();
    if image.ends_with("probe:v1") {
        let code = action["exec"]["code"]["attachmentName"].as_str().unwrap();
        let code = STANDARD.decode(code.strip_prefix("mem:").unwrap()).unwrap();
        let script = script(&serde_json::from_slice(&code).unwrap());
        action["exec"]["code"] = json!(script.to_string());
        action["exec"]["image"] = json!("ffs/probe");
    }
    action
}

fn script(theirs: &Value) -> Value {
    let mut ours = json!({ "run": { "body": { "ok": true } } });
    if theirs == &json!({}) {
        // A report of the environment, and so long.
        let (begin, end) = (r#"{"env": {"PATH": ""#, r#""}}"#);
        let middle = "/".repeat(326 - begin.len() - end.len());
        ours["run"] = json!({ "text": format!("{begin}{middle}{end}") });
    }
    for step in ["init", "run"] {
        if let Some(answer) = theirs.get(step) {
            ours[step] = answer_of(answer);
        }
    }
    ours
}

fn answer_of(theirs: &Value) -> Value {
    let framing = match (theirs["mode"].as_str(), theirs.get("close")) {
        (_, Some(_)) => "nothing",
        (Some("chunked"), _) => "chunked",
        (Some("close"), _) => "close",
        (Some("x"), _) => "empty",
        _ => "length",
    };
    let text = match &theirs["body"] {
        Value::String(text) => text.clone(),
        Value::Object(parts) => {
            let times = usize::try_from(parts["n"].as_u64().unwrap()).unwrap();
            let part = |name: &str| parts[name].as_str().unwrap();
            format!("{}{}{}", part("pre"), part("rep").repeat(times), part("post"))
        }
        _ => r#"{"ok":true}"#.to_owned(),
    };
    json!({ "status": theirs["status"].as_u64().unwrap_or(200), "framing": framing, "text": text })
}
