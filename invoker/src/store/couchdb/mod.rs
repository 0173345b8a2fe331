//! CouchDB, as OpenWhisk uses it. Records go out in batches, everything else by itself.
//!
//! Source: `CouchDbRestStore.scala`; contract chapter 4.

mod batcher;
mod client;
mod settings;
mod views;

pub use self::settings::{CouchSettings, Databases};

use self::batcher::{Batcher, Unwritten};
use self::client::{Answer, Ask, Client, Failure, segment};
use self::views::Asked;
use super::{Cause, Database, Document, Error, Query, Store};
use crate::metrics;
use async_trait::async_trait;
use hyper::body::Bytes;
use hyper::header::HeaderValue;
use hyper::{Method, StatusCode};
use proto::whisk::view::{ViewAnswer, ViewRow};
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tracing::{error, info, warn};

/// How often more something is read when the connection breaks: the database may have closed one that
/// was kept.
const READ_TRIES: u32 = 1;

/// A document store in CouchDB.
#[derive(Debug)]
pub struct CouchStore {
    client: Arc<Client>,
    names: Databases,
    records: Arc<Batcher>,
    /// Connections for all but the records.
    others: Semaphore,
    /// Looks once whether the databases are there.
    look: tokio::task::JoinHandle<()>,
}

impl CouchStore {
    /// A store that connects when it is first used. Whether the databases are there, and let us in, is
    /// looked up at once and logged; a database that is away keeps nobody from starting.
    ///
    /// # Errors
    /// When the settings make no address, or HTTPS is asked for where there are no certificates to trust.
    pub async fn open(settings: CouchSettings) -> Result<Self, Error> {
        let client = Client::new(&settings).map_err(|failure| Error::Open {
            at: format!("{}:{}", settings.host, settings.port),
            source: failure.into(),
        })?;
        let client = Arc::new(client);
        // Half of the connections write records (D-44).
        let writing = (settings.max_connections / 2).max(1);
        let reading = settings.max_connections.saturating_sub(writing).max(1);
        let names = settings.databases;
        let records = Batcher::new(
            Arc::clone(&client),
            &encoded(&names.activation),
            writing,
            settings.max_tries,
        );
        let look = tokio::spawn(look(Arc::clone(&client), names.clone()));
        Ok(Self {
            client,
            names,
            records: Arc::new(records),
            others: Semaphore::new(reading),
            look,
        })
    }

    /// Whether each of the databases is there and lets us in; nothing is changed.
    ///
    /// # Errors
    /// When the settings make no address.
    pub async fn look(settings: &CouchSettings) -> Result<Vec<(String, Result<bool, Cause>)>, Error> {
        let client = Client::new(settings).map_err(|failure| Error::Open {
            at: format!("{}:{}", settings.host, settings.port),
            source: failure.into(),
        })?;
        let names = &settings.databases;
        let mut found = Vec::new();
        for name in [&names.auth, &names.entity, &names.activation] {
            let answer = is_there(&client, name).await;
            found.push((name.clone(), answer.map_err(Cause::from)));
        }
        Ok(found)
    }

    fn database(&self, database: Database) -> String {
        encoded(match database {
            Database::Auth => &self.names.auth,
            Database::Entity => &self.names.entity,
            Database::Activation => &self.names.activation,
        })
    }

    /// An id is one segment, whatever is in it (D-01).
    fn document(&self, database: Database, id: &str) -> String {
        format!("{}/{}", self.database(database), segment(id))
    }

    async fn send(&self, ask: &Ask) -> Result<Answer, Failure> {
        let _connection = self.others.acquire().await.expect("it is never closed");
        self.client.send(ask).await
    }

    /// Reads something; none if it is not there.
    async fn read(&self, ask: &Ask) -> Result<Option<Bytes>, Failure> {
        let mut again = 0;
        let answer = loop {
            match self.send(ask).await {
                Err(failure) if failure.is_connection() && again < READ_TRIES => again += 1,
                answer => break answer?,
            }
        };
        match answer.status {
            StatusCode::OK => Ok(Some(answer.body)),
            StatusCode::NOT_FOUND => Ok(None),
            _ => Err(self.client.refused(&answer)),
        }
    }

    /// Changes something; none if its revision is not the one given.
    async fn change(&self, ask: &Ask) -> Result<Option<String>, Failure> {
        let answer = self.send(ask).await?;
        match answer.status {
            StatusCode::CONFLICT => Ok(None),
            status if status.is_success() => {
                let written: Written = self.client.decode(&answer.body)?;
                Ok(Some(written.rev))
            }
            _ => Err(self.client.refused(&answer)),
        }
    }

    async fn view(&self, database: Database, view: &str) -> Result<Vec<ViewRow>, Failure> {
        let path = format!("{}/{view}", self.database(database));
        let timing = metrics::query_view();
        let body = self.read(&Ask::get(path)).await;
        timing.end(body.is_ok());
        let body = body?;
        let body = body.ok_or_else(|| self.client.unreadable(format!("there is no view {view}")))?;
        Ok(self.client.decode::<ViewAnswer>(&body)?.rows)
    }

    async fn listed(&self, database: Database, query: &Query) -> Result<Vec<Document>, Failure> {
        let asked = Asked::of(database, query);
        let merge = asked.len() > 1;
        let whole = database == Database::Entity || query.docs;
        let mut found = Vec::new();
        for asked in asked {
            // Of several views any may hold what is to be skipped.
            let (skip, limit) = if merge {
                (0, query.skip + query.limit)
            } else {
                (query.skip, query.limit)
            };
            for row in self.view(database, &asked.rows(skip, limit, whole)).await? {
                let Some(id) = row.id.clone() else { continue };
                let document = match (database, row.doc) {
                    // The row's own document is the namespace's limits.
                    (Database::Auth, _) => self.document_of(database, &id, None).await?,
                    (_, Some(doc)) => Some(self.taken_apart(doc)?),
                    (_, None) => Some(Document {
                        id,
                        revision: String::new(),
                        body: views::from_summary(row.value),
                    }),
                };
                found.extend(document);
            }
        }
        if merge {
            found.sort_by_key(|document| std::cmp::Reverse(document.body["updated"].as_i64()));
            found = found.into_iter().skip(query.skip).take(query.limit).collect();
        }
        Ok(found)
    }

    async fn counted(&self, database: Database, query: &Query) -> Result<usize, Failure> {
        let mut all = 0;
        for asked in Asked::of(database, query) {
            if database == Database::Auth {
                all += self
                    .view(database, &asked.rows(0, i32::MAX as usize, false))
                    .await?
                    .len();
                continue;
            }
            let rows = self.view(database, &asked.count()).await?;
            let count = rows.first().and_then(|row| row.value.as_u64()).unwrap_or(0);
            all += usize::try_from(count).unwrap_or(usize::MAX);
        }
        Ok(all.saturating_sub(query.skip))
    }

    async fn document_of(
        &self,
        database: Database,
        id: &str,
        revision: Option<&str>,
    ) -> Result<Option<Document>, Failure> {
        let mut ask = Ask::get(self.document(database, id));
        ask.revision = revision.map(str::to_owned);
        let body = self.read(&ask).await?;
        body.map(|body| self.taken_apart(self.client.decode(&body)?))
            .transpose()
    }

    fn taken_apart(&self, document: Value) -> Result<Document, Failure> {
        let Value::Object(mut body) = document else {
            return Err(self.client.unreadable("a document is an object"));
        };
        match (body.shift_remove("_id"), body.shift_remove("_rev")) {
            (Some(Value::String(id)), Some(Value::String(revision))) => Ok(Document {
                id,
                revision,
                body: body.into(),
            }),
            _ => Err(self.client.unreadable("a document has an id and a revision")),
        }
    }

    async fn write_record(&self, id: &str, document: Bytes) -> Result<String, Error> {
        match self.records.write(document).await {
            Ok(revision) => Ok(revision),
            Err(Unwritten::Conflict) => Err(conflict(id, None)),
            Err(Unwritten::Refused(reason)) => Err(Error::Refused {
                operation: "written",
                id: id.to_owned(),
                reason,
            }),
            Err(Unwritten::Failed(failure)) => Err(later("written", id, failure)),
            Err(Unwritten::NotNow(reason)) => Err(later("written", id, reason)),
        }
    }
}

impl Drop for CouchStore {
    fn drop(&mut self) {
        self.look.abort();
    }
}

/// CouchDB's names of databases may hold slashes.
fn encoded(name: &str) -> String {
    segment(name).to_string()
}

/// Whether a database is there and lets us in.
async fn is_there(client: &Client, name: &str) -> Result<bool, Failure> {
    let answer = client.send(&Ask::get(encoded(name))).await?;
    match answer.status {
        status if status.is_success() => Ok(true),
        StatusCode::NOT_FOUND => Ok(false),
        _ => Err(client.refused(&answer)),
    }
}

/// Says whether the databases are there, for the operator.
async fn look(client: Arc<Client>, names: Databases) {
    for name in [&names.auth, &names.entity, &names.activation] {
        let failure = match is_there(&client, name).await {
            Ok(true) => continue,
            Ok(false) => {
                error!(database = name, at = client.at(), "CouchDB has no such database");
                continue;
            }
            Err(failure) => failure,
        };
        error!(
            database = name,
            error = &failure as &dyn std::error::Error,
            "a database cannot be used"
        );
        // The others would say the same.
        return;
    }
    info!(at = client.at(), "CouchDB answers");
}

/// CouchDB's answer to a change.
#[derive(Deserialize)]
struct Written {
    rev: String,
}

/// The document's text, with its id and revision in front; nothing is copied for that.
fn with_head(id: Option<&str>, revision: Option<&str>, body: &Value) -> Vec<u8> {
    let mut text = Vec::with_capacity(1024);
    for (name, value) in [("_id", id), ("_rev", revision)] {
        if let Some(value) = value {
            text.push(if text.is_empty() { b'{' } else { b',' });
            let member = format!("\"{name}\":{}", Value::from(value));
            text.extend_from_slice(member.as_bytes());
        }
    }
    let head = text.len();
    serde_json::to_writer(&mut text, body).expect("JSON into memory");
    match (head, text.get(head + 1)) {
        (0, _) => {}
        (_, Some(b'}')) => drop(text.drain(head..=head)),
        _ => text[head] = b',', // The head has opened the object already.
    }
    text
}

fn conflict(id: &str, revision: Option<&str>) -> Error {
    Error::Conflict {
        id: id.to_owned(),
        revision: revision.map(str::to_owned),
    }
}

fn later(operation: &'static str, id: &str, source: impl Into<Cause>) -> Error {
    Error::Failed {
        operation,
        id: id.to_owned(),
        source: source.into(),
    }
}

fn failed(operation: &'static str, id: &str, failure: Failure) -> Error {
    if failure.is_final() {
        return Error::Refused {
            operation,
            id: id.to_owned(),
            reason: failure.to_string(),
        };
    }
    later(operation, id, failure)
}

#[async_trait]
impl Store for CouchStore {
    async fn get(
        &self,
        database: Database,
        id: &str,
        revision: Option<&str>,
    ) -> Result<Option<Document>, Error> {
        let timing = metrics::get_document();
        let found = self.document_of(database, id, revision).await;
        timing.end(found.is_ok());
        found.map_err(|failure| failed("read", id, failure))
    }

    async fn put(
        &self,
        database: Database,
        id: &str,
        revision: Option<&str>,
        body: &Value,
    ) -> Result<String, Error> {
        if (database, revision) == (Database::Activation, None) {
            let document = with_head(Some(id), None, body);
            return self.write_record(id, document.into()).await;
        }
        let text = with_head(None, revision, body);
        let ask = Ask::json(Method::PUT, self.document(database, id), text);
        let timing = metrics::save_document();
        let written = self.change(&ask).await;
        timing.end(matches!(written, Ok(Some(_))));
        let written = written.map_err(|failure| failed("written", id, failure))?;
        written.ok_or_else(|| conflict(id, revision))
    }

    async fn put_record(&self, id: &str, document: Bytes) -> Result<String, Error> {
        self.write_record(id, document).await
    }

    async fn delete(&self, database: Database, id: &str, revision: &str) -> Result<(), Error> {
        let path = format!("{}?rev={}", self.document(database, id), segment(revision));
        let ask = Ask {
            method: Method::DELETE,
            ..Ask::get(path)
        };
        match self.change(&ask).await {
            Ok(Some(_)) => return Ok(()),
            Ok(None) => {}
            Err(Failure::Status { status, .. }) if status == StatusCode::NOT_FOUND => {}
            Err(failure) => return Err(failed("deleted", id, failure)),
        }
        // Servers differ in which of the two they say, and of what: the document tells.
        match self.get(database, id, None).await? {
            None => Ok(()),
            Some(_) => Err(conflict(id, Some(revision))),
        }
    }

    async fn attachment(
        &self,
        database: Database,
        id: &str,
        revision: Option<&str>,
        name: &str,
    ) -> Result<Option<Vec<u8>>, Error> {
        let mut ask = Ask::get(format!("{}/{}", self.document(database, id), segment(name)));
        ask.revision = revision.map(str::to_owned);
        let timing = metrics::get_attachment();
        let read = self.read(&ask).await;
        timing.end(read.is_ok());
        let bytes = read.map_err(|failure| failed("read", &format!("{id}/{name}"), failure))?;
        Ok(bytes.map(Into::into))
    }

    async fn put_attachment(
        &self,
        database: Database,
        id: &str,
        revision: &str,
        name: &str,
        content_type: &str,
        bytes: Vec<u8>,
    ) -> Result<String, Error> {
        let failed = |failure| failed("written", &format!("{id}/{name}"), failure);
        let content_type = HeaderValue::from_str(content_type).map_err(|_| {
            failed(
                self.client
                    .unreadable(format!("{content_type:?} is no content type")),
            )
        })?;
        let path = format!(
            "{}/{}?rev={}",
            self.document(database, id),
            segment(name),
            segment(revision)
        );
        let ask = Ask {
            content_type: Some(content_type),
            ..Ask::json(Method::PUT, path, bytes)
        };
        match self.change(&ask).await {
            Ok(Some(written)) => Ok(written),
            Ok(None) => Err(conflict(id, Some(revision))),
            Err(Failure::Status { status, .. }) if status == StatusCode::NOT_FOUND => {
                Err(conflict(id, Some(revision)))
            }
            Err(failure) => Err(failed(failure)),
        }
    }

    async fn list(&self, database: Database, query: &Query) -> Result<Vec<Document>, Error> {
        let listed = self.listed(database, query).await;
        listed.map_err(|failure| Error::List {
            namespace: query.namespace.clone(),
            source: failure.into(),
        })
    }

    async fn count(&self, database: Database, query: &Query) -> Result<usize, Error> {
        let counted = self.counted(database, query).await;
        counted.map_err(|failure| Error::List {
            namespace: query.namespace.clone(),
            source: failure.into(),
        })
    }

    async fn blocked_namespaces(&self) -> Result<BTreeSet<String>, Error> {
        let rows = self.view(Database::Auth, views::BLOCKED).await;
        let rows = rows.map_err(|failure| Error::Blocked {
            source: failure.into(),
        })?;
        // Only the key counts (N-01).
        let names = rows.into_iter().filter_map(|row| match row.key {
            Value::String(name) => Some(name),
            other => {
                warn!(key = %other, "a row of the blocked namespaces names none");
                None
            }
        });
        Ok(names.collect())
    }

    async fn close(&self, grace: Duration) {
        self.records.close(grace).await;
    }
}
