//! Records are written with `_bulk_docs`: one at once, and those that follow it closely together.
//!
//! D-44 has no delay, and a request for nearly each record: those cost the database several times as much, and nobody
//! waits for a record whose ack is on its way.
//! Source: `Batcher.scala`, `CouchDbRestStore.scala`; contract D-42 … D-44, D-47, D-54.

use super::client::{Ask, Client, Failure};
use crate::metrics::{self, Transaction};
use crate::pace::Pace;
use hyper::Method;
use hyper::body::Bytes;
use serde::Deserialize;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio_util::task::TaskTracker;

/// Most documents in one request (D-44).
const DOCUMENTS: usize = 500;
/// Requests begin at least so far apart, unless one is full.
const SPACING: Duration = Duration::from_millis(25);
/// No more is added to a request that has this many bytes.
const BYTES: usize = 8 << 20;
/// How often more a request is tried that the database is too busy for, and the first pause before that;
/// each is twice the last.
const BUSY_TRIES: u32 = 5;
const BUSY_PAUSE: Duration = Duration::from_millis(100);

/// Why one document of a batch was not written.
#[derive(Clone, Debug)]
pub(super) enum Unwritten {
    /// There is one of this id.
    Conflict,
    /// The database said why it never will be.
    Refused(String),
    /// The whole request failed.
    Failed(Arc<Failure>),
    /// The database said why it was not this time.
    NotNow(String),
}

type Outcome = Result<String, Unwritten>;

/// The writer of one database.
#[derive(Debug)]
pub(super) struct Batcher {
    client: Arc<Client>,
    /// `<database>/_bulk_docs`
    path: String,
    /// Most requests at once.
    requests: usize,
    /// How often more a request is tried at once after a connection error.
    max_tries: u32,
    queue: Mutex<Queue>,
    beginning: Pace,
    tasks: TaskTracker,
}

#[derive(Debug, Default)]
struct Queue {
    /// Empty unless a request is in flight, or about to be.
    waiting: VecDeque<Waiting>,
    in_flight: usize,
}

#[derive(Debug)]
struct Waiting {
    /// JSON with `_id`.
    document: Bytes,
    written: oneshot::Sender<Outcome>,
}

/// One row of the answer, in the order of the documents (D-43).
#[derive(Deserialize)]
struct Row {
    rev: Option<String>,
    error: Option<String>,
    reason: Option<String>,
}

impl Batcher {
    pub(super) fn new(client: Arc<Client>, database: &str, requests: usize, max_tries: u32) -> Self {
        Self {
            client,
            path: format!("{database}/_bulk_docs"),
            requests,
            max_tries,
            queue: Mutex::default(),
            beginning: Pace::default(),
            tasks: TaskTracker::new(),
        }
    }

    /// Writes a document, and returns its revision. A dropped future is carried out all the same.
    pub(super) async fn write(self: &Arc<Self>, document: Bytes) -> Outcome {
        let (written, outcome) = oneshot::channel();
        let waiting = Waiting { document, written };
        let is_another_due = {
            let mut queue = self.queue.lock().expect("no holder panics");
            queue.waiting.push_back(waiting);
            let full = queue.waiting.len() >= DOCUMENTS;
            let due = queue.in_flight == 0 || full && queue.in_flight < self.requests;
            queue.in_flight += usize::from(due);
            due
        };
        if is_another_due {
            self.tasks.spawn(Arc::clone(self).write_all());
        }
        outcome
            .await
            .unwrap_or_else(|_| Err(Unwritten::NotNow("the writer was stopped".to_owned())))
    }

    /// Returns when all that was given is written, or after `grace`.
    pub(super) async fn close(&self, grace: Duration) {
        self.tasks.close();
        if tokio::time::timeout(grace, self.tasks.wait()).await.is_err() {
            tracing::warn!(?grace, "not all records were written within the grace period");
        }
    }

    /// Writes what has gathered, until nothing has.
    async fn write_all(self: Arc<Self>) {
        loop {
            let is_full = self.queue.lock().expect("no holder panics").waiting.len() >= DOCUMENTS;
            if !is_full {
                self.beginning.turn(SPACING).await;
            }
            match self.next_batch() {
                Some(batch) => self.write_batch(batch).await,
                None => return,
            }
        }
    }

    /// None: this request is not in flight any more.
    fn next_batch(&self) -> Option<Vec<Waiting>> {
        let mut queue = self.queue.lock().expect("no holder panics");
        let mut batch = Vec::new();
        let mut bytes = 0;
        while batch.len() < DOCUMENTS && bytes < BYTES {
            let Some(waiting) = queue.waiting.pop_front() else {
                break;
            };
            bytes += waiting.document.len();
            batch.push(waiting);
        }
        if batch.is_empty() {
            queue.in_flight -= 1;
            return None;
        }
        Some(batch)
    }

    async fn write_batch(&self, batch: Vec<Waiting>) {
        let posted = async {
            let timing = metrics::save_bulk(batch.len());
            let posted = self.post(&batch).await;
            timing.end(posted.is_ok());
            posted
        };
        let posted = Transaction::scope(&Transaction::system("sid_dbBatcher"), posted).await;
        match posted {
            Ok(outcomes) => {
                for (waiting, outcome) in batch.into_iter().zip(outcomes) {
                    // Whoever asked may have gone.
                    let _ = waiting.written.send(outcome);
                }
            }
            // One of them is what the database refuses; the others need not suffer.
            Err(failure) if failure.is_final() && batch.len() > 1 => {
                for waiting in batch {
                    Box::pin(self.write_batch(vec![waiting])).await;
                }
            }
            Err(failure) => {
                let failure = Arc::new(failure);
                for waiting in batch {
                    let unwritten = if failure.is_final() {
                        Unwritten::Refused(failure.to_string())
                    } else {
                        Unwritten::Failed(Arc::clone(&failure))
                    };
                    let _ = waiting.written.send(Err(unwritten));
                }
            }
        }
    }

    /// One request, tried again where that may help (D-47).
    async fn post(&self, batch: &[Waiting]) -> Result<Vec<Outcome>, Failure> {
        let ask = Ask::json(Method::POST, self.path.clone(), body(batch));
        let (mut broken, mut busy) = (0, 0);
        loop {
            let failure = match self.client.send(&ask).await {
                Ok(answer) if answer.status.is_success() => return self.outcomes(&answer.body, batch.len()),
                Ok(answer) => self.client.refused(&answer),
                Err(failure) => failure,
            };
            if failure.is_connection() && broken < self.max_tries {
                broken += 1;
            } else if failure.is_overload() && busy < BUSY_TRIES {
                tokio::time::sleep(BUSY_PAUSE * 2_u32.pow(busy)).await;
                busy += 1;
            } else {
                return Err(failure);
            }
        }
    }

    fn outcomes(&self, answer: &[u8], documents: usize) -> Result<Vec<Outcome>, Failure> {
        let rows: Vec<Row> = self.client.decode(answer)?;
        if rows.len() != documents {
            let reason = format!("{} rows for {documents} documents", rows.len());
            return Err(self.client.unreadable(reason));
        }
        Ok(rows.into_iter().map(outcome).collect())
    }
}

fn outcome(row: Row) -> Outcome {
    let reason = || row.reason.clone().unwrap_or_default();
    match (row.error.as_deref(), row.rev) {
        (None, Some(revision)) => Ok(revision),
        (None, None) => Err(Unwritten::NotNow("the answer has no revision".to_owned())),
        (Some("conflict"), _) => Err(Unwritten::Conflict),
        (Some(error @ ("forbidden" | "bad_request" | "doc_validation" | "document_too_large")), _) => {
            Err(Unwritten::Refused(format!("{error}, {}", reason())))
        }
        (Some(error), _) => Err(Unwritten::NotNow(format!("{error}, {}", reason()))),
    }
}

/// `{"docs":[…]}`, also for a single one (D-42).
fn body(batch: &[Waiting]) -> Vec<u8> {
    let documents: usize = batch.iter().map(|waiting| waiting.document.len() + 1).sum();
    let mut body = Vec::with_capacity(documents + 16);
    body.extend_from_slice(b"{\"docs\":[");
    for (n, waiting) in batch.iter().enumerate() {
        if n > 0 {
            body.push(b',');
        }
        body.extend_from_slice(&waiting.document);
    }
    body.extend_from_slice(b"]}");
    body
}
