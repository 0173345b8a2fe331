//! Units: one type each, converted where a document is read.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Memory or a size, in bytes. OpenWhisk's megabytes are 1048576 of them.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(transparent)]
pub struct Bytes(pub u64);

impl Bytes {
    pub const fn mib(n: u64) -> Self {
        Self(n << 20)
    }

    /// Whole mebibytes, rounded down.
    pub const fn as_mib(self) -> u64 {
        self.0 >> 20
    }
}

impl fmt::Display for Bytes {
    /// `512 MiB`, `9.6 GiB`, `100 B`: for people.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [&str; 4] = ["B", "KiB", "MiB", "GiB"];
        let mut value = self.0 as f64;
        let mut unit = 0;
        while value >= 1024.0 && unit + 1 < UNITS.len() {
            value /= 1024.0;
            unit += 1;
        }
        if value >= 10.0 || value.fract() == 0.0 {
            write!(f, "{value:.0} {}", UNITS[unit])
        } else {
            write!(f, "{value:.1} {}", UNITS[unit])
        }
    }
}

impl std::iter::Sum for Bytes {
    fn sum<I: Iterator<Item = Self>>(iter: I) -> Self {
        Self(iter.map(|b| b.0).sum())
    }
}

/// Milliseconds in documents that carry milliseconds; everything else uses `Duration`.
/// Never negative in a document.
#[derive(Clone, Copy, Debug, Default, PartialEq, PartialOrd, Serialize)]
#[serde(transparent)]
pub struct Millis(pub f64);

impl JsonSchema for Millis {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Millis".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "number", "minimum": 0 })
    }
    fn inline_schema() -> bool {
        true
    }
}

impl<'de> Deserialize<'de> for Millis {
    /// By way of [`serde_json::Number`]: inside a message that is told apart by its `type`, serde
    /// holds `1.5` as exact text, which `f64` does not read.
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = serde_json::Number::deserialize(deserializer)?;
        let millis = number
            .as_f64()
            .filter(|millis| *millis >= 0.0 && millis.is_finite());
        millis.map(Self).ok_or_else(|| {
            serde::de::Error::custom(format_args!(
                "{number} is not a number of milliseconds: expected 0 or more"
            ))
        })
    }
}

impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.1} ms", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ffs::control::LaneMessage;

    #[test]
    fn a_lane_may_report_a_fraction_of_a_millisecond() {
        let line = r#"{"type":"loaded","load_ms":1.5,"resident_bytes":12}"#;
        let message: LaneMessage = serde_json::from_str(line).expect("a message of the control socket");
        assert_eq!(
            message,
            LaneMessage::Loaded {
                load_ms: Millis(1.5),
                resident_bytes: Bytes(12)
            }
        );
        assert_eq!(serde_json::to_string(&message).expect("it is plain data"), line);
    }

    #[test]
    fn milliseconds_are_numbers_and_nothing_else() {
        for text in ["\"1\"", "null", "{}", "[1]", "true", "1e999", "-0.5"] {
            assert!(serde_json::from_str::<Millis>(text).is_err(), "{text}");
        }
    }
}
