//! A store in one file, for `standalone`. What was written is on disk.

mod index;
mod tables;

use self::tables::Written;
use super::{Cause, Database, Document, Error, Query, Store};
use crate::group_commit::{Durability, GroupCommit};
use async_trait::async_trait;
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// How many activation records are kept, and for how long; the oldest go first.
#[derive(Clone, Copy, Debug)]
pub struct Retention {
    pub records: u64,
    pub age: Duration,
}

impl Default for Retention {
    /// 100,000 records, a week.
    fn default() -> Self {
        Self {
            records: 100_000,
            age: Duration::from_secs(7 * 24 * 3600),
        }
    }
}

/// A document store inside this process.
#[derive(Debug)]
pub struct EmbeddedStore {
    file: Arc<GroupCommit>,
    retention: Retention,
}

impl EmbeddedStore {
    /// Opens the store in `path`, or makes it.
    ///
    /// # Errors
    /// When another process has it open, or the file cannot be read.
    pub fn open(path: &Path, retention: Retention) -> Result<Self, Error> {
        let file = GroupCommit::open(path, Durability::Disk).map_err(|e| Error::Open {
            at: path.display().to_string(),
            source: e.into(),
        })?;
        Ok(Self {
            file: Arc::new(file),
            retention,
        })
    }

    /// Reads in a thread where that may take long.
    async fn look<T: Send + 'static>(
        &self,
        look: impl FnOnce(&redb::ReadTransaction) -> Result<T, redb::Error> + Send + 'static,
    ) -> Result<T, Cause> {
        let file = self.file.clone();
        let looked = tokio::task::spawn_blocking(move || file.read(look)).await;
        Ok(looked??)
    }
}

fn written(id: &str, revision: Option<&str>, outcome: Written) -> Result<String, Error> {
    match outcome {
        Written::Revision(new) => Ok(new),
        Written::Conflict => Err(Error::Conflict {
            id: id.to_owned(),
            revision: revision.map(str::to_owned),
        }),
    }
}

fn failed(operation: &'static str, id: &str, source: impl Into<Cause>) -> Error {
    Error::Failed {
        operation,
        id: id.to_owned(),
        source: source.into(),
    }
}

#[async_trait]
impl Store for EmbeddedStore {
    async fn get(
        &self,
        database: Database,
        id: &str,
        _revision: Option<&str>,
    ) -> Result<Option<Document>, Error> {
        let found = self.file.read(|t| tables::get(t, database, id));
        found.map_err(|e| failed("read", id, e))
    }

    async fn put(
        &self,
        database: Database,
        id: &str,
        revision: Option<&str>,
        body: &Value,
    ) -> Result<String, Error> {
        let (key, before, body) = (id.to_owned(), revision.map(str::to_owned), body.clone());
        let retention = self.retention;
        let put = self.file.write(move |t| {
            let outcome = tables::put(t, database, &key, before.as_deref(), body)?;
            if database == Database::Activation {
                tables::forget_old_records(t, retention)?;
            }
            Ok(outcome)
        });
        written(id, revision, put.await.map_err(|e| failed("written", id, e))?)
    }

    async fn delete(&self, database: Database, id: &str, revision: &str) -> Result<(), Error> {
        let (key, before) = (id.to_owned(), revision.to_owned());
        let delete = self
            .file
            .write(move |t| tables::delete(t, database, &key, &before));
        let outcome = delete.await.map_err(|e| failed("deleted", id, e))?;
        written(id, Some(revision), outcome).map(drop)
    }

    async fn attachment(
        &self,
        database: Database,
        id: &str,
        _revision: Option<&str>,
        name: &str,
    ) -> Result<Option<Vec<u8>>, Error> {
        let (key, attachment) = (id.to_owned(), name.to_owned());
        let found = self
            .look(move |t| tables::attachment(t, database, &key, &attachment))
            .await;
        found.map_err(|e| failed("read", &format!("{id}/{name}"), e))
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
        let (key, before) = (id.to_owned(), revision.to_owned());
        let (attachment, content_type) = (name.to_owned(), content_type.to_owned());
        let put = self.file.write(move |t| {
            tables::put_attachment(t, database, &key, &before, &attachment, &content_type, &bytes)
        });
        let outcome = put
            .await
            .map_err(|e| failed("written", &format!("{id}/{name}"), e))?;
        written(id, Some(revision), outcome)
    }

    async fn list(&self, database: Database, query: &Query) -> Result<Vec<Document>, Error> {
        let asked = query.clone();
        let found = self.look(move |t| tables::list(t, database, &asked)).await;
        found.map_err(|source| Error::List {
            namespace: query.namespace.clone(),
            source,
        })
    }

    async fn count(&self, database: Database, query: &Query) -> Result<usize, Error> {
        let asked = query.clone();
        let found = self.look(move |t| tables::count(t, database, &asked)).await;
        found.map_err(|source| Error::List {
            namespace: query.namespace.clone(),
            source,
        })
    }

    /// None: nothing here blocks anyone.
    async fn blocked_namespaces(&self) -> Result<BTreeSet<String>, Error> {
        Ok(BTreeSet::new())
    }

    async fn close(&self, grace: Duration) {
        self.file.close(grace).await;
    }
}

fn now_ms() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |d| i64::try_from(d.as_millis()).unwrap_or(i64::MAX))
}
