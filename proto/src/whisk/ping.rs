//! The sign of life, once a second on topic `health`: `PingMessage` in `Message.scala`.

use super::instance::InvokerId;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PingMessage {
    /// False once: on leaving. Older invokers do not say (V-02).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub is_enabled: Option<bool>,
    /// The member is called `name` (M-40).
    pub name: InvokerId,
}

impl PingMessage {
    pub fn new(name: InvokerId, is_enabled: bool) -> Self {
        Self {
            is_enabled: Some(is_enabled),
            name,
        }
    }
}
