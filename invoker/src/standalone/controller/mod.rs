//! The controller's part: entities, activations, and the way of an invocation to the invoker and back.
//!
//! It knows nothing of HTTP but status codes.

mod actions;
mod activations;
mod address;
mod code;
mod identity;
mod invoke;
mod packages;
mod put;
mod refusal;
mod waiting;

pub use self::activations::{ActivationFilter, Page, activation_id};
pub use self::address::{Address, entity_name, own_namespace};
pub use self::invoke::{Invocation, Outcome, extended};
pub use self::packages::PackagePut;
pub use self::put::{ActionPut, CODE_BYTES};
pub use self::refusal::Refusal;

use self::waiting::Waiters;
use super::key::Key;
use crate::bus::{self, Bus, Subscription, TopicSpec};
use crate::runtimes::Runtimes;
use crate::store::Store;
use proto::unit::Bytes;
use proto::whisk::limits::{Bounds, SystemLimits};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// What is allowed, and who is.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Of the namespace `guest`.
    pub key: Key,
    pub runtimes: Runtimes,
    pub limits: SystemLimits,
    /// Most bytes of a request's arguments, of an entity's parameters, and of its annotations.
    pub payload: Bytes,
    /// Largest message on `invokerN` and `completed0` (K-03).
    pub message: Bytes,
    /// The N of topic `invokerN`.
    pub invoker: u32,
    /// How long a blocking invocation waits before it is answered with its id.
    pub blocking_wait: Duration,
}

impl Settings {
    /// OpenWhisk's defaults, but up to 500 activations at once in one container.
    pub fn new(key: Key) -> Self {
        Self {
            key,
            runtimes: Runtimes::built_in(),
            limits: SystemLimits {
                concurrency: Bounds { min: 1, max: 500 },
                ..SystemLimits::default()
            },
            payload: Bytes(1 << 20),
            message: Bytes(1_054_644),
            invoker: 0,
            blocking_wait: Duration::from_secs(60),
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the bus could not be made ready")]
    Bus(#[from] bus::Error),
    #[error("the user {user} could not be written to the store")]
    User {
        user: &'static str,
        #[source]
        source: crate::store::Error,
    },
}

/// The controller of a cluster with one invoker.
#[derive(Debug)]
pub struct Controller {
    bus: Arc<dyn Bus>,
    store: Arc<dyn Store>,
    settings: Settings,
    waiters: Arc<Waiters>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

/// The topic that the invoker answers on.
const COMPLETED: &str = "completed0";

impl Controller {
    /// Makes the user and the topics that a controller makes, and begins to read answers.
    ///
    /// # Errors
    /// When the bus or the store does not work.
    pub async fn start(
        bus: Arc<dyn Bus>,
        store: Arc<dyn Store>,
        settings: Settings,
    ) -> Result<Arc<Self>, Error> {
        identity::ensure_user(&*store, &settings.key).await?;
        for topic in topics(&settings) {
            bus.ensure_topic(&topic).await?;
        }
        let answers = bus.subscribe(COMPLETED, COMPLETED).await?;
        let controller = Arc::new(Self {
            bus,
            store,
            settings,
            waiters: Arc::default(),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
        });
        let reading = read_answers(answers, controller.waiters.clone(), controller.stop.clone());
        controller.tasks.spawn(reading);
        Ok(controller)
    }

    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Answers everybody who waits with the id of their activation, and reads no more answers.
    pub async fn close(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

fn topics(settings: &Settings) -> [TopicSpec; 4] {
    let topic = |name: String, config: &[(&str, String)]| TopicSpec {
        name,
        partitions: 1,
        replication: 1,
        config: config
            .iter()
            .map(|(k, v)| ((*k).to_owned(), v.clone()))
            .collect::<BTreeMap<_, _>>(),
    };
    let (hour, large) = ("3600000".to_owned(), settings.message.0.to_string());
    let kept = |name: &str| topic(name.to_owned(), &[("retention.ms", hour.clone())]);
    [
        topic(
            format!("invoker{}", settings.invoker),
            &[("max.message.bytes", large.clone())],
        ),
        topic(
            COMPLETED.to_owned(),
            &[("max.message.bytes", large), ("retention.ms", hour.clone())],
        ),
        kept("health"),
        kept("events"),
    ]
}

/// How long to leave a bus alone that could not be read.
const PAUSE: Duration = Duration::from_secs(1);

/// One task hands every answer to whoever waits for it. Answers that nobody waits for are dropped.
async fn read_answers(mut answers: Box<dyn Subscription>, waiters: Arc<Waiters>, stop: CancellationToken) {
    loop {
        let batch = tokio::select! {
            () = stop.cancelled() => break,
            batch = answers.next(256) => batch,
        };
        match batch {
            Ok(batch) => {
                batch.iter().for_each(|message| waiters.tell(&message.payload));
                if let Some(last) = batch.last()
                    && let Err(error) = answers.commit(last).await
                {
                    tracing::warn!(%error, "answers may be read again");
                }
            }
            Err(error) => {
                tracing::warn!(%error, cause = ?std::error::Error::source(&error), "answers could not be read");
                tokio::select! {
                    () = stop.cancelled() => break,
                    () = tokio::time::sleep(PAUSE) => {}
                }
            }
        }
    }
    waiters.close();
    if let Err(error) = answers.close().await {
        tracing::warn!(%error, "answers may be read again");
    }
}

fn now_ms() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |d| i64::try_from(d.as_millis()).unwrap_or(i64::MAX))
}
