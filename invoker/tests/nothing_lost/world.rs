//! A daemon between a real broker and an embedded store, and what its controller and its operator see.

use crate::engine::{StandInEngine, engine};
use crate::kafka::Broker;
use ffs_invoker::bus::kafka::{KafkaBus, KafkaSettings};
use ffs_invoker::bus::{Bus, TopicSpec};
use ffs_invoker::config::{JournalSettings, RecordSettings, Settings, TopicSettings};
use ffs_invoker::daemon::{Daemon, Edges, Error};
use ffs_invoker::gpu;
use ffs_invoker::runtimes::Runtimes;
use ffs_invoker::store::embedded::{EmbeddedStore, Retention};
use ffs_invoker::store::{Database, Store};
use proto::id::ActivationId;
use proto::unit::Bytes;
use proto::whisk::acknowledgement::Acknowledgement;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Nothing here takes long; a busy machine does.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// `guest`'s actions: log limit 10 MB, or none at all.
pub(crate) const LOGGED: &str = "logged";
pub(crate) const SILENT: &str = "silent";

/// Topics of one test on a broker, and a folder.
pub(crate) struct World {
    pub(crate) hosts: String,
    pub(crate) prefix: String,
    pub(crate) folder: PathBuf,
    pub(crate) bus: Arc<KafkaBus>,
    _folder: Option<tempfile::TempDir>,
}

/// What a test wants otherwise than the others.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wishes {
    pub(crate) journal: JournalSettings,
    pub(crate) records: RecordSettings,
    pub(crate) events: bool,
    pub(crate) grace: Option<Duration>,
    /// MB; an action has 128.
    pub(crate) memory: Option<u64>,
}

impl World {
    pub(crate) async fn new(broker: &Broker) -> Self {
        let folder = tempfile::Builder::new().prefix("ffs-lost-").tempdir().unwrap();
        let prefix = format!("t{}-", uuid::Uuid::new_v4().simple());
        let mut world = Self::at(broker.hosts(), prefix, folder.path());
        world._folder = Some(folder);
        for topic in ["completed0", "completed1", "health", "events"] {
            world.make(topic, &[("max.message.bytes", "1054644")]).await;
        }
        let store = world.open_store();
        for (name, logs) in [(LOGGED, 10), (SILENT, 0)] {
            let action = json!({
                "annotations": [], "entityType": "action", "name": name, "namespace": "guest", "parameters": [],
                "exec": { "kind": "python:3", "code": "def main(args): return args", "binary": false },
                "limits": { "concurrency": 1, "logs": logs, "memory": 128, "timeout": 60000 },
                "publish": false, "updated": 1795315009701_u64, "version": "0.0.1",
            });
            store
                .put(Database::Entity, &format!("guest/{name}"), None, &action)
                .await
                .unwrap();
        }
        store.close(PATIENCE).await;
        world
    }

    /// The same world from another process.
    pub(crate) fn at(hosts: String, prefix: String, folder: &Path) -> Self {
        // Short, so that a member that was killed is soon forgotten.
        let consumer = [("session.timeout.ms", "1000"), ("heartbeat.interval.ms", "300")];
        let settings = KafkaSettings {
            hosts: hosts.clone(),
            consumer: consumer.map(|(k, v)| (k.to_owned(), v.to_owned())).into(),
            producer: BTreeMap::from([("request.timeout.ms".to_owned(), "3000".to_owned())]),
            common: BTreeMap::new(),
            message_bytes: 1_054_644,
        };
        Self {
            hosts,
            prefix,
            folder: folder.to_owned(),
            bus: Arc::new(KafkaBus::new(settings).unwrap()),
            _folder: None,
        }
    }

    pub(crate) async fn make(&self, topic: &str, config: &[(&str, &str)]) {
        let spec = TopicSpec {
            name: self.topic(topic),
            partitions: 1,
            replication: 1,
            config: config
                .iter()
                .map(|(k, v)| (k.to_string(), v.to_string()))
                .collect(),
        };
        self.bus.ensure_topic(&spec).await.unwrap();
    }

    pub(crate) fn topic(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    /// Waits until nobody else has it.
    pub(crate) fn open_store(&self) -> EmbeddedStore {
        let (path, end) = (self.folder.join("store.redb"), Instant::now() + PATIENCE);
        loop {
            match EmbeddedStore::open(&path, Retention::default()) {
                Ok(store) => return store,
                Err(error) => assert!(Instant::now() < end, "{error:?}"),
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// What activations with the argument `gate` wait for, until it is opened.
    pub(crate) fn gate(&self) -> PathBuf {
        self.folder.join("gate")
    }

    pub(crate) fn open_gate(&self) {
        std::fs::write(self.gate(), "").unwrap();
    }

    pub(crate) fn runs_file(&self) -> PathBuf {
        self.folder.join("runs")
    }

    /// How often the code of each activation has run.
    pub(crate) fn runs(&self) -> BTreeMap<String, usize> {
        let mut runs = BTreeMap::new();
        for line in std::fs::read_to_string(self.runs_file())
            .unwrap_or_default()
            .lines()
        {
            *runs.entry(line.to_owned()).or_default() += 1;
        }
        runs
    }

    pub(crate) async fn send(&self, message: &Value) {
        let topic = self.topic("invoker0");
        self.bus
            .send(&topic, message.to_string().into_bytes())
            .await
            .unwrap();
    }

    /// What is in a topic, oldest first.
    pub(crate) async fn read(&self, topic: &str) -> Vec<Value> {
        let found = Arc::new(Mutex::new(Vec::new()));
        let end = Instant::now() + PATIENCE;
        loop {
            let finds = Arc::clone(&found);
            let visit = move |payload: &[u8]| {
                finds
                    .lock()
                    .unwrap()
                    .push(serde_json::from_slice(payload).unwrap());
            };
            match self.bus.look_back(&self.topic(topic), 0, Box::new(visit)).await {
                Ok(()) => return std::mem::take(&mut *found.lock().unwrap()),
                Err(error) => assert!(Instant::now() < end, "{error:?}"),
            }
            found.lock().unwrap().clear();
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// The acks for one controller, oldest first.
    pub(crate) async fn acks(&self) -> Vec<Acknowledgement> {
        let acks = self.read("completed0").await;
        acks.into_iter()
            .map(|ack| serde_json::from_value(ack).unwrap())
            .collect()
    }

    /// Waits until that many activations have had their slot freed.
    pub(crate) async fn freed(&self, count: usize) -> Vec<Acknowledgement> {
        let end = Instant::now() + PATIENCE;
        loop {
            let acks = self.acks().await;
            let freed = acks.iter().filter(|ack| ack.frees_slot()).count();
            if freed >= count {
                return acks;
            }
            assert!(Instant::now() < end, "{freed} of {count} slots are free again");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    pub(crate) fn settings(&self, wishes: &Wishes) -> Settings {
        let mut topics = TopicSettings {
            prefix: self.prefix.clone(),
            ..TopicSettings::default()
        };
        topics.events = wishes.events.then(|| self.topic("events"));
        let standard = Settings::standard(
            Runtimes::built_in(),
            self.folder.join("state"),
            self.folder.join("layers"),
        );
        Settings {
            user_memory: Bytes::mib(wishes.memory.unwrap_or(1024)),
            topics,
            records: wishes.records,
            api_host: "http://127.0.0.1:3233".to_owned(),
            journal: wishes.journal,
            grace: wishes.grace.unwrap_or(Duration::from_secs(5)),
            ..standard
        }
    }

    /// Starts a daemon with the store that this world has, or with another in its place.
    pub(crate) async fn start(&self, wishes: &Wishes) -> Running {
        let store = Arc::new(self.open_store());
        self.start_with(wishes, store.clone(), store).await.unwrap()
    }

    pub(crate) async fn start_as(&self, settings: Settings) -> Running {
        let store = Arc::new(self.open_store());
        self.start_all(settings, store.clone(), store).await.unwrap()
    }

    pub(crate) async fn start_with(
        &self,
        wishes: &Wishes,
        seen: Arc<dyn Store>,
        store: Arc<EmbeddedStore>,
    ) -> Result<Running, Error> {
        self.start_all(self.settings(wishes), seen, store).await
    }

    async fn start_all(
        &self,
        settings: Settings,
        seen: Arc<dyn Store>,
        store: Arc<EmbeddedStore>,
    ) -> Result<Running, Error> {
        self.start_on(self.client(), settings, seen, store).await
    }

    /// A client of its own: a daemon closes the one that it is given.
    pub(crate) fn client(&self) -> Arc<KafkaBus> {
        Self::at(self.hosts.clone(), self.prefix.clone(), &self.folder).bus
    }

    pub(crate) async fn start_on(
        &self,
        bus: Arc<dyn Bus>,
        settings: Settings,
        seen: Arc<dyn Store>,
        store: Arc<EmbeddedStore>,
    ) -> Result<Running, Error> {
        std::fs::create_dir_all(self.folder.join("state")).unwrap();
        let engine = Arc::new(engine(&self.runs_file()));
        let decide = scheduler::Settings {
            user_memory: settings.user_memory,
            ..scheduler::Settings::default()
        };
        let edges = Edges {
            bus,
            store: seen,
            engine: engine.clone(),
            inventory: Arc::new(gpu::none::None),
        };
        let daemon = Daemon::start(edges, settings, decide).await?;
        Ok(Running {
            daemon,
            engine,
            store,
        })
    }
}

pub(crate) struct Running {
    pub(crate) daemon: Daemon,
    pub(crate) engine: Arc<StandInEngine>,
    pub(crate) store: Arc<EmbeddedStore>,
}

impl Running {
    pub(crate) async fn stop(self) {
        self.daemon.stop().await;
        self.store.close(PATIENCE).await;
    }

    /// Waits for a record, which trails its ack (D-45).
    pub(crate) async fn record(&self, id: u128) -> Value {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(record) = record(&*self.store, id).await {
                return record;
            }
            assert!(Instant::now() < end, "there is no record of {id}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

pub(crate) async fn record(store: &dyn Store, id: u128) -> Option<Value> {
    let id = format!("guest/{}", ActivationId::from_u128(id));
    let document = store.get(Database::Activation, &id, None).await.unwrap();
    document.map(|document| document.body)
}

pub(crate) fn hex(id: u128) -> String {
    ActivationId::from_u128(id).to_string()
}

/// As a controller writes it.
pub(crate) fn message(id: u128, action: &str, blocking: bool, content: Value) -> Value {
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    json!({
        "action": { "name": action, "path": "guest", "version": "0.0.1" },
        "activationId": hex(id), "blocking": blocking, "content": content, "initArgs": [], "lockedArgs": {},
        "revision": null, "rootControllerIndex": { "asString": "0", "instanceType": "controller" },
        "transid": [format!("tid{id}"), u64::try_from(now.as_millis()).unwrap()],
        "user": {
            "authkey": { "api_key": "23bc46b1-71f6-4ed5-8c54-816aa4f8c502:secret" }, "limits": {},
            "namespace": { "name": "guest", "uuid": "23bc46b1-71f6-4ed5-8c54-816aa4f8c502" },
            "rights": ["READ", "PUT", "DELETE", "ACTIVATE"], "subject": "guest",
        },
    })
}

/// Checks `condition` until it holds.
pub(crate) async fn eventually(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !condition().await {
        assert!(Instant::now() < end, "it never came to this: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
