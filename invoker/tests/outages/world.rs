//! A cluster of real parts, load for it, and the books on what became of each activation.

use super::docker::Docker;
use proto::whisk::activation_message::ActivationMessage;
use serde_json::{Value, json};
use stand_in_controller::broker::Broker;
use stand_in_controller::controller::{Call, Controller, Running, Settings, fresh};
use stand_in_controller::couch::Couch;
use stand_in_controller::invoker::{Invoker, InvokerSettings};
use stand_in_controller::ledger::Problem;
use stand_in_controller::topics::Topics;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How long anything may take on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);
const IMAGES: [&str; 2] = ["ffs/probe", "ffs/instant"];

pub(crate) struct World {
    pub(crate) broker: Arc<Mutex<Broker>>,
    pub(crate) couch: Arc<Mutex<Couch>>,
    pub(crate) docker: Option<Arc<Mutex<Docker>>>,
    pub(crate) invoker: Mutex<Invoker>,
    pub(crate) controller: Arc<Controller>,
    /// Of the action that is invoked.
    template: ActivationMessage,
    sent: AtomicUsize,
    /// Holds the file that the containers write their runs to.
    runs: TempDir,
}

/// For the tests that leave it alone.
pub(crate) fn shared_broker() -> Arc<Mutex<Broker>> {
    static SHARED: LazyLock<Arc<Mutex<Broker>>> =
        LazyLock::new(|| Arc::new(Mutex::new(Broker::start().unwrap())));
    Arc::clone(&SHARED)
}

/// Docker and the images.
pub(crate) fn prepare() {
    static DONE: LazyLock<()> = LazyLock::new(|| {
        script("docker-engine", &[]);
        script("images", &IMAGES);
    });
    LazyLock::force(&DONE);
}

fn script(name: &str, arguments: &[&str]) {
    let program = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../scripts")
        .join(name);
    let status = Command::new(program).args(arguments).status().unwrap();
    assert!(status.success(), "scripts/{name} failed");
}

impl World {
    /// With the broker's topics under a prefix of its own.
    pub(crate) async fn new(broker: Arc<Mutex<Broker>>, own_docker: bool) -> Self {
        let prefix = format!("t{}-", &uuid::Uuid::new_v4().simple().to_string()[..8]);
        let (couch, docker) = tokio::task::spawn_blocking(move || {
            prepare();
            let docker = own_docker.then(|| Arc::new(Mutex::new(Docker::start(&IMAGES))));
            (Couch::start().unwrap(), docker)
        })
        .await
        .unwrap();
        let database = couch.database();
        let script = json!({ "run": { "delay_ms": 60, "stdout": ["a line"], "body": { "ok": true } } });
        let action = json!({
            "_id": "guest/outage", "name": "outage", "namespace": "guest", "entityType": "action",
            "annotations": [], "parameters": [], "publish": false, "version": "0.0.1",
            "exec": { "kind": "probe:1", "code": script.to_string(), "binary": false },
            "limits": { "concurrency": 1, "logs": 10, "memory": 128, "timeout": 10000 },
        });
        let revision = database.put(&database.entities, action).await.unwrap();
        let topics = Topics {
            prefix: prefix.clone(),
            events_prefix: prefix.clone(),
        };
        let hosts = broker.lock().unwrap().hosts();
        let settings = Settings {
            database: Some(database.clone()),
            topics,
            test_kind: "instant:1".to_owned(),
            ..Settings::new(hosts.clone())
        };
        let controller = Controller::start(settings).await.unwrap();
        let runs = tempfile::Builder::new().prefix("runs-").tempdir().unwrap();
        let program = Path::new(env!("CARGO_BIN_EXE_ffs-invoker"));
        let mut settings = InvokerSettings::new(program, hosts, database)
            .with("CONFIG_whisk_kafka_topics_prefix", &prefix)
            .with("CONFIG_whisk_kafka_topics_userEvent_prefix", &prefix)
            .with("CONFIG_whisk_kafka_consumer_sessionTimeoutMs", "1000")
            .with("CONFIG_whisk_kafka_consumer_heartbeatIntervalMs", "300")
            .with(
                "CONFIG_whisk_containerFactory_containerArgs_extraArgs_volume_0",
                &format!("{}:/runs", runs.path().display()),
            )
            .with(
                "CONFIG_whisk_containerFactory_containerArgs_extraEnvVars_0",
                "PROBE_RUNS=/runs/runs",
            );
        if let Some(docker) = &docker {
            let docker = docker.lock().unwrap();
            settings = settings
                .with("CONFIG_ffs_dockerSocket", &docker.socket().display().to_string())
                .with(
                    "CONFIG_ffs_dockerContainers",
                    &docker.containers().display().to_string(),
                );
        }
        let invoker = Invoker::start(settings).unwrap();
        if let Err(error) = controller.until_healthy(0, PATIENCE).await {
            panic!("{error}\n{}", invoker.log());
        }
        Self {
            broker,
            couch: Arc::new(Mutex::new(couch)),
            docker,
            invoker: Mutex::new(invoker),
            controller,
            template: message(revision),
            sent: AtomicUsize::new(0),
            runs,
        }
    }

    pub(crate) fn log(&self) -> String {
        let log = self.invoker.lock().unwrap().log();
        let start = log.len().saturating_sub(30_000);
        log.get(start..).unwrap_or_default().to_owned()
    }

    pub(crate) fn folder(&self) -> PathBuf {
        self.invoker.lock().unwrap().folder().to_owned()
    }

    /// Every second one is waited for by its caller.
    pub(crate) async fn send(&self) -> Running {
        let number = self.sent.fetch_add(1, Ordering::Relaxed);
        let mut message = fresh(&self.template);
        message.blocking = number.is_multiple_of(2);
        self.controller.send_to(0, Call::new(message)).await.unwrap()
    }

    /// Sends at an even rate, whatever is away, until `end` has ended.
    pub(crate) async fn load<T>(
        self: &Arc<Self>,
        period: Duration,
        end: impl Future<Output = T>,
    ) -> (Vec<Running>, T) {
        let mut end = std::pin::pin!(end);
        let mut sending = Vec::new();
        let mut period = tokio::time::interval(period);
        let result = loop {
            tokio::select! {
                result = &mut end => break result,
                _ = period.tick() => {
                    let world = Arc::clone(self);
                    sending.push(tokio::spawn(async move { world.send().await }));
                }
            }
        };
        let sent = futures::future::join_all(sending).await;
        (sent.into_iter().map(Result::unwrap).collect(), result)
    }

    /// Waits until each has its completion and its record. Each ran once; where `interrupted`, some may have
    /// ended with the container that they ran in, or with the invoker. How many did.
    pub(crate) async fn balance(&self, sent: Vec<Running>, interrupted: bool) -> usize {
        let mut outcomes = Vec::new();
        let begun = Instant::now();
        for mut one in sent {
            let left = PATIENCE.saturating_sub(begun.elapsed());
            let finished = tokio::time::timeout(left, one.finished()).await;
            let finished =
                finished.unwrap_or_else(|_| panic!("{} has no completion\n{}", one.id, self.log()));
            outcomes.push((one.id, finished.unwrap()));
        }
        let database = self.couch.lock().unwrap().database();
        let mut records = Vec::new();
        for (id, _) in &outcomes {
            loop {
                if let Some(record) = database.record("guest", *id).await.unwrap() {
                    records.push(record);
                    break;
                }
                assert!(begun.elapsed() < PATIENCE, "{id} has no record\n{}", self.log());
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        let runs = self.runs();
        let mut ended_early = 0;
        for ((id, finished), record) in outcomes.iter().zip(&records) {
            let name = id.to_string();
            let runs = runs.get(&name).copied().unwrap_or(0);
            let status = &record["response"]["statusCode"];
            if *status == 0 {
                assert_eq!(runs, 1, "runs of {name}: {record}\n{}", self.log());
                assert_eq!(
                    record["logs"].as_array().unwrap().len(),
                    1,
                    "{record}\n{}",
                    self.log()
                );
            } else {
                assert!(interrupted, "{record}\n{}", self.log());
                assert!(runs <= 1, "{name} has run {runs} times\n{}", self.log());
                ended_early += 1;
            }
            let told = finished.status.map(u8::from);
            assert!(
                told.is_none_or(|told| *status == told),
                "{name}: {told:?}, {record}"
            );
        }
        let sent = self.sent.load(Ordering::Relaxed);
        assert!(runs.len() <= sent, "{} runs, {sent} were asked for", runs.len());
        assert_eq!(self.controller.audit(), Vec::<Problem>::new(), "{}", self.log());
        ended_early
    }

    pub(crate) fn runs(&self) -> BTreeMap<String, usize> {
        let mut runs = BTreeMap::new();
        let text = std::fs::read_to_string(self.runs.path().join("runs")).unwrap_or_default();
        for line in text.lines() {
            *runs.entry(line.to_owned()).or_default() += 1;
        }
        runs
    }
}

fn message(revision: String) -> ActivationMessage {
    let uuid = "23bc46b1-71f6-4ed5-8c54-816aa4f8c502";
    let message: Value = json!({
        "action": { "name": "outage", "path": "guest", "version": "0.0.1" },
        "activationId": "00000000000000000000000000000000",
        "blocking": true, "content": {}, "initArgs": [], "lockedArgs": {}, "revision": revision,
        "rootControllerIndex": { "asString": "0", "instanceType": "controller" },
        "transid": ["template", 0],
        "user": {
            "authkey": { "api_key": format!("{uuid}:key") }, "limits": {}, "rights": [], "subject": "guest",
            "namespace": { "name": "guest", "uuid": uuid },
        },
    });
    proto::decode::decode(message.to_string().as_bytes()).unwrap()
}
