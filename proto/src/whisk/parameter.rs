//! Annotations and parameters of entities: `Parameter.scala`.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Annotations in the order in which they were given; any JSON as value (D-18, M-6A).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Annotations(pub Vec<Annotation>);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Annotation {
    pub key: String,
    pub value: Value,
}

impl Annotations {
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.0
            .iter()
            .rev()
            .find(|annotation| annotation.key == key)
            .map(|annotation| &annotation.value)
    }

    /// Adds one, or replaces the one of that key.
    pub fn set(&mut self, key: &str, value: impl Into<Value>) {
        let value = value.into();
        match self.0.iter_mut().rev().find(|annotation| annotation.key == key) {
            Some(annotation) => annotation.value = value,
            None => self.0.push(Annotation {
                key: key.to_owned(),
                value,
            }),
        }
    }

    /// Whether the annotation says yes; `absent` where there is none (W-12).
    pub fn is_truthy(&self, key: &str, absent: bool) -> bool {
        match self.get(key) {
            None => absent,
            Some(Value::Null) => false,
            Some(Value::Bool(value)) => *value,
            // Zero is the number without a digit other than 0 before its exponent.
            Some(Value::Number(number)) => {
                let text = number.to_string();
                text.split(['e', 'E'])
                    .next()
                    .is_some_and(|digits| digits.contains(|c: char| c.is_ascii_digit() && c != '0'))
            }
            Some(Value::String(text)) => !text.is_empty(),
            Some(Value::Array(_) | Value::Object(_)) => true,
        }
    }
}

impl<K: Into<String>, V: Into<Value>> FromIterator<(K, V)> for Annotations {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(pairs: I) -> Self {
        let annotation = |(key, value): (K, V)| Annotation {
            key: key.into(),
            value: value.into(),
        };
        Self(pairs.into_iter().map(annotation).collect())
    }
}

/// One argument kept with an entity (D-15). The controller merges them into each message.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Parameter {
    pub key: String,
    pub value: Value,
    /// Scheme by which `value` is encrypted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encryption: Option<String>,
    /// Whether it goes to `/init` as environment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub init: Option<bool>,
}
