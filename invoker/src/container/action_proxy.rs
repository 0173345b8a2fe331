//! HTTP to what runs in a container: `/init`, `/run`, and `/ffs/*` of our own runtime.
//!
//! A connection of its own per request (C-02). What an answer means is `completion/response.rs`'s
//! business. Source: `ApacheBlockingContainerClient.scala`; contract C-01, C-20 … C-45.

use super::Address;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes as Chunk, Incoming};
use hyper::{Request, header};
use hyper_util::rt::TokioIo;
use proto::unit::Bytes;
use std::io::ErrorKind;
use std::time::{Duration, Instant, SystemTime};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

/// One request and what became of it.
#[derive(Debug)]
pub struct Exchange {
    /// When it was begun.
    pub began: SystemTime,
    pub took: Duration,
    pub outcome: Outcome,
}

#[derive(Debug)]
pub enum Outcome {
    Response {
        status: u16,
        body: Body,
        /// Header `FFS-Timing`, from the head of a pipeline.
        timing: Option<String>,
    },
    /// The limit passed first.
    TimedOut,
    /// Nobody could be connected to: nothing was sent.
    Refused,
    /// The connection broke after the request was sent, or on the way.
    Broken,
    /// Closed without an answer, or an answer without an entity.
    NoResponse,
}

/// An answer's body, as far as it is kept.
#[derive(Debug)]
pub struct Body {
    kept: Vec<u8>,
    /// What was really sent.
    pub length: Bytes,
}

impl Body {
    /// Whether it was longer than allowed.
    pub fn is_cut(&self) -> bool {
        self.length.0 != self.kept.len() as u64
    }

    /// UTF-8, with replacement characters for what was cut in the middle (C-31).
    pub fn text(&self) -> std::borrow::Cow<'_, str> {
        String::from_utf8_lossy(&self.kept)
    }

    /// Length in UTF-16 units; of a cut body in bytes (C-33).
    pub fn units(&self) -> u64 {
        if self.is_cut() { self.length.0 } else { self.text().encode_utf16().count() as u64 }
    }
}

/// How much of an answer is read.
#[derive(Clone, Copy, Debug)]
pub struct BodyLimit {
    pub most: Bytes,
    /// What is kept of a longer one.
    pub cut: Bytes,
}

/// How long to go on trying to connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connect {
    /// Until the limit is used up: the server may still be starting (C-40).
    Patiently,
    Once,
}

const FIRST_PAUSE: Duration = Duration::from_millis(2);
const LONGEST_PAUSE: Duration = Duration::from_millis(50);

/// Posts `body` to `path` and waits for the answer, all of it within `limit`.
pub async fn post(
    address: &Address,
    path: &str,
    body: Chunk,
    limit: Duration,
    kept: BodyLimit,
    connect: Connect,
) -> Exchange {
    let (began, clock) = (SystemTime::now(), Instant::now());
    let outcome = tokio::time::timeout(limit, exchange(address, path, body, kept, connect)).await;
    Exchange { began, took: clock.elapsed(), outcome: outcome.unwrap_or(Outcome::TimedOut) }
}

async fn exchange(address: &Address, path: &str, body: Chunk, kept: BodyLimit, connect: Connect) -> Outcome {
    match address {
        Address::Tcp(to) => match patiently(connect, || TcpStream::connect(to)).await {
            Ok(stream) => {
                let _ = stream.set_nodelay(true); // a slower answer is still an answer
                send(stream, &to.to_string(), path, body, kept).await
            }
            Err(_) => Outcome::Refused,
        },
        Address::Unix(to) => match patiently(connect, || UnixStream::connect(to)).await {
            Ok(stream) => send(stream, "localhost", path, body, kept).await,
            Err(_) => Outcome::Refused,
        },
    }
}

async fn patiently<S, F: Future<Output = std::io::Result<S>>>(
    connect: Connect,
    mut open: impl FnMut() -> F,
) -> std::io::Result<S> {
    let mut pause = FIRST_PAUSE;
    loop {
        match open().await {
            Err(error) if connect == Connect::Patiently && may_come(error.kind()) => {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
            outcome => return outcome,
        }
    }
}

/// Nobody listens yet, or the route is not there yet.
fn may_come(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::ConnectionRefused | ErrorKind::HostUnreachable | ErrorKind::NotFound)
}

async fn send<S>(stream: S, host: &str, path: &str, body: Chunk, kept: BodyLimit) -> Outcome
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let Ok((mut sender, connection)) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await else {
        return Outcome::Broken;
    };
    let request = Request::post(path)
        .header(header::HOST, host)
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::ACCEPT, "application/json")
        .header(header::CONNECTION, "close")
        .body(Full::new(body))
        .expect("the path is one of ours");
    let answer = async {
        match sender.send_request(request).await {
            Ok(response) => read(response, kept).await,
            Err(error) if error.is_incomplete_message() => Outcome::NoResponse,
            Err(_) => Outcome::Broken,
        }
    };
    // The connection does its work here, so that dropping this future closes it.
    tokio::pin!(answer);
    tokio::select! {
        outcome = &mut answer => outcome,
        _ = connection => answer.await,
    }
}

async fn read(response: hyper::Response<Incoming>, limit: BodyLimit) -> Outcome {
    let status = response.status().as_u16();
    let timing = response.headers().get(proto::ffs::timing::TIMING_HEADER);
    let timing = timing.and_then(|value| value.to_str().ok()).map(str::to_owned);
    if status == 204 {
        return Outcome::NoResponse;
    }
    let announced = response.headers().get(header::CONTENT_LENGTH);
    let announced: Option<u64> = announced.and_then(|value| value.to_str().ok()).and_then(|n| n.parse().ok());
    let mut body = response.into_body();
    let (mut kept, mut length) = (Vec::new(), 0_u64);
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else { return Outcome::Broken };
        let Ok(chunk) = frame.into_data() else { continue };
        length += chunk.len() as u64;
        let room = usize::try_from(limit.most.0).unwrap_or(usize::MAX).saturating_sub(kept.len());
        kept.extend_from_slice(&chunk[..chunk.len().min(room)]);
        // A body of known length need not be read to its end to know how long it is.
        if length > limit.most.0 && announced.is_some() {
            length = announced.unwrap_or(length);
            break;
        }
    }
    if length > limit.most.0 {
        kept.truncate(usize::try_from(limit.cut.0).unwrap_or(usize::MAX));
    }
    Outcome::Response { status, body: Body { kept, length: Bytes(length) }, timing }
}
