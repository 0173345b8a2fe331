//! Requests to Docker's API, or to whatever else listens on a Unix socket.

use crate::world::Cause;
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use std::path::Path;
use tokio::net::UnixStream;

/// Where Docker listens.
pub const SOCKET: &str = "/var/run/docker.sock";

/// One request on a connection of its own; `Null` is no body, and stands for an answer that is no JSON.
///
/// # Errors
/// If nobody listens, or the answer is no success.
pub async fn request(socket: &Path, method: Method, path: &str, body: &Value) -> Result<Value, Cause> {
    let stream = UnixStream::connect(socket).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let request = Request::builder()
        .method(&method)
        .uri(path)
        .header("host", "docker")
        .header("content-type", "application/json")
        .body(Full::new(Bytes::from(match body {
            Value::Null => String::new(),
            body => body.to_string(),
        })))?;
    let answer = sender.send_request(request).await?;
    let status = answer.status();
    let body = answer.into_body().collect().await?.to_bytes();
    connection.abort();
    if !status.is_success() {
        let text = String::from_utf8_lossy(&body);
        return Err(format!("{method} {path} was answered with {status}: {text}").into());
    }
    Ok(serde_json::from_slice(&body).unwrap_or_default())
}
