//! A whole invoker inside the test: an embedded bus, the store that the test gives, and probes as containers.

use crate::probe::Probe;
use crate::stand_in_engine::StandInEngine;
use ffs_invoker::bus::embedded::EmbeddedBus;
use ffs_invoker::bus::{Bus, Subscription, TopicSpec};
use ffs_invoker::config::Settings;
use ffs_invoker::daemon::{Daemon, Edges};
use ffs_invoker::runtimes::Runtimes;
use ffs_invoker::store::{Database, Document, Store};
use proto::unit::Bytes;
use proto::whisk::acknowledgement::{AckResponse, Acknowledgement};
use proto::whisk::activation::Activation;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long something may take on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Bench {
    daemon: Daemon,
    bus: Arc<dyn Bus>,
    store: Arc<dyn Store>,
    acks: Box<dyn Subscription>,
    read: VecDeque<Acknowledgement>,
    pub(crate) engine: Arc<StandInEngine<Probe>>,
    _folder: tempfile::TempDir,
}

impl Bench {
    pub(crate) async fn start(store: impl Store + 'static) -> Self {
        Self::start_with(Arc::new(store), |_| {}).await
    }

    pub(crate) async fn start_with(store: Arc<dyn Store>, change: impl FnOnce(&mut Settings)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let bus: Arc<dyn Bus> = Arc::new(EmbeddedBus::open(&folder.path().join("bus")).unwrap());
        let completed = TopicSpec {
            name: "completed0".into(),
            partitions: 1,
            replication: 1,
            ..TopicSpec::default()
        };
        bus.ensure_topic(&completed).await.unwrap();
        let acks = bus.subscribe("completed0", "completed0").await.unwrap();
        let engine = Arc::new(StandInEngine::new(Probe::default()));
        let edges = Edges {
            bus: Arc::clone(&bus),
            store: Arc::clone(&store),
            engine: Arc::clone(&engine) as _,
            inventory: Arc::new(ffs_invoker::gpu::none::None),
        };
        let mut settings = settings(folder.path());
        change(&mut settings);
        let decide = scheduler::Settings {
            user_memory: settings.user_memory,
            ..scheduler::Settings::default()
        };
        Self {
            daemon: Daemon::start(edges, settings, decide).await.unwrap(),
            bus,
            store,
            acks,
            read: VecDeque::new(),
            engine,
            _folder: folder,
        }
    }

    pub(crate) async fn send(&self, message: &Value) {
        self.bus
            .send("invoker0", message.to_string().into_bytes())
            .await
            .unwrap();
    }

    pub(crate) async fn ack(&mut self) -> Acknowledgement {
        while self.read.is_empty() {
            let batch = tokio::time::timeout(PATIENCE, self.acks.next(100)).await;
            let batch = batch.expect("an ack comes").unwrap();
            let decode =
                |message: &ffs_invoker::bus::Message| proto::decode::decode(&message.payload).unwrap();
            self.read.extend(batch.iter().map(decode));
        }
        self.read.pop_front().unwrap()
    }

    /// Sends a blocking message, and returns what its caller gets once its slot is free.
    pub(crate) async fn run(&mut self, message: &Value) -> Activation {
        self.send(message).await;
        let mut result = None;
        loop {
            let ack = self.ack().await;
            assert_eq!(json!(ack.activation_id()), message["activationId"]);
            let (full, frees) = match ack {
                Acknowledgement::Completion(_) => (None, true),
                Acknowledgement::Result(ack) => (Some(ack.response), false),
                Acknowledgement::Combined(ack) => (Some(ack.response), true),
            };
            if let Some(AckResponse::Full(activation)) = full {
                result = Some(*activation);
            }
            if frees {
                return result.expect("a blocking caller gets a result");
            }
        }
    }

    /// The record of an activation, once it is there.
    pub(crate) async fn record(&self, message: &Value) -> Document {
        let id = record_id(message);
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            if let Some(record) = self.store.get(Database::Activation, &id, None).await.unwrap() {
                return record;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("there is no record {id}");
    }

    /// Ends the invoker; what it has to write is written then.
    pub(crate) async fn stop(self) {
        self.daemon.stop().await;
        self.store.close(PATIENCE).await;
        self.bus.close(PATIENCE).await;
    }
}

pub(crate) fn record_id(message: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    format!(
        "{}/{}",
        text(&message["user"]["namespace"]["name"]),
        text(&message["activationId"])
    )
}

/// A message as a controller sends it, with an id of its own.
pub(crate) fn message(action: &str, revision: Option<&str>, content: Value) -> Value {
    let recorded = include_str!("../../../proto/fixtures/wire/invoker0/py-warm-blocking.json");
    let mut message: Value = serde_json::from_str(recorded).unwrap();
    let (path, name) = action.rsplit_once('/').unwrap();
    message["action"] = json!({"path": path, "name": name, "version": "0.0.1"});
    message["activationId"] = json!(uuid::Uuid::new_v4().simple().to_string());
    message["revision"] = json!(revision);
    message["content"] = content;
    message
}

/// What is wrong with an activation that is nothing but an error: status and sentence.
pub(crate) fn error(activation: &Activation) -> (u64, String) {
    let response = serde_json::to_value(&activation.response).unwrap();
    let text = response["result"]["error"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    (response["statusCode"].as_u64().unwrap(), text)
}

/// What a probe says that it was asked.
pub(crate) fn told(activation: &Activation) -> Value {
    let response = serde_json::to_value(&activation.response).unwrap();
    assert_eq!(response["statusCode"], 0, "{response}");
    response["result"].clone()
}

const MANIFEST: &str = r#"{
    "runtimes": {
        "nodejs": [{"kind": "nodejs:20", "default": true, "image": {"prefix": "p", "name": "node", "tag": "t"}}],
        "python": [
            {"kind": "python:3", "default": true, "image": {"prefix": "p", "name": "python", "tag": "t"}},
            {"kind": "python:2", "image": {"prefix": "p", "name": "python2", "tag": "t"}}
        ],
        "java": [{"kind": "java:8", "default": true, "requireMain": true, "image": {"prefix": "p", "name": "java", "tag": "t"}}]
    },
    "blackboxes": [{"prefix": "p", "name": "native", "tag": "t"}]
}"#;

fn settings(folder: &std::path::Path) -> Settings {
    let runtimes = Runtimes::parse(MANIFEST).unwrap();
    Settings {
        user_memory: Bytes::mib(2048),
        api_host: "http://localhost".into(),
        ..Settings::standard(runtimes, folder.to_owned(), folder.join("layers"))
    }
}
