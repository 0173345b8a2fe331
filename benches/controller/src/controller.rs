//! Kafka and a database around the state machines.

mod call;

pub use self::call::{Call, Running};

use crate::database::{self, Database};
use crate::health::{Effect, Health, Outcome, State};
use crate::ledger::{Answer, Finished, Ledger, Problem, Sent};
use crate::slots::{Need, Slots, split, walk};
use crate::topics::{Cause, LARGEST, Topics};
use proto::decode::decode;
use proto::id::ActivationId;
use proto::whisk::acknowledgement::Acknowledgement;
use proto::whisk::activation_message::ActivationMessage;
use proto::whisk::ping::PingMessage;
use proto::whisk::transid::TransactionId;
use rdkafka::ClientConfig;
use rdkafka::admin::AdminClient;
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{Consumer, StreamConsumer};
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use serde_json::json;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;
use tokio_util::sync::{CancellationToken, DropGuard};

/// How a controller is set.
#[derive(Clone, Debug)]
pub struct Settings {
    pub hosts: String,
    pub topics: Topics,
    /// The C of topic `completedC`.
    pub name: String,
    /// How many controllers share the invokers.
    pub controllers: u64,
    pub memory_min_mb: u64,
    /// Without one, nobody is tested, and nothing is looked up.
    pub database: Option<Database>,
    /// The resolved `nodejs:default`.
    pub test_kind: String,
    /// `(max(timeout, std) × factor) + addon` is when a slot is freed without an ack (K-63).
    pub time_limit_std: Duration,
    pub timeout_factor: u32,
    pub timeout_addon: Duration,
    /// Whether the acks of an activation are kept as they came.
    pub keep_acks: bool,
}

impl Settings {
    /// One controller, `0`, with OpenWhisk's defaults.
    pub fn new(hosts: String) -> Self {
        Self {
            hosts,
            topics: Topics::default(),
            name: "0".to_owned(),
            controllers: 1,
            memory_min_mb: 128,
            database: None,
            test_kind: "nodejs:20".to_owned(),
            time_limit_std: Duration::from_secs(60),
            timeout_factor: 2,
            timeout_addon: Duration::from_secs(60),
            keep_acks: true,
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("topic {topic} could not be made")]
    Topic {
        topic: String,
        #[source]
        source: Cause,
    },
    #[error("Kafka at {hosts} could not be used")]
    Kafka {
        hosts: String,
        #[source]
        source: KafkaError,
    },
    #[error(transparent)]
    Database(#[from] database::Error),
    #[error("no invoker is healthy")]
    NoInvoker,
    #[error("invoker{index} is {state} after {waited:?}: expected up")]
    NotHealthy {
        index: u32,
        state: State,
        waited: Duration,
    },
}

/// One controller.
pub struct Controller {
    settings: Settings,
    producer: FutureProducer,
    state: Mutex<Cluster>,
    test_transid: TransactionId,
    _stop: DropGuard,
}

impl std::fmt::Debug for Controller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Controller")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct Cluster {
    /// By index; those below the highest that never pinged are offline.
    invokers: Vec<Invoker>,
    ledger: Ledger,
    callers: HashMap<ActivationId, Caller>,
    /// Pings as they came, the latest last.
    pings: Vec<(Instant, PingMessage)>,
    tests_sent: u64,
    tests_answered: u64,
}

#[derive(Debug, Default)]
struct Invoker {
    health: Health,
    /// From the first ping on.
    slots: Option<Slots>,
}

/// Who waits for what, and what is taken meanwhile.
#[derive(Debug)]
struct Caller {
    invoker: u32,
    need: Option<Need>,
    answer: Option<oneshot::Sender<Answer>>,
    finished: Option<oneshot::Sender<Finished>>,
}

/// Between two looks at the invokers' health.
const BETWEEN_TRIES: Duration = Duration::from_millis(5);
/// Pings that are kept.
const PINGS: usize = 1000;

impl Controller {
    /// Makes the topics and the test action, and begins to listen: what is said from now on is heard.
    ///
    /// # Errors
    /// When Kafka or the database does not work.
    pub async fn start(settings: Settings) -> Result<Arc<Self>, Error> {
        let kafka = |source| Error::Kafka {
            hosts: settings.hosts.clone(),
            source,
        };
        let admin: AdminClient<DefaultClientContext> = client(&settings.hosts).create().map_err(kafka)?;
        let made = settings.topics.make(&admin, &settings.name).await;
        made.map_err(|(topic, source)| Error::Topic { topic, source })?;
        if let Some(database) = &settings.database {
            let memory = settings.memory_min_mb;
            database
                .put_test_action(&settings.name, &settings.test_kind, memory)
                .await?;
        }
        let producer = client(&settings.hosts)
            .set("linger.ms", "0")
            .set("acks", "1")
            .set("message.max.bytes", (LARGEST * 2).to_string())
            .create()
            .map_err(kafka)?;
        let completed = listen(&settings.hosts, settings.topics.completed(&settings.name))
            .await
            .map_err(kafka)?;
        let health = listen(&settings.hosts, settings.topics.health())
            .await
            .map_err(kafka)?;
        let stop = CancellationToken::new();
        let controller = Arc::new(Self {
            state: Mutex::new(Cluster {
                invokers: Vec::new(),
                ledger: Ledger::new(settings.keep_acks),
                callers: HashMap::new(),
                pings: Vec::new(),
                tests_sent: 0,
                tests_answered: 0,
            }),
            producer,
            test_transid: TransactionId::new("sid_invokerHealth", now_ms()),
            _stop: stop.clone().drop_guard(),
            settings,
        });
        let weak = Arc::downgrade(&controller);
        let acks = weak.clone();
        spawn_reader(completed, stop.clone(), move |payload| {
            if let Some(controller) = acks.upgrade() {
                controller.ack(payload);
            }
        });
        let pings = weak.clone();
        spawn_reader(health, stop.clone(), move |payload| {
            if let Some(controller) = pings.upgrade() {
                controller.ping(payload);
            }
        });
        tokio::spawn(async move {
            let mut second = tokio::time::interval(Duration::from_secs(1));
            loop {
                tokio::select! {
                    () = stop.cancelled() => return,
                    _ = second.tick() => {}
                }
                match weak.upgrade() {
                    Some(controller) => controller.tick(),
                    None => return,
                }
            }
        });
        Ok(controller)
    }

    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    pub fn health_of(&self, invoker: u32) -> State {
        let cluster = self.lock();
        cluster
            .invokers
            .get(invoker as usize)
            .map_or(State::Offline, |i| i.health.state())
    }

    /// Waits until an invoker gets activations; how long that took.
    ///
    /// # Errors
    /// `NotHealthy` if it takes longer than `limit`.
    pub async fn until_healthy(&self, index: u32, limit: Duration) -> Result<Duration, Error> {
        let begun = Instant::now();
        loop {
            let (state, waited) = (self.health_of(index), begun.elapsed());
            if state == State::Healthy {
                return Ok(waited);
            }
            if waited > limit {
                return Err(Error::NotHealthy { index, state, waited });
            }
            tokio::time::sleep(BETWEEN_TRIES).await;
        }
    }

    /// Pings so far, with when they were read.
    pub fn pings(&self) -> Vec<(Instant, PingMessage)> {
        self.lock().pings.clone()
    }

    /// MB that are not taken; below zero in overload.
    pub fn free_mb(&self, invoker: u32) -> Option<i64> {
        let cluster = self.lock();
        Some(cluster.invokers.get(invoker as usize)?.slots.as_ref()?.free_mb())
    }

    /// Test actions sent and answered.
    pub fn tests(&self) -> (u64, u64) {
        let cluster = self.lock();
        (cluster.tests_sent, cluster.tests_answered)
    }

    /// Activations whose slot is still taken.
    pub fn open(&self) -> usize {
        self.lock().ledger.open()
    }

    /// Everything that was wrong with the answers so far.
    pub fn audit(&self) -> Vec<Problem> {
        self.lock().ledger.audit()
    }

    /// Chooses a healthy invoker and sends it the activation (K-44, K-61, K-65).
    ///
    /// # Errors
    /// `NoInvoker`, or what Kafka says.
    pub async fn schedule(&self, call: Call) -> Result<Running, Error> {
        self.schedule_within(call, Duration::ZERO).await
    }

    /// As `schedule`, for a caller who tries again while no invoker is healthy.
    ///
    /// # Errors
    /// `NoInvoker` if none was healthy within `limit`, or what Kafka says.
    pub async fn schedule_within(&self, call: Call, limit: Duration) -> Result<Running, Error> {
        let need = Need {
            action: call.message.action.to_string(),
            memory_mb: call.memory_mb,
            concurrency: call.concurrency,
        };
        let namespace = call.message.user.namespace.name.to_string();
        let begun = Instant::now();
        let index = loop {
            let chosen = self.lock().choose(&namespace, &need, call.blackbox);
            match chosen {
                Some(index) => break index,
                None if begun.elapsed() >= limit => return Err(Error::NoInvoker),
                None => tokio::time::sleep(BETWEEN_TRIES).await,
            }
        };
        self.send(index, call, Some(need)).await
    }

    /// Sends an activation to an invoker as it is, healthy or not, and takes no slot.
    ///
    /// # Errors
    /// What Kafka says.
    pub async fn send_to(&self, invoker: u32, call: Call) -> Result<Running, Error> {
        self.send(invoker, call, None).await
    }

    /// Sends bytes to an invoker of which no answer is expected.
    ///
    /// # Errors
    /// What Kafka says.
    pub async fn send_raw(&self, invoker: u32, payload: &[u8]) -> Result<(), Error> {
        let topic = self.settings.topics.invoker(invoker);
        let record = FutureRecord::<(), _>::to(&topic).payload(payload);
        let sent = self.producer.send(record, Duration::from_secs(60)).await;
        sent.map(drop).map_err(|(source, _)| Error::Kafka {
            hosts: self.settings.hosts.clone(),
            source,
        })
    }

    async fn send(&self, invoker: u32, call: Call, need: Option<Need>) -> Result<Running, Error> {
        let message = &call.message;
        let (id, namespace) = (message.activation_id, message.user.namespace.name.to_string());
        let limit = call.timeout.max(self.settings.time_limit_std);
        let payload = call.payload();
        let ((answer, answered), (finished, finishing)) = (oneshot::channel(), oneshot::channel());
        let at = Instant::now();
        {
            let mut cluster = self.lock();
            cluster.callers.insert(
                id,
                Caller {
                    invoker,
                    need,
                    answer: message.blocking.then_some(answer),
                    finished: Some(finished),
                },
            );
            cluster.ledger.sent(Sent {
                id,
                transid: message.transid.clone(),
                invoker,
                blocking: message.blocking,
                at,
                force_after: limit * self.settings.timeout_factor + self.settings.timeout_addon,
            });
        }
        if let Err(error) = self.send_raw(invoker, &payload).await {
            let mut cluster = self.lock();
            cluster.ledger.unsent(id);
            cluster.release(id);
            cluster.callers.remove(&id);
            return Err(error);
        }
        Ok(Running {
            id,
            at,
            namespace,
            database: self.settings.database.clone(),
            answered,
            finishing,
        })
    }

    fn ack(&self, payload: &[u8]) {
        let now = Instant::now();
        if self.is_test(payload, now) {
            return;
        }
        let mut cluster = self.lock();
        let told = cluster.ledger.ack(payload, now);
        let Some(id) = told.id else { return };
        if let Some(answer) = told.answer
            && let Some(waiting) = cluster
                .callers
                .get_mut(&id)
                .and_then(|caller| caller.answer.take())
        {
            let _ = waiting.send(answer); // the caller may have gone
        }
        let test = told
            .finished
            .and_then(|finished| cluster.finish(id, finished, now));
        drop(cluster);
        self.test_if(test);
    }

    /// Whether it answers a test action of this controller (K-50), or of an earlier one.
    fn is_test(&self, payload: &[u8], now: Instant) -> bool {
        let marked = memmem(payload, self.test_transid.id.as_bytes());
        let Some(ack) = marked.then(|| decode::<Acknowledgement>(payload).ok()).flatten() else {
            return false;
        };
        let (invoker, system_error) = match &ack {
            Acknowledgement::Completion(m) => (m.instance.instance, m.is_system_error),
            Acknowledgement::Combined(m) => (m.instance.instance, m.is_system_error),
            Acknowledgement::Result(_) => return false,
        };
        if *ack.transid() != self.test_transid {
            return ack.transid().id == self.test_transid.id;
        }
        let outcome = if system_error {
            Outcome::SystemError
        } else {
            Outcome::Success
        };
        let mut cluster = self.lock();
        cluster.tests_answered += 1;
        let test = cluster.result(invoker, outcome, now);
        drop(cluster);
        self.test_if(test);
        true
    }

    fn ping(&self, payload: &[u8]) {
        let ping: PingMessage = match decode(payload) {
            Ok(ping) => ping,
            Err(error) => return tracing::warn!(%error, "a ping cannot be read"),
        };
        let now = Instant::now();
        let test = self.lock().ping(ping, &self.settings, now);
        self.test_if(test);
    }

    fn tick(&self) {
        let now = Instant::now();
        let mut cluster = self.lock();
        let mut tests = Vec::new();
        for (id, finished) in cluster.ledger.force(now) {
            tests.extend(cluster.finish(id, finished, now));
        }
        for (index, invoker) in (0..).zip(&mut cluster.invokers) {
            if invoker.health.tick(now) == Effect::SendTest {
                tests.push(index);
            }
        }
        drop(cluster);
        tests.into_iter().for_each(|test| self.test_if(Some(test)));
    }

    /// Sends the test action (K-48).
    fn test_if(&self, invoker: Option<u32>) {
        let (Some(invoker), Some(_)) = (invoker, &self.settings.database) else {
            return;
        };
        self.lock().tests_sent += 1;
        let uuid = uuid::Uuid::new_v4().to_string();
        let key: String = std::iter::repeat_with(|| uuid::Uuid::new_v4().simple().to_string())
            .take(2)
            .collect();
        let message = json!({
            "action": { "name": format!("invokerHealthTestAction{}", self.settings.name), "path": "whisk.system", "version": "0.0.1" },
            "activationId": uuid::Uuid::new_v4().simple().to_string(),
            "blocking": false,
            "initArgs": [],
            "lockedArgs": {},
            "revision": null,
            "rootControllerIndex": { "asString": self.settings.name, "instanceType": "controller" },
            "transid": self.test_transid,
            "user": {
                "authkey": { "api_key": format!("{uuid}:{key}") },
                "limits": {},
                "namespace": { "name": "whisk.system", "uuid": uuid },
                "rights": [],
                "subject": "whisk.system",
            },
        });
        let (producer, topic) = (self.producer.clone(), self.settings.topics.invoker(invoker));
        tokio::spawn(async move {
            let payload = message.to_string();
            let record = FutureRecord::<(), _>::to(&topic).payload(&payload);
            if let Err((error, _)) = producer.send(record, Duration::from_secs(60)).await {
                tracing::warn!(%error, topic, "a test action could not be sent");
            }
        });
    }

    fn lock(&self) -> MutexGuard<'_, Cluster> {
        self.state.lock().expect("no holder panics")
    }
}

impl Cluster {
    fn ping(&mut self, ping: PingMessage, settings: &Settings, now: Instant) -> Option<u32> {
        let index = ping.name.instance;
        let place = index as usize;
        if self.invokers.len() <= place {
            self.invokers.resize_with(place + 1, Invoker::default);
        }
        let invoker = &mut self.invokers[place];
        let memory_mb = ping.name.user_memory.bytes().0 >> 20;
        invoker
            .slots
            .get_or_insert_with(|| Slots::new(memory_mb, settings.controllers, settings.memory_min_mb));
        let effect = invoker.health.ping(ping.is_enabled.unwrap_or(true), now);
        if self.pings.len() == PINGS {
            self.pings.remove(0);
        }
        self.pings.push((now, ping));
        (effect == Effect::SendTest).then_some(index)
    }

    fn choose(&mut self, namespace: &str, need: &Need, blackbox: bool) -> Option<u32> {
        let (managed, other) = split(self.invokers.len());
        let range = if blackbox { other } else { managed };
        if range.is_empty() {
            return None;
        }
        let base = range.start;
        let usable = &mut self.invokers[range];
        let mut forced = None;
        for place in walk(namespace, &need.action, usable.len()) {
            let invoker = &mut usable[place];
            let (State::Healthy, Some(slots)) = (invoker.health.state(), &mut invoker.slots) else {
                continue;
            };
            if slots.take(need) {
                return u32::try_from(base + place).ok();
            }
            forced.get_or_insert(place);
        }
        // Overload: any healthy one will do (K-44).
        let place = forced?;
        usable[place].slots.as_mut()?.force(need);
        u32::try_from(base + place).ok()
    }

    fn finish(&mut self, id: ActivationId, finished: Finished, now: Instant) -> Option<u32> {
        let outcome = finished.outcome;
        let invoker = self.release(id)?;
        let caller = self.callers.get_mut(&id)?;
        if let Some(waiting) = caller.finished.take() {
            let _ = waiting.send(finished);
        }
        if caller.answer.is_none() {
            self.callers.remove(&id);
        }
        self.result(invoker, outcome, now)
    }

    /// Gives back what the activation has taken.
    fn release(&mut self, id: ActivationId) -> Option<u32> {
        let caller = self.callers.get_mut(&id)?;
        let (index, need) = (caller.invoker, caller.need.take());
        if let (Some(need), Some(invoker)) = (need, self.invokers.get_mut(index as usize))
            && let Some(slots) = &mut invoker.slots
        {
            slots.give_back(&need);
        }
        Some(index)
    }

    fn result(&mut self, invoker: u32, outcome: Outcome, now: Instant) -> Option<u32> {
        let known = self.invokers.get_mut(invoker as usize)?;
        (known.health.result(outcome, now) == Effect::SendTest).then_some(invoker)
    }
}

fn client(hosts: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", hosts);
    config.set("reconnect.backoff.ms", "50");
    config.set("reconnect.backoff.max.ms", "1000");
    config
}

/// Listens to a topic from now on. Its own position is all it needs, so it joins no group.
async fn listen(hosts: &str, topic: String) -> Result<StreamConsumer, KafkaError> {
    let consumer: StreamConsumer = client(hosts)
        .set("group.id", format!("stand-in-{}", uuid::Uuid::new_v4().simple()))
        .set("enable.auto.commit", "false")
        .set("fetch.wait.max.ms", "100")
        .set("fetch.min.bytes", "1")
        .set("fetch.error.backoff.ms", "5")
        .set("fetch.message.max.bytes", (LARGEST * 2).to_string())
        .create()?;
    tokio::task::spawn_blocking(move || {
        // A topic just made may not have a leader yet.
        let mut tries = 0;
        let end = loop {
            match consumer.fetch_watermarks(&topic, 0, Duration::from_secs(10)) {
                Ok((_, end)) => break end,
                Err(error) if tries == 50 => return Err(error),
                Err(_) => tries += 1,
            }
            std::thread::sleep(Duration::from_millis(100));
        };
        let mut position = TopicPartitionList::new();
        position.add_partition_offset(&topic, 0, Offset::Offset(end))?;
        consumer.assign(&position)?;
        Ok(consumer)
    })
    .await
    .expect("it does not panic")
}

fn spawn_reader(consumer: StreamConsumer, stop: CancellationToken, read: impl Fn(&[u8]) + Send + 'static) {
    tokio::spawn(async move {
        loop {
            let next = tokio::select! {
                () = stop.cancelled() => return,
                next = consumer.recv() => next,
            };
            match next {
                Ok(message) => read(message.payload().unwrap_or_default()),
                Err(error) => {
                    tracing::debug!(%error, "a topic could not be read");
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
        }
    });
}

fn memmem(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

fn now_ms() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// A fresh activation of a message that serves as template: own ids, everything else as it is.
pub fn fresh(template: &ActivationMessage) -> ActivationMessage {
    ActivationMessage {
        activation_id: ActivationId::from_u128(uuid::Uuid::new_v4().as_u128()),
        transid: TransactionId::new(uuid::Uuid::new_v4().simple().to_string(), now_ms()),
        ..template.clone()
    }
}
