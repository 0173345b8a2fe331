//! Reads as many activation messages as there is room for, and hands them over in order.
//!
//! One unit of room is taken per message and given back when the activation has ended, logs included
//! (K-24, K-25). The position is committed before anything of a batch is handled (K-23): an
//! activation is never run twice.

use crate::bus::{self, Bus, Message, Subscription};
use crate::metrics;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

/// One message with its unit of room.
#[derive(Debug)]
pub struct Fed {
    pub message: Message,
    pub room: Room,
}

/// A unit of the feed's capacity; dropped, it is given back.
#[derive(Debug)]
pub struct Room {
    _permit: OwnedSemaphorePermit,
}

/// The reader of `invokerN`.
#[derive(Debug)]
pub struct Feed {
    bus: Arc<dyn Bus>,
    topic: String,
    room: Arc<Semaphore>,
    batch: usize,
    consuming: CancellationToken,
}

/// Between two tries at a broken subscription.
const RETRY: Duration = Duration::from_millis(500);
const COMMIT_TRIES: u32 = 4;
const COMMIT_PAUSE: Duration = Duration::from_millis(100);

impl Feed {
    /// At most `capacity` messages are unfinished at once.
    pub fn new(bus: Arc<dyn Bus>, topic: String, capacity: usize) -> Self {
        let batch = capacity.clamp(1, Semaphore::MAX_PERMITS);
        Self {
            bus,
            topic,
            room: Arc::new(Semaphore::new(batch)),
            batch,
            consuming: CancellationToken::new(),
        }
    }

    /// Cancelled once messages are read for the first time (K-40).
    pub fn consuming(&self) -> CancellationToken {
        self.consuming.clone()
    }

    /// Reads until `stop`, whatever happens to the bus: a broken subscription is replaced.
    pub async fn run(self, to: mpsc::Sender<Fed>, stop: CancellationToken) {
        while !stop.is_cancelled() {
            let subscription = tokio::select! {
                () = stop.cancelled() => return,
                subscription = self.bus.subscribe(&self.topic, &self.topic) => subscription,
            };
            let outcome = match subscription {
                Ok(subscription) => self.read(subscription, &to, &stop).await,
                Err(error) => Err(error),
            };
            match outcome {
                Ok(()) => return,
                Err(error) => {
                    error!(
                        error = &error as &dyn std::error::Error,
                        "the feed is interrupted"
                    );
                    tokio::select! {
                        () = stop.cancelled() => return,
                        () = tokio::time::sleep(RETRY) => {}
                    }
                }
            }
        }
    }

    /// Returns when told to stop, or when nobody takes messages any more.
    async fn read(
        &self,
        mut subscription: Box<dyn Subscription>,
        to: &mpsc::Sender<Fed>,
        stop: &CancellationToken,
    ) -> Result<(), bus::Error> {
        self.consuming.cancel();
        loop {
            let first = tokio::select! {
                () = stop.cancelled() => return Ok(()),
                permit = self.room.clone().acquire_owned() => permit.expect("the semaphore is never closed"),
            };
            let free = 1 + self.room.available_permits().min(self.batch - 1);
            let messages = tokio::select! {
                () = stop.cancelled() => return Ok(()),
                messages = subscription.next(free) => messages?,
            };
            if let Some(last) = messages.last() {
                commit(subscription.as_mut(), last).await?;
            }
            let mut room = Some(first);
            for message in messages {
                metrics::message_read(&self.topic, message.timestamp_ms);
                let permit = match room.take() {
                    Some(permit) => permit,
                    None => self
                        .room
                        .clone()
                        .acquire_owned()
                        .await
                        .expect("the semaphore is never closed"),
                };
                let fed = Fed {
                    message,
                    room: Room { _permit: permit },
                };
                if to.send(fed).await.is_err() {
                    return Ok(());
                }
            }
        }
    }
}

async fn commit(subscription: &mut dyn Subscription, last: &Message) -> Result<(), bus::Error> {
    for _ in 1..COMMIT_TRIES {
        match subscription.commit(last).await {
            Ok(()) => return Ok(()),
            Err(error) => warn!(
                error = &error as &dyn std::error::Error,
                "commit failed, trying again"
            ),
        }
        tokio::time::sleep(COMMIT_PAUSE).await;
    }
    subscription.commit(last).await
}
