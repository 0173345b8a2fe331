//! Where two JSON values first differ, in words.

use serde_json::{Map, Number, Value};

/// The first place at which `output` does not say what `input` says, or `None`.
///
/// Member order is irrelevant, numbers are compared exactly but not by their spelling (`1e2` is
/// `100`), and where OpenWhisk reads several spellings of one thing ([`same_meaning`]) each is good.
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
        _ if same_meaning(input, output) => None,
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

fn same_meaning(input: &Value, output: &Value) -> bool {
    match (input, output) {
        (Value::Number(a), Value::Number(b)) => same_number(a, b),
        _ => input == output,
    }
}

/// Exact equality of decimals, however they are written.
fn same_number(a: &Number, b: &Number) -> bool {
    let (a, b) = (a.to_string(), b.to_string());
    a == b || matches!((Decimal::of(&a), Decimal::of(&b)), (Some(a), Some(b)) if a == b)
}

/// `±digits × 10^exponent`, without zeros at either end of the digits; zero has no digits.
#[derive(PartialEq, Eq)]
struct Decimal {
    negative: bool,
    digits: String,
    exponent: i64,
}

impl Decimal {
    /// `None` for an exponent that does not fit 64 bits.
    fn of(text: &str) -> Option<Self> {
        let (negative, text) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (mantissa, exponent) = match text.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, exponent.parse::<i64>().ok()?),
            None => (text, 0),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let all = format!("{whole}{fraction}");
        let digits = all.trim_start_matches('0').trim_end_matches('0');
        if digits.is_empty() {
            return Some(Self {
                negative: false,
                digits: String::new(),
                exponent: 0,
            });
        }
        let dropped = all.len() - all.trim_end_matches('0').len();
        Some(Self {
            negative,
            digits: digits.to_owned(),
            exponent: exponent
                .checked_add(i64::try_from(dropped).ok()? - i64::try_from(fraction.len()).ok()?)?,
        })
    }
}
