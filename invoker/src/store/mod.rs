//! The edge to the document store: CouchDB, or an embedded database inside `standalone`.
//!
//! Documents are JSON with an id and a revision, as CouchDB has them; attachments are bytes.
//! `conformance.rs` holds the contract as tests.

use async_trait::async_trait;
use hyper::body::Bytes;
use serde_json::Value;
use std::collections::BTreeSet;

pub mod couchdb;
pub mod embedded;

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

/// One document. `body` has neither `_id` nor `_rev`; it has `_attachments` (stubs) if there are any.
#[derive(Clone, Debug, PartialEq)]
pub struct Document {
    pub id: String,
    /// `<generation>-<32 hex digits>`; no two states of a document share one, also across its deletion.
    pub revision: String,
    pub body: Value,
}

/// The documents of one namespace, newest first: by `start` for activations, by `updated` for entities.
#[derive(Clone, Debug, Default)]
pub struct Query {
    /// A namespace, `guest`, with what is in its packages; or one package, `guest/pkg`, entities only.
    /// For subjects a namespace's name or uuid.
    pub namespace: String,
    /// Only this kind of entity (`entityType`).
    pub kind: Option<String>,
    /// Only activations of this action: `hello`, or `pkg/hello` as it was called.
    pub name: Option<String>,
    /// Milliseconds since the epoch, inclusive.
    pub since: Option<i64>,
    pub upto: Option<i64>,
    pub skip: usize,
    pub limit: usize,
    /// Activations with their logs and results, which may be large; left out otherwise.
    pub docs: bool,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the store at {at} could not be opened")]
    Open {
        at: String,
        #[source]
        source: Cause,
    },
    #[error("document {id} was changed by someone else: revision {revision:?} is not its current one")]
    Conflict { id: String, revision: Option<String> },
    #[error("document {id} could not be {operation}")]
    Failed {
        operation: &'static str,
        id: String,
        #[source]
        source: Cause,
    },
    /// Trying again will not help: it is too large, or not what the store takes.
    #[error("document {id} cannot be {operation}: {reason}")]
    Refused {
        operation: &'static str,
        id: String,
        reason: String,
    },
    #[error("the documents of namespace {namespace} could not be listed")]
    List {
        namespace: String,
        #[source]
        source: Cause,
    },
    #[error("the blocked namespaces could not be read")]
    Blocked {
        #[source]
        source: Cause,
    },
}

impl Error {
    /// Whether the same request can never succeed; anything else is worth another try later.
    pub fn is_final(&self) -> bool {
        matches!(self, Self::Conflict { .. } | Self::Refused { .. })
    }
}

/// The client library's own error, or a sentence.
pub type Cause = Box<dyn std::error::Error + Send + Sync>;

/// A document store. Real: CouchDB. In `standalone`: `embedded`.
#[async_trait]
pub trait Store: Send + Sync + std::fmt::Debug {
    /// The document as it is now; none if there is no such document.
    ///
    /// `revision` is what the caller expects. It is passed on where the protocol has a place for it, and
    /// changes nothing: CouchDB answers with the current document whatever it says. Compare.
    async fn get(
        &self,
        database: Database,
        id: &str,
        revision: Option<&str>,
    ) -> Result<Option<Document>, Error>;

    /// Creates (`revision` none) or replaces a document, and returns the new revision. Attachments stay
    /// if `body` has their stubs, and go if it does not.
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

    /// Creates a record from its whole document, which begins with its `_id`; returns its revision.
    ///
    /// # Errors
    /// Those of [`Self::put`]; `Refused` also for what is no document.
    async fn put_record(&self, id: &str, document: Bytes) -> Result<String, Error> {
        let mut body: Value = serde_json::from_slice(&document).map_err(|error| Error::Refused {
            operation: "written",
            id: id.to_owned(),
            reason: error.to_string(),
        })?;
        if let Value::Object(members) = &mut body {
            members.shift_remove("_id");
        }
        self.put(Database::Activation, id, None, &body).await
    }

    /// Deletes the document at its current revision. What is gone already is success.
    ///
    /// # Errors
    /// `Conflict` when `revision` is not the current one.
    async fn delete(&self, database: Database, id: &str, revision: &str) -> Result<(), Error>;

    /// The bytes of an attachment; none if there is no such attachment or document. `revision` as in
    /// [`Self::get`].
    async fn attachment(
        &self,
        database: Database,
        id: &str,
        revision: Option<&str>,
        name: &str,
    ) -> Result<Option<Vec<u8>>, Error>;

    /// Adds an attachment to an existing document, and returns the document's new revision.
    ///
    /// # Errors
    /// `Conflict` when `revision` is not the current one, or the document is gone.
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

    /// How many documents there are beyond the first `skip`; `limit` does not matter.
    async fn count(&self, database: Database, query: &Query) -> Result<usize, Error>;

    /// Namespaces of which nothing is run (N-01).
    async fn blocked_namespaces(&self) -> Result<BTreeSet<String>, Error>;

    /// Leaves nothing unwritten, or gives up after `grace`.
    async fn close(&self, grace: std::time::Duration);
}
