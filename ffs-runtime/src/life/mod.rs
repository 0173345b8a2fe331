//! The life of one container: listen → start Python → initialise → serve → leave.
//!
//! The one place where the parts are joined. Everything that can happen comes as an event and is
//! answered in one `match`; requests meanwhile are the proxy's business.
//!
//! A lane says `hello` when its interpreter is up and the user's code, as far as it has it, is
//! imported. The invoker then puts the slice's limits in force and says `state: run`; only after
//! that are components loaded.

mod ending;
mod lane;
mod leaving;
mod listen;
mod sources;

use self::ending::{Ending, KILL};
use self::lane::Lane;
use self::leaving::{DRAIN, Departure, STOP, Stay};
use self::listen::Server;
use crate::child::protocol::{Failure, ToChild};
use crate::child::{Child, Notice, Started};
use crate::config_layer::{self, ConfigLayer};
use crate::control::{Heard, Unreachable};
use crate::logs::Logs;
use crate::proxy;
use crate::proxy::action::{Action, LaneRole, Loading};
use crate::settings::{self, Settings};
use proto::ffs::control::{InvokerMessage, LaneMessage};
use proto::ffs::state::{Desired, StateDocument};
use proto::id::LaneId;
use proto::unit::Millis;
use std::ffi::OsString;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Listen(#[from] listen::Error),
    #[error("the Python interpreter {} cannot be started (FFS_PYTHON names another)", python.display())]
    Python {
        python: OsString,
        #[source]
        source: std::io::Error,
    },
    #[error(transparent)]
    ConfigLayer(#[from] config_layer::Error),
    #[error(transparent)]
    Control(#[from] Unreachable),
    #[error("signals and pipes cannot be set up")]
    System(#[from] std::io::Error),
}

/// Everything that can happen.
#[derive(Debug)]
enum Event {
    Notice(Notice),
    /// The Python process has ended.
    Bereaved(Failure),
    /// The lane cannot go on.
    Failed(Failure),
    Heard(Heard),
    /// The control socket is closed, or standard input where that is the lifeline.
    InvokerGone,
    Terminate,
    Idle,
    OutOfTime,
}

struct Life {
    action: Arc<Action>,
    child: Child,
    logs: Arc<Logs>,
    lane: Option<Lane>,
    /// Until its last answers are on their way.
    server: Option<Server>,
    stay: Stay,
    events: mpsc::Sender<Event>,
}

/// Lives until the container ends; the exit code is 0 if it was asked to.
///
/// # Errors
/// It could not even begin.
pub async fn live(settings: Settings) -> Result<ExitCode, Error> {
    let (events, mut happened) = mpsc::channel(64);
    sources::signals(&events)?;
    let listener = settings.listen.as_ref().map(listen::bind).transpose()?;
    let layer = settings
        .lane
        .as_ref()
        .map(|lane| ConfigLayer::read(&lane.config, lane.id))
        .transpose()?;
    let Started {
        child,
        notices,
        stdout,
        stderr,
    } = Child::start(&settings.python, &settings::PRIVATE).map_err(|source| Error::Python {
        python: settings.python.clone(),
        source,
    })?;
    let logs = Arc::new(Logs::new(stdout, stderr, layer.is_some())?);
    let role = layer.as_ref().map(|layer| LaneRole {
        label: layer.label.clone(),
        head: layer.lane == LaneId::HEAD,
        loading: watch::Sender::new(Loading::Forbidden),
    });
    let action = Action::new(child.clone(), Arc::clone(&logs), role);
    let server = listener.map(|listener| Server::start(listener, proxy::router(Arc::clone(&action))));
    let mut life = Life {
        action,
        child,
        logs,
        lane: None,
        server,
        stay: Stay::Serving,
        events,
    };
    life.watch_child(notices);
    if settings.lifeline {
        life.watch_lifeline();
    }
    let joined = match settings.lane.zip(layer) {
        Some((lane, layer)) => life.join(lane.token, &layer).await,
        None => Ok(()),
    };
    if let Err(error) = joined {
        let _ = timeout(KILL, life.child.sweep()).await;
        return Err(error);
    }
    loop {
        let event = happened.recv().await.expect("`life` holds a sender");
        if let Some(ending) = life.handle(event) {
            return Ok(life.end(ending, happened).await);
        }
    }
}

impl Life {
    fn handle(&mut self, event: Event) -> Option<Ending> {
        match event {
            Event::Notice(notice) => self.notice(notice),
            Event::Bereaved(failure) => self.bereaved(failure),
            Event::Failed(failure) => self.fail(failure),
            Event::Heard(Ok(InvokerMessage::State(state))) => self.obey(&state),
            Event::Heard(Ok(InvokerMessage::Turn { turn })) => {
                self.child.send(ToChild::Turn { turn });
                None
            }
            Event::Heard(Ok(InvokerMessage::Assignment { epoch, switch })) => {
                self.child.send(ToChild::Assignment { epoch, switch });
                None
            }
            Event::Heard(Err(sentence)) => self.fail(self.action.about_lane(Failure { sentence, at: None })),
            Event::Terminate => self.leave(Departure::Terminated, self.time_for_requests()),
            Event::InvokerGone if self.stay == Stay::Drained => Some(Ending::Left),
            Event::InvokerGone => Some(Ending::Abandoned),
            Event::Idle => self.idle(),
            Event::OutOfTime => Some(Ending::OutOfTime),
        }
    }

    fn notice(&mut self, notice: Notice) -> Option<Ending> {
        let lane = self.lane.as_mut()?;
        match notice {
            Notice::Hello => lane.interpreter_is_up(),
            Notice::Initialized => {}
            Notice::Loaded {
                load_ms,
                resident_bytes,
            } => {
                if self.action.loaded() {
                    lane.say(LaneMessage::Loaded {
                        load_ms,
                        resident_bytes,
                    });
                }
            }
            Notice::Failed(failure) => return self.fail(self.action.about_lane(failure)),
            Notice::State { epoch, reached } => match self.stay {
                Stay::Leaving(departure) if departure.desired() == reached => self.answer_last(departure),
                _ => lane.say(LaneMessage::State { epoch, reached }),
            },
            Notice::Turn { want, turn } => lane.say(LaneMessage::Turn { want, turn }),
            Notice::Assignment(taken_up) => lane.say(LaneMessage::Assignment(taken_up)),
        }
        if let Some(lane) = &mut self.lane {
            lane.greet(self.child.initializing());
        }
        None
    }

    fn obey(&mut self, state: &StateDocument) -> Option<Ending> {
        if !self.lane.as_mut()?.accept(state) {
            return None;
        }
        let time = |default| state.deadline_ms.and_then(duration).unwrap_or(default);
        match state.desired {
            Desired::Drain => return self.leave(Departure::Drained, time(DRAIN)),
            Desired::Stop => return self.leave(Departure::Stopped, time(STOP)),
            Desired::Run if self.action.allow_loading() => {}
            Desired::Run | Desired::Evict | Desired::Resume => {
                let StateDocument {
                    epoch,
                    desired,
                    shared,
                    deadline_ms,
                    ..
                } = *state;
                self.child.send(ToChild::State {
                    epoch,
                    desired,
                    shared,
                    deadline_ms,
                });
            }
        }
        None
    }

    /// Tells everyone that the lane cannot go on. An ordinary action can always be asked why not.
    fn fail(&mut self, failure: Failure) -> Option<Ending> {
        let lane = self.lane.as_mut()?;
        lane.give_up(failure.clone());
        self.action.fail(failure);
        Some(Ending::Failed)
    }
}

/// A time span that somebody else wrote down.
fn duration(time: Millis) -> Option<Duration> {
    Duration::try_from_secs_f64(time.0 / 1000.0).ok()
}
