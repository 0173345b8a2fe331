//! What the controller is told, and when: a result for the caller, a completion for the slot.
//!
//! Source: `MessagingActiveAck.scala`; contract S-10, K-33.

use crate::bus::{self, Bus};
use proto::whisk::acknowledgement::Acknowledgement;
use proto::whisk::activation::Activation;
use proto::whisk::activation_message::ActivationMessage;
use proto::whisk::instance::InvokerId;
use std::sync::Arc;
use tracing::{error, warn};

/// The sender of acks.
#[derive(Debug)]
pub struct Acks {
    bus: Arc<dyn Bus>,
    topic_prefix: String,
    invoker: InvokerId,
}

impl Acks {
    pub fn new(bus: Arc<dyn Bus>, topic_prefix: String, invoker: InvokerId) -> Self {
        Self {
            bus,
            topic_prefix,
            invoker,
        }
    }

    /// The result for a blocking caller; frees nothing.
    pub async fn result(&self, message: &ActivationMessage, activation: &Activation) {
        let ack = Acknowledgement::result(message.transid.clone(), activation.clone());
        if !self.try_send(message, &ack).await {
            // The caller gets the result from the database; the completion follows (K-33).
            warn!(activation = %message.activation_id, "the result is too large for its topic");
        }
    }

    /// Frees the slot.
    pub async fn completion(&self, message: &ActivationMessage, activation: &Activation) {
        let ack = Acknowledgement::completion(message.transid.clone(), activation, self.invoker.clone());
        self.try_send(message, &ack).await;
    }

    /// Both at once, with the whole activation if somebody waits for it and it fits.
    pub async fn combined(&self, message: &ActivationMessage, activation: &Activation) {
        let whole =
            Acknowledgement::combined(message.transid.clone(), activation.clone(), self.invoker.clone());
        let whole = if message.blocking { whole } else { whole.shrunk() };
        if !self.try_send(message, &whole).await {
            self.try_send(message, &whole.shrunk()).await;
        }
    }

    /// Both at once, with the id alone, whoever waits.
    pub async fn shrunk(&self, message: &ActivationMessage, activation: &Activation) {
        let whole =
            Acknowledgement::combined(message.transid.clone(), activation.clone(), self.invoker.clone());
        self.try_send(message, &whole.shrunk()).await;
    }

    /// False if the message is too large for the topic.
    async fn try_send(&self, message: &ActivationMessage, ack: &Acknowledgement) -> bool {
        let topic = format!(
            "{}completed{}",
            self.topic_prefix, message.root_controller_index.as_string
        );
        match self
            .bus
            .send(&topic, serde_json::to_vec(ack).expect("an ack is JSON"))
            .await
        {
            Ok(()) => true,
            Err(bus::Error::TooLarge { .. }) => false,
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                error!(transid = %message.transid, activation = %message.activation_id, error, "ack not sent");
                true
            }
        }
    }
}
