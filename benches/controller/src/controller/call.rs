//! One activation, from the side of who calls.

use crate::database::Database;
use crate::ledger::{Answer, Finished};
use proto::id::ActivationId;
use proto::whisk::activation_message::ActivationMessage;
use serde_json::{Map, Value};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until, timeout};

/// What is sent, and what the controller knows of the action.
#[derive(Clone, Debug)]
pub struct Call {
    pub message: ActivationMessage,
    pub memory_mb: u64,
    pub timeout: Duration,
    pub concurrency: u32,
    pub blackbox: bool,
    /// Members that a newer controller might add.
    pub more: Map<String, Value>,
}

impl Call {
    /// A managed action of 256 MB and a minute, one at a time.
    pub fn new(message: ActivationMessage) -> Self {
        Self {
            message,
            memory_mb: 256,
            timeout: Duration::from_secs(60),
            concurrency: 1,
            blackbox: false,
            more: Map::new(),
        }
    }

    pub(super) fn payload(&self) -> Vec<u8> {
        let payload = serde_json::to_vec(&self.message).expect("a message of ours is JSON");
        if self.more.is_empty() {
            return payload;
        }
        let mut members: Map<String, Value> = serde_json::from_slice(&payload).expect("it was just written");
        members.extend(self.more.clone());
        serde_json::to_vec(&members).expect("it is JSON")
    }
}

/// An activation that was sent.
#[derive(Debug)]
pub struct Running {
    pub id: ActivationId,
    /// When it was sent; what `Finished` says of times counts from here.
    pub at: std::time::Instant,
    pub(super) namespace: String,
    pub(super) database: Option<Database>,
    pub(super) answered: oneshot::Receiver<Answer>,
    pub(super) finishing: oneshot::Receiver<Finished>,
}

/// After an answer that is only an id, seconds until the record is looked for (K-34).
const LOOKS: [u64; 4] = [1, 4, 9, 16];
/// Between two looks while there is no answer at all.
const LOOK: Duration = Duration::from_secs(15);
/// How long a blocking caller waits (K-67).
const BLOCKING: Duration = Duration::from_secs(60);

impl Running {
    /// Waits until the slot is free, by an ack or by force; none if the controller has gone.
    pub async fn finished(&mut self) -> Option<Finished> {
        (&mut self.finishing).await.ok()
    }

    /// What a blocking caller is told: the activation, or nothing within the minute that one waits (K-34, K-67).
    pub async fn answer(&mut self) -> Option<Value> {
        timeout(BLOCKING, self.wait()).await.ok().flatten()
    }

    async fn wait(&mut self) -> Option<Value> {
        let mut look = Instant::now() + LOOK;
        loop {
            tokio::select! {
                answer = &mut self.answered => return match answer {
                    Ok(Answer::Whole(activation)) => serde_json::to_value(activation).ok(),
                    Ok(Answer::InDatabase) => self.look_after_ack().await,
                    Err(_) => None,
                },
                () = sleep_until(look) => {
                    if let Some(record) = self.record().await {
                        return Some(record);
                    }
                    look = Instant::now() + LOOK;
                }
            }
        }
    }

    async fn look_after_ack(&self) -> Option<Value> {
        let begun = Instant::now();
        for seconds in LOOKS {
            sleep_until(begun + Duration::from_secs(seconds)).await;
            if let Some(record) = self.record().await {
                return Some(record);
            }
        }
        None
    }

    async fn record(&self) -> Option<Value> {
        let database = self.database.as_ref()?;
        database.record(&self.namespace, self.id).await.ok().flatten()
    }
}
