//! The little that a controller's balancer wants of CouchDB: its test action is written, records are read.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use proto::id::ActivationId;
use serde_json::{Value, json};
use std::net::SocketAddr;
use tokio::net::TcpStream;

/// Where the databases are, and who asks.
#[derive(Clone, Debug)]
pub struct Database {
    pub address: SocketAddr,
    pub user: String,
    pub password: String,
    /// Of actions.
    pub entities: String,
    pub activations: String,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{method} {path} of the database failed")]
    Request {
        method: Method,
        path: String,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error("{method} {path} of the database was answered with {status}: {text}")]
    Refused {
        method: Method,
        path: String,
        status: StatusCode,
        text: String,
    },
}

impl Database {
    /// The record of an activation, if it is there.
    ///
    /// # Errors
    /// When the database does not answer, or not as one.
    pub async fn record(&self, namespace: &str, id: ActivationId) -> Result<Option<Value>, Error> {
        self.get(&self.activations, &format!("{namespace}/{id}")).await
    }

    /// One document, if it is there.
    ///
    /// # Errors
    /// As with [`Self::record`].
    pub async fn get(&self, database: &str, id: &str) -> Result<Option<Value>, Error> {
        let path = path(database, id);
        let (status, body) = self.send(Method::GET, &path, None).await?;
        match status {
            StatusCode::NOT_FOUND => Ok(None),
            _ => answer(Method::GET, path, status, &body).map(Some),
        }
    }

    /// What a view says, brought up to date first: the invoker reads some views as they last were.
    ///
    /// # Errors
    /// As with [`Self::record`].
    pub async fn view(&self, database: &str, design: &str, view: &str) -> Result<Value, Error> {
        let path = format!("/{database}/_design/{design}/_view/{view}?reduce=false");
        let (status, body) = self.send(Method::GET, &path, None).await?;
        answer(Method::GET, path, status, &body)
    }

    /// Writes a document over whatever has its `_id`; its new revision.
    ///
    /// # Errors
    /// As with [`Self::record`].
    pub async fn put(&self, database: &str, mut document: Value) -> Result<String, Error> {
        let id = document["_id"].as_str().unwrap_or_default().to_owned();
        if let Some(there) = self.get(database, &id).await? {
            document["_rev"] = there["_rev"].clone();
        } else if let Some(members) = document.as_object_mut() {
            members.remove("_rev");
        }
        let path = path(database, &id);
        let (status, body) = self.send(Method::PUT, &path, Some(&document)).await?;
        let answer = answer(Method::PUT, path, status, &body)?;
        Ok(answer["rev"].as_str().unwrap_or_default().to_owned())
    }

    /// Writes the action that an invoker is tested with (K-47); `kind` is the resolved `nodejs:default`.
    ///
    /// # Errors
    /// As with [`Self::record`].
    pub async fn put_test_action(&self, controller: &str, kind: &str, memory_mb: u64) -> Result<(), Error> {
        let name = format!("invokerHealthTestAction{controller}");
        let action = json!({
            "_id": format!("whisk.system/{name}"),
            "annotations": [],
            "entityType": "action",
            "exec": { "kind": kind, "code": "function main(params) { return params; }", "binary": false },
            "limits": { "concurrency": 1, "logs": 10, "memory": memory_mb, "timeout": 60000 },
            "name": name,
            "namespace": "whisk.system",
            "parameters": [],
            "publish": false,
            "version": "0.0.1",
        });
        self.put(&self.entities, action).await.map(drop)
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<(StatusCode, Bytes), Error> {
        let failed = |source: Box<dyn std::error::Error + Send + Sync>| Error::Request {
            method: method.clone(),
            path: path.to_owned(),
            source,
        };
        let key = STANDARD.encode(format!("{}:{}", self.user, self.password));
        let request = Request::builder()
            .method(method.clone())
            .uri(path)
            .header("host", self.address.to_string())
            .header("authorization", format!("Basic {key}"))
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from(
                body.map(Value::to_string).unwrap_or_default(),
            )))
            .map_err(|error| failed(error.into()))?;
        let answered = async {
            let stream = TcpStream::connect(self.address).await?;
            let (mut sender, connection) =
                hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
            let connection = tokio::spawn(connection);
            let answer = sender.send_request(request).await?;
            let status = answer.status();
            let body = answer.into_body().collect().await?.to_bytes();
            connection.abort();
            Ok::<_, Box<dyn std::error::Error + Send + Sync>>((status, body))
        };
        answered.await.map_err(failed)
    }
}

fn answer(method: Method, path: String, status: StatusCode, body: &[u8]) -> Result<Value, Error> {
    match serde_json::from_slice(body) {
        Ok(value) if status.is_success() => Ok(value),
        _ => Err(Error::Refused {
            method,
            path,
            status,
            text: String::from_utf8_lossy(body).into_owned(),
        }),
    }
}

/// The id is one segment, whatever it holds.
fn path(database: &str, id: &str) -> String {
    let mut path = format!("/{database}/");
    for byte in id.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => path.push(byte.into()),
            _ => path.push_str(&format!("%{byte:02X}")),
        }
    }
    path
}
