//! A message as a controller writes it.

use proto::decode::decode;
use proto::whisk::activation_message::ActivationMessage;
use serde_json::{Value, json};

/// The example of section 3.2.
pub(crate) fn message() -> Value {
    json!({
        "transid": ["nF3kq0ZbVYxUu2d8yC1rT5hM7wSaE9Lg", 1767225600123_u64],
        "action": {"path": "guest/img", "name": "classify", "version": "0.0.4", "binding": "jane/pictures"},
        "revision": "4-5c1d7a0b2e9f4c6d8a1b3c5d7e9f0a2b",
        "user": {
            "subject": "jane-doe",
            "namespace": {"name": "jane", "uuid": "0d5b1d5e-6f2a-4a51-9d0b-7f3c2e1a9b88"},
            "authkey": {"api_key": "0d5b1d5e-6f2a-4a51-9d0b-7f3c2e1a9b88:Zk3vQ9xW1rT7yU5iO2pA4sD6"},
            "rights": ["READ", "PUT", "DELETE", "ACTIVATE"], "limits": {},
        },
        "activationId": "3f0e7c1a9b2d4e5f8a6b7c8d9e0f1a2b",
        "rootControllerIndex": {"asString": "0", "instanceType": "controller"},
        "blocking": true, "content": {"url": "http://example.org/a.png", "top": 3}, "initArgs": [], "lockedArgs": {},
    })
}

pub(crate) fn read(message: &Value) -> Result<ActivationMessage, String> {
    decode(message.to_string().as_bytes()).map_err(|error| error.to_string())
}
