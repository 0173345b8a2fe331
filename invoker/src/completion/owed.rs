//! The promise that one activation is answered: one slot-freeing ack, one record. It is in the journal from
//! before it is made until it is kept.

use super::completer::Leaving;
use super::outbox::OnItsWay;
use super::{Completer, record, texts};
use crate::activation::room::Room;
use crate::journal::{self, Debt, Debts};
use proto::whisk::activation::{Activation, Response, Status};
use proto::whisk::activation_message::ActivationMessage;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio_util::task::task_tracker::TaskTrackerToken;
use tracing::{error, info_span, warn};

/// Between two tries at a journal that cannot be written.
const PAUSE: Duration = Duration::from_secs(1);

/// Sees the activation that an answer was given with; closed without, if there was none.
pub type Witness = tokio::sync::watch::Sender<Option<Activation>>;

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
    since_ms: i64,
    stage: Stage,
    witness: Option<Witness>,
    /// Given back when the container is free again (K-25).
    room: Room,
    _open: TaskTrackerToken,
}

/// How far it has come.
#[derive(Debug)]
enum Stage {
    Waiting,
    /// User code may have run.
    Started,
    /// `/run` has ended, logs are to come; a blocking caller's result is on its way.
    Ended {
        activation: Box<Activation>,
        result: Option<OnItsWay>,
    },
    /// Everything is said.
    Answered,
}

/// What of the acks is to be said at the end.
#[derive(Clone, Copy, Debug)]
enum Last {
    Completion,
    Combined {
        /// The whole activation, for somebody who waits.
        heard: bool,
    },
}

impl Owed {
    pub fn new(message: Arc<ActivationMessage>, room: Room, completer: Arc<Completer>) -> Self {
        let call = Call {
            message,
            since_ms: record::millis(SystemTime::now()),
            stage: Stage::Waiting,
            witness: None,
            room,
            _open: completer.outbox.open().token(),
        };
        Self {
            call: Some(call),
            completer,
        }
    }

    /// When it came, in milliseconds since the epoch; now, if it is settled.
    pub fn since_ms(&self) -> i64 {
        let call = self.call.as_ref();
        call.map_or_else(|| record::millis(SystemTime::now()), |call| call.since_ms)
    }

    /// The room that it takes; none once it is settled.
    pub fn room(&mut self) -> Option<&mut Room> {
        self.call.as_mut().map(|call| &mut call.room)
    }

    /// Shows the answer to somebody else too.
    pub fn show(&mut self, to: Witness) {
        if let Some(call) = &mut self.call {
            call.witness = Some(to);
        }
    }

    /// To be called before user code may run, `/init` included: from then on it is never run again.
    /// Returns once that is written down, however long that takes.
    pub async fn start(&mut self) {
        let Some(call) = &mut self.call else { return };
        if !matches!(call.stage, Stage::Waiting) {
            return; // it was started before, and came back
        }
        while let Err(error) = self.completer.journal.start(call.message.activation_id).await {
            error!(activation = %call.message.activation_id, error = &error as &dyn std::error::Error, "not run yet");
            tokio::time::sleep(PAUSE).await;
        }
        call.stage = Stage::Started;
    }

    /// `/run` (or a failed `/init`) has ended: a blocking caller gets the result now. If no logs are to be
    /// collected all is said, the record included (S-10a … d).
    pub async fn answer(&mut self, activation: &Activation, collects_logs: bool) {
        let Some(call) = &mut self.call else { return };
        let (id, blocking) = (call.message.activation_id, call.message.blocking);
        if !collects_logs {
            let last = if blocking {
                Last::Combined { heard: true }
            } else {
                Last::Completion
            };
            let debts = call.last(&self.completer, activation, last, true);
            call.stage = Stage::Answered;
            return deliver(&self.completer, &call.message, debts, None).await;
        }
        let mut result = None;
        if blocking {
            let debts = self.completer.result(&call.message, activation, call.since_ms);
            if let Err(error) = self.completer.journal.end(id, &debts).await {
                warn!(activation = %id, error = &error as &dyn std::error::Error, "the result is not written down");
            }
            result = Some(self.completer.outbox.send_result(id, debts));
        }
        call.stage = Stage::Ended {
            activation: Box::new(activation.clone()),
            result,
        };
    }

    /// Logs are in: the slot is freed, and the record is written beside it (D-45). Where nothing ran,
    /// all is said at once (S-10e, f). `kept`: a record is written if the settings say so too.
    pub async fn settle(mut self, activation: Activation, kept: bool) {
        let Some(mut call) = self.call.take() else { return };
        if let Some(witness) = call.witness.take() {
            witness.send_replace(Some(activation.clone()));
        }
        let (last, result) = match std::mem::replace(&mut call.stage, Stage::Answered) {
            Stage::Answered => return,
            Stage::Ended { result, .. } => (Last::Completion, result),
            Stage::Waiting | Stage::Started => (
                Last::Combined {
                    heard: call.message.blocking,
                },
                None,
            ),
        };
        let mut debts = call.last(&self.completer, &activation, last, kept);
        if let Some(on_its_way) = &result
            && !on_its_way.has_arrived()
        {
            let unsure = self.completer.result(&call.message, &activation, call.since_ms);
            debts.all.extend(unsure.all);
        }
        deliver(&self.completer, &call.message, debts, result).await;
    }

    /// Its namespace is blocked: nothing is run and nothing kept, and nobody is told more than the id
    /// (N-03, S-10h).
    pub async fn turn_away(mut self, activation: Activation) {
        let Some(mut call) = self.call.take() else { return };
        call.stage = Stage::Answered;
        let debts = call.last(
            &self.completer,
            &activation,
            Last::Combined { heard: false },
            false,
        );
        deliver(&self.completer, &call.message, debts, None).await;
    }
}

impl Call {
    fn last(&self, completer: &Completer, activation: &Activation, last: Last, kept: bool) -> Debts {
        let slot: Debt = match last {
            Last::Completion => completer.acks().completion(&self.message, activation),
            Last::Combined { heard } => completer.acks().combined(&self.message, activation, heard),
        };
        completer.debts(&self.message, activation, slot, kept, self.since_ms)
    }
}

/// Written down first, then sent (D-46). A journal that cannot be written holds up no answer.
async fn deliver(completer: &Completer, message: &ActivationMessage, debts: Debts, result: Option<OnItsWay>) {
    let id = message.activation_id;
    if let Err(error) = completer.journal.answer(id, &debts).await {
        // A second one would be sent, too.
        if matches!(error, journal::Error::NotUnderWay { .. }) {
            return error!(transid = %message.transid, error = &error as &dyn std::error::Error, "the answer is not sent");
        }
        error!(transid = %message.transid, activation = %id, error = &error as &dyn std::error::Error, "the answer is not written down");
    }
    completer.outbox.deliver(id, debts, result);
}

impl Drop for Owed {
    fn drop(&mut self) {
        let Some(mut call) = self.call.take() else { return };
        let _span = info_span!("dropped", transid = %call.message.transid).entered();
        let (message, stage) = (&call.message, std::mem::replace(&mut call.stage, Stage::Answered));
        let failed = |text| record::unread(message, Response::failure(Status::WhiskError, text));
        let unsaid = Last::Combined {
            heard: message.blocking,
        };
        let (activation, last, result) = match (self.completer.leaving(), stage) {
            (_, Stage::Answered) => return,
            (Leaving::Keep, Stage::Waiting) => return, // the journal has it
            // What came of the run stands; what is missing is its logs.
            (_, Stage::Ended { activation, result }) => {
                let mut activation = *activation;
                activation.logs = vec![record::note(SystemTime::now(), texts::LOGS_FAILED)];
                (activation, Last::Completion, result)
            }
            (Leaving::Answer, Stage::Waiting) => (failed(texts::STOPPED_BEFORE), unsaid, None),
            (Leaving::Answer | Leaving::Keep, Stage::Started) => (failed(texts::STOPPED), unsaid, None),
            (Leaving::No, Stage::Waiting | Stage::Started) => {
                error!(transid = %message.transid, activation = %message.activation_id, "an activation was dropped unanswered");
                (failed(texts::NO_VALID_RESPONSE), unsaid, None)
            }
        };
        let debts = call.last(&self.completer, &activation, last, true);
        let id = call.message.activation_id;
        if let Err(error) = self.completer.journal.answer_unsynced(id, &debts) {
            error!(activation = %id, error = &error as &dyn std::error::Error, "the answer is not written down");
        }
        self.completer.outbox.deliver(id, debts, result);
    }
}
