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
mod listen;

use self::ending::{Ending, KILL};
use self::lane::Lane;
use self::listen::Server;
use crate::child::protocol::{Failure, ToChild};
use crate::child::{Child, Notice, Started};
use crate::config_layer::{self, ConfigLayer};
use crate::control::{Control, Heard, Unreachable};
use crate::logs::{Logs, Stream};
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
use std::time::{Duration, SystemTime};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

/// How long requests may go on when neither they nor the invoker say how long.
const DRAIN: Duration = Duration::from_secs(30);
/// How long a lane may take to poison its rings and end its requests when it is told to stop.
const STOP: Duration = Duration::from_secs(1);

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

/// Whether it stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stay {
    Serving,
    /// The Python process finishes what is in the rings, or drops it.
    Leaving(Desired),
    /// The last answers are on their way.
    Finishing,
}

struct Life {
    action: Arc<Action>,
    child: Child,
    logs: Arc<Logs>,
    lane: Option<Lane>,
    stay: Stay,
    events: mpsc::Sender<Event>,
}

/// Lives until the container ends; the exit code is 0 if it was asked to.
///
/// # Errors
/// It could not even begin.
pub async fn live(settings: Settings) -> Result<ExitCode, Error> {
    let (events, mut happened) = mpsc::channel(64);
    watch_signals(&events)?;
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
            return Ok(life.end(ending, server, happened).await);
        }
    }
}

fn watch_signals(events: &mpsc::Sender<Event>) -> std::io::Result<()> {
    for kind in [SignalKind::terminate(), SignalKind::interrupt()] {
        let (mut signals, events) = (signal(kind)?, events.clone());
        tokio::spawn(async move {
            while signals.recv().await.is_some() && events.send(Event::Terminate).await.is_ok() {}
        });
    }
    Ok(())
}

impl Life {
    fn watch_child(&self, mut notices: mpsc::Receiver<Notice>) {
        for stream in [Stream::Stdout, Stream::Stderr] {
            let logs = Arc::clone(&self.logs);
            tokio::spawn(async move { logs.pump(stream).await });
        }
        let (action, events) = (Arc::clone(&self.action), self.events.clone());
        tokio::spawn(async move {
            while let Some(notice) = notices.recv().await {
                let _ = events.send(Event::Notice(notice)).await;
            }
            let _ = events.send(Event::Bereaved(action.mourn().await)).await;
        });
    }

    /// A thread of its own waits for the end of standard input, because that may be anything.
    fn watch_lifeline(&self) {
        let events = self.events.clone();
        std::thread::spawn(move || {
            let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
            let _ = events.blocking_send(Event::InvokerGone);
        });
    }

    /// Connects to the invoker. A lane that is not the head begins to import the user's code.
    async fn join(&mut self, token: String, layer: &ConfigLayer) -> Result<(), Error> {
        let init = (layer.lane != LaneId::HEAD)
            .then(|| layer.init_body())
            .transpose()?;
        let (control, mut heard) = Control::connect(&layer.control()).await?;
        self.lane = Some(Lane::new(layer, token, control));
        let events = self.events.clone();
        tokio::spawn(async move {
            while let Some(heard) = heard.recv().await {
                let _ = events.send(Event::Heard(heard)).await;
            }
            let _ = events.send(Event::InvokerGone).await;
        });
        let (action, events) = (Arc::clone(&self.action), self.events.clone());
        tokio::spawn(async move {
            let failure = action.failed().await;
            let _ = events.send(Event::Failed(failure)).await;
        });
        if let Some(body) = init {
            let action = Arc::clone(&self.action);
            tokio::spawn(async move {
                if let Err(refusal) = action.load(&body).await {
                    action.fail(Failure {
                        sentence: refusal.to_string(),
                        at: None,
                    });
                }
            });
        }
        Ok(())
    }

    fn handle(&mut self, event: Event) -> Option<Ending> {
        match event {
            Event::Notice(notice) => self.notice(notice),
            Event::Bereaved(failure) => match self.stay {
                Stay::Finishing => None,
                Stay::Leaving(Desired::Stop) => self.finish(),
                Stay::Leaving(_) | Stay::Serving => self.fail(failure),
            },
            Event::Failed(failure) => self.fail(failure),
            Event::Heard(Ok(InvokerMessage::State(state))) => self.obey(&state),
            Event::Heard(Ok(InvokerMessage::Turn { turn })) => {
                self.child.send(ToChild::Turn { turn });
                None
            }
            Event::Heard(Err(sentence)) => self.fail(self.action.about_lane(Failure { sentence, at: None })),
            Event::Terminate => self.leave(Desired::Drain, self.time_for_requests()),
            Event::InvokerGone => Some(Ending::Abandoned),
            Event::Idle => Some(Ending::Left),
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
            Notice::State { epoch, reached } => {
                lane.say(LaneMessage::State { epoch, reached });
                if matches!(self.stay, Stay::Leaving(desired) if desired == reached) {
                    return self.finish();
                }
            }
            Notice::Turn { want, turn } => lane.say(LaneMessage::Turn { want, turn }),
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
            Desired::Drain => return self.leave(Desired::Drain, time(DRAIN)),
            Desired::Stop => return self.leave(Desired::Stop, time(STOP)),
            Desired::Run if self.action.allow_loading() => {}
            Desired::Run | Desired::Evict | Desired::Resume => {
                let StateDocument {
                    epoch,
                    desired,
                    deadline_ms,
                    ..
                } = *state;
                self.child.send(ToChild::State {
                    epoch,
                    desired,
                    deadline_ms,
                });
            }
        }
        None
    }

    /// Takes no new requests. Those that run have some time; in a lane the process finishes them.
    fn leave(&mut self, desired: Desired, time: Duration) -> Option<Ending> {
        match self.stay {
            Stay::Finishing | Stay::Leaving(Desired::Stop) => return None,
            Stay::Leaving(before) if before == desired => return None,
            Stay::Leaving(_) | Stay::Serving => self.stay = Stay::Leaving(desired),
        }
        self.action.leave();
        self.later(Event::OutOfTime, tokio::time::sleep(time));
        match &self.lane {
            None => self.finish(),
            Some(_) if !self.action.serves() => Some(Ending::Left), // it has nothing to finish yet
            Some(lane) => {
                let deadline_ms = Some(Millis(time.as_secs_f64() * 1000.0));
                self.child.send(ToChild::State {
                    epoch: lane.epoch(),
                    desired,
                    deadline_ms,
                });
                None
            }
        }
    }

    /// Only answers that are being written are still due.
    fn finish(&mut self) -> Option<Ending> {
        self.stay = Stay::Finishing;
        let action = Arc::clone(&self.action);
        self.later(Event::Idle, async move { action.idle().await });
        None
    }

    fn later(&self, event: Event, when: impl Future<Output = ()> + Send + 'static) {
        let events = self.events.clone();
        tokio::spawn(async move {
            when.await;
            let _ = events.send(event).await;
        });
    }

    /// Tells everyone that the lane cannot go on. An ordinary action can always be asked why not.
    fn fail(&mut self, failure: Failure) -> Option<Ending> {
        let lane = self.lane.as_mut()?;
        lane.give_up(failure.clone());
        self.action.fail(failure);
        Some(Ending::Failed)
    }

    /// Until the deadline of the last request in flight.
    fn time_for_requests(&self) -> Duration {
        let until = self.action.last_deadline();
        until.map_or(DRAIN, |until| {
            until.duration_since(SystemTime::now()).unwrap_or_default()
        })
    }
}

/// A time span that somebody else wrote down.
fn duration(time: Millis) -> Option<Duration> {
    Duration::try_from_secs_f64(time.0 / 1000.0).ok()
}
