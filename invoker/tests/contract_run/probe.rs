//! A container engine whose containers are HTTP servers inside the test: they answer as the test
//! says, and keep every request byte for byte.

use super::stand_in_engine::{Containers, Deed};
use async_trait::async_trait;
use ffs_invoker::container::{ContainerId, ContainerSpec, Error, LogRequest, Logs};
use futures::future::BoxFuture;
use serde_json::Value;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

pub(crate) type Engine = super::stand_in_engine::StandInEngine<Probe>;

/// One request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// Containers count from 1, in the order of their starts.
    pub(crate) container: usize,
    /// `/init` or `/run`.
    pub(crate) path: String,
    /// How many requests for that path the container had with this one.
    pub(crate) nth: usize,
    /// Request line and headers.
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Seen {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        let line = self.head.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|rest| rest.strip_prefix(": ")).unwrap()
    }
}

/// What a container does with a request.
pub(crate) enum Reply {
    /// Status and body, with its length; the connection stays open until the caller closes it.
    Whole(u16, String),
    /// These bytes, then the connection is closed.
    Raw(Vec<u8>),
    /// The answer waits for this.
    Held(Arc<Notify>, u16, String),
    Never,
}

pub(crate) fn ok(body: &str) -> Reply {
    Reply::Whole(200, body.to_owned())
}

type Script = dyn Fn(&Seen) -> Reply + Send + Sync;
type Start = dyn Fn(&ContainerSpec) -> Result<(), Error> + Send + Sync;
type Logging = dyn Fn(&LogRequest) -> Logs + Send + Sync;

pub(crate) struct Probe {
    script: Arc<Script>,
    pub(crate) start: Box<Start>,
    pub(crate) logging: Box<Logging>,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    seen: Mutex<Vec<Seen>>,
    /// `start 1`, `pause 1`, `resume 1`, `remove 1`, `logs 1`.
    deeds: Mutex<Vec<String>>,
    /// By number: cancelled, nobody listens there any more.
    deaf: Mutex<HashMap<usize, CancellationToken>>,
    /// Connections now, and at most so far.
    open: Mutex<(usize, usize)>,
}

impl std::fmt::Debug for Probe {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Probe")
    }
}

impl Probe {
    pub(crate) fn new(script: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Self {
        Self {
            script: Arc::new(script),
            start: Box::new(|_| Ok(())),
            logging: Box::new(|_| Logs::default()),
            state: Arc::default(),
        }
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        lock(&self.state.seen).clone()
    }

    pub(crate) fn deeds(&self) -> Vec<String> {
        lock(&self.state.deeds).clone()
    }

    pub(crate) fn connections(&self) -> (usize, usize) {
        *lock(&self.state.open)
    }

    /// From now on nobody listens in the container, which goes on.
    pub(crate) fn deafen(&self, container: usize) {
        lock(&self.state.deaf)[&container].cancel();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[async_trait]
impl Containers for Probe {
    async fn asked(&self, spec: &ContainerSpec) -> Result<(), Error> {
        (self.start)(spec)
    }

    fn serve(&self, container: usize, listener: TcpListener) -> BoxFuture<'static, ()> {
        let deaf = CancellationToken::new();
        lock(&self.state.deaf).insert(container, deaf.clone());
        let (script, state) = (Arc::clone(&self.script), Arc::clone(&self.state));
        Box::pin(async move {
            deaf.run_until_cancelled(serve(script, state, container, listener))
                .await;
        })
    }

    fn done(&self, deed: Deed, id: &ContainerId) -> Result<(), Error> {
        let deed = format!("{deed:?}").to_lowercase();
        lock(&self.state.deeds).push(format!("{deed} {id}"));
        Ok(())
    }

    async fn logs(&self, request: &LogRequest) -> Logs {
        (self.logging)(request)
    }
}

async fn serve(script: Arc<Script>, state: Arc<State>, container: usize, listener: TcpListener) {
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(answer(Arc::clone(&script), Arc::clone(&state), container, stream));
    }
}

async fn answer(script: Arc<Script>, state: Arc<State>, container: usize, mut stream: TcpStream) {
    let Some((head, body)) = request(&mut stream).await else {
        return;
    };
    let path = head.split(' ').nth(1).unwrap().to_owned();
    let seen = {
        let mut all = lock(&state.seen);
        let earlier = all.iter().filter(|s| s.container == container && s.path == path);
        let nth = earlier.count() + 1;
        let seen = Seen {
            container,
            path,
            nth,
            head,
            body,
        };
        all.push(seen.clone());
        seen
    };
    {
        let mut open = lock(&state.open);
        open.0 += 1;
        open.1 = open.1.max(open.0);
    }
    let reply = script(&seen);
    let bytes = match reply {
        Reply::Whole(status, body) => whole(status, &body),
        Reply::Held(notify, status, body) => {
            notify.notified().await;
            whole(status, &body)
        }
        Reply::Raw(bytes) => {
            let _ = stream.write_all(&bytes).await; // the caller may have read enough
            lock(&state.open).0 -= 1;
            return;
        }
        Reply::Never => Vec::new(),
    };
    let _ = stream.write_all(&bytes).await;
    // The caller closes it (C-02).
    let _ = stream.read(&mut [0; 1]).await;
    lock(&state.open).0 -= 1;
}

fn whole(status: u16, body: &str) -> Vec<u8> {
    format!(
        "HTTP/1.1 {status} X\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// Head and body, by Content-Length.
async fn request(stream: &mut TcpStream) -> Option<(String, String)> {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("Content-Length: "));
            if body.len() >= length?.parse().ok()? {
                return Some((head.to_owned(), body.to_owned()));
            }
        }
        let read = stream.read_buf(&mut bytes).await.ok()?;
        if read == 0 {
            return None;
        }
    }
}
