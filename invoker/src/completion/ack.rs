//! What the controller is told: a result for the caller, a completion for the slot.
//!
//! Source: `MessagingActiveAck.scala`; contract M-30 … M-38, S-10.

use crate::journal::{Debt, Part};
use proto::decode::decode;
use proto::id::ActivationId;
use proto::whisk::acknowledgement::Acknowledgement;
use proto::whisk::activation::Activation;
use proto::whisk::activation_message::ActivationMessage;
use proto::whisk::instance::InvokerId;

/// Writes acks.
#[derive(Clone, Debug)]
pub struct Acks {
    topic_prefix: String,
    invoker: InvokerId,
}

impl Acks {
    pub fn new(topic_prefix: String, invoker: InvokerId) -> Self {
        Self {
            topic_prefix,
            invoker,
        }
    }

    /// The result for a blocking caller; frees nothing.
    pub fn result(&self, message: &ActivationMessage, activation: &Activation) -> Debt {
        let ack = Acknowledgement::result(message.transid.clone(), activation.clone());
        self.debt(message, Part::Result, &ack)
    }

    /// Frees the slot.
    pub fn completion(&self, message: &ActivationMessage, activation: &Activation) -> Debt {
        let ack = Acknowledgement::completion(message.transid.clone(), activation, self.invoker.clone());
        self.debt(message, Part::Slot, &ack)
    }

    /// Both at once, with the whole activation if `heard`: if somebody waits for it.
    pub fn combined(&self, message: &ActivationMessage, activation: &Activation, heard: bool) -> Debt {
        let whole =
            Acknowledgement::combined(message.transid.clone(), activation.clone(), self.invoker.clone());
        let ack = if heard { whole } else { whole.shrunk() };
        self.debt(message, Part::Slot, &ack)
    }

    /// It goes to the controller that the message names (M-38).
    fn debt(&self, message: &ActivationMessage, part: Part, ack: &Acknowledgement) -> Debt {
        let controller = &message.root_controller_index.as_string;
        Debt {
            part,
            to: format!("{}completed{controller}", self.topic_prefix),
            payload: serde_json::to_vec(ack).expect("an ack is JSON"),
        }
    }
}

/// The same ack with the id in place of the activation, for one that is too large for its topic; none if it
/// has no more than the id already (K-33).
pub(super) fn shrunk(payload: &[u8]) -> Option<Vec<u8>> {
    let ack: Acknowledgement = decode(payload).ok()?;
    let smaller = serde_json::to_vec(&ack.shrunk()).expect("an ack is JSON");
    (smaller.len() < payload.len()).then_some(smaller)
}

/// The activation that a result or a combined ack carries.
pub(super) fn activation(payload: &[u8]) -> Option<Activation> {
    use proto::whisk::acknowledgement::AckResponse;
    let ack: Acknowledgement = decode(payload).ok()?;
    match ack.response()? {
        AckResponse::Full(activation) => Some((**activation).clone()),
        AckResponse::Id(_) => None,
    }
}

/// The id of the transaction that it answers.
pub(super) fn transaction(payload: &[u8]) -> Option<String> {
    let ack: Acknowledgement = decode(payload).ok()?;
    Some(ack.transid().id.clone())
}

/// Whose ack it is, and which of the two; none for what is no ack.
pub(super) fn read(payload: &[u8]) -> Option<(ActivationId, Part)> {
    let ack: Acknowledgement = decode(payload).ok()?;
    let part = if ack.frees_slot() {
        Part::Slot
    } else {
        Part::Result
    };
    Some((ack.activation_id(), part))
}
