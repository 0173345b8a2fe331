//! Who invokes: `Identity.scala`, `BasicAuthenticationAuthKey.scala`, `GenericAuthKey.scala`.

use super::limits::UserLimits;
use super::name::{EntityName, Subject};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Identity {
    /// `api_key` with basic authentication; other schemes have members of their own, and each is kept (M-52).
    pub authkey: Map<String, Value>,
    pub limits: UserLimits,
    /// The invoking namespace.
    pub namespace: Namespace,
    /// Of no use to the invoker, so any string will do (M-53).
    pub rights: Vec<String>,
    pub subject: Subject,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Namespace {
    pub name: EntityName,
    /// The `userId` of events.
    pub uuid: String,
}

impl Identity {
    /// `uuid:key`, where the scheme has one.
    pub fn api_key(&self) -> Option<&str> {
        self.authkey.get("api_key")?.as_str()
    }
}
