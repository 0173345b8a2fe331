//! One set of services for all tests of this process. They end with it: each holds on to our end of a pipe.

use proto::id::ActivationId;
use proto::whisk::activation_message::ActivationMessage;
use serde_json::{Value, json};
use stand_in_controller::broker::Broker;
use stand_in_controller::controller::{Call, Controller, Settings, fresh};
use stand_in_controller::couch::{Couch, SUBJECTS};
use stand_in_controller::invoker::{Invoker, InvokerSettings};
use stand_in_controller::ledger::Finished;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;

/// How long anything may take on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// What a cluster is made of.
pub(crate) struct World {
    pub(crate) broker: Mutex<Broker>,
    pub(crate) couch: Mutex<Couch>,
    pub(crate) invoker: Mutex<Invoker>,
    pub(crate) controller: Arc<Controller>,
    /// Revision that an action has here, by its id.
    revisions: HashMap<String, String>,
}

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().unwrap());

static SHARED: LazyLock<World> = LazyLock::new(|| {
    script("docker-engine", &[]);
    script("images", &["ffs/python", "ffs/node-action", "ffs/probe"]);
    RUNTIME.block_on(World::start()).unwrap()
});

/// Runs a test in the shared world.
pub(crate) fn in_world<T>(test: impl AsyncFnOnce(&'static World) -> T) -> T {
    let world = &*SHARED;
    RUNTIME.block_on(test(world))
}

fn script(name: &str, arguments: &[&str]) {
    let program = root().join("scripts").join(name);
    let status = Command::new(program).args(arguments).status().unwrap();
    assert!(status.success(), "scripts/{name} failed");
}

pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

impl World {
    async fn start() -> Result<Self, Box<dyn std::error::Error>> {
        let broker = Broker::start()?;
        let couch = Couch::start()?;
        let database = couch.database();
        let mut revisions = HashMap::new();
        for action in super::recorded::actions() {
            let id = action["_id"].as_str().unwrap().to_owned();
            revisions.insert(id, database.put(&database.entities, action).await?);
        }
        let blocked = json!({ "_id": "blockedguy", "subject": "blockedguy", "blocked": true, "namespaces": [
            { "name": "blockedguy", "uuid": "00000000-0000-0000-0000-000000000001", "key": "k" }] });
        database.put(SUBJECTS, blocked).await?;
        database
            .view(SUBJECTS, "namespaceThrottlings", "blockedNamespaces")
            .await?;
        let settings = Settings {
            database: Some(database.clone()),
            ..Settings::new(broker.hosts())
        };
        let controller = Controller::start(settings).await?;
        let program = Path::new(env!("CARGO_BIN_EXE_ffs-invoker"));
        let settings = InvokerSettings::new(program, broker.hosts(), database)
            .with("CONFIG_whisk_containerPool_userMemory", "8192 m")
            .with("CONFIG_whisk_kafka_consumer_sessionTimeoutMs", "6000")
            .with("CONFIG_whisk_kafka_consumer_heartbeatIntervalMs", "1000");
        let invoker = Invoker::start(settings)?;
        if let Err(error) = controller.until_healthy(0, PATIENCE).await {
            panic!("{error}\n{}", invoker.log());
        }
        Ok(Self {
            broker: Mutex::new(broker),
            couch: Mutex::new(couch),
            invoker: Mutex::new(invoker),
            controller,
            revisions,
        })
    }

    /// A recorded message with ids of its own, and with the revision that its action has here if it had the
    /// newest one there.
    pub(crate) fn message(&self, label: &str) -> ActivationMessage {
        let recorded = super::recorded::message(label);
        let mut message = fresh(&recorded);
        message.transid.extra_logging = recorded.transid.extra_logging;
        message.transid.parent.clone_from(&recorded.transid.parent);
        let id = message.action.to_string();
        if let Some(revision) = &mut message.revision
            && let Some(here) = self.revisions.get(&id)
            && super::recorded::revision(&id).as_deref() == Some(revision)
        {
            revision.clone_from(here);
        }
        message
    }

    /// Sends it, and waits for the ack that frees the slot.
    pub(crate) async fn run(&self, message: ActivationMessage) -> Ended {
        self.call(Call::new(message)).await
    }

    pub(crate) async fn call(&self, call: Call) -> Ended {
        let namespace = call.message.user.namespace.name.to_string();
        let mut running = self.controller.send_to(0, call).await.unwrap();
        let finished = tokio::time::timeout(PATIENCE, running.finished()).await;
        let log = || self.invoker.lock().unwrap().log();
        let finished = finished
            .unwrap_or_else(|_| panic!("{} was not answered\n{}", running.id, log()))
            .unwrap();
        let acks = finished
            .acks
            .iter()
            .map(|ack| serde_json::from_slice(ack).unwrap())
            .collect();
        Ended {
            id: running.id,
            namespace,
            acks,
            finished,
        }
    }

    /// The record, which trails the acks.
    pub(crate) async fn record(&self, ended: &Ended) -> Value {
        let database = self.couch.lock().unwrap().database();
        let begun = Instant::now();
        loop {
            if let Some(record) = database.record(&ended.namespace, ended.id).await.unwrap() {
                return record;
            }
            assert!(begun.elapsed() < PATIENCE, "{} has no record", ended.id);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub(crate) async fn has_record(&self, ended: &Ended) -> bool {
        let database = self.couch.lock().unwrap().database();
        database
            .record(&ended.namespace, ended.id)
            .await
            .unwrap()
            .is_some()
    }

    /// Writes an action of that kind with those limits, and makes a message that invokes it.
    pub(crate) async fn action(&self, name: &str, exec: Value, limits: Value) -> ActivationMessage {
        let database = self.couch.lock().unwrap().database();
        let document = json!({
            "_id": format!("guest/{name}"), "name": name, "namespace": "guest", "entityType": "action",
            "annotations": [{ "key": "provide-api-key", "value": false }], "parameters": [], "publish": false,
            "version": "0.0.1", "exec": exec, "limits": limits,
        });
        let revision = database.put(&database.entities, document).await.unwrap();
        let mut message = fresh(&super::recorded::message("py-cold"));
        message.action = format!("guest/{name}").parse().unwrap();
        message.revision = Some(revision);
        message
    }

    /// An action of the image that does what its code says.
    pub(crate) async fn probe(&self, name: &str, script: Value) -> ActivationMessage {
        let exec = json!({ "kind": "probe:1", "code": script.to_string(), "binary": false });
        let limits = json!({ "concurrency": 1, "logs": 10, "memory": 128, "timeout": 10000 });
        self.action(name, exec, limits).await
    }
}

/// One activation that has ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) id: ActivationId,
    namespace: String,
    /// In the order in which they came.
    pub(crate) acks: Vec<Value>,
    pub(crate) finished: Finished,
}

impl Ended {
    /// The activation in whichever ack has it.
    pub(crate) fn activation(&self) -> &Value {
        let mut answers = self.acks.iter().map(|ack| &ack["response"]);
        answers
            .rfind(|response| response.is_object())
            .expect("an ack has the activation")
    }

    pub(crate) fn result(&self) -> &Value {
        &self.activation()["response"]["result"]
    }

    pub(crate) fn status(&self) -> i64 {
        self.activation()["response"]["statusCode"].as_i64().unwrap()
    }
}
