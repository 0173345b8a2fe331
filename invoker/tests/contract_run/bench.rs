//! A whole invoker around the probe: the real daemon on an embedded bus and store.

use super::probe::{Engine, Probe};
use ffs_invoker::bus::embedded::EmbeddedBus;
use ffs_invoker::bus::{Bus, Subscription, TopicSpec};
use ffs_invoker::config::Settings;
use ffs_invoker::daemon::{Daemon, Edges};
use ffs_invoker::gpu::{GpuInventory, none};
use ffs_invoker::runtimes::Runtimes;
use ffs_invoker::store::embedded::{EmbeddedStore, Retention};
use ffs_invoker::store::{Database, Store};
use proto::unit::Bytes;
use serde_json::{Map, Value, json};
use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How long anything may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

const MANIFEST: &str = r#"{"runtimes": {
    "python": [{"kind": "python:3", "image": {"name": "python3action"}, "default": true}],
    "nodejs": [{"kind": "nodejs:20", "image": {"name": "nodejs20action"}, "default": true}],
    "ghost": [{"kind": "ghost:1", "image": {"name": "ghost"}, "default": true}]}}"#;

pub(crate) struct Bench {
    pub(crate) engine: Arc<Engine>,
    daemon: Daemon,
    bus: Arc<dyn Bus>,
    store: Arc<dyn Store>,
    acks: Box<dyn Subscription>,
    unread: VecDeque<Value>,
    folder: TempDir,
}

impl Bench {
    pub(crate) async fn start(probe: Probe) -> Self {
        Self::with(probe, |_| ()).await
    }

    pub(crate) async fn with(probe: Probe, change: impl FnOnce(&mut Settings)) -> Self {
        Self::on(Arc::new(none::None), probe, change).await
    }

    /// With these slices.
    pub(crate) async fn on(
        inventory: Arc<dyn GpuInventory>,
        probe: Probe,
        change: impl FnOnce(&mut Settings),
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let forever = Retention {
            records: u64::MAX,
            age: Duration::MAX,
        };
        let bus: Arc<dyn Bus> = Arc::new(EmbeddedBus::open(&at("bus")).unwrap());
        let store: Arc<dyn Store> = Arc::new(EmbeddedStore::open(&at("store"), forever).unwrap());
        bus.ensure_topic(&topic("completed0")).await.unwrap();
        let mut settings = Settings::standard(Runtimes::parse(MANIFEST).unwrap(), at("state"), at("layers"));
        settings.limits.concurrency.max = 100;
        change(&mut settings);
        let decide = scheduler::Settings {
            user_memory: settings.user_memory,
            pause_grace: settings.pool.pause_grace,
            ..scheduler::Settings::default()
        };
        let engine = Arc::new(Engine::new(probe));
        let edges = Edges {
            bus: Arc::clone(&bus),
            store: Arc::clone(&store),
            engine: engine.clone(),
            inventory,
        };
        let daemon = Daemon::start(edges, settings, decide).await.unwrap();
        let acks = bus.subscribe("completed0", "completed0").await.unwrap();
        Self {
            engine,
            daemon,
            bus,
            store,
            acks,
            unread: VecDeque::new(),
            folder,
        }
    }

    /// Stores a recorded action under its own name, or one made with [`action`].
    pub(crate) async fn put(&self, document: &Value) -> String {
        let mut body = document.clone();
        let id = body["_id"].as_str().unwrap().to_owned();
        for member in ["_id", "_rev", "_attachments"] {
            body.as_object_mut().unwrap().shift_remove(member);
        }
        self.store.put(Database::Entity, &id, None, &body).await.unwrap()
    }

    pub(crate) async fn send(&self, message: &Value) {
        let payload = serde_json::to_vec(message).unwrap();
        self.bus.send("invoker0", payload).await.unwrap();
    }

    /// Acks for another controller.
    pub(crate) async fn listen(&self, name: &str) -> Box<dyn Subscription> {
        self.bus.ensure_topic(&topic(name)).await.unwrap();
        self.bus.subscribe(name, name).await.unwrap()
    }

    /// The next ack.
    pub(crate) async fn ack(&mut self) -> Value {
        while self.unread.is_empty() {
            let read = tokio::time::timeout(PATIENCE, self.acks.next(16)).await;
            let messages = read.expect("an ack").unwrap();
            self.acks.commit(messages.last().unwrap()).await.unwrap();
            let acks = messages
                .iter()
                .map(|m| serde_json::from_slice(&m.payload).unwrap());
            self.unread.extend(acks);
        }
        self.unread.pop_front().unwrap()
    }

    /// All acks up to and with the one that frees the slot.
    pub(crate) async fn acks(&mut self) -> Vec<Value> {
        let mut acks = Vec::new();
        loop {
            acks.push(self.ack().await);
            if acks.last().unwrap().get("instance").is_some() {
                return acks;
            }
        }
    }

    /// The activation that a blocking caller gets; the slot is free again after this.
    pub(crate) async fn call(&mut self, message: &Value) -> Value {
        self.send(message).await;
        let acks = self.acks().await;
        let whole = acks.iter().find(|ack| ack["response"].is_object());
        whole.expect("a result")["response"].clone()
    }

    pub(crate) async fn record(&self, namespace: &str, activation: &str) -> Value {
        let id = format!("{namespace}/{activation}");
        let deadline = Instant::now() + PATIENCE;
        loop {
            let found = self.store.get(Database::Activation, &id, None).await.unwrap();
            if let Some(document) = found {
                return document.body;
            }
            assert!(Instant::now() < deadline, "no record {id}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Waits until something is so.
    pub(crate) async fn until(&self, what: &str, is_so: impl Fn(&Probe) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !is_so(&self.engine) {
            assert!(Instant::now() < deadline, "{what}: {:?}", self.engine.deeds());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Stops the daemon, and finds no ack that nobody expected.
    pub(crate) async fn stop(self) {
        self.acks.close().await.unwrap();
        self.daemon.stop().await;
        drop((self.bus, self.store));
        // The bus was closed with the daemon, but keeps what nobody has read. Its file is let go of by the
        // last task that had it, which may be a little later.
        let deadline = Instant::now() + PATIENCE;
        let bus = loop {
            match EmbeddedBus::open(&self.folder.path().join("bus")) {
                Ok(bus) => break bus,
                Err(error) => assert!(Instant::now() < deadline, "{error:?}"),
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        };
        let mut left = bus.subscribe("completed0", "completed0").await.unwrap();
        let more = tokio::time::timeout(Duration::from_millis(50), left.next(16)).await;
        assert!(
            self.unread.is_empty() && more.is_err(),
            "{:?} {more:?}",
            self.unread
        );
    }
}

/// What has come, once something has.
pub(crate) async fn read(mut from: Box<dyn Subscription>) -> Vec<Value> {
    let read = tokio::time::timeout(PATIENCE, from.next(16)).await;
    let messages = read.expect("a message").unwrap();
    messages
        .iter()
        .map(|m| serde_json::from_slice(&m.payload).unwrap())
        .collect()
}

fn topic(name: &str) -> TopicSpec {
    TopicSpec {
        name: name.to_owned(),
        partitions: 1,
        replication: 1,
        ..TopicSpec::default()
    }
}

/// A blackbox action that says of itself what its container answers.
pub(crate) fn action(name: &str, change: Value) -> Value {
    let mut document = json!({
        "_id": format!("guest/{name}"), "entityType": "action", "namespace": "guest", "name": name,
        "version": "0.0.3", "publish": false, "updated": 1, "parameters": [],
        "exec": {"kind": "blackbox", "image": "someone/probe", "binary": false},
        "limits": {"timeout": 60000, "memory": 256, "logs": 0, "concurrency": 1},
        "annotations": [{"key": "provide-api-key", "value": false}]
    });
    merge(&mut document, change);
    document
}

/// A blocking message for it with an id of its own.
pub(crate) fn message(action: &Value, change: Value) -> Value {
    let mut message = json!({
        "action": {"path": action["namespace"], "name": action["name"], "version": action["version"]},
        "activationId": uuid::Uuid::new_v4().simple().to_string(),
        "blocking": true, "content": {}, "initArgs": [], "lockedArgs": {}, "revision": null,
        "rootControllerIndex": {"asString": "0", "instanceType": "controller"},
        "transid": ["someTransaction", 1],
        "user": {"authkey": {"api_key": "u:k"}, "limits": {}, "namespace": {"name": "jane", "uuid": "u-u"},
            "rights": [], "subject": "jane-doe"}
    });
    merge(&mut message, change);
    message
}

fn merge(into: &mut Value, change: Value) {
    match (into, change) {
        (Value::Object(into), Value::Object(change)) => {
            for (key, value) in change {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, change) => *into = change,
    }
}

/// A recording, if there is one.
pub(crate) fn recording(path: &str) -> Option<Value> {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../proto/fixtures");
    let text = std::fs::read(fixtures.join(path)).ok()?;
    Some(serde_json::from_slice(&text).unwrap())
}

/// What two invokers' acks or records must agree in: times, instances, logs and revisions differ.
pub(crate) fn comparable(document: &Value) -> Value {
    let mut document = document.clone();
    let activation = match document.get("response") {
        Some(response) if response.get("activationId").is_some() => &mut document["response"],
        _ => &mut document,
    };
    if let Some(members) = activation.as_object_mut()
        && members.contains_key("start")
    {
        settle(members);
    }
    if let Some(members) = document.as_object_mut() {
        for member in ["_id", "_rev", "instance"] {
            members.remove(member);
        }
    }
    document
}

fn settle(members: &mut Map<String, Value>) {
    let number = |member: &str| members[member].as_i64().unwrap();
    assert_eq!(number("end") - number("start"), number("duration"), "{members:?}");
    for member in ["start", "end", "updated", "duration"] {
        members.remove(member);
    }
    if let Some(logs) = members.get_mut("logs") {
        *logs = json!([]);
    }
    if let Some(annotations) = members.get_mut("annotations") {
        let pairs = annotations.as_array().unwrap().iter().map(|annotation| {
            let key = annotation["key"].as_str().unwrap();
            let value = match key {
                "waitTime" | "initTime" => {
                    json!(annotation["value"].is_i64() || annotation["value"].is_u64())
                }
                _ => annotation["value"].clone(),
            };
            (key.to_owned(), value)
        });
        *annotations = Value::Object(pairs.collect());
    }
}

pub(crate) fn small(settings: &mut Settings) {
    settings.user_memory = Bytes::mib(256);
}
