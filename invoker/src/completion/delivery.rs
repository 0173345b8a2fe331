//! Sends one message until the bus has it, and never twice: after a send whose outcome is not known it looks
//! whether the message has arrived.
//!
//! Source: `KafkaProducerConnector.scala`; contract K-31 … K-35, O-08.

use super::{ack, record};
use crate::bus::{self, Bus};
use crate::journal::{Debt, Part};
use crate::readiness::{Readiness, because};
use proto::id::ActivationId;
use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};
use tracing::{error, info, warn};

/// Between two tries; doubled each time.
const PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Clocks of a producer and of a broker may differ by so much, in milliseconds.
const SKEW_MS: i64 = 60_000;

/// When a debt is worth paying.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    /// It was not sent before, in milliseconds since the epoch.
    pub(super) since_ms: i64,
    /// Nobody waits for it afterwards (K-63): it is not tried again.
    pub(super) until_ms: i64,
}

/// Returns when the bus has the ack, or nobody waits for it any more.
pub(super) async fn send(bus: &dyn Bus, readiness: &Readiness, id: ActivationId, debt: Debt, window: Window) {
    let Debt {
        part,
        to,
        mut payload,
    } = debt;
    let mut pause = PAUSE;
    loop {
        let failure = match bus.send(&to, payload.clone()).await {
            Ok(()) => {
                readiness.answer(Ok(()));
                match part {
                    Part::Result => info!(activation = %id, "posted the result"),
                    Part::Slot | Part::Event | Part::Record => {
                        info!(activation = %id, "posted the completion")
                    }
                }
                return;
            }
            Err(bus::Error::TooLarge { bytes, .. }) => match ack::shrunk(&payload) {
                Some(smaller) => {
                    warn!(activation = %id, bytes, topic = to, "the ack is too large for its topic: it goes with the id alone");
                    payload = smaller;
                    continue;
                }
                None => {
                    error!(activation = %id, bytes, topic = to, "the ack is too large for its topic, and is not sent");
                    return;
                }
            },
            Err(failure) => failure,
        };
        readiness.answer(Err(because(&failure)));
        if record::millis(SystemTime::now()) > window.until_ms {
            let ack = String::from_utf8_lossy(&ack::shrunk(&payload).unwrap_or(payload)).into_owned();
            error!(activation = %id, ack, error = &failure as &dyn std::error::Error, "ack not sent: nobody waits for it any more");
            return;
        }
        warn!(activation = %id, error = &failure as &dyn std::error::Error, "ack not sent, trying again");
        loop {
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
            match arrived(bus, &to, window.since_ms, HashSet::from([(id, part_key(part))])).await {
                Ok(found) if found.is_empty() => break,
                Ok(_) => {
                    info!(activation = %id, "the ack had arrived");
                    return;
                }
                Err(error) => {
                    warn!(activation = %id, error = &error as &dyn std::error::Error, "the bus is away");
                }
            }
            if record::millis(SystemTime::now()) > window.until_ms {
                break;
            }
        }
    }
}

/// An ack: whose, and whether it frees the slot.
pub(super) type AckKey = (ActivationId, bool);

pub(super) fn part_key(part: Part) -> bool {
    part == Part::Slot
}

/// Which of the wanted acks the topic has, if they were not sent before `since_ms`.
///
/// # Errors
/// If the topic cannot be read now.
pub(super) async fn arrived(
    bus: &dyn Bus,
    topic: &str,
    since_ms: i64,
    wanted: HashSet<AckKey>,
) -> Result<HashSet<AckKey>, bus::Error> {
    let found = Arc::new(Mutex::new(HashSet::new()));
    let finds = Arc::clone(&found);
    let visit = move |payload: &[u8]| {
        if let Some((id, part)) = ack::read(payload) {
            let key = (id, part_key(part));
            if wanted.contains(&key) {
                finds.lock().expect("no holder panics").insert(key);
            }
        }
    };
    bus.look_back(topic, since_ms - SKEW_MS, Box::new(visit)).await?;
    let found = std::mem::take(&mut *found.lock().expect("no holder panics"));
    Ok(found)
}
