//! Where two JSON values first differ, in words.

use super::spelling;
use serde_json::{Map, Value};

/// The first place at which `output` does not say what `input` says, or `None`.
///
/// Member order is irrelevant, and so are the spellings in [`spelling`].
pub(super) fn first(input: &Value, output: &Value) -> Option<String> {
    let mut path = String::new();
    descend(input, output, &mut path)
}

fn descend(input: &Value, output: &Value, path: &mut String) -> Option<String> {
    match (input, output) {
        (Value::Object(input), Value::Object(output)) => members(input, output, path),
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => a
            .iter()
            .zip(b)
            .enumerate()
            .find_map(|(index, (a, b))| within(path, &format!("[{index}]"), a, b)),
        _ if spelling::same(input, output) => None,
        _ => Some(format!(
            "{}: {} would become {}",
            place(path),
            shown(input),
            shown(output)
        )),
    }
}

fn members(input: &Map<String, Value>, output: &Map<String, Value>, path: &mut String) -> Option<String> {
    for (name, value) in input {
        let difference = match output.get(name) {
            Some(other) => within(path, &format!(".{name}"), value, other),
            None if value.is_null() => None, // M-01: null and absent are the same
            None => Some(format!(
                "{}: member {name:?} is not known and would be dropped",
                place(path)
            )),
        };
        if difference.is_some() {
            return difference;
        }
    }
    let added = output.iter().find(|(name, _)| !input.contains_key(*name))?;
    Some(format!(
        "{}: member {:?} would be added as {}",
        place(path),
        added.0,
        shown(added.1)
    ))
}

fn within(path: &mut String, step: &str, input: &Value, output: &Value) -> Option<String> {
    let before = path.len();
    path.push_str(step);
    let difference = descend(input, output, path);
    path.truncate(before);
    difference
}

fn place(path: &str) -> &str {
    match path.strip_prefix('.') {
        Some(member) => member,
        None if path.is_empty() => "the whole text",
        None => path,
    }
}

/// At most 80 characters of a value.
fn shown(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(80) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}
