//! Values that differ as JSON and say the same: OpenWhisk reads either, and writes one of them.

use proto::whisk::activation::iso_millis;
use proto::whisk::name::FullyQualifiedName;
use proto::whisk::size::ByteSize;
use proto::whisk::version::Version;
use serde_json::{Number, Value};

/// Whether `written` is another spelling of `read`.
pub(super) fn same(read: &Value, written: &Value) -> bool {
    match (read, written) {
        (Value::Number(read), Value::Number(written)) => same_number(read, written),
        (Value::String(read), Value::String(written)) => same_text(read, written),
        // M-05: an activation id may be a number of 32 digits.
        (Value::Number(read), Value::String(written)) => written.len() == 32 && read.to_string() == *written,
        // M-64: an instant may be an ISO text.
        (Value::String(read), Value::Number(written)) => {
            iso_millis(read).is_some_and(|read| written.as_i64() == Some(read))
        }
        // M-21: an action may be one string.
        (Value::String(read), Value::Object(_)) => read
            .parse::<FullyQualifiedName>()
            .is_ok_and(|name| serde_json::to_value(name).is_ok_and(|name| name == *written)),
        // M-11: extra logging that is off is left out of a transaction id.
        (Value::Array(read), Value::Array(written)) => {
            without_false(read).is_some_and(|read| read == *written)
        }
        // The annotation `ffs` may be `true` where it says nothing more.
        (Value::Bool(true), Value::Object(written)) => written.is_empty(),
        _ => read == written,
    }
}

fn same_text(read: &str, written: &str) -> bool {
    read == written
        || read.strip_prefix('/') == Some(written) // M-07
        || read.trim().to_lowercase() == written // D-29, kinds
        || matches!((read.parse::<ByteSize>(), written.parse()), (Ok(a), Ok(b)) if a == b) // M-12
        || matches!((read.parse::<Version>(), written.parse()), (Ok(a), Ok(b)) if a == b) // M-08
}

/// A transaction id, and its parents, without `false` in third place.
fn without_false(id: &[Value]) -> Option<Vec<Value>> {
    let mut id = id.to_vec();
    if id.get(2) == Some(&Value::Bool(false)) {
        id.remove(2);
    }
    if let Some(Value::Array(parent)) = id.last() {
        let parent = without_false(parent)?;
        id.pop();
        id.push(parent.into());
    }
    matches!(id.first(), Some(Value::String(_))).then_some(id)
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
