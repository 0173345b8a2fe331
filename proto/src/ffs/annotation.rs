//! The annotation `ffs` on an action: what its author may ask for.

use super::dag::DagDocument;
use super::profile::ProfileDocument;
use super::{Document, read};
use crate::unit::Millis;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

/// Key of the annotation.
pub const KEY: &str = "ffs";

/// Everything is optional; `true` stands for the empty object.
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
#[schemars(default, deny_unknown_fields)]
pub struct Annotation {
    /// Target end-to-end latency; more than 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub slo_ms: Option<Millis>,
    /// SLO as a multiple of the time alone on the smallest slice that holds the function; more than 0, default 3.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub slo_scale: Option<f64>,
    /// Name of a scheduling policy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_instances: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_instances: Option<u32>,
    /// Whether an in-flight request may be run again when a stage dies.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry: Option<bool>,
    /// Idle seconds before an instance goes cold; 0 or more.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("minimum" = 0))]
    pub keep_alive_s: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dag: Option<DagDocument>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profile: Option<ProfileDocument>,
    /// Input used for profiling; absent: the first activation's arguments.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub example: Option<Map<String, Value>>,
}

/// What is wrong with the annotation of an action, in a sentence for its author.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AnnotationError {
    #[error("annotation ffs is {value}: expected true, or an object with some of the keys {}", KEYS.join(", "))]
    NoObject { value: String },
    #[error("annotation ffs has the unknown key {key:?}: expected {}", KEYS.join(", "))]
    UnknownKey { key: String },
    #[error("annotation ffs: {key} is {value}: expected {expected}")]
    Value {
        key: &'static str,
        value: String,
        expected: &'static str,
    },
    #[error("annotation ffs: {key} is not valid: {reason}")]
    Document { key: &'static str, reason: String },
}

const KEYS: [&str; 10] = [
    "slo_ms",
    "slo_scale",
    "policy",
    "min_instances",
    "max_instances",
    "retry",
    "keep_alive_s",
    "dag",
    "profile",
    "example",
];

impl Annotation {
    /// Reads the annotation's value; `None` for `false` and `null`, which say that there is none.
    /// A text that is JSON stands for its value, as `wsk` may send it (W-01).
    ///
    /// # Errors
    /// An unknown key, a wrong type or an impossible value.
    pub fn parse(value: &Value) -> Result<Option<Self>, AnnotationError> {
        match value {
            Value::Null | Value::Bool(false) => Ok(None),
            Value::Bool(true) => Ok(Some(Self::default())),
            Value::Object(members) => Self::of(members).map(Some),
            Value::String(text) => match serde_json::from_str(text) {
                Ok(Value::String(_)) | Err(_) => Err(AnnotationError::NoObject { value: shown(value) }),
                Ok(inner) => Self::parse(&inner),
            },
            Value::Number(_) | Value::Array(_) => Err(AnnotationError::NoObject { value: shown(value) }),
        }
    }

    fn of(members: &Map<String, Value>) -> Result<Self, AnnotationError> {
        if let Some(key) = members.keys().find(|key| !KEYS.contains(&key.as_str())) {
            return Err(AnnotationError::UnknownKey { key: key.clone() });
        }
        let given = Given(members);
        let read = Self {
            slo_ms: given
                .read("slo_ms", "a number greater than 0", positive)?
                .map(Millis),
            slo_scale: given.read("slo_scale", "a number greater than 0", positive)?,
            policy: given.read("policy", "the name of a policy", name)?,
            min_instances: given.read("min_instances", INSTANCES, count)?,
            max_instances: given.read("max_instances", INSTANCES, count)?,
            retry: given.read("retry", "true or false", Value::as_bool)?,
            keep_alive_s: given.read("keep_alive_s", "a number of seconds, 0 or more", not_negative)?,
            dag: given.document("dag")?,
            profile: given.document("profile")?,
            example: given.read("example", "an object", |value| value.as_object().cloned())?,
        };
        match (read.min_instances, read.max_instances) {
            (Some(min), Some(max)) if min > max => Err(AnnotationError::Value {
                key: "min_instances",
                value: min.to_string(),
                expected: "at most max_instances",
            }),
            _ => Ok(read),
        }
    }
}

const INSTANCES: &str = "a whole number of instances, 0 or more";

struct Given<'a>(&'a Map<String, Value>);

impl Given<'_> {
    fn read<T>(
        &self,
        key: &'static str,
        expected: &'static str,
        as_expected: fn(&Value) -> Option<T>,
    ) -> Result<Option<T>, AnnotationError> {
        let Some(value) = self.0.get(key) else {
            return Ok(None);
        };
        let wrong = || AnnotationError::Value {
            key,
            value: shown(value),
            expected,
        };
        as_expected(value).map(Some).ok_or_else(wrong)
    }

    fn document<D: Document>(&self, key: &'static str) -> Result<Option<D>, AnnotationError> {
        let Some(value) = self.0.get(key) else {
            return Ok(None);
        };
        match read(value.to_string().as_bytes()) {
            Ok(document) => Ok(Some(document)),
            Err(error) => Err(AnnotationError::Document {
                key,
                reason: error.to_string(),
            }),
        }
    }
}

fn positive(value: &Value) -> Option<f64> {
    value
        .as_f64()
        .filter(|number| number.is_finite() && *number > 0.0)
}

fn not_negative(value: &Value) -> Option<f64> {
    value
        .as_f64()
        .filter(|number| number.is_finite() && *number >= 0.0)
}

fn count(value: &Value) -> Option<u32> {
    value.as_u64().and_then(|count| count.try_into().ok())
}

fn name(value: &Value) -> Option<String> {
    value.as_str().filter(|name| !name.is_empty()).map(str::to_owned)
}

/// At most 80 characters of a value, as JSON.
fn shown(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(80) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// `false` and `null` are no annotation, so they are not read as one.
impl<'de> Deserialize<'de> for Annotation {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        match Self::parse(&value) {
            Ok(Some(annotation)) => Ok(annotation),
            Ok(None) => Err(serde::de::Error::custom(AnnotationError::NoObject {
                value: shown(&value),
            })),
            Err(error) => Err(serde::de::Error::custom(error)),
        }
    }
}
