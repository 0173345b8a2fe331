//! What answers are made and given with, and the answers for those that an earlier process left.
//!
//! Contract 7.2, D-48, D-49, N-31; decision 72.

use super::{Acks, Events, Outbox, ack, record, texts};
use crate::config::{RecordLevel, RecordSettings};
use crate::journal::{Debt, Debts, Interrupted, Journal, Part, Unfinished};
use proto::decode::decode;
use proto::whisk::activation::{Activation, Response, Status};
use proto::whisk::activation_message::ActivationMessage;
use proto::whisk::record::Record;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, SystemTime};
use tracing::{error, info, warn};

/// What answers are given with.
#[derive(Debug)]
pub struct Completer {
    acks: Acks,
    events: Events,
    records: RecordSettings,
    /// After so long no controller waits for any activation (K-63).
    longest_wait: Duration,
    pub(super) journal: Arc<Journal>,
    pub(super) outbox: Outbox,
    leaving: AtomicU8,
}

/// What becomes of activations that are let go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leaving {
    /// The daemon goes on: something is wrong with whoever let go.
    No,
    /// They are answered with a whisk error.
    Answer,
    /// Those that were not started stay in the journal.
    Keep,
}

impl Completer {
    /// `longest_limit` is that of any action.
    pub fn new(
        acks: Acks,
        events: Events,
        records: RecordSettings,
        longest_limit: Duration,
        journal: Arc<Journal>,
        outbox: Outbox,
    ) -> Self {
        Self {
            acks,
            events,
            records,
            longest_wait: longest_limit.max(Duration::from_secs(60)) * 2 + Duration::from_secs(60),
            journal,
            outbox,
            leaving: AtomicU8::new(0),
        }
    }

    pub fn outbox(&self) -> &Outbox {
        &self.outbox
    }

    /// Activations that are owed an answer.
    pub fn open(&self) -> usize {
        self.outbox.open().len()
    }

    /// Returns when no activation is owed an answer any more.
    pub async fn idle(&self) {
        let open = self.outbox.open();
        open.close();
        open.wait().await;
    }

    /// From now on an activation that is let go was not lost, but cannot be waited for (N-31).
    pub fn leave(&self) {
        let how = if self.journal.settings().keep_on_stop {
            2
        } else {
            1
        };
        self.leaving.store(how, Ordering::Release);
    }

    pub(super) fn leaving(&self) -> Leaving {
        match self.leaving.load(Ordering::Acquire) {
            0 => Leaving::No,
            1 => Leaving::Answer,
            _ => Leaving::Keep,
        }
    }

    /// Delivers what an earlier process owed, and answers what it was running; returns once that is written
    /// down. Nothing of it is run again.
    pub fn recover(self: &Arc<Self>, unfinished: &Unfinished) {
        let mut owing = unfinished.owing.clone();
        for interrupted in &unfinished.interrupted {
            if let Some(debts) = self.interrupted(interrupted) {
                match self.journal.answer_unsynced(interrupted.id, &debts) {
                    Ok(()) => owing.push((interrupted.id, debts.parts())),
                    Err(error) => {
                        error!(
                            error = &error as &dyn std::error::Error,
                            "not answered before the next start"
                        );
                    }
                }
            }
        }
        if !unfinished.interrupted.is_empty() {
            info!(
                activations = unfinished.interrupted.len(),
                "were running when an earlier process ended: they are answered, and not run again"
            );
        }
        let completer = Arc::clone(self);
        tokio::spawn(async move { completer.outbox.resume(owing).await });
    }

    fn interrupted(&self, interrupted: &Interrupted) -> Option<Debts> {
        let id = interrupted.id;
        let read = self.journal.message(id).map_err(|error| error.to_string());
        let message = read.and_then(|message| {
            let message = message.ok_or("the journal has lost the message")?;
            decode::<ActivationMessage>(&message).map_err(|error| error.to_string())
        });
        let message = match message {
            Ok(message) => message,
            Err(reason) => {
                error!(activation = %id, reason, "an activation that was running cannot be answered");
                return None;
            }
        };
        let result = interrupted.result.clone().and_then(|mut debts| {
            let result = debts.take(Part::Result)?;
            Some((ack::activation(&result.payload)?, result, debts))
        });
        let Some((mut activation, result, before)) = result else {
            let response = Response::failure(Status::WhiskError, texts::RESTARTED);
            let activation = record::unread(&message, response);
            let heard = message.blocking;
            let slot = if heard {
                self.acks.combined(&message, &activation, true)
            } else {
                self.acks.completion(&message, &activation)
            };
            return Some(self.debts(&message, &activation, slot, true, interrupted.at_ms));
        };
        // It has run, and its caller may know: only its logs are lost.
        let note = record::note(SystemTime::now(), texts::LOGS_FAILED);
        activation.logs.push(note);
        let slot = self.acks.completion(&message, &activation);
        let mut debts = self.debts(&message, &activation, slot, true, before.since_ms);
        debts.all.push(result);
        Some(debts)
    }

    pub(super) fn result(
        &self,
        message: &ActivationMessage,
        activation: &Activation,
        since_ms: i64,
    ) -> Debts {
        Debts {
            all: vec![self.acks.result(message, activation)],
            ..self.window(since_ms)
        }
    }

    pub(super) fn acks(&self) -> &Acks {
        &self.acks
    }

    /// Event, ack and record of an activation; `kept`: unless a setting says otherwise.
    pub(super) fn debts(
        &self,
        message: &ActivationMessage,
        activation: &Activation,
        slot: Debt,
        kept: bool,
        since_ms: i64,
    ) -> Debts {
        let mut debts = self.window(since_ms);
        debts.all.extend(self.events.activation(message, activation));
        debts.all.push(slot);
        if kept && self.is_stored(message, activation) {
            debts.all.extend(stored(activation));
        }
        debts
    }

    fn window(&self, since_ms: i64) -> Debts {
        let wait = i64::try_from(self.longest_wait.as_millis()).unwrap_or(i64::MAX);
        Debts {
            since_ms,
            until_ms: since_ms.saturating_add(wait),
            all: Vec::new(),
        }
    }

    /// D-48, D-49.
    fn is_stored(&self, message: &ActivationMessage, activation: &Activation) -> bool {
        if message.user.limits.store_activations == Some(false) {
            return false;
        }
        let level = if message.blocking {
            self.records.blocking
        } else {
            self.records.non_blocking
        };
        let status = activation.response.status_code;
        let stored = message.transid.extra_logging
            || match level {
                RecordLevel::Always => true,
                RecordLevel::Failures => status != Status::Success,
                RecordLevel::FailuresNotApplicationErrors => {
                    matches!(status, Status::DeveloperError | Status::WhiskError)
                }
            };
        if !stored && self.records.unstored_logs {
            info!(
                transid = %message.transid,
                activation = %message.activation_id,
                action = %message.action,
                namespace = %message.user.namespace.name,
                size = activation.response.size,
                "no record is kept of this activation"
            );
        }
        stored
    }
}

/// The record as it is put: the store gives it its revision.
fn stored(activation: &Activation) -> Option<Debt> {
    let record = Record::new(activation.clone(), record::millis(SystemTime::now()));
    match serde_json::to_vec(&record) {
        Ok(payload) => Some(Debt {
            part: Part::Record,
            to: record.id,
            payload,
        }),
        Err(error) => {
            warn!(id = record.id, %error, "record cannot be encoded");
            None
        }
    }
}
