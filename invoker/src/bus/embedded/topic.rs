//! What is kept in memory of a topic: its limits, its end, and who reads.

use super::log::Row;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use tokio::sync::watch;

/// What a topic takes and keeps; Kafka's names and defaults, except where the file has to stay small.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// `max.message.bytes`.
    pub(super) message_bytes: usize,
    /// `retention.bytes`, of payload.
    pub(super) retained_bytes: i64,
    /// `retention.ms`.
    pub(super) retained_ms: i64,
}

impl Limits {
    /// A value that is missing or no number gives the default; a negative one means no limit.
    pub(super) fn new(config: &BTreeMap<String, String>) -> Self {
        let number = |key: &str, default: i64| match config.get(key).and_then(|v| v.parse::<i64>().ok()) {
            Some(given) if given < 0 => i64::MAX,
            Some(given) => given,
            None => default,
        };
        Self {
            message_bytes: usize::try_from(number("max.message.bytes", 1_048_588)).unwrap_or(usize::MAX),
            retained_bytes: number("retention.bytes", 1 << 30),
            retained_ms: number("retention.ms", 7 * 24 * 3_600_000),
        }
    }
}

#[derive(Debug)]
pub(super) struct Topic {
    pub(super) limits: Limits,
    end: watch::Sender<i64>,
    seats: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
}

impl Topic {
    pub(super) fn new(row: Row) -> Self {
        Self {
            limits: Limits::new(&row.config),
            end: watch::Sender::new(row.next),
            seats: Mutex::default(),
        }
    }

    /// Wakes the readers.
    pub(super) fn announce(&self, next: i64) {
        self.end.send_replace(next);
    }

    pub(super) fn end(&self) -> watch::Receiver<i64> {
        self.end.subscribe()
    }

    /// What the one reader of a group holds.
    pub(super) fn seat(&self, group: &str) -> Arc<tokio::sync::Mutex<()>> {
        let mut seats = self.seats.lock().expect("no holder panics");
        seats.entry(group.to_owned()).or_default().clone()
    }
}
