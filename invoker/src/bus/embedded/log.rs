//! The tables: topics, messages, positions. Each function is one step inside a transaction.

use super::topic::Limits;
use crate::bus::Message;
use redb::{ReadTransaction, ReadableTable, TableDefinition, TableError, WriteTransaction};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Topic → [`Row`] as JSON.
const TOPICS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("topics");
/// Topic, offset → time of arrival in ms, payload.
const MESSAGES: TableDefinition<'_, (&str, i64), (i64, &[u8])> = TableDefinition::new("messages");
/// Topic, group → the offset to read next.
const POSITIONS: TableDefinition<'_, (&str, &str), i64> = TableDefinition::new("positions");

/// Most payload that one read returns, so that a backlog of large messages is not all in memory.
const READ_BYTES: usize = 16 << 20;

/// Most messages that one step drops, so that no step takes long.
const DROPPED_AT_ONCE: usize = 256;

/// A topic.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Row {
    pub(super) config: BTreeMap<String, String>,
    /// The oldest offset that is kept.
    first: i64,
    /// The offset that the next message will have.
    pub(super) next: i64,
    /// Payload of the messages that are kept.
    bytes: i64,
}

/// What became of a message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Appended {
    pub(super) next: i64,
    /// Messages that had to go although a group had not committed them.
    pub(super) unread_lost: u64,
}

pub(super) fn topics(t: &ReadTransaction) -> Result<Vec<(String, Row)>, redb::Error> {
    let table = match t.open_table(TOPICS) {
        Err(TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
        other => other?,
    };
    let rows = table.iter()?.map(|entry| {
        let (name, row) = entry?;
        Ok((name.value().to_owned(), parse(row.value())?))
    });
    rows.collect()
}

pub(super) fn create(
    t: &WriteTransaction,
    topic: &str,
    config: BTreeMap<String, String>,
) -> Result<Row, redb::Error> {
    t.open_table(MESSAGES)?;
    t.open_table(POSITIONS)?;
    let mut topics = t.open_table(TOPICS)?;
    if let Some(row) = topics.get(topic)? {
        return parse(row.value());
    }
    let row = Row {
        config,
        first: 0,
        next: 0,
        bytes: 0,
    };
    topics.insert(topic, &*encode(&row))?;
    Ok(row)
}

pub(super) fn append(
    t: &WriteTransaction,
    topic: &str,
    payload: &[u8],
    now_ms: i64,
    limits: Limits,
) -> Result<Appended, redb::Error> {
    let mut topics = t.open_table(TOPICS)?;
    let mut row = row(&topics, topic)?;
    let mut messages = t.open_table(MESSAGES)?;
    messages.insert((topic, row.next), (now_ms, payload))?;
    row.next += 1;
    row.bytes += length(payload);
    let mut lost = 0;
    let read = read_by_all(t, topic)?;
    for _ in 0..DROPPED_AT_ONCE {
        // The message just sent stays.
        if row.first + 1 >= row.next {
            break;
        }
        let Some(oldest) = messages
            .get((topic, row.first))?
            .map(|m| (m.value().0, length(m.value().1)))
        else {
            break;
        };
        if row.bytes <= limits.retained_bytes && now_ms.saturating_sub(oldest.0) <= limits.retained_ms {
            break;
        }
        messages.remove((topic, row.first))?;
        lost += u64::from(read.is_some_and(|read| row.first >= read));
        row.first += 1;
        row.bytes -= oldest.1;
    }
    topics.insert(topic, &*encode(&row))?;
    Ok(Appended {
        next: row.next,
        unread_lost: lost,
    })
}

/// Makes the group known, so that messages wait for it.
pub(super) fn join(t: &WriteTransaction, topic: &str, group: &str) -> Result<(), redb::Error> {
    let first = row(&t.open_table(TOPICS)?, topic)?.first;
    let mut positions = t.open_table(POSITIONS)?;
    if positions.get((topic, group))?.is_none() {
        positions.insert((topic, group), first)?;
    }
    Ok(())
}

pub(super) fn position(t: &ReadTransaction, topic: &str, group: &str) -> Result<i64, redb::Error> {
    let position = t.open_table(POSITIONS)?.get((topic, group))?;
    Ok(position.map_or(0, |p| p.value()))
}

/// What is kept from `from` on, at most `max` messages.
pub(super) fn read(
    t: &ReadTransaction,
    topic: &str,
    from: i64,
    max: usize,
) -> Result<Vec<Message>, redb::Error> {
    let table = t.open_table(MESSAGES)?;
    let mut found = Vec::new();
    let mut bytes = 0;
    for entry in table.range((topic, from)..=(topic, i64::MAX))?.take(max.max(1)) {
        let (key, value) = entry?;
        let (timestamp, payload) = value.value();
        bytes += payload.len();
        found.push(Message {
            partition: 0,
            offset: key.value().1,
            timestamp_ms: Some(timestamp),
            payload: payload.to_vec(),
        });
        if bytes > READ_BYTES {
            break;
        }
    }
    Ok(found)
}

/// Moves the group on, never back, and drops what no group needs any more.
pub(super) fn commit(t: &WriteTransaction, topic: &str, group: &str, next: i64) -> Result<(), redb::Error> {
    {
        let mut positions = t.open_table(POSITIONS)?;
        let before = positions.get((topic, group))?.map_or(0, |p| p.value());
        if next <= before {
            return Ok(());
        }
        positions.insert((topic, group), next)?;
    }
    let mut topics = t.open_table(TOPICS)?;
    let mut row = row(&topics, topic)?;
    let read = read_by_all(t, topic)?.unwrap_or(0).min(row.next);
    let mut messages = t.open_table(MESSAGES)?;
    for _ in 0..DROPPED_AT_ONCE {
        if row.first >= read {
            break;
        }
        if let Some(message) = messages.remove((topic, row.first))? {
            row.bytes -= length(message.value().1);
        }
        row.first += 1;
    }
    topics.insert(topic, &*encode(&row))?;
    Ok(())
}

/// The oldest position among the groups; none if there is no group.
fn read_by_all(t: &WriteTransaction, topic: &str) -> Result<Option<i64>, redb::Error> {
    let positions = t.open_table(POSITIONS)?;
    let mut least = None;
    for entry in positions.range((topic, "")..)? {
        let (key, position) = entry?;
        if key.value().0 != topic {
            break;
        }
        let position = position.value();
        least = Some(least.map_or(position, |l: i64| l.min(position)));
    }
    Ok(least)
}

fn row(topics: &impl ReadableTable<&'static str, &'static [u8]>, topic: &str) -> Result<Row, redb::Error> {
    match topics.get(topic)? {
        Some(row) => parse(row.value()),
        None => Err(redb::Error::Corrupted(format!("topic {topic} is missing"))),
    }
}

fn parse(row: &[u8]) -> Result<Row, redb::Error> {
    serde_json::from_slice(row).map_err(|e| redb::Error::Corrupted(format!("a topic's row: {e}")))
}

fn encode(row: &Row) -> Vec<u8> {
    serde_json::to_vec(row).expect("strings and numbers are JSON")
}

fn length(payload: &[u8]) -> i64 {
    i64::try_from(payload.len()).unwrap_or(i64::MAX)
}
