//! The one Python process: messages to it, its answers, and how it ends.
//!
//! What the messages mean to a user is the proxy's business, what they mean to a pipeline `life`'s.

pub mod protocol;
pub mod process;

use self::process::{Exit, Process};
use self::protocol::{Answer, Failure, FromChild, MAX_MESSAGE, ToChild};
use axum::body::Bytes;
use nix::unistd::Pid;
use proto::ffs::control::TakenUp;
use proto::ffs::state::Desired;
use proto::unit::{Bytes as Size, Millis};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;

/// How long a process may live on after it has closed its socket.
const SOCKET_CLOSED: Duration = Duration::from_secs(1);
/// How long the last answers of an ended process may take to be read.
const LAST_ANSWERS: Duration = Duration::from_millis(200);

/// How the Python process ended. Nothing is asked of it any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    Exited(Exit),
    /// It said what is not a message, and was killed.
    Broke(String),
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited(exit) => write!(f, "the Python process ended ({exit})"),
            Self::Broke(why) => write!(f, "the Python process was ended because it {why}"),
        }
    }
}

/// The process has ended, or is being ended, before it answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gone;

/// What the process is asked with an answer of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    Run,
    Build,
    Profile,
}

/// What the process says of its own accord.
#[derive(Clone, Debug)]
pub enum Notice {
    /// The interpreter is up and its imports are over.
    Hello,
    /// The user's code is loaded, or could not be.
    Initialized,
    Loaded {
        load_ms: Millis,
        resident_bytes: Size,
    },
    Failed(Failure),
    State {
        epoch: u64,
        reached: Desired,
    },
    Turn {
        want: bool,
        turn: u64,
    },
    Assignment(TakenUp),
}

/// A handle to the process; it lives until it is hung up on, or killed.
#[derive(Clone, Debug)]
pub struct Child {
    pid: Pid,
    talk: Arc<Mutex<Talk>>,
    ended: watch::Receiver<Option<End>>,
}

/// A process that has just been started, and what comes out of it.
#[derive(Debug)]
pub struct Started {
    pub child: Child,
    pub notices: mpsc::Receiver<Notice>,
    pub stdout: OwnedFd,
    pub stderr: OwnedFd,
}

/// Both directions of the conversation.
#[derive(Debug)]
struct Talk {
    /// None once there is nothing more to say. Unbounded: each entry is one request that has been
    /// read already, or a few words.
    outbox: Option<mpsc::UnboundedSender<ToChild>>,
    next_id: u64,
    initialized: Option<oneshot::Sender<Result<(), Failure>>>,
    requests: BTreeMap<u64, oneshot::Sender<Answer>>,
}

impl Talk {
    fn say(&self, message: ToChild) -> bool {
        self.outbox
            .as_ref()
            .is_some_and(|outbox| outbox.send(message).is_ok())
    }
}

impl Child {
    /// Starts the interpreter, without the variables `hidden`.
    ///
    /// # Errors
    /// It cannot be started, or the system is out of what this needs.
    pub fn start(python: &OsStr, hidden: &[&str]) -> std::io::Result<Started> {
        let Process {
            pid,
            socket,
            stdout,
            stderr,
            ended,
        } = Process::start(python, hidden)?;
        let (reading, writing) = UnixStream::from_std(socket)?.into_split();
        let (outbox, to_write) = mpsc::unbounded_channel();
        let (notes, notices) = mpsc::channel(64);
        let (tell, has_ended) = watch::channel(None);
        let talk = Talk {
            outbox: Some(outbox),
            next_id: 1,
            initialized: None,
            requests: BTreeMap::new(),
        };
        let child = Self {
            pid,
            talk: Arc::new(Mutex::new(talk)),
            ended: has_ended,
        };
        tokio::spawn(write(writing, to_write));
        tokio::spawn(child.clone().watch(reading, notes, ended, tell));
        Ok(Started {
            child,
            notices,
            stdout,
            stderr,
        })
    }

    /// Loads the user's code; `value` is that of `/init`.
    ///
    /// # Errors
    /// The process ended first. The inner error is the user's.
    pub async fn init(&self, value: Bytes) -> Result<Result<(), Failure>, Gone> {
        let (tell, answer) = oneshot::channel();
        {
            let mut talk = self.talk();
            if talk.say(ToChild::Init { value }) {
                talk.initialized = Some(tell);
            }
        }
        answer.await.map_err(|_| Gone)
    }

    /// Whether the user's code is being loaded.
    pub fn initializing(&self) -> bool {
        self.talk().initialized.is_some()
    }

    /// A number for the next request.
    pub fn next_id(&self) -> u64 {
        let mut talk = self.talk();
        talk.next_id += 1;
        talk.next_id - 1
    }

    /// Asks under a number from [`Self::next_id`]. Several may be asked at once.
    ///
    /// # Errors
    /// The process ended before it answered.
    pub async fn ask(&self, id: u64, what: Ask, body: Bytes) -> Result<Answer, Gone> {
        let (tell, answer) = oneshot::channel();
        let message = match what {
            Ask::Run => ToChild::Run { id, body },
            Ask::Build => ToChild::Build { id, request: body },
            Ask::Profile => ToChild::Profile { id, request: body },
        };
        {
            let mut talk = self.talk();
            if talk.say(message) {
                talk.requests.insert(id, tell);
            }
        }
        answer.await.map_err(|_| Gone)
    }

    /// Says something that has no answer of its own. To an ended process nothing is said.
    pub fn send(&self, message: ToChild) {
        self.talk().say(message);
    }

    /// Closes the conversation: the process ends when it has read what was said.
    pub fn hang_up(&self) {
        self.talk().outbox = None;
    }

    /// Waits until the process has ended and its last answers are given.
    pub async fn ended(&self) -> End {
        let mut ended = self.ended.clone();
        let end = ended
            .wait_for(Option::is_some)
            .await
            .ok()
            .and_then(|end| end.clone());
        end.unwrap_or_else(|| End::Broke("was abandoned".into()))
    }

    /// How the process ended, if it has.
    pub fn end(&self) -> Option<End> {
        self.ended.borrow().clone()
    }

    /// Kills the process and all its descendants, wherever they went.
    pub async fn sweep(&self) {
        process::sweep(self.pid).await;
    }

    fn talk(&self) -> MutexGuard<'_, Talk> {
        self.talk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads until the process has ended, one way or the other.
    async fn watch(
        self,
        reading: OwnedReadHalf,
        notices: mpsc::Sender<Notice>,
        mut ended: oneshot::Receiver<Exit>,
        tell: watch::Sender<Option<End>>,
    ) {
        let mut reader = std::pin::pin!(self.read(reading, notices));
        let end = tokio::select! {
            exit = &mut ended => {
                // A process of the user's may hold the socket open for ever.
                let _ = timeout(LAST_ANSWERS, &mut reader).await;
                exit.map_or_else(|_| End::Broke("was lost".into()), End::Exited)
            }
            outcome = &mut reader => {
                let grace = if outcome.is_ok() { SOCKET_CLOSED } else { Duration::ZERO };
                let exit = match timeout(grace, &mut ended).await {
                    Ok(exit) => exit,
                    Err(_) => {
                        process::kill_group(self.pid);
                        ended.await
                    }
                };
                match (outcome, exit) {
                    (Ok(()), Ok(exit)) => End::Exited(exit),
                    (Ok(()), Err(_)) => End::Broke("was lost".into()),
                    (Err(why), _) => End::Broke(why),
                }
            }
        };
        tell.send_replace(Some(end));
        let mut talk = self.talk();
        talk.outbox = None;
        talk.initialized = None;
        talk.requests.clear();
    }

    /// Hands on what the process says. Ends with its socket, or with what was wrong.
    async fn read(&self, mut socket: OwnedReadHalf, notices: mpsc::Sender<Notice>) -> Result<(), String> {
        while let Ok(length) = socket.read_u32_le().await {
            if length as usize > MAX_MESSAGE {
                return Err(format!(
                    "sent a message of {length} bytes, more than {MAX_MESSAGE}"
                ));
            }
            let mut message = vec![0; length as usize];
            if socket.read_exact(&mut message).await.is_err() {
                return Ok(());
            }
            let message = FromChild::decode(&message.into())
                .map_err(|error| format!("sent a message that cannot be read: {error}"))?;
            let notice = match message {
                None => continue,
                Some(FromChild::Result(answer)) => {
                    let asker = self.talk().requests.remove(&answer.id);
                    // Nobody waits any more: the answer is late, or was never asked for.
                    let _ = asker.map(|asker| asker.send(answer));
                    continue;
                }
                Some(FromChild::Initialized { error }) => {
                    let asker = self.talk().initialized.take();
                    let _ = asker.map(|asker| asker.send(error.map_or(Ok(()), Err)));
                    Notice::Initialized
                }
                Some(FromChild::Hello { .. }) => Notice::Hello,
                Some(FromChild::Loaded {
                    load_ms,
                    resident_bytes,
                }) => Notice::Loaded {
                    load_ms,
                    resident_bytes,
                },
                Some(FromChild::Failed(failure)) => Notice::Failed(failure),
                Some(FromChild::State { epoch, reached }) => Notice::State { epoch, reached },
                Some(FromChild::Turn { want, turn }) => Notice::Turn { want, turn },
                Some(FromChild::Assignment(taken_up)) => Notice::Assignment(taken_up),
            };
            let _ = notices.send(notice).await;
        }
        Ok(())
    }
}

async fn write(mut socket: OwnedWriteHalf, mut messages: mpsc::UnboundedReceiver<ToChild>) {
    while let Some(message) = messages.recv().await {
        for piece in message.encode() {
            if socket.write_all(&piece).await.is_err() {
                return; // it is ending; `watch` sees how
            }
        }
    }
}
