//! The promise that one activation is answered: one slot-freeing ack, one record.

use super::{Acks, record, texts};
use crate::activation::feed::Room;
use crate::store::{self, Database, Store};
use proto::whisk::activation::{Activation, Response, Status};
use proto::whisk::activation_message::ActivationMessage;
use proto::whisk::record::Record;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio_util::task::TaskTracker;
use tracing::{error, warn};

/// What answers are given with.
#[derive(Debug)]
pub struct Completer {
    pub acks: Acks,
    pub store: Arc<dyn Store>,
    pub tasks: TaskTracker,
}

/// A failed write of a record is tried this often, with growing pauses.
const RECORD_TRIES: u32 = 6;
const RECORD_PAUSE: Duration = Duration::from_millis(100);

/// Dropped unkept, it tells the controller that the platform failed.
#[must_use = "an unsettled activation keeps its caller waiting until the time limit"]
#[derive(Debug)]
pub struct Owed {
    /// None once it is settled.
    call: Option<Call>,
    completer: Arc<Completer>,
}

#[derive(Debug)]
struct Call {
    message: Arc<ActivationMessage>,
    /// Whether the slot-freeing ack has gone.
    freed: bool,
    /// Whether it ran, and the result was sent where one is wanted.
    answered: bool,
    room: Room,
}

impl Owed {
    pub fn new(message: Arc<ActivationMessage>, room: Room, completer: Arc<Completer>) -> Self {
        Self {
            call: Some(Call {
                message,
                freed: false,
                answered: false,
                room,
            }),
            completer,
        }
    }

    /// `/run` has ended: a blocking caller gets the result now, and so does the slot if no logs are
    /// to be collected (S-10a … d).
    pub async fn answer(&mut self, activation: &Activation, collects_logs: bool) {
        let Some(call) = &mut self.call else { return };
        match (call.message.blocking, collects_logs) {
            (true, true) => self.completer.acks.result(&call.message, activation).await,
            (true, false) => self.completer.acks.combined(&call.message, activation).await,
            (false, true) => {}
            (false, false) => self.completer.acks.completion(&call.message, activation).await,
        }
        call.answered = true;
        call.freed |= !collects_logs;
    }

    /// Logs are in: the slot is freed, and the record is written beside it (D-45). Where nothing ran,
    /// all is said at once (S-10e, f).
    pub async fn settle(mut self, activation: Activation, stored: bool) {
        let Some(call) = self.call.take() else { return };
        let completer = Arc::clone(&self.completer);
        if stored {
            let store = Arc::clone(&completer.store);
            completer.tasks.spawn(write(
                store,
                Record::new(activation.clone(), record::millis(SystemTime::now())),
            ));
        }
        free(&completer.acks, &call, &activation).await;
        drop(call.room);
    }
}

impl Owed {
    /// Nothing of it is run or recorded, and the caller is told no more than that it has ended (N-03).
    pub async fn turn_away(mut self, activation: Activation) {
        let Some(call) = self.call.take() else { return };
        self.completer.acks.shrunk(&call.message, &activation).await;
        drop(call.room);
    }
}

/// Whatever of the acks has not gone yet.
async fn free(acks: &Acks, call: &Call, activation: &Activation) {
    match (call.freed, call.answered) {
        (true, _) => {}
        (false, true) => acks.completion(&call.message, activation).await,
        (false, false) => acks.combined(&call.message, activation).await,
    }
}

/// Writes the record; never changes what the caller gets.
async fn write(store: Arc<dyn Store>, record: Record) {
    let body = match serde_json::to_value(&record) {
        Ok(serde_json::Value::Object(mut body)) => {
            body.remove("_id");
            body.remove("_rev");
            serde_json::Value::Object(body)
        }
        Ok(_) => unreachable!("a record is written as an object"),
        Err(error) => return error!(id = record.id, %error, "record cannot be encoded"),
    };
    for attempt in 1..=RECORD_TRIES {
        match store.put(Database::Activation, &record.id, None, &body).await {
            Ok(_) => return,
            Err(store::Error::Conflict { .. }) => {
                return warn!(id = record.id, "a record of this activation is there already");
            }
            Err(error) if attempt < RECORD_TRIES => {
                warn!(
                    error = &error as &dyn std::error::Error,
                    "record not stored, trying again"
                );
                tokio::time::sleep(RECORD_PAUSE * 2_u32.pow(attempt)).await;
            }
            Err(error) => error!(error = &error as &dyn std::error::Error, "record not stored"),
        }
    }
}

impl Drop for Owed {
    fn drop(&mut self) {
        let Some(call) = self.call.take() else { return };
        error!(transid = %call.message.transid, activation = %call.message.activation_id, "an activation was dropped unanswered");
        let completer = Arc::clone(&self.completer);
        let response = Response::failure(Status::WhiskError, texts::NO_VALID_RESPONSE);
        let activation = record::unread(&call.message, response);
        // Outside a runtime there is nobody left to tell.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let tasks = completer.tasks.clone();
            runtime.spawn(tasks.track_future(async move {
                free(&completer.acks, &call, &activation).await;
                write(
                    Arc::clone(&completer.store),
                    Record::new(activation, record::millis(SystemTime::now())),
                )
                .await;
            }));
        }
    }
}
