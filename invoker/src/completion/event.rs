//! User events: what the user-events service makes its statistics of, one for each slot-freeing ack.
//!
//! Source: `MessagingActiveAck.scala`, `Message.scala`; contract M-70 … M-73, N-10 … N-12.

use super::record;
use crate::journal::{Debt, Part};
use proto::whisk::activation::Activation;
use proto::whisk::activation_message::ActivationMessage;
use proto::whisk::event::EventMessage;
use proto::whisk::instance::InvokerId;
use std::time::SystemTime;
use tracing::warn;

/// Writes events, if there are to be any.
#[derive(Clone, Debug)]
pub struct Events {
    /// None: there are none.
    topic: Option<String>,
    invoker: InvokerId,
}

impl Events {
    pub fn new(topic: Option<String>, invoker: InvokerId) -> Self {
        Self { topic, invoker }
    }

    /// The event of an activation that has ended, from the whole of it even where the ack has the id alone
    /// (S-15).
    pub fn activation(&self, message: &ActivationMessage, activation: &Activation) -> Option<Debt> {
        let topic = self.topic.as_ref()?;
        let now = record::millis(SystemTime::now());
        let Some(event) = EventMessage::of(activation, &message.user, &self.invoker, now) else {
            warn!(transid = %message.transid, activation = %message.activation_id, "no event: path or kind is not known");
            return None;
        };
        Some(Debt {
            part: Part::Event,
            to: topic.clone(),
            payload: serde_json::to_vec(&event).expect("an event is JSON"),
        })
    }
}
