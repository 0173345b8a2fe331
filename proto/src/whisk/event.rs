//! User events on topic `events`: `EventMessage`, `Activation` and `Metric` in `Message.scala`.

use super::activation::Activation;
use super::identity::Identity;
use super::instance::InvokerId;
use crate::id::ActivationId;
use crate::json::Json;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// M-70.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", try_from = "Members")]
pub struct EventMessage {
    pub body: EventBody,
    pub event_type: EventType,
    /// The invoking namespace.
    pub namespace: String,
    /// `invoker` or `controller` and its number.
    pub source: String,
    pub subject: String,
    /// Milliseconds since the epoch.
    pub timestamp: i64,
    /// UUID of the namespace.
    pub user_id: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum EventType {
    Activation,
    Metric,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum EventBody {
    Activation(ActivationEvent),
    Metric(MetricEvent),
}

/// One activation that has ended (M-71). Times in milliseconds, 0 if unknown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ActivationEvent {
    pub activation_id: ActivationId,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub caused_by: Option<String>,
    pub conductor: bool,
    pub duration: i64,
    /// Other than 0: a cold start.
    pub init_time: i64,
    pub kind: String,
    /// MB, 0 if unknown.
    pub memory: u64,
    /// Annotation `path`.
    pub name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    pub status_code: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_defined_status_code: Option<i64>,
    pub wait_time: i64,
}

/// Sent by controllers only (M-74).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MetricEvent {
    pub metric_name: String,
    pub metric_value: i64,
}

impl EventMessage {
    /// The event of an activation that ended at `now` on `invoker`; `None` where the activation does
    /// not say its path or kind (M-73).
    pub fn of(activation: &Activation, user: &Identity, invoker: &InvokerId, now: i64) -> Option<Self> {
        Some(Self {
            body: EventBody::Activation(ActivationEvent::of(activation)?),
            event_type: EventType::Activation,
            namespace: user.namespace.name.to_string(),
            source: format!("invoker{}", invoker.instance),
            subject: activation.subject.to_string(),
            timestamp: now,
            user_id: user.namespace.uuid.clone(),
        })
    }
}

impl ActivationEvent {
    fn of(activation: &Activation) -> Option<Self> {
        let annotations = &activation.annotations;
        let text = |key| annotations.get(key).and_then(Value::as_str).map(str::to_owned);
        let millis = |key| annotations.get(key).and_then(Value::as_i64).unwrap_or(0);
        let limits = annotations.get("limits");
        Some(Self {
            activation_id: activation.activation_id,
            caused_by: text("causedBy"),
            conductor: annotations.get("conductor") == Some(&Value::Bool(true)),
            duration: activation.duration.unwrap_or(0),
            init_time: millis("initTime"),
            kind: text("kind")?,
            memory: limits
                .and_then(|limits| limits.get("memory"))
                .and_then(Value::as_u64)
                .unwrap_or(0),
            name: text("path")?,
            size: activation.response.size,
            status_code: activation.response.status_code.into(),
            user_defined_status_code: activation.response.result.as_ref().and_then(user_defined_status),
            wait_time: millis("waitTime"),
        })
    }
}

/// `error.statusCode`, else `statusCode`; 400 for one that is no integer (M-72).
fn user_defined_status(result: &Json) -> Option<i64> {
    const NAME: &str = "statusCode";
    if !result.as_str().contains(NAME) {
        return None; // most results: not worth taking apart
    }
    let of_error = result.member("error").and_then(|error| error.member(NAME));
    let code = of_error.or_else(|| result.member(NAME))?;
    Some(code.decode().unwrap_or(400))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Members {
    body: Json,
    event_type: EventType,
    namespace: String,
    source: String,
    subject: String,
    timestamp: i64,
    user_id: String,
}

/// The type decides what the body is, wherever it stands.
impl TryFrom<Members> for EventMessage {
    type Error = String;

    fn try_from(members: Members) -> Result<Self, String> {
        let body = match members.event_type {
            EventType::Activation => members.body.decode().map(EventBody::Activation),
            EventType::Metric => members.body.decode().map(EventBody::Metric),
        };
        Ok(Self {
            body: body.map_err(|error| format!("body: {error}"))?,
            event_type: members.event_type,
            namespace: members.namespace,
            source: members.source,
            subject: members.subject,
            timestamp: members.timestamp,
            user_id: members.user_id,
        })
    }
}
