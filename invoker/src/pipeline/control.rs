//! The invoker's end of the socket `control`, over which an instance's lanes say how they are.
//!
//! Each lane keeps one connection; who it is, it proves with the token that only it was given. What
//! lanes say is untrusted: lines are bounded, and so is all that waits here. A connection is also
//! the lane's lifeline: dropping the [`Control`] closes them all, and the lanes end.

use crate::run_directory;
use futures::StreamExt;
use proto::ffs::control::{InvokerMessage, LaneMessage, MAX_LINE, TakenUp};
use proto::ffs::state::Desired;
use proto::id::LaneId;
use proto::unit::{Bytes, Millis};
use rand::RngExt;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use subtle::ConstantTimeEq;
use tokio::io::AsyncWriteExt;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc};
use tokio_util::codec::{FramedRead, LinesCodec, LinesCodecError};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// A connection that has not said who it is by then is closed.
const HELLO_LIMIT: Duration = Duration::from_secs(10);
/// Messages that may wait for a lane; one that reads nothing is given up.
const OUTGOING: usize = 64;
/// Events that may wait for the pipeline; then the lanes wait.
const INCOMING: usize = 256;
/// Longest path of a Unix socket, without the final zero.
const LONGEST_PATH: usize = 107;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the control socket {path} could not be made")]
    Listen {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error(
        "the control socket's path {path} has {} bytes and a socket's may have {LONGEST_PATH}: choose a shorter \
         run directory", path.as_os_str().len()
    )]
    PathTooLong { path: PathBuf },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    #[error("lane {0} is not connected")]
    NotConnected(LaneId),
    #[error("lane {0} does not read what it is sent; its connection is closed")]
    Stuck(LaneId),
}

/// What was heard from a lane that has proved who it is.
#[derive(Clone, Debug, PartialEq)]
pub struct LaneEvent {
    pub lane: LaneId,
    pub heard: Heard,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Heard {
    /// The lane runs and waits for its state.
    Hello,
    Loaded {
        load_ms: Millis,
        resident_bytes: Bytes,
    },
    State {
        epoch: u64,
        reached: Desired,
    },
    Turn {
        want: bool,
        turn: u64,
    },
    Assignment(TakenUp),
    /// The lane cannot go on; `at` is the author's file and line.
    Failed {
        sentence: String,
        at: Option<String>,
    },
    /// The last event of a lane.
    Closed {
        because: String,
    },
}

/// The sockets of one instance. Dropped, all connections close.
#[derive(Debug)]
pub struct Control {
    lanes: Arc<Lanes>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Control {
    /// Listens at `path` for the lanes of an instance whose assignment has this epoch, and makes a
    /// token for each. `uid` is who the lanes run as, unless it is the daemon's own user.
    ///
    /// # Errors
    /// If the socket cannot be made.
    pub fn listen(
        path: &Path,
        uid: Option<u32>,
        epoch: u64,
        lanes: impl IntoIterator<Item = LaneId>,
    ) -> Result<(Self, mpsc::Receiver<LaneEvent>), Error> {
        listen(path, uid, epoch, lanes, HELLO_LIMIT)
    }

    /// What the lane has to say in its `hello`; none for a lane that is not of this instance.
    pub fn token(&self, lane: LaneId) -> Option<String> {
        self.lanes
            .with(|lanes| lanes.get(&lane).map(|lane| lane.token.clone()))
    }

    /// Waits for one more lane, of an assignment with this epoch; a lane of that name before it is forgotten.
    pub fn expect(&self, lane: LaneId, epoch: u64) -> String {
        let expected = Lane::new(epoch);
        let token = expected.token.clone();
        self.lanes.with(|lanes| lanes.insert(lane, expected));
        token
    }

    /// Sends to a lane; never waits.
    ///
    /// # Errors
    /// If the lane is not connected, or has not read what it was sent before.
    pub fn send(&self, lane: LaneId, message: InvokerMessage) -> Result<(), SendError> {
        self.lanes.send(lane, message)
    }

    /// Another way to say something to the lanes.
    pub fn speaker(&self) -> Speaker {
        Speaker(Arc::clone(&self.lanes))
    }

    /// Closes all connections and waits until nothing is left of them.
    pub async fn close(self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Says something to the lanes of an instance as long as its sockets are open.
#[derive(Clone, Debug)]
pub struct Speaker(Arc<Lanes>);

impl Speaker {
    /// As [`Control::send`].
    ///
    /// # Errors
    /// As there.
    pub fn send(&self, lane: LaneId, message: InvokerMessage) -> Result<(), SendError> {
        self.0.send(lane, message)
    }
}

#[derive(Debug)]
struct Lanes {
    hello_limit: Duration,
    strangers: Arc<Semaphore>,
    lanes: Mutex<BTreeMap<LaneId, Lane>>,
    events: mpsc::Sender<LaneEvent>,
}

#[derive(Debug)]
struct Lane {
    token: String,
    /// Of the assignment that it was started with.
    epoch: u64,
    connection: Connection,
}

/// A lane connects once: one whose connection has closed is ending.
#[derive(Debug)]
enum Connection {
    Expected,
    Open(Open),
    Closed,
}

#[derive(Debug)]
struct Open {
    outgoing: mpsc::Sender<InvokerMessage>,
    stop: CancellationToken,
}

impl Lane {
    fn new(epoch: u64) -> Self {
        Self {
            epoch,
            token: format!("{:032x}", rand::rng().random::<u128>()),
            connection: Connection::Expected,
        }
    }
}

impl Lanes {
    fn with<T>(&self, use_it: impl FnOnce(&mut BTreeMap<LaneId, Lane>) -> T) -> T {
        use_it(
            &mut self
                .lanes
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner),
        )
    }

    fn send(&self, lane: LaneId, message: InvokerMessage) -> Result<(), SendError> {
        self.with(|lanes| {
            let connection = match lanes.get(&lane).map(|lane| &lane.connection) {
                Some(Connection::Open(connection)) => connection,
                Some(Connection::Expected | Connection::Closed) | None => {
                    return Err(SendError::NotConnected(lane));
                }
            };
            match connection.outgoing.try_send(message) {
                Ok(()) => Ok(()),
                Err(mpsc::error::TrySendError::Closed(_)) => Err(SendError::NotConnected(lane)),
                Err(mpsc::error::TrySendError::Full(_)) => {
                    connection.stop.cancel();
                    Err(SendError::Stuck(lane))
                }
            }
        })
    }

    /// Takes a `hello` as the one of its lane.
    fn admit(&self, lane: LaneId, epoch: u64, token: &str, open: Open) -> Result<(), String> {
        self.with(|lanes| {
            let Some(expected) = lanes.get_mut(&lane) else {
                return Err(format!("there is no lane {lane}"));
            };
            if !bool::from(expected.token.as_bytes().ct_eq(token.as_bytes())) {
                return Err(format!("the token is not the one of lane {lane}"));
            }
            if epoch != expected.epoch {
                return Err(format!(
                    "lane {lane} has epoch {epoch} and not {}",
                    expected.epoch
                ));
            }
            match expected.connection {
                Connection::Expected => {
                    expected.connection = Connection::Open(open);
                    Ok(())
                }
                Connection::Open(_) | Connection::Closed => Err(format!("lane {lane} has said hello before")),
            }
        })
    }

    async fn tell(&self, lane: LaneId, heard: Heard) {
        // Nobody listens any more: the instance is being taken down.
        let _ = self.events.send(LaneEvent { lane, heard }).await;
    }
}

fn listen(
    path: &Path,
    uid: Option<u32>,
    epoch: u64,
    lanes: impl IntoIterator<Item = LaneId>,
    hello_limit: Duration,
) -> Result<(Control, mpsc::Receiver<LaneEvent>), Error> {
    if path.as_os_str().len() > LONGEST_PATH {
        return Err(Error::PathTooLong {
            path: path.to_owned(),
        });
    }
    let listener = run_directory::bind(path, uid).map_err(|source| Error::Listen {
        path: path.to_owned(),
        source,
    })?;
    let lanes: BTreeMap<LaneId, Lane> = lanes.into_iter().map(|id| (id, Lane::new(epoch))).collect();
    let (events, receiver) = mpsc::channel(INCOMING);
    let control = Control {
        lanes: Arc::new(Lanes {
            hello_limit,
            // Some more than there are lanes, so that a stranger cannot keep a lane waiting.
            strangers: Arc::new(Semaphore::new(lanes.len() + 8)),
            lanes: Mutex::new(lanes),
            events,
        }),
        tasks: TaskTracker::new(),
        stop: CancellationToken::new(),
    };
    let accept = accept(
        listener,
        Arc::clone(&control.lanes),
        control.tasks.clone(),
        control.stop.clone(),
    );
    control.tasks.spawn(accept);
    Ok((control, receiver))
}

async fn accept(listener: UnixListener, lanes: Arc<Lanes>, tasks: TaskTracker, stop: CancellationToken) {
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                // More strangers than lanes: the newest one goes.
                let Ok(permit) = Arc::clone(&lanes.strangers).try_acquire_owned() else {
                    tracing::warn!("connection to the control socket refused: too many have not said hello");
                    continue;
                };
                let (lanes, stop) = (Arc::clone(&lanes), stop.clone());
                tasks.spawn(async move {
                    tokio::select! {
                        () = stop.cancelled() => {}
                        () = serve(stream, &lanes, stop.child_token(), permit) => {}
                    }
                });
            }
            Err(error) => {
                // Out of file descriptors, as a rule: others have to close some first.
                tracing::warn!(%error, "control socket cannot accept");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

async fn serve(
    stream: UnixStream,
    lanes: &Lanes,
    stop: CancellationToken,
    stranger: tokio::sync::OwnedSemaphorePermit,
) {
    let (read, write) = stream.into_split();
    let mut lines = FramedRead::new(read, LinesCodec::new_with_max_length(MAX_LINE));
    let (outgoing, messages) = mpsc::channel(OUTGOING);
    let open = Open {
        outgoing,
        stop: stop.clone(),
    };
    let hello = tokio::time::timeout(lanes.hello_limit, next(&mut lines)).await;
    let admitted = match hello {
        Err(_) => Err(format!("it said nothing within {:?}", lanes.hello_limit)),
        Ok(Err(because)) => Err(because),
        Ok(Ok(LaneMessage::Hello { lane, epoch, token })) => {
            lanes.admit(lane, epoch, &token, open).map(|()| lane)
        }
        Ok(Ok(_)) => Err("its first line was not hello".to_owned()),
    };
    drop(stranger);
    let lane = match admitted {
        Ok(lane) => lane,
        Err(because) => {
            tracing::warn!(because, "connection to the control socket refused");
            return;
        }
    };
    lanes.tell(lane, Heard::Hello).await;
    let because = tokio::select! {
        because = hear(lane, &mut lines, lanes) => because,
        because = speak(write, messages) => because,
        () = stop.cancelled() => "it did not read what it was sent".to_owned(),
    };
    lanes.with(|lanes| {
        if let Some(lane) = lanes.get_mut(&lane) {
            lane.connection = Connection::Closed;
        }
    });
    lanes.tell(lane, Heard::Closed { because }).await;
}

/// Passes on what the lane says, until it says something impossible or nothing more.
async fn hear(lane: LaneId, lines: &mut Lines, lanes: &Lanes) -> String {
    loop {
        let heard = match next(lines).await {
            Err(because) => return because,
            Ok(LaneMessage::Hello { .. }) => return "it said hello twice".to_owned(),
            Ok(LaneMessage::Loaded {
                load_ms,
                resident_bytes,
            }) => Heard::Loaded {
                load_ms,
                resident_bytes,
            },
            Ok(LaneMessage::State { epoch, reached }) => Heard::State { epoch, reached },
            Ok(LaneMessage::Turn { want, turn }) => Heard::Turn { want, turn },
            Ok(LaneMessage::Assignment(taken_up)) => Heard::Assignment(taken_up),
            Ok(LaneMessage::Failed { sentence, at }) => Heard::Failed { sentence, at },
        };
        lanes.tell(lane, heard).await;
    }
}

async fn speak(mut write: OwnedWriteHalf, mut messages: mpsc::Receiver<InvokerMessage>) -> String {
    while let Some(message) = messages.recv().await {
        let mut line = match serde_json::to_vec(&message) {
            Ok(line) => line,
            Err(error) => return format!("a message for it could not be written: {error}"),
        };
        line.push(b'\n');
        if let Err(error) = write.write_all(&line).await {
            return format!("it could not be written to: {error}");
        }
    }
    "the instance is being removed".to_owned()
}

type Lines = FramedRead<OwnedReadHalf, LinesCodec>;

/// The next line, or why there is none.
async fn next(lines: &mut Lines) -> Result<LaneMessage, String> {
    match lines.next().await {
        Some(Ok(line)) => {
            serde_json::from_str(&line).map_err(|error| format!("it said what cannot be read: {error}"))
        }
        Some(Err(LinesCodecError::MaxLineLengthExceeded)) => {
            Err(format!("it sent a line of more than {MAX_LINE} bytes"))
        }
        Some(Err(LinesCodecError::Io(error))) => Err(format!("it could not be read from: {error}")),
        None => Err("it closed the connection".to_owned()),
    }
}

#[cfg(test)]
mod tests;
