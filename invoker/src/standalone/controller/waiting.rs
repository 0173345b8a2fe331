//! Who waits for which activation. A waiter that is dropped, as when its client goes away, leaves no trace.

use proto::decode::decode;
use proto::id::ActivationId;
use proto::whisk::acknowledgement::{AckResponse, Acknowledgement};
use proto::whisk::activation::Activation;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use tokio::sync::oneshot;

/// What an answer holds.
#[derive(Debug)]
pub(super) enum Answer {
    Whole(Box<Activation>),
    /// It was too large for a message: the record in the store has it.
    InStore,
}

#[derive(Debug, Default)]
pub(super) struct Waiters {
    /// None once closed.
    waiting: Mutex<Waiting>,
}

#[derive(Debug)]
enum Waiting {
    Open(HashMap<ActivationId, oneshot::Sender<Answer>>),
    Closed,
}

impl Default for Waiting {
    fn default() -> Self {
        Self::Open(HashMap::new())
    }
}

/// One who waits.
#[derive(Debug)]
pub(super) struct Waiter {
    id: ActivationId,
    waiters: Arc<Waiters>,
    answer: oneshot::Receiver<Answer>,
}

impl Waiters {
    /// To be called before the activation is sent, so that no answer comes too early.
    pub(super) fn expect(self: &Arc<Self>, id: ActivationId) -> Waiter {
        let (sender, answer) = oneshot::channel();
        if let Waiting::Open(waiting) = &mut *self.waiting.lock().expect("no holder panics") {
            waiting.insert(id, sender);
        }
        Waiter {
            id,
            waiters: self.clone(),
            answer,
        }
    }

    /// Hands on what the invoker says on `completed0`.
    pub(super) fn tell(&self, payload: &[u8]) {
        let ack: Acknowledgement = match decode(payload) {
            Ok(ack) => ack,
            Err(error) => {
                tracing::warn!(%error, "an answer of the invoker cannot be read");
                return;
            }
        };
        let id = ack.activation_id();
        let answer = match ack {
            Acknowledgement::Completion(_) => return,
            Acknowledgement::Result(message) => message.response,
            Acknowledgement::Combined(message) => message.response,
        };
        let waiter = match &mut *self.waiting.lock().expect("no holder panics") {
            Waiting::Open(waiting) => waiting.remove(&id),
            Waiting::Closed => None,
        };
        if let Some(waiter) = waiter {
            // The waiter may go at this very moment.
            let _ = waiter.send(match answer {
                AckResponse::Full(activation) => Answer::Whole(activation),
                AckResponse::Id(_) => Answer::InStore,
            });
        }
    }

    /// Lets everybody go.
    pub(super) fn close(&self) {
        *self.waiting.lock().expect("no holder panics") = Waiting::Closed;
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        match &*self.waiting.lock().unwrap() {
            Waiting::Open(waiting) => waiting.len(),
            Waiting::Closed => 0,
        }
    }
}

impl Waiter {
    /// Waits for the answer; none if no more answers are read. Cancel-safe.
    pub(super) async fn answer(&mut self) -> Option<Answer> {
        (&mut self.answer).await.ok()
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        if let Waiting::Open(waiting) = &mut *self.waiters.waiting.lock().expect("no holder panics") {
            waiting.remove(&self.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RESULT: &str = r#"{"transid":["t",1],"response":"00000000000000000000000000000007"}"#;

    #[tokio::test]
    async fn an_answer_goes_to_the_one_who_waits_for_it() {
        let waiters = Arc::new(Waiters::default());
        let mut seven = waiters.expect(ActivationId::from_u128(7));
        let eight = waiters.expect(ActivationId::from_u128(8));
        waiters.tell(b"no json");
        waiters.tell(RESULT.as_bytes());
        waiters.tell(RESULT.as_bytes());
        assert!(matches!(seven.answer().await, Some(Answer::InStore)));
        assert_eq!(waiters.len(), 1);
        drop((seven, eight));
        assert_eq!(waiters.len(), 0);
    }

    #[tokio::test]
    async fn nobody_waits_for_answers_that_are_not_read() {
        let waiters = Arc::new(Waiters::default());
        let mut before = waiters.expect(ActivationId::from_u128(7));
        waiters.close();
        let mut after = waiters.expect(ActivationId::from_u128(8));
        assert!(before.answer().await.is_none() && after.answer().await.is_none());
    }
}
