//! Bodies of `/init` and `/run`: `Container.scala`, `ContainerProxy.scala`.

use super::activation_message::ActivationMessage;
use super::version::Version;
use crate::json::Json;
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
use std::borrow::Cow;
use std::collections::BTreeMap;

/// Body of `/init` (C-04).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct InitBody<'a> {
    #[serde(borrow)]
    pub value: InitValue<'a>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct InitValue<'a> {
    /// Without the package.
    #[serde(default)]
    pub name: Cow<'a, str>,
    /// Whether `code` is base64.
    #[serde(default)]
    pub binary: bool,
    #[serde(default = "main_function")]
    pub main: Cow<'a, str>,
    /// Absent: what the image has baked in is run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<Cow<'a, str>>,
    /// See [`environment`].
    #[serde(default)]
    pub env: BTreeMap<String, String>,
}

fn main_function() -> Cow<'static, str> {
    "main".into()
}

/// Body of `/run` (C-05): the arguments, and strings about the activation.
#[derive(Clone, Debug, PartialEq)]
pub struct RunBody {
    pub value: Json,
    /// Every member besides `value`; see [`about`].
    pub about: BTreeMap<String, String>,
}

impl Serialize for RunBody {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut members = serializer.serialize_map(Some(self.about.len() + 1))?;
        for (name, text) in &self.about {
            members.serialize_entry(name, text)?;
        }
        members.serialize_entry("value", &self.value)?;
        members.end()
    }
}

/// `value` may be absent (no arguments); what is null is left out, and other values become texts.
impl<'de> Deserialize<'de> for RunBody {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut members = BTreeMap::<String, Json>::deserialize(deserializer)?;
        let value = members
            .remove("value")
            .filter(|value| !value.is_null())
            .unwrap_or_else(Json::empty_object);
        let about = members.into_iter().filter(|(_, value)| !value.is_null());
        let about = about.map(|(name, value)| (name, text(&value))).collect();
        Ok(Self { value, about })
    }
}

/// Answer of a container that failed: `{"error": …}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ErrorBody {
    pub error: Json,
}

/// What the container learns about an activation, besides the arguments (C-07): members of `/run`.
///
/// `version` is that of the document, for a message without one; `deadline` is in milliseconds since
/// the epoch; `with_key` adds the members of the identity's key (C-13).
pub fn about(
    message: &ActivationMessage,
    version: Version,
    deadline: i64,
    with_key: bool,
) -> BTreeMap<String, String> {
    let mut about = BTreeMap::new();
    if with_key {
        for (name, value) in &message.user.authkey {
            about.insert(name.clone(), text(&Json::from(value)));
        }
    }
    let mut put = |name: &str, value: String| about.insert(name.to_owned(), value);
    put("namespace", message.user.namespace.name.to_string());
    put("action_name", format!("/{}", message.action));
    put(
        "action_version",
        message.action.version.unwrap_or(version).to_string(),
    );
    put("activation_id", message.activation_id.to_string());
    put("transaction_id", message.transid.id.clone());
    put("deadline", deadline.to_string());
    about
}

/// The environment of `/init` (C-12): arguments for it, and what is [`about`] the activation, which wins.
pub fn environment(
    arguments: Vec<(String, Json)>,
    about: &BTreeMap<String, String>,
) -> BTreeMap<String, String> {
    let arguments = arguments.into_iter().map(|(name, value)| (name, text(&value)));
    let about = about
        .iter()
        .map(|(name, text)| (format!("__OW_{}", name.to_uppercase()), text.clone()));
    arguments.chain(about).collect()
}

/// Takes the arguments for `/init` out of those for `/run` (C-11). Arrays stay as they are (D-35).
pub fn split_arguments(content: Option<&Json>, for_init: &[String]) -> (Json, Vec<(String, Json)>) {
    let Some(content) = content else {
        return (Json::empty_object(), Vec::new());
    };
    if for_init.is_empty() {
        return (content.clone(), Vec::new());
    }
    let Some(members) = content.members() else {
        return (content.clone(), Vec::new());
    };
    let (init, run): (Vec<_>, Vec<_>) = members.into_iter().partition(|(name, _)| for_init.contains(name));
    (
        Json::object(run.iter().map(|(name, value)| (name.as_str(), value))),
        init,
    )
}

/// A value in an environment: strings as they are, null as nothing, anything else as compact JSON.
fn text(value: &Json) -> String {
    match value.decode::<Value>() {
        Ok(Value::Null) => String::new(),
        Ok(Value::String(text)) => text,
        Ok(other) => other.to_string(),
        Err(_) => value.to_string(), // nested too deep to be taken apart
    }
}
