//! On the way out: no new requests, some time for those that run, and then the end, or the
//! invoker's word that all lanes may end.
//!
//! A lane that is drained does not end by itself: requests that another lane still has may come
//! through it. It says that it is drained, and waits to be stopped.

use super::ending::Ending;
use super::{Event, Life};
use crate::child::protocol::{Failure, ToChild};
use proto::ffs::control::LaneMessage;
use proto::ffs::state::Desired;
use proto::unit::Millis;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::time::timeout;

/// How long requests may go on when neither they nor the invoker say how long.
pub(super) const DRAIN: Duration = Duration::from_secs(30);
/// How long a lane may take to poison its rings and end its requests when it is told to stop.
pub(super) const STOP: Duration = Duration::from_secs(1);
/// How long the last answers may take to be read by who asked.
pub(super) const LAST_ANSWERS: Duration = Duration::from_secs(2);

/// Whether it stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stay {
    Serving,
    /// The Python process finishes what is in the rings, or ends it.
    Leaving(Departure),
    /// It has; the last answers are on their way.
    Answering(Departure),
    /// Nothing is left to do here.
    Drained,
}

/// Why it leaves, the mildest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Departure {
    /// The invoker has said `drain`.
    Drained,
    /// The system has said SIGTERM: drain, and end.
    Terminated,
    /// The invoker has said `stop`.
    Stopped,
}

impl Departure {
    /// What the Python process is told.
    pub(super) fn desired(self) -> Desired {
        match self {
            Self::Drained | Self::Terminated => Desired::Drain,
            Self::Stopped => Desired::Stop,
        }
    }
}

impl Life {
    /// Takes no new requests. Those that run have some time; in a lane the process finishes them.
    pub(super) fn leave(&mut self, departure: Departure, time: Duration) -> Option<Ending> {
        match self.stay {
            Stay::Leaving(before) | Stay::Answering(before) if before >= departure => return None,
            Stay::Drained if departure == Departure::Drained => return None,
            Stay::Drained if departure == Departure::Terminated => return Some(Ending::Left),
            Stay::Serving | Stay::Leaving(_) | Stay::Answering(_) | Stay::Drained => {}
        }
        self.stay = Stay::Leaving(departure);
        self.action.leave();
        self.later(Event::OutOfTime, tokio::time::sleep(time));
        match &self.lane {
            None => self.answer_last(departure),
            Some(_) if !self.action.serves() => return Some(Ending::Left), // it has nothing to finish yet
            Some(lane) => self.child.send(ToChild::State {
                epoch: lane.epoch(),
                desired: departure.desired(),
                shared: None,
                deadline_ms: Some(Millis(time.as_secs_f64() * 1000.0)),
            }),
        }
        None
    }

    /// Only answers that are being written are still due.
    pub(super) fn answer_last(&mut self, departure: Departure) {
        self.stay = Stay::Answering(departure);
        let (action, server) = (Arc::clone(&self.action), self.server.take());
        self.later(Event::Idle, async move {
            action.idle().await;
            if let Some(mut server) = server {
                let _ = timeout(LAST_ANSWERS, server.finish()).await;
            }
        });
    }

    /// The last answers are sent.
    pub(super) fn idle(&mut self) -> Option<Ending> {
        let Stay::Answering(departure) = self.stay else {
            return None; // it has been told something stronger since
        };
        if let Some(lane) = &self.lane {
            lane.say(LaneMessage::State {
                epoch: lane.epoch(),
                reached: departure.desired(),
            });
        }
        match departure {
            Departure::Drained => {
                self.stay = Stay::Drained;
                None
            }
            Departure::Terminated | Departure::Stopped => Some(Ending::Left),
        }
    }

    /// The Python process has ended; in a lane that is a failure unless it had nothing more to do.
    pub(super) fn bereaved(&mut self, failure: Failure) -> Option<Ending> {
        match self.stay {
            Stay::Answering(_) => None,
            Stay::Drained => Some(Ending::Left),
            Stay::Leaving(Departure::Stopped) => {
                self.answer_last(Departure::Stopped);
                None
            }
            Stay::Leaving(_) | Stay::Serving => self.fail(failure),
        }
    }

    /// Until the deadline of the last request in flight.
    pub(super) fn time_for_requests(&self) -> Duration {
        let until = self.action.last_deadline();
        until.map_or(DRAIN, |until| {
            until.duration_since(SystemTime::now()).unwrap_or_default()
        })
    }
}
