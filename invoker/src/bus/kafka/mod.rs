//! Kafka, by way of librdkafka, which finds brokers again by itself however long they were away.

mod look_back;
mod reader;
mod settings;

pub use self::settings::{InvalidSetting, KafkaSettings};

use super::{Bus, Cause, Error, Subscription, TopicSpec, Visit};
use async_trait::async_trait;
use rdkafka::ClientContext;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{Consumer, ConsumerContext, StreamConsumer};
use rdkafka::error::KafkaError;
use rdkafka::producer::{FutureProducer, FutureRecord, Producer};
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::util::Timeout;
use std::time::Duration;
use tokio::sync::oneshot;

/// How long the brokers may take to list their topics, or to make one (K-05).
const ADMIN: Duration = Duration::from_secs(60);

/// How often the creation of a topic is tried, and what lies between (K-05).
const TRIES: u32 = 6;
const PAUSE: Duration = Duration::from_secs(1);

/// A cluster of brokers.
pub struct KafkaBus {
    settings: KafkaSettings,
    producer: FutureProducer<Events>,
}

impl std::fmt::Debug for KafkaBus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KafkaBus")
            .field("hosts", &self.settings.hosts)
            .finish_non_exhaustive()
    }
}

impl KafkaBus {
    /// Connects in the background: brokers that are away are waited for by whatever needs them.
    ///
    /// # Errors
    /// When a setting cannot be followed.
    pub fn new(settings: KafkaSettings) -> Result<Self, Error> {
        let failed = |source: Cause| Error::Open {
            at: settings.hosts.clone(),
            source,
        };
        if settings.hosts.trim().is_empty() {
            return Err(failed("no broker is named".into()));
        }
        // What only shows when a topic is read is looked at now.
        settings
            .consumer("topic", "group")
            .map_err(|e| failed(e.into()))?;
        let config = settings.producer().map_err(|e| failed(e.into()))?;
        let producer = config.create_with_context(Events).map_err(|e| failed(e.into()))?;
        Ok(Self { settings, producer })
    }

    /// How many brokers there are, and the names of all topics.
    ///
    /// # Errors
    /// When no broker has answered after `limit`.
    pub async fn look(&self, limit: Duration) -> Result<(usize, Vec<String>), Error> {
        let producer = self.producer.clone();
        let asked = on_thread(move || {
            let metadata = producer.client().fetch_metadata(None, limit)?;
            let topics = metadata.topics().iter().map(|topic| topic.name().to_owned());
            Ok((metadata.brokers().len(), topics.collect()))
        });
        let answer: Result<_, KafkaError> = asked.await.unwrap_or(Err(KafkaError::Canceled));
        answer.map_err(|source| Error::Open {
            at: self.settings.hosts.clone(),
            source: source.into(),
        })
    }

    /// Whether the topic is there. All are listed, because asking for one may make it.
    async fn is_there(&self, topic: &str) -> Result<bool, KafkaError> {
        let (producer, topic) = (self.producer.clone(), topic.to_owned());
        let listed = on_thread(move || {
            let metadata = producer.client().fetch_metadata(None, ADMIN)?;
            Ok(metadata.topics().iter().any(|t| t.name() == topic))
        });
        listed.await.unwrap_or(Err(KafkaError::Canceled))
    }

    async fn create(&self, spec: &TopicSpec) -> Result<(), Cause> {
        let config = self.settings.admin()?;
        let admin: AdminClient<DefaultClientContext> = config.create()?;
        let options = AdminOptions::new()
            .operation_timeout(Some(ADMIN))
            .request_timeout(Some(ADMIN));
        let (partitions, replication) = (spec.partitions.max(1), spec.replication.max(1));
        let mut topic = NewTopic::new(&spec.name, partitions, TopicReplication::Fixed(replication));
        for (key, value) in &spec.config {
            topic = topic.set(key, value);
        }
        let mut tries = 0;
        loop {
            tries += 1;
            let made = admin.create_topics([&topic], &options).await?;
            match made.into_iter().next() {
                Some(Err((_, RDKafkaErrorCode::TopicAlreadyExists))) | Some(Ok(_)) => return Ok(()),
                Some(Err((_, code))) if may_pass(code) && tries < TRIES => tokio::time::sleep(PAUSE).await,
                Some(Err((_, code))) => return Err(KafkaError::AdminOp(code).into()),
                None => return Err("the broker said nothing about the topic".into()),
            }
        }
    }
}

#[async_trait]
impl Bus for KafkaBus {
    async fn ensure_topic(&self, spec: &TopicSpec) -> Result<(), Error> {
        let failed = |source| Error::CreateTopic {
            topic: spec.name.clone(),
            source,
        };
        if self.is_there(&spec.name).await.map_err(|e| failed(e.into()))? {
            return Ok(());
        }
        self.create(spec).await.map_err(failed)
    }

    async fn send(&self, topic: &str, payload: Vec<u8>) -> Result<(), Error> {
        let record = FutureRecord::<(), [u8]>::to(topic).payload(&payload);
        let (error, bytes) = match self.producer.send(record, Timeout::Never).await {
            Ok(_) => return Ok(()),
            Err((error, _)) => (error, payload.len()),
        };
        let topic = topic.to_owned();
        Err(match error {
            KafkaError::MessageProduction(RDKafkaErrorCode::MessageSizeTooLarge) => {
                Error::TooLarge { topic, bytes }
            }
            error => Error::Send {
                topic,
                bytes,
                source: error.into(),
            },
        })
    }

    async fn subscribe(&self, topic: &str, group: &str) -> Result<Box<dyn Subscription>, Error> {
        let failed = |source: Cause| Error::Subscribe {
            topic: topic.to_owned(),
            source,
        };
        let config = self
            .settings
            .consumer(topic, group)
            .map_err(|e| failed(e.into()))?;
        let consumer: StreamConsumer<Events> =
            config.create_with_context(Events).map_err(|e| failed(e.into()))?;
        consumer.subscribe(&[topic]).map_err(|e| failed(e.into()))?;
        Ok(Box::new(reader::Reader::new(consumer, topic)))
    }

    async fn look_back(&self, topic: &str, since_ms: i64, visit: Visit) -> Result<(), Error> {
        let failed = |source: Cause| Error::Read {
            topic: topic.to_owned(),
            source,
        };
        let group = format!("{topic}-look-back");
        let config = self
            .settings
            .consumer(topic, &group)
            .map_err(|e| failed(e.into()))?;
        let name = topic.to_owned();
        let looked = on_thread(move || look_back::look_back(&config, &name, since_ms, visit));
        let looked = looked.await.unwrap_or(Err(KafkaError::Canceled));
        looked.map_err(|e| failed(e.into()))
    }

    async fn close(&self, grace: Duration) {
        let producer = self.producer.clone();
        let flushed = on_thread(move || producer.flush(grace)).await;
        if !matches!(flushed, Ok(Ok(()))) {
            tracing::warn!("not every message was sent within the grace period");
        }
    }
}

/// Runs what may wait for the broker a long time. A thread of its own does not hold up the end of the runtime.
fn on_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> oneshot::Receiver<T> {
    let (answer, answered) = oneshot::channel();
    std::thread::spawn(move || answer.send(work()));
    answered
}

/// Whether what failed so may succeed a little later.
fn may_pass(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode::*;
    matches!(
        code,
        NotController
            | RequestTimedOut
            | OperationTimedOut
            | BrokerTransportFailure
            | BrokerNotAvailable
            | LeaderNotAvailable
            | NetworkException
            | CoordinatorLoadInProgress
            | ThrottlingQuotaExceeded
    )
}

/// Where librdkafka says what happens.
#[derive(Clone, Copy, Debug)]
struct Events;

impl ClientContext for Events {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        // Comes by `error` as well.
        if matches!(facility, "FAIL" | "ERROR") {
            return tracing::debug!(facility, "kafka: {message}");
        }
        match level {
            RDKafkaLogLevel::Emerg
            | RDKafkaLogLevel::Alert
            | RDKafkaLogLevel::Critical
            | RDKafkaLogLevel::Error
            | RDKafkaLogLevel::Warning => tracing::warn!(facility, "kafka: {message}"),
            RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info => tracing::info!(facility, "kafka: {message}"),
            RDKafkaLogLevel::Debug => tracing::debug!(facility, "kafka: {message}"),
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::warn!(%error, "kafka: {reason}");
    }
}

impl ConsumerContext for Events {}
