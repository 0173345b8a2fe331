//! Reads activation messages, promises in the journal that they will be answered, and hands them over in
//! order as there is room.
//!
//! At most *capacity* activations are in the pool's hands, one unit of room each, given back when the
//! activation has ended, logs included (K-24, K-25). Behind them messages wait, at most twice as many.
//! Functions have as much room again, and wait in a queue of their own (`room.rs`). A
//! batch is journalled, then committed, then handed over (K-23, K-28, decision 70): what is read again
//! after a crash is passed over, and nothing that was committed is lost.
//!
//! Source: `MessageConsumer.scala`, `KafkaConsumerConnector.scala`; contract K-20 … K-29, O-09.

use super::room::{Kind, Room, Rooms};
use super::waiting::Waiting;
use crate::bus::{self, Bus, Message, Subscription};
use crate::completion::record;
use crate::config::FeedSettings;
use crate::journal::{Arrival, Journal};
use crate::metrics;
use proto::decode::decode;
use proto::id::ActivationId;
use proto::whisk::activation_message::ActivationMessage;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

/// One message with its unit of room.
#[derive(Debug)]
pub struct Fed {
    pub message: Box<ActivationMessage>,
    pub room: Room,
}

/// The reader of `invokerN`.
#[derive(Debug)]
pub struct Feed {
    bus: Arc<dyn Bus>,
    journal: Arc<Journal>,
    topic: String,
    rooms: Arc<Rooms>,
    settings: FeedSettings,
    /// What was recovered is among them.
    plain: Waiting,
    functions: Waiting,
    consuming: CancellationToken,
}

/// When the feed ends.
#[derive(Clone, Debug, Default)]
pub struct FeedStop {
    /// Nothing more is read; what waits is still handed over.
    pub reading: CancellationToken,
    /// What waits is given up.
    pub handing_over: CancellationToken,
}

/// Functions that wait may be so many times as many as plain activations, lest a burst of them hide the others in
/// the topic. Most of them are in the journal only.
const FUNCTIONS_AHEAD: usize = 16;
/// Between two tries at a bus that fails; doubled each time.
const PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// When the number of unread messages is first looked at (H-37), and how long the answer may take.
const FIRST_LAG: Duration = Duration::from_secs(10);
const LAG_PATIENCE: Duration = Duration::from_secs(1);
/// How long leaving the group may take at the end.
const LEAVING: Duration = Duration::from_secs(2);

impl Feed {
    /// `recovered`: what an earlier process had accepted and not started; it goes first.
    pub fn new(
        bus: Arc<dyn Bus>,
        journal: Arc<Journal>,
        topic: String,
        rooms: Arc<Rooms>,
        settings: FeedSettings,
        recovered: Vec<ActivationId>,
    ) -> Self {
        Self {
            bus,
            plain: Waiting::new(Arc::clone(&journal), recovered),
            functions: Waiting::new(Arc::clone(&journal), Vec::new()),
            journal,
            topic,
            rooms,
            settings,
            consuming: CancellationToken::new(),
        }
    }

    /// Cancelled once messages are read for the first time (K-40).
    pub fn consuming(&self) -> CancellationToken {
        self.consuming.clone()
    }

    /// Reads until told to stop, whatever happens to the bus; returns what was not handed over.
    pub async fn run(mut self, to: mpsc::Sender<Fed>, stop: FeedStop) -> Vec<ActivationMessage> {
        let mut pause = PAUSE;
        while !stop.reading.is_cancelled() {
            // What waits has to be handed over also while there is nobody to read from.
            let subscription = tokio::select! {
                () = stop.reading.cancelled() => break,
                subscription = self.bus.subscribe(&self.topic, &self.topic) => subscription,
            };
            let outcome = match subscription {
                Ok(subscription) => self.read(subscription, &to, &stop, &mut pause).await,
                Err(error) => Err(error),
            };
            match outcome {
                Ok(()) => break,
                Err(error) => {
                    error!(
                        error = &error as &dyn std::error::Error,
                        "the feed is interrupted: its consumer is replaced"
                    );
                    let after = Instant::now() + pause;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                    self.hand_over(&to, async { tokio::time::sleep_until(after).await }, &stop)
                        .await;
                }
            }
        }
        self.hand_over(&to, std::future::pending(), &stop).await;
        let mut left = self.plain.into_messages();
        left.extend(self.functions.into_messages());
        left
    }

    /// Returns when told to stop, or when nobody takes messages any more; an error replaces the consumer.
    async fn read(
        &mut self,
        mut subscription: Box<dyn Subscription>,
        to: &mpsc::Sender<Fed>,
        stop: &FeedStop,
        pause: &mut Duration,
    ) -> Result<(), bus::Error> {
        self.consuming.cancel();
        let mut uncommitted_ms = None;
        let mut last_read = Instant::now();
        let FeedSettings { lag_check, stuck } = self.settings;
        let mut lag_due = Instant::now() + FIRST_LAG.min(lag_check);
        let mut failing: Option<Instant> = None;
        loop {
            let capacity = self.rooms.capacity();
            let hungry = self.plain.len() <= capacity && self.functions.len() <= capacity * FUNCTIONS_AHEAD;
            if !hungry {
                last_read = Instant::now();
            }
            let event = tokio::select! {
                biased;
                () = stop.reading.cancelled() => Next::Stop,
                room = self.room(), if self.waits() => Next::Room(room),
                batch = subscription.next(capacity), if hungry => Next::Batch(batch),
                () = tokio::time::sleep_until(last_read + stuck), if hungry => Next::Silence,
                () = tokio::time::sleep_until(lag_due) => Next::Lag,
            };
            match event {
                Next::Stop => {
                    let topic = self.topic.clone();
                    // Whether the broker is there or not, it is not waited for longer than that.
                    tokio::spawn(async move { leave(subscription, &topic).await });
                    return Ok(());
                }
                Next::Room(room) => {
                    if !self.hand_one(room, to).await {
                        return Ok(());
                    }
                }
                Next::Batch(Ok(batch)) => {
                    (failing, last_read, *pause) = (None, Instant::now(), PAUSE);
                    let Some(at_ms) = self.accept(&batch, &stop.reading).await else {
                        continue;
                    };
                    for last in last_of_each_partition(&batch) {
                        subscription.commit(last).await?;
                    }
                    uncommitted_ms = Some(at_ms);
                }
                Next::Batch(Err(error)) => {
                    let since = *failing.get_or_insert_with(Instant::now);
                    if since.elapsed() > stuck {
                        return Err(error);
                    }
                    if since.elapsed() < PAUSE {
                        warn!(
                            error = &error as &dyn std::error::Error,
                            "the bus cannot be read, trying again"
                        );
                    }
                    tokio::time::sleep(PAUSE).await;
                }
                Next::Lag => {
                    lag_due = Instant::now() + lag_check;
                    if let Ok(Some(lag)) = tokio::time::timeout(LAG_PATIENCE, subscription.lag()).await {
                        metrics::unread(&self.topic, lag);
                    }
                }
                Next::Silence => {
                    last_read = Instant::now();
                    if let Some(lag) = subscription.lag().await.filter(|lag| *lag > 0) {
                        let source = format!("{lag} messages wait, and none was read for {stuck:?}").into();
                        let topic = self.topic.clone();
                        return Err(bus::Error::Read { topic, source });
                    }
                }
            }
            if let Some(at_ms) = uncommitted_ms
                && subscription.is_committed()
            {
                self.journal.committed(at_ms);
                uncommitted_ms = None;
            }
        }
    }

    /// Journals what can be read and is new; returns when that was, in milliseconds since the epoch. None if
    /// the journal could not be written before the end: the batch is not to be committed then.
    async fn accept(&mut self, batch: &[Message], stop: &CancellationToken) -> Option<i64> {
        let at_ms = record::millis(SystemTime::now());
        for message in batch {
            metrics::message_read(&self.topic, message.timestamp_ms);
        }
        let read: Vec<(&Message, ActivationMessage)> = batch
            .iter()
            .filter_map(|message| Some((message, read(message)?)))
            .collect();
        let arrivals: Vec<Arrival<'_>> = read
            .iter()
            .map(|(message, activation)| Arrival {
                id: activation.activation_id,
                at_ms,
                message: &message.payload,
            })
            .collect();
        let mut told = false;
        let new = loop {
            match self.journal.accept(&arrivals).await {
                Ok(new) => break new,
                Err(error) if !told => {
                    told = true;
                    error!(
                        error = &error as &dyn std::error::Error,
                        "nothing is read until the journal takes it"
                    );
                }
                Err(_) => {}
            }
            tokio::select! {
                () = stop.cancelled() => return None,
                () = tokio::time::sleep(LONGEST_PAUSE) => {}
            }
        };
        for ((message, activation), new) in read.into_iter().zip(new) {
            if new {
                let waiting = match self.rooms.kind_of(&activation) {
                    Kind::Plain => &mut self.plain,
                    Kind::Function => &mut self.functions,
                };
                waiting.push(activation, message.payload.len());
            } else {
                info!(transid = %activation.transid, activation = %activation.activation_id, offset = message.offset, "was accepted before, and is passed over");
            }
        }
        Some(at_ms)
    }

    /// Hands over what waits until that is nothing, `end` comes, or it is given up.
    async fn hand_over(&mut self, to: &mpsc::Sender<Fed>, end: impl Future<Output = ()>, stop: &FeedStop) {
        tokio::pin!(end);
        loop {
            let waits = self.waits();
            tokio::select! {
                biased;
                () = stop.handing_over.cancelled() => return,
                () = &mut end => return,
                () = stop.reading.cancelled(), if !waits => return,
                room = self.room(), if waits => {
                    if !self.hand_one(room, to).await {
                        return;
                    }
                }
            }
        }
    }

    fn waits(&self) -> bool {
        !self.plain.is_empty() || !self.functions.is_empty()
    }

    /// Room for whichever waits and gets it first.
    async fn room(&self) -> Room {
        tokio::select! {
            room = self.rooms.take(Kind::Plain), if !self.plain.is_empty() => room,
            room = self.rooms.take(Kind::Function), if !self.functions.is_empty() => room,
            else => std::future::pending().await,
        }
    }

    /// False if nobody takes it.
    async fn hand_one(&mut self, room: Room, to: &mpsc::Sender<Fed>) -> bool {
        let waiting = match room.kind() {
            Kind::Plain => &mut self.plain,
            Kind::Function => &mut self.functions,
        };
        let Some((message, bytes)) = waiting.pop() else {
            return true;
        };
        if self.rooms.kind_of(&message) == Kind::Function && room.kind() == Kind::Plain {
            // It came before anybody knew what it is.
            self.functions.push(*message, bytes);
            return true;
        }
        to.send(Fed { message, room }).await.is_ok()
    }
}

enum Next {
    Stop,
    Room(Room),
    Batch(Result<Vec<Message>, bus::Error>),
    Silence,
    Lag,
}

async fn leave(subscription: Box<dyn Subscription>, topic: &str) {
    match tokio::time::timeout(LEAVING, subscription.close()).await {
        Ok(Ok(())) => debug!(topic, "left"),
        Ok(Err(error)) => warn!(
            error = &error as &dyn std::error::Error,
            "the group was not left in order"
        ),
        Err(_) => warn!(topic, "the bus did not answer when the group was left"),
    }
}

/// A message that cannot be read is logged and passed over; nobody can be told (M-09, K-25). What it says
/// is the user's, so no line of this level shows it (N-24).
fn read(message: &Message) -> Option<ActivationMessage> {
    match decode::<ActivationMessage>(&message.payload) {
        Ok(activation) => Some(activation),
        Err(error) => {
            metrics::poisoned_message();
            error!(
                partition = message.partition,
                offset = message.offset,
                bytes = message.payload.len(),
                member = error.path,
                "an activation message cannot be read and is dropped"
            );
            debug!(%error, text = %String::from_utf8_lossy(&message.payload), "the dropped message");
            None
        }
    }
}

fn last_of_each_partition(batch: &[Message]) -> impl Iterator<Item = &Message> {
    let mut last = std::collections::BTreeMap::new();
    for message in batch {
        last.insert(message.partition, message);
    }
    last.into_values()
}
