//! The answers on topic `completedC`: `ResultMessage`, `CompletionMessage` and
//! `CombinedCompletionAndResultMessage` in `Message.scala`.

use super::activation::Activation;
use super::instance::InvokerId;
use super::transid::TransactionId;
use crate::id::ActivationId;
use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;

/// One ack. The reader tells the kinds apart by their members alone (M-34).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged, try_from = "Members")]
pub enum Acknowledgement {
    /// Frees the slot.
    Completion(CompletionMessage),
    /// Both at once.
    Combined(CombinedMessage),
    /// Answers a blocking caller.
    Result(ResultMessage),
}

/// M-30.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CompletionMessage {
    pub activation_id: ActivationId,
    pub instance: InvokerId,
    pub is_system_error: bool,
    pub transid: TransactionId,
}

/// M-31.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ResultMessage {
    pub response: AckResponse,
    pub transid: TransactionId,
}

/// M-32.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CombinedMessage {
    pub instance: InvokerId,
    pub is_system_error: bool,
    pub response: AckResponse,
    pub transid: TransactionId,
}

/// The activation, or only its id: where nobody waits, or where all of it is too much for Kafka (M-35).
#[derive(Clone, Debug, PartialEq)]
pub enum AckResponse {
    Full(Box<Activation>),
    Id(ActivationId),
}

impl AckResponse {
    /// The activation without its logs, which are for the record alone (M-36).
    fn full(mut activation: Activation) -> Self {
        activation.logs.clear();
        Self::Full(Box::new(activation))
    }

    pub fn activation_id(&self) -> ActivationId {
        match self {
            Self::Full(activation) => activation.activation_id,
            Self::Id(id) => *id,
        }
    }
}

impl Acknowledgement {
    pub fn completion(transid: TransactionId, activation: &Activation, instance: InvokerId) -> Self {
        Self::Completion(CompletionMessage {
            activation_id: activation.activation_id,
            instance,
            is_system_error: activation.is_system_error(),
            transid,
        })
    }

    pub fn result(transid: TransactionId, activation: Activation) -> Self {
        Self::Result(ResultMessage {
            response: AckResponse::full(activation),
            transid,
        })
    }

    pub fn combined(transid: TransactionId, activation: Activation, instance: InvokerId) -> Self {
        Self::Combined(CombinedMessage {
            instance,
            is_system_error: activation.is_system_error(),
            response: AckResponse::full(activation),
            transid,
        })
    }

    /// The same with the id in place of the activation.
    pub fn shrunk(mut self) -> Self {
        if let Self::Result(ResultMessage { response, .. })
        | Self::Combined(CombinedMessage { response, .. }) = &mut self
        {
            *response = AckResponse::Id(response.activation_id());
        }
        self
    }

    pub fn transid(&self) -> &TransactionId {
        match self {
            Self::Completion(CompletionMessage { transid, .. })
            | Self::Result(ResultMessage { transid, .. })
            | Self::Combined(CombinedMessage { transid, .. }) => transid,
        }
    }

    pub fn activation_id(&self) -> ActivationId {
        match self {
            Self::Completion(message) => message.activation_id,
            Self::Result(message) => message.response.activation_id(),
            Self::Combined(message) => message.response.activation_id(),
        }
    }

    /// Whether it frees the slot; exactly one ack of an activation does (S-11).
    pub fn frees_slot(&self) -> bool {
        match self {
            Self::Completion(_) | Self::Combined(_) => true,
            Self::Result(_) => false,
        }
    }

    /// What it tells a caller who waits, if anything.
    pub fn response(&self) -> Option<&AckResponse> {
        match self {
            Self::Completion(_) => None,
            Self::Result(message) => Some(&message.response),
            Self::Combined(message) => Some(&message.response),
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Members {
    activation_id: Option<ActivationId>,
    instance: Option<InvokerId>,
    is_system_error: Option<bool>,
    response: Option<AckResponse>,
    transid: TransactionId,
}

impl TryFrom<Members> for Acknowledgement {
    type Error = &'static str;

    fn try_from(members: Members) -> Result<Self, &'static str> {
        let Members {
            activation_id,
            instance,
            is_system_error,
            response,
            transid,
        } = members;
        let Some(instance) = instance else {
            let response =
                response.ok_or("missing fields `instance` and `response`: expected at least one of them")?;
            return Ok(Self::Result(ResultMessage { response, transid }));
        };
        let is_system_error = is_system_error.ok_or("missing field `isSystemError` beside `instance`")?;
        Ok(match response {
            Some(response) => Self::Combined(CombinedMessage {
                instance,
                is_system_error,
                response,
                transid,
            }),
            None => {
                let activation_id = activation_id.ok_or("missing field `activationId` beside `instance`")?;
                Self::Completion(CompletionMessage {
                    activation_id,
                    instance,
                    is_system_error,
                    transid,
                })
            }
        })
    }
}

impl Serialize for AckResponse {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Full(activation) => activation.serialize(serializer),
            Self::Id(id) => id.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for AckResponse {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ResponseVisitor)
    }
}

struct ResponseVisitor;

impl<'de> Visitor<'de> for ResponseVisitor {
    type Value = AckResponse;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an activation, or an activation id as a string")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<AckResponse, E> {
        text.parse().map(AckResponse::Id).map_err(E::custom)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<AckResponse, A::Error> {
        let activation = Activation::deserialize(MapAccessDeserializer::new(map))?;
        Ok(AckResponse::Full(Box::new(activation)))
    }
}
