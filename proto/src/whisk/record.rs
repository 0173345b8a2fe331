//! The document of an activation in the database: `WhiskActivation.scala`, `ArtifactActivationStore.scala`.

use super::activation::{Activation, Response, instant};
use super::name::{EntityName, EntityPath, Subject};
use super::parameter::Annotations;
use super::version::Version;
use crate::id::ActivationId;
use serde::ser::SerializeStruct;
use serde::{Deserialize, Serialize, Serializer};

/// An activation with its logs, and what makes it a document (D-40).
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(from = "Members")]
pub struct Record {
    /// `<invoking namespace>/<activation id>`.
    pub id: String,
    /// Given by the database.
    pub rev: Option<String>,
    pub activation: Activation,
    /// When it was written, in milliseconds since the epoch.
    pub updated: Option<i64>,
}

impl Record {
    /// The document of an activation that is written at `now`.
    pub fn new(activation: Activation, now: i64) -> Self {
        let id = format!("{}/{}", activation.namespace, activation.activation_id);
        Self {
            id,
            rev: None,
            activation,
            updated: Some(now),
        }
    }
}

#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum EntityType {
    #[default]
    Activation,
}

impl Serialize for Record {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut document = serializer.serialize_struct("Record", 17)?;
        document.serialize_field("_id", &self.id)?;
        if let Some(rev) = &self.rev {
            document.serialize_field("_rev", rev)?;
        }
        self.activation.serialize_members(&mut document)?;
        document.serialize_field("entityType", &EntityType::Activation)?;
        if let Some(updated) = self.updated {
            document.serialize_field("updated", &updated)?;
        }
        document.end()
    }
}

/// All in one: serde's `flatten` would round the numbers in annotations.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Members {
    #[serde(rename = "_id")]
    id: String,
    #[serde(rename = "_rev")]
    rev: Option<String>,
    activation_id: ActivationId,
    annotations: Annotations,
    cause: Option<ActivationId>,
    duration: Option<i64>,
    #[serde(deserialize_with = "instant")]
    end: i64,
    #[serde(default, rename = "entityType")]
    _entity_type: EntityType,
    logs: Vec<String>,
    name: EntityName,
    namespace: EntityPath,
    publish: bool,
    response: Response,
    #[serde(deserialize_with = "instant")]
    start: i64,
    subject: Subject,
    updated: Option<i64>,
    version: Version,
}

impl From<Members> for Record {
    fn from(members: Members) -> Self {
        Self {
            id: members.id,
            rev: members.rev,
            activation: Activation {
                activation_id: members.activation_id,
                annotations: members.annotations,
                cause: members.cause,
                duration: members.duration,
                end: members.end,
                logs: members.logs,
                name: members.name,
                namespace: members.namespace,
                publish: members.publish,
                response: members.response,
                start: members.start,
                subject: members.subject,
                version: members.version,
            },
            updated: members.updated,
        }
    }
}
