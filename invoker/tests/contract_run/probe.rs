//! A container engine whose containers are HTTP servers inside the test: they answer as the test
//! says, and keep every request byte for byte.

use async_trait::async_trait;
use ffs_invoker::container::{
    Address, Container, ContainerEngine, ContainerId, ContainerSpec, Error, Exit, LogRequest, Logs,
    SharedMemory, SliceLimits,
};
use proto::id::InstanceId;
use proto::unit::Bytes;
use serde_json::Value;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

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
    pub(crate) script: Box<Script>,
    pub(crate) start: Box<Start>,
    pub(crate) logging: Box<Logging>,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    seen: Mutex<Vec<Seen>>,
    /// `start 1`, `pause 1`, `resume 1`, `remove 1`, `logs 1`.
    deeds: Mutex<Vec<String>>,
    containers: Mutex<HashMap<ContainerId, Running>>,
    /// Connections now, and at most so far.
    open: Mutex<(usize, usize)>,
}

struct Running {
    listening: CancellationToken,
    ended: watch::Sender<Option<Exit>>,
}

impl std::fmt::Debug for Probe {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Probe")
    }
}

impl Probe {
    pub(crate) fn new(script: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Self {
        Self {
            script: Box::new(script),
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
        lock(&self.state.containers)[&id(container)].listening.cancel();
    }

    fn note(&self, deed: &str, id: &ContainerId) {
        lock(&self.state.deeds).push(format!("{deed} {id}"));
    }
}

fn id(container: usize) -> ContainerId {
    ContainerId(container.to_string())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// The probe as the daemon has it.
#[derive(Debug)]
pub(crate) struct Engine(pub(crate) Arc<Probe>);

#[async_trait]
impl ContainerEngine for Engine {
    fn name(&self) -> &'static str {
        "probe"
    }

    async fn sweep(&self) -> Result<(), Error> {
        for running in lock(&self.0.state.containers).values() {
            running.listening.cancel();
        }
        Ok(())
    }

    async fn start(&self, spec: &ContainerSpec) -> Result<Container, Error> {
        (self.0.start)(spec)?;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = Address::Tcp(listener.local_addr().unwrap());
        let (listening, ended) = (CancellationToken::new(), watch::Sender::new(None));
        let number = {
            let mut containers = lock(&self.0.state.containers);
            let number = containers.len() + 1;
            let listening = listening.clone();
            containers.insert(id(number), Running { listening, ended });
            number
        };
        self.0.note("start", &id(number));
        tokio::spawn(serve(Arc::clone(&self.0), number, listener, listening));
        Ok(Container {
            id: id(number),
            name: spec.name.clone(),
            address,
        })
    }

    async fn limit(&self, _: &ContainerId, _: SliceLimits) -> Result<(), Error> {
        Ok(())
    }

    async fn remove(&self, id: &ContainerId) -> Result<(), Error> {
        self.0.note("remove", id);
        let containers = lock(&self.0.state.containers);
        containers[id].listening.cancel();
        containers[id].ended.send_replace(Some(Exit::default()));
        Ok(())
    }

    async fn pause(&self, id: &ContainerId) -> Result<(), Error> {
        self.0.note("pause", id);
        Ok(())
    }

    async fn resume(&self, id: &ContainerId) -> Result<(), Error> {
        self.0.note("resume", id);
        Ok(())
    }

    async fn ended(&self, id: &ContainerId) -> Exit {
        let mut ended = lock(&self.0.state.containers)[id].ended.subscribe();
        let exit = ended.wait_for(Option::is_some).await;
        exit.map(|exit| exit.clone()).ok().flatten().unwrap_or_default()
    }

    async fn logs(&self, id: &ContainerId, request: LogRequest) -> Logs {
        self.0.note("logs", id);
        (self.0.logging)(&request)
    }

    fn lane_owner(&self, _: u32) -> Option<u32> {
        None
    }

    fn limits_slices(&self) -> bool {
        false
    }

    async fn create_shared_memory(&self, _: &InstanceId, _: Bytes, _: u32) -> Result<SharedMemory, Error> {
        unreachable!("there are no pipelines in these tests")
    }

    async fn remove_shared_memory(&self, _: &SharedMemory) -> Result<(), Error> {
        unreachable!("there are no pipelines in these tests")
    }
}

async fn serve(probe: Arc<Probe>, container: usize, listener: TcpListener, listening: CancellationToken) {
    loop {
        let accepted = tokio::select! {
            () = listening.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, _)) = accepted else { return };
        tokio::spawn(answer(Arc::clone(&probe), container, stream));
    }
}

async fn answer(probe: Arc<Probe>, container: usize, mut stream: TcpStream) {
    let Some((head, body)) = request(&mut stream).await else {
        return;
    };
    let path = head.split(' ').nth(1).unwrap().to_owned();
    let seen = {
        let mut all = lock(&probe.state.seen);
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
        let mut open = lock(&probe.state.open);
        open.0 += 1;
        open.1 = open.1.max(open.0);
    }
    let reply = (probe.script)(&seen);
    let bytes = match reply {
        Reply::Whole(status, body) => whole(status, &body),
        Reply::Held(notify, status, body) => {
            notify.notified().await;
            whole(status, &body)
        }
        Reply::Raw(bytes) => {
            let _ = stream.write_all(&bytes).await; // the caller may have read enough
            lock(&probe.state.open).0 -= 1;
            return;
        }
        Reply::Never => Vec::new(),
    };
    let _ = stream.write_all(&bytes).await;
    // The caller closes it (C-02).
    let _ = stream.read(&mut [0; 1]).await;
    lock(&probe.state.open).0 -= 1;
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
