//! What arrives on topic `invokerN`: `ActivationMessage` in `Message.scala`.

use super::identity::Identity;
use super::instance::ControllerId;
use super::name::FullyQualifiedName;
use super::transid::TransactionId;
use crate::id::ActivationId;
use crate::json::Json;
use serde::{Deserialize, Deserializer, Serialize};
use std::collections::BTreeMap;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ActivationMessage {
    pub action: FullyQualifiedName,
    /// Given by the controller, used as it is (M-24).
    pub activation_id: ActivationId,
    /// Decides the shape of the acks (S-10).
    pub blocking: bool,
    /// The sequence or conductor that this is a part of (M-2A).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<ActivationId>,
    /// The arguments, merged already: an object or an array (M-27).
    #[serde(
        default,
        deserialize_with = "arguments",
        skip_serializing_if = "Option::is_none"
    )]
    pub content: Option<Json>,
    /// Names of arguments that go to `/init` instead of `/run` (M-28).
    pub init_args: Vec<String>,
    /// Name of each argument that is encrypted, and the scheme (M-29).
    pub locked_args: BTreeMap<String, String>,
    /// `None`: unknown. The member has to be there, but may be null (M-09).
    #[serde(deserialize_with = "present")]
    pub revision: Option<String>,
    /// Who is to be answered.
    pub root_controller_index: ControllerId,
    /// B3 headers (M-10).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trace_context: Option<BTreeMap<String, String>>,
    pub transid: TransactionId,
    /// Who invokes.
    pub user: Identity,
}

/// With a function of its own, a member is required even if it may be null.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    Option::deserialize(deserializer)
}

fn arguments<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Json>, D::Error> {
    let content = Option::<Json>::deserialize(deserializer)?;
    match content {
        Some(json) if !json.is_object() && !json.is_array() => {
            let shown: String = json.as_str().chars().take(40).collect();
            Err(serde::de::Error::custom(format_args!(
                "arguments {shown} are not valid: expected an object or an array"
            )))
        }
        content => Ok(content),
    }
}
