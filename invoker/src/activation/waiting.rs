//! Messages that are accepted and not yet in the pool's hands. The journal has them all, so that few need
//! to be in memory.

use crate::journal::Journal;
use proto::decode::decode;
use proto::id::ActivationId;
use proto::whisk::activation_message::ActivationMessage;
use std::collections::VecDeque;
use std::sync::Arc;
use tracing::error;

/// Most bytes of messages that are held here; the rest is read back when its turn comes.
const HELD: usize = 4 << 20;

#[derive(Debug)]
pub(super) struct Waiting {
    journal: Arc<Journal>,
    queue: VecDeque<Waiter>,
    held: usize,
}

#[derive(Debug)]
enum Waiter {
    Here {
        message: Box<ActivationMessage>,
        bytes: usize,
    },
    InJournal(ActivationId),
}

impl Waiting {
    pub(super) fn new(journal: Arc<Journal>, recovered: Vec<ActivationId>) -> Self {
        Self {
            journal,
            queue: recovered.into_iter().map(Waiter::InJournal).collect(),
            held: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// `bytes`: the length of the message as it was read.
    pub(super) fn push(&mut self, message: ActivationMessage, bytes: usize) {
        if self.held + bytes > HELD {
            self.queue.push_back(Waiter::InJournal(message.activation_id));
        } else {
            self.held += bytes;
            let message = Box::new(message);
            self.queue.push_back(Waiter::Here { message, bytes });
        }
    }

    /// The oldest, and its length as it was read; none also if the journal has lost it.
    pub(super) fn pop(&mut self) -> Option<(Box<ActivationMessage>, usize)> {
        match self.queue.pop_front()? {
            Waiter::Here { message, bytes } => {
                self.held -= bytes;
                Some((message, bytes))
            }
            Waiter::InJournal(id) => self.read(id),
        }
    }

    fn read(&self, id: ActivationId) -> Option<(Box<ActivationMessage>, usize)> {
        let lost = |reason: &str| {
            error!(activation = %id, reason, "an accepted activation cannot be read back");
            None
        };
        match self.journal.message(id) {
            Ok(Some(payload)) => match decode(&payload) {
                Ok(message) => Some((Box::new(message), payload.len())),
                Err(error) => lost(&error.path),
            },
            Ok(None) => lost("the journal does not have it"),
            Err(error) => lost(&error.to_string()),
        }
    }

    /// All that wait, oldest first.
    pub(super) fn into_messages(mut self) -> Vec<ActivationMessage> {
        let mut messages = Vec::with_capacity(self.len());
        while !self.is_empty() {
            messages.extend(self.pop().map(|(message, _)| *message));
        }
        messages
    }
}
