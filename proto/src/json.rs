//! A JSON text that passes through: arguments and results are the user's, not ours.

use crate::decode::{DecodeError, decode};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
use serde_json::value::RawValue;
use std::fmt;
use std::sync::Arc;

/// One JSON value as it was written: numbers keep every digit, strings every escape (M-03).
///
/// Cheap to clone. Always on one line, because some runtimes read a request's body by lines.
/// Equal to another if both stand for the same value.
#[derive(Clone)]
pub struct Json(Arc<RawValue>);

impl Json {
    /// # Errors
    /// The text is not one JSON value.
    pub fn parse(text: &str) -> Result<Self, DecodeError> {
        decode::<Self>(text.as_bytes())
    }

    pub fn empty_object() -> Self {
        Self::from(&Value::Object(serde_json::Map::new()))
    }

    pub fn as_str(&self) -> &str {
        self.0.get()
    }

    pub fn is_object(&self) -> bool {
        self.as_str().starts_with('{')
    }

    pub fn is_array(&self) -> bool {
        self.as_str().starts_with('[')
    }

    pub fn is_null(&self) -> bool {
        self.as_str() == "null"
    }

    /// The value as a `T`.
    ///
    /// # Errors
    /// It is not a `T`; as a [`Value`], it is nested deeper than 128 or has half a surrogate pair.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T, DecodeError> {
        decode(self.as_str().as_bytes())
    }

    /// The members of an object in the order in which they stand; `None` for anything else.
    pub fn members(&self) -> Option<Vec<(String, Json)>> {
        self.decode::<Members>().ok().map(|members| members.0)
    }

    /// The member of that name, where this is an object that has one (the last, if several).
    ///
    /// Others are passed over without being copied.
    pub fn member(&self, name: &str) -> Option<Json> {
        if !self.is_object() {
            return None;
        }
        let mut deserializer = serde_json::Deserializer::from_str(self.as_str());
        let raw = (&mut deserializer)
            .deserialize_map(MemberVisitor(name))
            .ok()
            .flatten()?;
        Some(Self::from(raw.to_owned()))
    }

    /// An object of these members in this order.
    pub fn object<'a>(members: impl IntoIterator<Item = (&'a str, &'a Json)>) -> Self {
        let mut text = String::from("{");
        for (name, value) in members {
            if text.len() > 1 {
                text.push(',');
            }
            text.push_str(&Value::from(name).to_string());
            text.push(':');
            text.push_str(value.as_str());
        }
        text.push('}');
        Self::valid(text)
    }

    fn valid(text: String) -> Self {
        Self::from(RawValue::from_string(text).expect("written by a serializer"))
    }
}

impl From<&Value> for Json {
    fn from(value: &Value) -> Self {
        Self::valid(value.to_string())
    }
}

impl From<Value> for Json {
    fn from(value: Value) -> Self {
        Self::from(&value)
    }
}

impl From<Box<RawValue>> for Json {
    fn from(raw: Box<RawValue>) -> Self {
        if !raw.get().contains(['\n', '\r']) {
            return Self(raw.into());
        }
        // Inside strings they are escaped, so these stand between tokens.
        let text = raw.get().replace(['\n', '\r'], "");
        Self(RawValue::from_string(text).map_or_else(|_| raw.into(), Into::into))
    }
}

impl Serialize for Json {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Box::<RawValue>::deserialize(deserializer).map(Self::from)
    }
}

impl PartialEq for Json {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
            || matches!((self.decode::<Value>(), other.decode::<Value>()), (Ok(a), Ok(b)) if a == b)
    }
}

impl fmt::Debug for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Finds one member.
struct MemberVisitor<'n>(&'n str);

impl<'de> serde::de::Visitor<'de> for MemberVisitor<'_> {
    type Value = Option<&'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(is_it) = map.next_key_seed(IsName(self.0))? {
            let value: &RawValue = map.next_value()?;
            if is_it {
                found = Some(value);
            }
        }
        Ok(found)
    }
}

/// Whether a key is a name, without keeping the key.
struct IsName<'n>(&'n str);

impl<'de> serde::de::DeserializeSeed<'de> for IsName<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl serde::de::Visitor<'_> for IsName<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E: serde::de::Error>(self, key: &str) -> Result<bool, E> {
        Ok(key == self.0)
    }
}

struct Members(Vec<(String, Json)>);

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(MembersVisitor)
    }
}

struct MembersVisitor;

impl<'de> serde::de::Visitor<'de> for MembersVisitor {
    type Value = Members;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
        let mut members = Vec::new();
        while let Some(member) = map.next_entry()? {
            members.push(member);
        }
        Ok(Members(members))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// C-36e, M-03: the last of several members of a name, as it was written, and of objects alone.
    #[test]
    fn a_member_is_found_among_others_and_keeps_its_text() {
        let found = |text: &str| {
            Json::parse(text)
                .expect("JSON")
                .member("error")
                .map(|json| json.to_string())
        };
        let deep = format!(
            "{{\"deep\":{}{},\"error\":1.50}}",
            "[".repeat(5000),
            "]".repeat(5000)
        );
        for (text, expected) in [
            (" {\"a\": {\"error\": 1}, \"error\": null} \n", Some("null")),
            (r#"{"error": {"x": 1e400}, "b": 2}"#, Some("{\"x\": 1e400}")),
            (r#"{"\u0065rror": "é"}"#, Some("\"é\"")),
            (r#"{"error": 1, "error": 2}"#, Some("2")),
            (&deep, Some("1.50")),
            ("{}", None),
            (r#"["error"]"#, None),
            (r#""error""#, None),
        ] {
            assert_eq!(found(text).as_deref(), expected, "{text}");
        }
    }
}
