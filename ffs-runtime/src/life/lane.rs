//! Which lane this is, and what it says to the invoker.

use crate::child::protocol::Failure;
use crate::config_layer::ConfigLayer;
use crate::control::Control;
use proto::ffs::control::LaneMessage;
use proto::ffs::state::StateDocument;
use proto::id::LaneId;

#[derive(Debug)]
pub(super) struct Lane {
    control: Control,
    id: LaneId,
    token: String,
    /// Of the assignment, then of the last state that was obeyed.
    epoch: u64,
    interpreter_up: bool,
    said_hello: bool,
}

impl Lane {
    pub(super) fn new(layer: &ConfigLayer, token: String, control: Control) -> Self {
        Self {
            control,
            id: layer.lane,
            token,
            epoch: layer.epoch,
            interpreter_up: false,
            said_hello: false,
        }
    }

    pub(super) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Whether a state is meant for this lane and not overtaken by a later one.
    pub(super) fn accept(&mut self, state: &StateDocument) -> bool {
        let meant = state.lanes.as_ref().is_none_or(|lanes| lanes.contains(&self.id));
        let accepted = meant && state.epoch >= self.epoch;
        if accepted {
            self.epoch = state.epoch;
        }
        accepted
    }

    pub(super) fn interpreter_is_up(&mut self) {
        self.interpreter_up = true;
    }

    /// Says `hello` once the interpreter is up and no user code is being imported.
    pub(super) fn greet(&mut self, importing: bool) {
        if self.interpreter_up && !importing {
            self.hello();
        }
    }

    fn hello(&mut self) {
        if !self.said_hello {
            self.said_hello = true;
            let token = self.token.clone();
            self.control.say(LaneMessage::Hello {
                lane: self.id,
                epoch: self.epoch,
                token,
            });
        }
    }

    pub(super) fn say(&self, message: LaneMessage) {
        self.control.say(message);
    }

    /// Says that the lane cannot go on; it may not have said anything yet.
    pub(super) fn give_up(&mut self, failure: Failure) {
        self.hello();
        self.control.say(LaneMessage::Failed {
            sentence: failure.sentence,
            at: failure.at,
        });
    }
}
