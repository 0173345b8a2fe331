//! Two documents that say the same, but for ids and times.

use serde_json::{Map, Value, json};

/// What may differ besides, because the images of the tests are not the original's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Allowed {
    /// How many bytes the container's answer had.
    pub(crate) size: bool,
    /// The text of an error, and the log lines, which are the runtime's own.
    pub(crate) texts: bool,
}

/// Ack or record with everything replaced that is new each time. That it is there, and of the right type, stays.
pub(crate) fn normal(document: &Value, allowed: Allowed) -> Value {
    let Value::Object(members) = document else {
        return match document {
            Value::String(text) if is_id(text) => json!("an activation id"),
            other => other.clone(),
        };
    };
    let changed = members.iter().filter_map(|(name, value)| {
        let value = match (&**name, value) {
            ("_rev", _) => return None,
            // The recorded invoker had none; ours needs one beside others on the same engine.
            ("uniqueName", _) => return None,
            ("_id", Value::String(id)) => {
                json!(id.rsplit_once('/').map_or("no slash", |(namespace, _)| namespace))
            }
            ("activationId" | "cause", Value::String(id)) if is_id(id) => json!("an activation id"),
            ("start" | "end" | "updated" | "duration", Value::Number(n)) if n.is_i64() => json!("an integer"),
            ("transid", Value::Array(parts)) => json!(format!("{} parts", parts.len())),
            ("annotations", Value::Array(all)) => all.iter().filter_map(annotation).collect(),
            ("logs", Value::Array(lines)) => logs(lines, allowed),
            ("response", Value::Object(response)) if response.contains_key("statusCode") => {
                outcome(response, allowed)
            }
            (_, value) => normal(value, allowed),
        };
        Some((name.clone(), value))
    });
    let mut sorted: Vec<(String, Value)> = changed.collect();
    sorted.sort_by(|a, b| a.0.cmp(&b.0));
    Value::Object(Map::from_iter(sorted))
}

fn is_id(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|b| b.is_ascii_hexdigit())
}

fn annotation(one: &Value) -> Option<Value> {
    match one["key"].as_str()? {
        // Whether a container was cold is told by another test.
        "initTime" => None,
        "waitTime" => {
            assert!(one["value"].is_i64(), "{one}");
            Some(json!({ "key": "waitTime" }))
        }
        _ => Some(one.clone()),
    }
}

/// Without their times, and in any order: those of two streams come in whichever order Docker saw them.
fn logs(lines: &[Value], allowed: Allowed) -> Value {
    if allowed.texts {
        return json!("lines");
    }
    let text = |line: &Value| {
        let line = line.as_str().unwrap();
        match line.split_once(' ') {
            Some((time, text)) if time.ends_with('Z') && time.contains('T') => text.trim_start().to_owned(),
            // What the invoker says itself may have no time.
            _ => format!("without a time: {line}"),
        }
    };
    let mut lines: Vec<String> = lines.iter().map(text).collect();
    // The image that was recorded with told each request, ours does not.
    lines.retain(|line| !line.starts_with("stdout: probe /"));
    lines.sort();
    lines.into()
}

fn outcome(response: &Map<String, Value>, allowed: Allowed) -> Value {
    let mut response = response.clone();
    let variables = response
        .get_mut("result")
        .and_then(|result| result.get_mut("env"));
    if let Some(Value::Object(variables)) = variables {
        // What an action sees of itself, in any order, with what is new each time.
        for name in [
            "__OW_ACTIVATION_ID",
            "__OW_TRANSACTION_ID",
            "__OW_DEADLINE",
            "__OW_API_HOST",
        ] {
            variables
                .entry(name)
                .and_modify(|value| *value = json!(value.is_string()));
        }
        variables.sort_keys();
    }
    if allowed.size && response.contains_key("size") {
        response.insert("size".to_owned(), json!("a size"));
    }
    if allowed.texts
        && response
            .get("result")
            .is_some_and(|result| result["error"].is_string())
    {
        response.insert("result".to_owned(), json!({ "error": "a text" }));
    }
    if allowed.texts && response.get("statusCode").and_then(Value::as_i64) == Some(0) {
        response.insert("result".to_owned(), json!("the runtime's own"));
    }
    Value::Object(response)
}

/// `result`, `completion` or `combined`, by its members alone (M-34).
pub(crate) fn kind(ack: &Value) -> &'static str {
    match (ack.get("instance"), ack.get("response")) {
        (Some(_), Some(_)) => "combined",
        (Some(_), None) => "completion",
        (None, _) => "result",
    }
}
