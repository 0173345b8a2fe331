//! The document of an action in the database: `WhiskAction.scala`.

use super::exec::{Attachment, Code, Exec, Place};
use super::limits::ActionLimits;
use super::name::{EntityName, EntityPath, FullyQualifiedName};
use super::parameter::{Annotations, Parameter};
use super::version::Version;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ActionDocument {
    /// `namespace/name`, package included.
    #[serde(rename = "_id")]
    pub id: String,
    /// Given by the database.
    #[serde(rename = "_rev", skip_serializing_if = "Option::is_none")]
    pub rev: Option<String>,
    pub annotations: Annotations,
    /// Anything but an action is refused (D-11).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entity_type: Option<ActionType>,
    pub exec: Exec,
    pub limits: ActionLimits,
    pub name: EntityName,
    /// Package included (D-12).
    pub namespace: EntityPath,
    /// Merged into each message by the controller, so not by the invoker (D-15).
    pub parameters: Vec<Parameter>,
    pub publish: bool,
    /// Milliseconds since the epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub updated: Option<i64>,
    pub version: Version,
    /// The database's own description of attached code: at most one entry (D-19).
    #[serde(
        rename = "_attachments",
        default,
        deserialize_with = "at_most_one",
        skip_serializing_if = "Option::is_none"
    )]
    pub attachments: Option<Map<String, Value>>,
}

impl ActionDocument {
    pub fn qualified_name(&self) -> FullyQualifiedName {
        FullyQualifiedName::new(self.namespace.clone(), self.name.clone())
    }

    /// Whether the attachment that the code names is the one that the database has (D-24).
    pub fn agrees_with(&self, attachment: &Attachment) -> bool {
        let Some((stored, _)) = self.attachments.as_ref().and_then(|all| all.iter().next()) else {
            return true;
        };
        match attachment.place() {
            Place::Document(name) => name == stored.strip_prefix("couch:").unwrap_or(stored),
            Place::Name(_) | Place::Store { .. } => attachment.attachment_name == *stored,
        }
    }

    /// The code's attachment, if it is one.
    pub fn attachment(&self) -> Option<&Attachment> {
        match self.exec.code()? {
            Code::Attachment(attachment) => Some(attachment),
            Code::Inline(_) => None,
        }
    }
}

/// What an entity of the same database may be instead is a package, a rule or a trigger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ActionType {
    Action,
}

fn at_most_one<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Map<String, Value>>, D::Error> {
    let attachments = Option::<Map<String, Value>>::deserialize(deserializer)?;
    match attachments.as_ref().map_or(0, Map::len) {
        0 | 1 => Ok(attachments),
        more => Err(serde::de::Error::custom(format_args!(
            "{more} attachments, expected at most one"
        ))),
    }
}
