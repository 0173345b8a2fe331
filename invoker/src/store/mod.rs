//! The edge to the document store: CouchDB, or an embedded database inside `standalone`.
//!
//! Documents are JSON with an id and a revision, as CouchDB has them; attachments are bytes.

use async_trait::async_trait;
use serde_json::Value;

/// OpenWhisk's three databases.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Database {
    /// `subjects`: namespaces and keys.
    Auth,
    /// `whisks`: actions, packages, rules, triggers.
    Entity,
    /// `activations`: the records.
    Activation,
}

/// One document. `body` has neither `_id` nor `_rev`.
#[derive(Clone, Debug, PartialEq)]
pub struct Document {
    pub id: String,
    pub revision: String,
    pub body: Value,
}

/// The documents of one namespace, newest first for activations, by name for entities.
#[derive(Clone, Debug, Default)]
pub struct Query {
    pub namespace: String,
    /// Only this kind of entity (`entityType`), or only activations of this action name.
    pub kind: Option<String>,
    pub name: Option<String>,
    /// Milliseconds since the epoch, inclusive; activations only.
    pub since: Option<i64>,
    pub upto: Option<i64>,
    pub skip: usize,
    pub limit: usize,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("document {id} was changed by someone else: revision {revision:?} is not its current one")]
    Conflict { id: String, revision: Option<String> },
    #[error("document {id} could not be {operation}")]
    Failed {
        operation: &'static str,
        id: String,
        #[source]
        source: Cause,
    },
}

/// The client library's own error.
pub type Cause = Box<dyn std::error::Error + Send + Sync>;

/// A document store. Real: CouchDB. In `standalone`: `embedded.rs`.
#[async_trait]
pub trait Store: Send + Sync + std::fmt::Debug {
    /// The document at `revision`, or its current one; none if there is no such document.
    async fn get(
        &self,
        database: Database,
        id: &str,
        revision: Option<&str>,
    ) -> Result<Option<Document>, Error>;

    /// Creates (`revision` none) or replaces a document, and returns the new revision.
    ///
    /// # Errors
    /// `Conflict` when `revision` is not the current one.
    async fn put(
        &self,
        database: Database,
        id: &str,
        revision: Option<&str>,
        body: &Value,
    ) -> Result<String, Error>;

    /// Deletes the document at its current revision. What is gone already is success.
    async fn delete(&self, database: Database, id: &str, revision: &str) -> Result<(), Error>;

    async fn attachment(&self, database: Database, id: &str, name: &str) -> Result<Option<Vec<u8>>, Error>;

    /// Adds an attachment to an existing document, and returns the document's new revision.
    async fn put_attachment(
        &self,
        database: Database,
        id: &str,
        revision: &str,
        name: &str,
        content_type: &str,
        bytes: Vec<u8>,
    ) -> Result<String, Error>;

    async fn list(&self, database: Database, query: &Query) -> Result<Vec<Document>, Error>;
}
