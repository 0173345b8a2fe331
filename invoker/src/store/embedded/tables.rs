//! The tables of one database: documents, their index, attachments. Each function is one step inside a
//! transaction.

use super::Retention;
use super::index;
use crate::store::{Database, Document, Query};
use base64::Engine;
use redb::{
    ReadTransaction, ReadableTable, ReadableTableMetadata, TableDefinition, TableError, WriteTransaction,
};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

/// Id → revision, body; an empty body stands for a deleted document, whose revision is still needed.
type Documents = TableDefinition<'static, &'static str, (&'static str, &'static [u8])>;
/// Heading, time, id.
type Index = TableDefinition<'static, (&'static str, i64, &'static str), ()>;
/// Id, name of the attachment → bytes.
type Attachments = TableDefinition<'static, (&'static str, &'static str), &'static [u8]>;

const fn tables(database: Database) -> (Documents, Index, Attachments) {
    match database {
        Database::Auth => (
            TableDefinition::new("subjects"),
            TableDefinition::new("subjects.index"),
            TableDefinition::new("subjects.attachments"),
        ),
        Database::Entity => (
            TableDefinition::new("whisks"),
            TableDefinition::new("whisks.index"),
            TableDefinition::new("whisks.attachments"),
        ),
        Database::Activation => (
            TableDefinition::new("activations"),
            TableDefinition::new("activations.index"),
            TableDefinition::new("activations.attachments"),
        ),
    }
}

/// Id of an activation → its record without logs and result.
const SUMMARIES: TableDefinition<'static, &'static str, &'static [u8]> =
    TableDefinition::new("activations.summaries");

/// Most records that one write forgets, so that no write takes long.
const FORGOTTEN_AT_ONCE: usize = 64;

const STUBS: &str = "_attachments";

/// What came of a write.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Written {
    Revision(String),
    Conflict,
}

pub(super) fn get(
    t: &ReadTransaction,
    database: Database,
    id: &str,
) -> Result<Option<Document>, redb::Error> {
    let Some(documents) = there(t.open_table(tables(database).0))? else {
        return Ok(None);
    };
    let Some(row) = documents.get(id)? else {
        return Ok(None);
    };
    document(id, row.value())
}

pub(super) fn put(
    t: &WriteTransaction,
    database: Database,
    id: &str,
    revision: Option<&str>,
    mut body: Value,
) -> Result<Written, redb::Error> {
    let before = current(t, database, id)?;
    let allowed = match (&before, revision) {
        (Some(before), Some(revision)) => before.revision == revision,
        (Some(before), None) => before.body.is_null(),
        (None, revision) => revision.is_none(),
    };
    if !allowed {
        return Ok(Written::Conflict);
    }
    let had = before.as_ref().map(|b| stubs(&b.body)).unwrap_or_default();
    let kept = keep_known_stubs(&mut body, &had);
    for name in had.keys().filter(|name| !kept.contains_key(*name)) {
        t.open_table(tables(database).2)?.remove((id, name.as_str()))?;
    }
    replace(t, database, id, before, body).map(Written::Revision)
}

pub(super) fn delete(
    t: &WriteTransaction,
    database: Database,
    id: &str,
    revision: &str,
) -> Result<Written, redb::Error> {
    let Some(before) = current(t, database, id)? else {
        return Ok(Written::Revision(revision.to_owned()));
    };
    if before.body.is_null() {
        return Ok(Written::Revision(before.revision));
    }
    if before.revision != revision {
        return Ok(Written::Conflict);
    }
    remove_attachments(t, database, id, &before.body)?;
    replace(t, database, id, Some(before), Value::Null).map(Written::Revision)
}

pub(super) fn attachment(
    t: &ReadTransaction,
    database: Database,
    id: &str,
    name: &str,
) -> Result<Option<Vec<u8>>, redb::Error> {
    let Some(attachments) = there(t.open_table(tables(database).2))? else {
        return Ok(None);
    };
    Ok(attachments.get((id, name))?.map(|bytes| bytes.value().to_vec()))
}

pub(super) fn put_attachment(
    t: &WriteTransaction,
    database: Database,
    id: &str,
    revision: &str,
    name: &str,
    content_type: &str,
    bytes: &[u8],
) -> Result<Written, redb::Error> {
    let before = match current(t, database, id)? {
        Some(before) if before.revision == revision && before.body.is_object() => before,
        _ => return Ok(Written::Conflict),
    };
    t.open_table(tables(database).2)?.insert((id, name), bytes)?;
    let digest = base64::engine::general_purpose::STANDARD.encode(Sha256::digest(bytes));
    let stub = json!({
        "content_type": content_type,
        "revpos": generation(revision) + 1,
        "digest": format!("sha256-{digest}"),
        "length": bytes.len(),
        "stub": true,
    });
    let mut body = before.body.clone();
    body[STUBS][name] = stub;
    replace(t, database, id, Some(before), body).map(Written::Revision)
}

pub(super) fn list(
    t: &ReadTransaction,
    database: Database,
    query: &Query,
) -> Result<Vec<Document>, redb::Error> {
    let Some(documents) = there(t.open_table(tables(database).0))? else {
        return Ok(Vec::new());
    };
    let summaries = match database {
        Database::Activation if !query.docs => there(t.open_table(SUMMARIES))?,
        _ => None,
    };
    let mut found = Vec::new();
    for id in ids(t, database, query)? {
        let Some(row) = documents.get(&*id)? else { continue };
        let (revision, body) = row.value();
        let summary = match &summaries {
            Some(summaries) => summaries.get(&*id)?,
            None => None,
        };
        let body = summary.as_ref().map_or(body, |summary| summary.value());
        found.extend(document(&id, (revision, body))?);
    }
    Ok(found)
}

pub(super) fn count(t: &ReadTransaction, database: Database, query: &Query) -> Result<usize, redb::Error> {
    let all = Query {
        limit: usize::MAX,
        ..query.clone()
    };
    Ok(ids(t, database, &all)?.len())
}

/// Newest first, without the first `skip`.
fn ids(t: &ReadTransaction, database: Database, query: &Query) -> Result<Vec<String>, redb::Error> {
    let Some(index) = there(t.open_table(tables(database).1))? else {
        return Ok(Vec::new());
    };
    let heading = &*index::heading(database, query);
    let from = (heading, query.since.unwrap_or(i64::MIN), "");
    let upto = query.upto.unwrap_or(i64::MAX);
    // The id is the last part of the key, and no id is larger than this one.
    let to = (heading, upto, "\u{10ffff}");
    if from.1 > upto {
        return Ok(Vec::new());
    }
    let entries = index.range(from..=to)?.rev().skip(query.skip).take(query.limit);
    entries.map(|entry| Ok(entry?.0.value().2.to_owned())).collect()
}

/// Drops the oldest records, until no more than the retention allows are left.
pub(super) fn forget_old_records(t: &WriteTransaction, retention: Retention) -> Result<(), redb::Error> {
    let (documents, index, _) = tables(Database::Activation);
    let too_old =
        super::now_ms().saturating_sub_unsigned(u64::try_from(retention.age.as_millis()).unwrap_or(u64::MAX));
    for _ in 0..FORGOTTEN_AT_ONCE {
        let count = t.open_table(documents)?.len()?;
        let oldest = {
            let index = t.open_table(index)?;
            let mut oldest = index.range((index::EVERYTHING, i64::MIN, "")..)?;
            let oldest = oldest.next().transpose()?;
            oldest.map(|(key, _)| (key.value().0.to_owned(), key.value().1, key.value().2.to_owned()))
        };
        let Some((heading, time, id)) = oldest else { break };
        if heading != index::EVERYTHING || (count <= retention.records && time >= too_old) {
            break;
        }
        let Some(before) = current(t, Database::Activation, &id)? else {
            break;
        };
        remove_attachments(t, Database::Activation, &id, &before.body)?;
        unlist(t, Database::Activation, &id, &before.body)?;
        t.open_table(SUMMARIES)?.remove(&*id)?;
        t.open_table(documents)?.remove(&*id)?;
    }
    Ok(())
}

/// Writes the document's next state, `Null` for deleted, and lists it anew.
fn replace(
    t: &WriteTransaction,
    database: Database,
    id: &str,
    before: Option<Document>,
    body: Value,
) -> Result<String, redb::Error> {
    let (documents, index, _) = tables(database);
    let bytes = match &body {
        Value::Null => Vec::new(),
        body => encode(body),
    };
    let old = before.as_ref().map_or("", |b| &b.revision);
    let hash = Sha256::new().chain_update(old).chain_update(&bytes).finalize();
    let hash: String = hash.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    let revision = format!("{}-{hash}", generation(old) + 1);
    if let Some(before) = &before {
        unlist(t, database, id, &before.body)?;
    }
    if database == Database::Activation {
        summarise(t, id, &body)?;
    }
    if !body.is_null() {
        let (headings, time) = index::entries(database, &body);
        let mut index = t.open_table(index)?;
        for heading in headings {
            index.insert((&*heading, time, id), ())?;
        }
    }
    t.open_table(documents)?.insert(id, (&*revision, &*bytes))?;
    Ok(revision)
}

/// Keeps what lists show of a record, so that they need not read all of it.
fn summarise(t: &WriteTransaction, id: &str, body: &Value) -> Result<(), redb::Error> {
    let mut summaries = t.open_table(SUMMARIES)?;
    if body.is_null() {
        summaries.remove(id)?;
        return Ok(());
    }
    summaries.insert(id, &*encode(&index::summary(body)))?;
    Ok(())
}

fn encode(body: &Value) -> Vec<u8> {
    serde_json::to_vec(body).expect("a JSON value has string keys")
}

fn unlist(t: &WriteTransaction, database: Database, id: &str, body: &Value) -> Result<(), redb::Error> {
    let (headings, time) = index::entries(database, body);
    let mut index = t.open_table(tables(database).1)?;
    for heading in headings {
        index.remove((&*heading, time, id))?;
    }
    Ok(())
}

fn remove_attachments(
    t: &WriteTransaction,
    database: Database,
    id: &str,
    body: &Value,
) -> Result<(), redb::Error> {
    for name in stubs(body).keys() {
        t.open_table(tables(database).2)?.remove((id, name.as_str()))?;
    }
    Ok(())
}

/// The document as it is, a deleted one with the body `Null`.
fn current(t: &WriteTransaction, database: Database, id: &str) -> Result<Option<Document>, redb::Error> {
    let documents = t.open_table(tables(database).0)?;
    let Some(row) = documents.get(id)? else {
        return Ok(None);
    };
    let row = row.value();
    let deleted = || Document {
        id: id.to_owned(),
        revision: row.0.to_owned(),
        body: Value::Null,
    };
    Ok(Some(document(id, row)?.unwrap_or_else(deleted)))
}

fn document(id: &str, (revision, body): (&str, &[u8])) -> Result<Option<Document>, redb::Error> {
    if body.is_empty() {
        return Ok(None);
    }
    let body = serde_json::from_slice(body)
        .map_err(|e| redb::Error::Corrupted(format!("document {id} is no JSON: {e}")))?;
    Ok(Some(Document {
        id: id.to_owned(),
        revision: revision.to_owned(),
        body,
    }))
}

fn stubs(body: &Value) -> Map<String, Value> {
    body.get(STUBS)
        .and_then(Value::as_object)
        .cloned()
        .unwrap_or_default()
}

/// Leaves those stubs in `body` that are in `had`, as they were, and returns them.
fn keep_known_stubs(body: &mut Value, had: &Map<String, Value>) -> Map<String, Value> {
    let asked = stubs(body);
    let kept: Map<String, Value> = had
        .iter()
        .filter(|(name, _)| asked.contains_key(*name))
        .map(|(name, stub)| (name.clone(), stub.clone()))
        .collect();
    if let Some(body) = body.as_object_mut() {
        body.remove(STUBS);
        if !kept.is_empty() {
            body.insert(STUBS.to_owned(), Value::Object(kept.clone()));
        }
    }
    kept
}

fn generation(revision: &str) -> u64 {
    revision
        .split('-')
        .next()
        .and_then(|n| n.parse().ok())
        .unwrap_or(0)
}

/// A table that nobody has written to yet is not there.
fn there<T>(opened: Result<T, TableError>) -> Result<Option<T>, redb::Error> {
    match opened {
        Err(TableError::TableDoesNotExist(_)) => Ok(None),
        other => Ok(Some(other?)),
    }
}
