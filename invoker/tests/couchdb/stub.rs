//! In place of CouchDB where a test needs answers that a real one does not give: what was asked is kept.

use ffs_invoker::store::couchdb::{CouchSettings, CouchStore};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{HeaderMap, Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;

#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) method: String,
    /// With its query, as it was sent.
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Asked {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// The documents of a `_bulk_docs`.
    pub(crate) fn documents(&self) -> Vec<Value> {
        let body: Value = serde_json::from_slice(&self.body).unwrap();
        assert_eq!(body.as_object().unwrap().len(), 1, "nothing but docs: {body}");
        body["docs"].as_array().unwrap().clone()
    }

    pub(crate) fn is_bulk(&self) -> bool {
        self.path.ends_with("/_bulk_docs")
    }
}

pub(crate) enum Reply {
    Text(u16, String),
    Bytes(Vec<u8>),
    /// The connection is closed.
    Nothing,
    /// Nothing ever comes.
    Silence,
    /// Once the gate is open.
    After(watch::Receiver<bool>, Box<Reply>),
}

impl Reply {
    pub(crate) fn json(status: u16, body: Value) -> Self {
        Self::Text(status, body.to_string())
    }

    pub(crate) fn not_found() -> Self {
        Self::json(404, json!({"error": "not_found", "reason": "missing"}))
    }

    /// As CouchDB answers a `_bulk_docs` that it has carried out.
    pub(crate) fn written(asked: &Asked) -> Self {
        let row = |document: &Value| json!({"ok": true, "id": document["_id"], "rev": "1-a"});
        Self::json(201, asked.documents().iter().map(row).collect())
    }
}

type Answer = dyn Fn(&Asked) -> Reply + Send + Sync;

pub(crate) struct Stub {
    pub(crate) port: u16,
    asked: Arc<Mutex<Vec<Asked>>>,
    connections: Arc<Connections>,
    task: tokio::task::JoinHandle<()>,
}

#[derive(Default)]
struct Connections {
    all: AtomicUsize,
    open: AtomicUsize,
    most: AtomicUsize,
}

impl Connections {
    fn opened(&self) {
        self.all.fetch_add(1, Ordering::Relaxed);
        let open = 1 + self.open.fetch_add(1, Ordering::Relaxed);
        self.most.fetch_max(open, Ordering::Relaxed);
    }
}

impl Stub {
    /// Reads of the databases themselves are answered; all else is up to `answer`.
    pub(crate) async fn start(answer: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked: Arc<Mutex<Vec<Asked>>> = Arc::default();
        let connections: Arc<Connections> = Arc::default();
        let (seen, answer): (_, Arc<Answer>) = (Arc::clone(&asked), Arc::new(answer));
        let count = Arc::clone(&connections);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let count = Arc::clone(&count);
                count.opened();
                let (seen, answer) = (Arc::clone(&seen), Arc::clone(&answer));
                let service =
                    service_fn(move |request| respond(request, Arc::clone(&seen), Arc::clone(&answer)));
                let serving = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service);
                // A connection that was to break ends with an error.
                tokio::spawn(async move {
                    drop(serving.await);
                    count.open.fetch_sub(1, Ordering::Relaxed);
                });
            }
        });
        Self {
            port,
            asked,
            connections,
            task,
        }
    }

    /// What was asked, but for the databases themselves.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// How many there were, broken ones too.
    pub(crate) fn connections(&self) -> usize {
        self.connections.all.load(Ordering::Relaxed)
    }

    pub(crate) fn connections_at_once(&self) -> usize {
        self.connections.most.load(Ordering::Relaxed)
    }

    pub(crate) fn settings(&self) -> CouchSettings {
        crate::couch::settings(self.port, crate::couch::named("whisk_"))
    }

    pub(crate) async fn store(&self) -> CouchStore {
        CouchStore::open(self.settings()).await.unwrap()
    }
}

impl Drop for Stub {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn respond(
    request: Request<Incoming>,
    seen: Arc<Mutex<Vec<Asked>>>,
    answer: Arc<Answer>,
) -> Result<Response<Full<Bytes>>, &'static str> {
    let (head, body) = request.into_parts();
    let asked = Asked {
        method: head.method.to_string(),
        path: head.uri.to_string(),
        headers: head.headers,
        body: body
            .collect()
            .await
            .map_err(|_| "the caller has gone")?
            .to_bytes(),
    };
    let of_a_database = asked.path.matches('/').count() == 1;
    let mut reply = if of_a_database {
        Reply::json(200, json!({}))
    } else {
        seen.lock().unwrap().push(asked.clone());
        answer(&asked)
    };
    if let Reply::After(mut gate, later) = reply {
        gate.wait_for(|open| *open)
            .await
            .map_err(|_| "the test is over")?;
        reply = *later;
    }
    let response =
        |status: u16, bytes: Bytes| Response::builder().status(status).body(Full::new(bytes)).unwrap();
    match reply {
        Reply::Text(status, text) => Ok(response(status, text.into())),
        Reply::Bytes(bytes) => Ok(response(200, bytes.into())),
        Reply::Nothing => Err("told to break the connection"),
        Reply::Silence | Reply::After(..) => {
            tokio::time::sleep(Duration::from_secs(3600)).await;
            Err("an hour is over")
        }
    }
}
