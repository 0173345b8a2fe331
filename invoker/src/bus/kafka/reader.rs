//! One member of a consumer group.

use super::{Events, on_thread};
use crate::bus::{Cause, Error, Message, Subscription};
use async_trait::async_trait;
use futures::FutureExt;
use rdkafka::consumer::{CommitMode, Consumer, StreamConsumer};
use rdkafka::error::KafkaError;
use rdkafka::message::Message as _;
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{Offset, TopicPartitionList};
use std::collections::BTreeMap;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};
use tokio::sync::{oneshot, watch};

/// How often a commit is tried, and what lies between (K-23).
const TRIES: u32 = 4;
const PAUSE: Duration = Duration::from_millis(100);

/// Commits lie at least so far apart: the first leaves at once, and those that would follow it closely are one.
const SPACING: Duration = Duration::from_millis(100);

/// How long closing waits for the last commit.
const CLOSE: Duration = Duration::from_secs(10);

/// How long the broker may take to say where a partition ends.
const WATERMARKS: Duration = Duration::from_secs(5);

/// Partition → the offset to go on at.
type Positions = BTreeMap<i32, i64>;

/// A reader and the thread that sends its commits.
#[derive(Debug)]
pub(super) struct Reader {
    topic: String,
    /// None once closed.
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    consumer: Consumed,
    /// What is to be committed; the thread sends the newest.
    positions: Positions,
    commits: mpsc::Sender<Positions>,
    /// What counts at the broker.
    committed: watch::Receiver<Positions>,
    committing: oneshot::Receiver<Result<(), KafkaError>>,
}

/// Leaves the group when the last owner goes, which takes a while and is done on a thread of its own.
#[derive(Clone)]
struct Consumed(Arc<Leaving>);

struct Leaving(Option<StreamConsumer<Events>>);

impl std::fmt::Debug for Consumed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("StreamConsumer")
    }
}

impl Consumed {
    fn get(&self) -> &StreamConsumer<Events> {
        self.0.0.as_ref().expect("it is taken by drop alone")
    }
}

impl Drop for Leaving {
    fn drop(&mut self) {
        if let Some(consumer) = self.0.take() {
            std::thread::spawn(move || drop(consumer));
        }
    }
}

impl Reader {
    /// Takes a consumer that has subscribed to `topic`.
    pub(super) fn new(consumer: StreamConsumer<Events>, topic: &str) -> Self {
        let consumer = Consumed(Arc::new(Leaving(Some(consumer))));
        let (commits, newest) = mpsc::channel();
        let (done, committed) = watch::channel(Positions::new());
        let (sender, name) = (consumer.clone(), topic.to_owned());
        let committing = on_thread(move || send_commits(&sender, &name, &newest, &done));
        Self {
            topic: topic.to_owned(),
            open: Some(Open {
                consumer,
                positions: Positions::new(),
                commits,
                committed,
                committing,
            }),
        }
    }

    fn failed(&self, source: impl Into<Cause>) -> Error {
        Error::Read {
            topic: self.topic.clone(),
            source: source.into(),
        }
    }
}

#[async_trait]
impl Subscription for Reader {
    async fn next(&mut self, max: usize) -> Result<Vec<Message>, Error> {
        let open = self
            .open
            .as_ref()
            .ok_or_else(|| self.failed("the reader was closed"))?;
        let consumer = open.consumer.get();
        let first = consumer.recv().await.map_err(|e| self.failed(e))?;
        let mut batch = vec![message(&first)];
        // What has arrived already comes along; nothing is waited for, so nothing can be lost here.
        while batch.len() < max {
            match consumer.recv().now_or_never() {
                Some(Ok(next)) => batch.push(message(&next)),
                // An error that stays is met again by the next call.
                Some(Err(_)) | None => break,
            }
        }
        Ok(batch)
    }

    async fn commit(&mut self, message: &Message) -> Result<(), Error> {
        let failed = |why: &str| Error::Commit {
            topic: self.topic.clone(),
            source: why.into(),
        };
        let open = self
            .open
            .as_mut()
            .ok_or_else(|| failed("the reader was closed"))?;
        open.positions.insert(message.partition, message.offset + 1);
        let sent = open.commits.send(open.positions.clone());
        sent.map_err(|_| failed("the thread that commits has ended"))
    }

    fn is_committed(&self) -> bool {
        self.open
            .as_ref()
            .is_some_and(|open| *open.committed.borrow() == open.positions)
    }

    async fn lag(&self) -> Option<u64> {
        let consumer = self.open.as_ref()?.consumer.clone();
        let topic = self.topic.clone();
        on_thread(move || lag(consumer.get(), &topic)).await.ok()?
    }

    async fn close(mut self: Box<Self>) -> Result<(), Error> {
        let topic = self.topic.clone();
        let failed = |source| Error::Commit { topic, source };
        let Some(open) = self.open.take() else {
            return Ok(());
        };
        drop(open.commits);
        let committed = tokio::time::timeout(CLOSE, open.committing).await;
        let consumer = open.consumer;
        let left = on_thread(move || drop(leave(consumer)));
        let left = tokio::time::timeout(CLOSE, left).await;
        match (committed, left) {
            (Ok(Ok(Ok(()))), Ok(Ok(()))) => Ok(()),
            (Ok(Ok(Err(error))), _) => Err(failed(error.into())),
            (Ok(Err(error)), _) | (_, Ok(Err(error))) => Err(failed(error.into())),
            (Err(_), _) | (_, Err(_)) => Err(failed("the broker did not answer in time".into())),
        }
    }
}

/// The consumer itself, if nobody else holds it, so that dropping it waits until the group is left.
fn leave(consumer: Consumed) -> Option<StreamConsumer<Events>> {
    Arc::into_inner(consumer.0).and_then(|mut leaving| leaving.0.take())
}

/// Behind the ends of the partitions that this consumer has; none if it has none, or the broker is away.
fn lag(consumer: &StreamConsumer<Events>, topic: &str) -> Option<u64> {
    let assigned = consumer.assignment().ok()?;
    let positions = consumer.position().ok()?;
    let mut lag = None;
    for partition in assigned.elements() {
        let number = partition.partition();
        let (first, end) = consumer.fetch_watermarks(topic, number, WATERMARKS).ok()?;
        let position = positions
            .find_partition(topic, number)
            .and_then(|at| at.offset().to_raw())
            .filter(|at| *at >= 0)
            .unwrap_or(first);
        let behind = u64::try_from(end - position).unwrap_or(0);
        lag = Some(lag.unwrap_or(0) + behind);
    }
    lag
}

fn message(read: &rdkafka::message::BorrowedMessage<'_>) -> Message {
    Message {
        partition: read.partition(),
        offset: read.offset(),
        timestamp_ms: read.timestamp().to_millis(),
        payload: read.payload().unwrap_or_default().to_vec(),
    }
}

/// Commits the newest positions, one commit at a time, until the reader is gone.
///
/// A commit waits for the broker however long it is away, hence the thread of its own: it holds up nobody,
/// not even the end of the process.
fn send_commits(
    consumer: &Consumed,
    topic: &str,
    positions: &mpsc::Receiver<Positions>,
    done: &watch::Sender<Positions>,
) -> Result<(), KafkaError> {
    let mut last = Ok(());
    let mut next = Instant::now();
    while let Ok(first) = positions.recv() {
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
        next = Instant::now() + SPACING;
        let newest = positions.try_iter().last().unwrap_or(first);
        last = commit(consumer, topic, &newest);
        match &last {
            Ok(()) => drop(done.send_replace(newest)),
            Err(error) => tracing::warn!(topic, %error, "a position could not be committed"),
        }
    }
    last
}

fn commit(consumer: &Consumed, topic: &str, positions: &Positions) -> Result<(), KafkaError> {
    let mut list = TopicPartitionList::new();
    for (partition, offset) in positions {
        list.add_partition_offset(topic, *partition, Offset::Offset(*offset))?;
    }
    let mut tries = 0;
    loop {
        tries += 1;
        match consumer.get().commit(&list, CommitMode::Sync) {
            Err(KafkaError::ConsumerCommit(code)) if may_pass(code) && tries < TRIES => {
                std::thread::sleep(PAUSE);
            }
            outcome => return outcome,
        }
    }
}

/// Whether a commit that failed so may succeed a little later.
fn may_pass(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode::*;
    !matches!(
        code,
        UnknownMemberId
            | IllegalGeneration
            | FencedInstanceId
            | TopicAuthorizationFailed
            | GroupAuthorizationFailed
    )
}
