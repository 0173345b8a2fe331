//! An invoker on the embedded bus and store, with its admin server, in the hands of a test.

use crate::containers::{StandInEngine, engine};
use crate::http::{self, Reply};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ffs_invoker::admin::Server;
use ffs_invoker::bus::embedded::EmbeddedBus;
use ffs_invoker::bus::{Bus, TopicSpec};
use ffs_invoker::config::{AdminSettings, Identity, MetricsSettings, Settings};
use ffs_invoker::daemon::{Daemon, Edges};
use ffs_invoker::gpu::none::None as NoGpu;
use ffs_invoker::runtimes::Runtimes;
use ffs_invoker::store::embedded::{EmbeddedStore, Retention};
use ffs_invoker::store::{Database, Store};
use hyper::Method;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const MANIFEST: &str = r#"{"runtimes":{"nodejs":[{"kind":"nodejs:20","default":true,
    "image":{"prefix":"openwhisk","name":"action-nodejs-v20","tag":"nightly"},"deprecated":false}]}}"#;

/// How long anything may take on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Node {
    pub(crate) daemon: Daemon,
    pub(crate) address: SocketAddr,
    pub(crate) engine: Arc<StandInEngine>,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) pings: Read,
    pub(crate) acks: Read,
    bus: Arc<dyn Bus>,
    stop: CancellationToken,
    serving: JoinHandle<()>,
    _folder: tempfile::TempDir,
}

/// What a node is started with.
pub(crate) struct Wishes {
    pub(crate) settings: Settings,
    pub(crate) admin: AdminSettings,
    pub(crate) decide: scheduler::Settings,
}

/// Everything that a topic has had so far.
#[derive(Clone)]
pub(crate) struct Read(Arc<Mutex<Vec<Value>>>);

impl Read {
    async fn begin(bus: &Arc<dyn Bus>, topic: &str) -> Self {
        let spec = TopicSpec {
            name: topic.to_owned(),
            partitions: 1,
            replication: 1,
            ..TopicSpec::default()
        };
        bus.ensure_topic(&spec).await.unwrap();
        let mut reader = bus.subscribe(topic, "test").await.unwrap();
        let all = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&all);
        tokio::spawn(async move {
            while let Ok(batch) = reader.next(100).await {
                let mut all = all.lock().unwrap();
                all.extend(
                    batch
                        .iter()
                        .map(|m| serde_json::from_slice::<Value>(&m.payload).unwrap()),
                );
            }
        });
        Self(seen)
    }

    pub(crate) fn now(&self) -> Vec<Value> {
        self.0.lock().unwrap().clone()
    }

    /// Waits until so many have come, and returns all.
    pub(crate) async fn at_least(&self, count: usize) -> Vec<Value> {
        eventually("messages", || self.now().len() >= count).await;
        self.now()
    }
}

/// Waits until it is so.
pub(crate) async fn eventually(what: &str, mut so: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !so() {
        assert!(Instant::now() < end, "{what}: not within {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

impl Node {
    pub(crate) async fn start() -> Self {
        Self::with(|_| {}).await
    }

    pub(crate) async fn with(change: impl FnOnce(&mut Wishes)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut wishes = Wishes {
            settings: settings(folder.path()),
            admin: AdminSettings {
                listen: "127.0.0.1:0".parse().unwrap(),
                username: "invoker.user".to_owned(),
                password: "invoker.pass".to_owned(),
                https: None,
                transaction_header: "X-Request-ID".to_owned(),
            },
            decide: scheduler::Settings::default(),
        };
        change(&mut wishes);
        wishes.decide.user_memory = wishes.settings.user_memory;
        let bus: Arc<dyn Bus> = Arc::new(EmbeddedBus::open(&folder.path().join("bus")).unwrap());
        let store = EmbeddedStore::open(&folder.path().join("store"), Retention::default()).unwrap();
        let store: Arc<dyn Store> = Arc::new(store);
        let engine = Arc::new(engine());
        let pings = Read::begin(&bus, "health").await;
        let acks = Read::begin(&bus, "completed0").await;
        let server = Server::bind(wishes.admin).await.unwrap();
        let address = server.address();
        let edges = Edges {
            bus: Arc::clone(&bus),
            store: Arc::clone(&store),
            engine: engine.clone(),
            inventory: Arc::new(NoGpu),
        };
        let daemon = Daemon::start(edges, wishes.settings, wishes.decide)
            .await
            .unwrap();
        let stop = CancellationToken::new();
        let serving = tokio::spawn(server.serve(daemon.operations().clone(), stop.clone()));
        Self {
            daemon,
            address,
            engine,
            store,
            pings,
            acks,
            bus,
            stop,
            serving,
            _folder: folder,
        }
    }

    pub(crate) async fn stop(self) {
        self.engine.answers.send_replace(true);
        self.daemon.stop().await;
        self.stop.cancel();
        self.serving.await.unwrap();
    }

    /// With the operator's credentials.
    pub(crate) async fn send(&self, method: Method, path: &str) -> Reply {
        self.send_as(
            method,
            path,
            &[("authorization", &basic("invoker.user:invoker.pass"))],
        )
        .await
    }

    pub(crate) async fn send_as(&self, method: Method, path: &str, headers: &[(&str, &str)]) -> Reply {
        http::send(self.address, http::request(method, path, headers, "")).await
    }

    pub(crate) async fn text(&self, method: Method, path: &str) -> String {
        text(&self.send(method, path).await)
    }

    /// An action that gives its arguments back.
    pub(crate) async fn create(&self, namespace: &str, name: &str, memory: u64, logs: u64) {
        let document = json!({
            "annotations": [], "entityType": "action",
            "exec": { "kind": "nodejs:20", "code": "function main(params) { return params; }", "binary": false },
            "limits": { "concurrency": 1, "logs": logs, "memory": memory, "timeout": 60000 },
            "name": name, "namespace": namespace, "parameters": [], "publish": false, "version": "0.0.1",
            "updated": 1_795_316_966_626_u64,
        });
        let id = format!("{namespace}/{name}");
        self.store
            .put(Database::Entity, &id, None, &document)
            .await
            .unwrap();
    }

    /// A message as the controller sends it; `change` may make it another one. Returns the activation's id.
    pub(crate) async fn invoke(&self, action: (&str, &str), change: impl FnOnce(&mut Value)) -> String {
        let id = uuid::Uuid::new_v4().simple().to_string();
        let mut message = json!({
            "action": { "name": action.1, "path": action.0, "version": "0.0.1" },
            "activationId": id, "blocking": false, "content": { "colour": "red" }, "initArgs": [],
            "lockedArgs": {}, "revision": null,
            "rootControllerIndex": { "asString": "0", "instanceType": "controller" },
            "transid": ["tid0123456789", 1_795_316_966_626_u64],
            "user": {
                "authkey": { "api_key": format!("{}:{}", uuid::Uuid::new_v4(), "k".repeat(64)) },
                "limits": {}, "namespace": { "name": action.0, "uuid": uuid::Uuid::new_v4().to_string() },
                "rights": [], "subject": action.0,
            },
        });
        change(&mut message);
        self.bus
            .send("invoker0", message.to_string().into_bytes())
            .await
            .unwrap();
        id
    }
}

pub(crate) fn text(reply: &Reply) -> String {
    String::from_utf8_lossy(&reply.bytes).into_owned()
}

pub(crate) fn basic(credentials: &str) -> String {
    format!("Basic {}", STANDARD.encode(credentials))
}

fn settings(folder: &std::path::Path) -> Settings {
    let runtimes = Runtimes::parse(MANIFEST).unwrap();
    Settings {
        identity: Identity {
            unique_name: Some("0".to_owned()),
            ..Identity::default()
        },
        metrics: MetricsSettings {
            exposed: true,
            tags: true,
            logs: true,
        },
        api_host: "http://localhost".to_owned(),
        grace: Duration::from_secs(10),
        ..Settings::standard(runtimes, folder.to_owned(), folder.join("layers"))
    }
}
