//! The edge to the message bus: Kafka, or a log of our own inside `standalone`.
//!
//! Topics are ordered logs of opaque bytes with one partition. What the bytes mean is `proto`'s business.
//! `conformance.rs` holds the contract as tests.

use async_trait::async_trait;
use std::collections::BTreeMap;
use std::time::Duration;

pub mod embedded;
pub mod kafka;

/// One message as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    pub partition: i32,
    pub offset: i64,
    /// When the broker took it, milliseconds since the epoch.
    pub timestamp_ms: Option<i64>,
    pub payload: Vec<u8>,
}

/// What a topic is made with, where it does not exist yet.
#[derive(Clone, Debug, Default)]
pub struct TopicSpec {
    pub name: String,
    pub partitions: i32,
    pub replication: i32,
    /// Kafka's topic configuration, such as `retention.ms`.
    pub config: BTreeMap<String, String>,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the bus at {at} could not be opened")]
    Open {
        at: String,
        #[source]
        source: Cause,
    },
    #[error("topic {topic} could not be created")]
    CreateTopic {
        topic: String,
        #[source]
        source: Cause,
    },
    #[error("a message of {bytes} bytes could not be sent to topic {topic}")]
    Send {
        topic: String,
        bytes: usize,
        #[source]
        source: Cause,
    },
    #[error("a message of {bytes} bytes is larger than topic {topic} takes")]
    TooLarge { topic: String, bytes: usize },
    #[error("topic {topic} could not be subscribed to")]
    Subscribe {
        topic: String,
        #[source]
        source: Cause,
    },
    #[error("topic {topic} could not be read")]
    Read {
        topic: String,
        #[source]
        source: Cause,
    },
    #[error("the position in topic {topic} could not be committed")]
    Commit {
        topic: String,
        #[source]
        source: Cause,
    },
}

/// The client library's own error, or a sentence.
pub type Cause = Box<dyn std::error::Error + Send + Sync>;

/// A message bus. Real: `kafka`. In `standalone`: `embedded`.
#[async_trait]
pub trait Bus: Send + Sync + std::fmt::Debug {
    /// Makes the topic if it is not there; an existing one is left as it is.
    async fn ensure_topic(&self, topic: &TopicSpec) -> Result<(), Error>;

    /// Returns once the message survives the death of this process. Messages of one task keep their order.
    ///
    /// # Errors
    /// `TooLarge` when it can never be sent as it is: above the topic's `max.message.bytes`, or above what
    /// the sender is set to. `Send` when it may or may not have arrived.
    async fn send(&self, topic: &str, payload: Vec<u8>) -> Result<(), Error>;

    /// Begins after the group's last committed message, or at the oldest message of the topic.
    /// Of two readers of the same group one waits until the other is gone.
    async fn subscribe(&self, topic: &str, group: &str) -> Result<Box<dyn Subscription>, Error>;

    /// Shows `visit` every message of the topic that the bus took at `since_ms` (milliseconds since the epoch)
    /// or later, oldest first, up to the end as it is now. No group moves on.
    ///
    /// # Errors
    /// `Read` when something is wrong that may pass; some messages may have been shown then.
    async fn look_back(&self, topic: &str, since_ms: i64, visit: Visit) -> Result<(), Error>;

    /// Leaves nothing unsent, or gives up after `grace`.
    async fn close(&self, grace: Duration);
}

/// Is shown the payload of one message.
pub type Visit = Box<dyn FnMut(&[u8]) + Send>;

/// One reader of one topic. Dropped, it leaves without a last commit.
#[async_trait]
pub trait Subscription: Send + std::fmt::Debug {
    /// Waits for at least one message, and returns at most `max`, oldest first. Cancel-safe.
    ///
    /// # Errors
    /// `Read` when something is wrong that may pass: call again, after a pause.
    async fn next(&mut self, max: usize) -> Result<Vec<Message>, Error>;

    /// A successor of this reader begins after `message`. The commit is on its way when this returns, and
    /// not waited for: one that is lost is made up for by the next, or by [`Self::close`].
    async fn commit(&mut self, message: &Message) -> Result<(), Error>;

    /// Whether everything that was to be committed so far counts by now.
    fn is_committed(&self) -> bool;

    /// How many messages wait to be read; none while this reader has nothing to read from, as when another
    /// one of its group has its place.
    async fn lag(&self) -> Option<u64>;

    /// Waits until the last commit counts, and makes place for a successor.
    async fn close(self: Box<Self>) -> Result<(), Error>;
}
