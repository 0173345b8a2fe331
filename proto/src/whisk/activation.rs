//! One execution of an action, in acks and records: `WhiskActivation.scala`, `ActivationResult.scala`.

use super::name::{EntityName, EntityPath, Subject};
use super::parameter::Annotations;
use super::version::Version;
use crate::id::ActivationId;
use crate::json::Json;
use serde::ser::SerializeStruct;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Value, json};
use std::fmt;

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Activation {
    pub activation_id: ActivationId,
    pub annotations: Annotations,
    /// The sequence or conductor that this was a part of.
    pub cause: Option<ActivationId>,
    /// Milliseconds; the invoker always writes it (M-6B).
    pub duration: Option<i64>,
    /// Milliseconds since the epoch.
    #[serde(deserialize_with = "instant")]
    pub end: i64,
    /// Empty in acks (M-36).
    pub logs: Vec<String>,
    /// Without the package (M-61).
    pub name: EntityName,
    /// The invoking namespace (M-60).
    pub namespace: EntityPath,
    pub publish: bool,
    pub response: Response,
    /// Milliseconds since the epoch.
    #[serde(deserialize_with = "instant")]
    pub start: i64,
    pub subject: Subject,
    /// Of the action that ran (M-68).
    pub version: Version,
}

/// How it ended (M-66).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Response {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub result: Option<Json>,
    /// Length of the container's body in UTF-16 units; absent if there was none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    pub status_code: Status,
}

impl Response {
    pub fn success(result: Option<Json>, size: Option<u64>) -> Self {
        Self {
            result,
            size,
            status_code: Status::Success,
        }
    }

    /// A result `{"error": error}`, as every failure has it (C-38).
    pub fn failure(status_code: Status, error: impl Into<Value>) -> Self {
        let error: Value = error.into();
        Self {
            result: Some(json!({ "error": error }).into()),
            size: None,
            status_code,
        }
    }
}

/// Whose fault it was (C-37).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub enum Status {
    Success,
    ApplicationError,
    DeveloperError,
    WhiskError,
}

impl From<Status> for u8 {
    fn from(status: Status) -> u8 {
        match status {
            Status::Success => 0,
            Status::ApplicationError => 1,
            Status::DeveloperError => 2,
            Status::WhiskError => 3,
        }
    }
}

impl TryFrom<u8> for Status {
    type Error = String;
    fn try_from(code: u8) -> Result<Self, String> {
        match code {
            0 => Ok(Self::Success),
            1 => Ok(Self::ApplicationError),
            2 => Ok(Self::DeveloperError),
            3 => Ok(Self::WhiskError),
            _ => Err(format!("status code {code} is not valid: expected 0, 1, 2 or 3")),
        }
    }
}

/// As OpenWhisk's API shows it.
impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Success => "success",
            Self::ApplicationError => "application error",
            Self::DeveloperError => "action developer error",
            Self::WhiskError => "whisk internal error",
        })
    }
}

impl Activation {
    /// Whether it counts against the invoker (M-33).
    pub fn is_system_error(&self) -> bool {
        self.response.status_code == Status::WhiskError
    }

    /// The members alone, for documents that have more.
    pub(super) fn serialize_members<S: SerializeStruct>(&self, members: &mut S) -> Result<(), S::Error> {
        members.serialize_field("activationId", &self.activation_id)?;
        members.serialize_field("annotations", &self.annotations)?;
        if let Some(cause) = &self.cause {
            members.serialize_field("cause", cause)?;
        }
        if let Some(duration) = &self.duration {
            members.serialize_field("duration", duration)?;
        }
        members.serialize_field("end", &self.end)?;
        members.serialize_field("logs", &self.logs)?;
        members.serialize_field("name", &self.name)?;
        members.serialize_field("namespace", &self.namespace)?;
        members.serialize_field("publish", &self.publish)?;
        members.serialize_field("response", &self.response)?;
        members.serialize_field("start", &self.start)?;
        members.serialize_field("subject", &self.subject)?;
        members.serialize_field("version", &self.version)
    }
}

impl Serialize for Activation {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut members = serializer.serialize_struct("Activation", 13)?;
        self.serialize_members(&mut members)?;
        members.end()
    }
}

/// A number, or an ISO text (M-64).
pub(super) fn instant<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
    let value = Value::deserialize(deserializer)?;
    let read = match &value {
        Value::Number(number) => number.as_i64(),
        Value::String(text) => iso_millis(text),
        _ => None,
    };
    read.ok_or_else(|| {
        serde::de::Error::custom(format_args!(
            "instant {value} is not valid: expected milliseconds since 1970, or a text such as \"2026-01-02T03:04:05.678Z\""
        ))
    })
}

/// Milliseconds since the epoch of an instant in ISO 8601, which OpenWhisk reads beside numbers (M-64).
pub fn iso_millis(text: &str) -> Option<i64> {
    let instant = time::OffsetDateTime::parse(text, &time::format_description::well_known::Rfc3339).ok()?;
    i64::try_from(instant.unix_timestamp_nanos().div_euclid(1_000_000)).ok()
}
