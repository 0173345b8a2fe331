//! Who sends and who is answered: `InstanceId.scala`.

use super::size::ByteSize;
use crate::id::text_id;
use serde::{Deserialize, Serialize};
use std::fmt;

/// An invoker, in pings and acks (M-41).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InvokerId {
    /// Not sent in classic mode.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub busy_memory: Option<ByteSize>,
    pub dedicated_namespaces: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub displayed_name: Option<String>,
    /// The N of topic `invokerN`; the controller frees the slot of that index.
    pub instance: u32,
    pub instance_type: InvokerType,
    pub tags: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unique_name: Option<String>,
    pub user_memory: ByteSize,
}

impl InvokerId {
    /// Without names and tags.
    pub fn new(instance: u32, user_memory: crate::unit::Bytes) -> Self {
        Self {
            busy_memory: None,
            dedicated_namespaces: Vec::new(),
            displayed_name: None,
            instance,
            instance_type: InvokerType::Invoker,
            tags: Vec::new(),
            unique_name: None,
            user_memory: user_memory.into(),
        }
    }
}

/// `invoker0/unique/displayed`, for logs and admin texts (M-43).
impl fmt::Display for InvokerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "invoker{}", self.instance)?;
        for name in [&self.unique_name, &self.displayed_name].into_iter().flatten() {
            write!(f, "/{name}")?;
        }
        Ok(())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum InvokerType {
    Invoker,
}

/// The controller whose topic `completed<as_string>` is to get the acks (M-25).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ControllerId {
    pub as_string: ControllerName,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instance_type: Option<ControllerType>,
}

impl ControllerId {
    pub fn new(name: ControllerName) -> Self {
        Self {
            as_string: name,
            instance_type: Some(ControllerType::Controller),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ControllerType {
    Controller,
}

text_id!(
    /// Part of a topic's name, so only what Kafka allows there.
    ControllerName, "controller id", "1 to 128 characters of A-Z a-z 0-9 . _ -",
    |s| (1..=128).contains(&s.len()) && s.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
);
