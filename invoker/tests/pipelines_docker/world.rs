//! One set of services and one invoker with simulated slices, and a function of three networks.

use crate::http;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::Method;
use proto::id::ActivationId;
use proto::whisk::activation_message::ActivationMessage;
use serde_json::{Value, json};
use stand_in_controller::broker::Broker;
use stand_in_controller::controller::{Call, Controller, Settings};
use stand_in_controller::couch::Couch;
use stand_in_controller::database::Database;
use stand_in_controller::invoker::{Invoker, InvokerSettings};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;

/// How long anything may take on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(180);

/// Slices of 128 MiB, which hold one component of 60 MiB and not two, and one of 64 MiB, which holds none.
const TOPOLOGY: &str = "2x[2g.20gb+2g.20gb+2g.20gb+1g.10gb]@A100-80GB";
const GPU_MEMORY: &str = "512 MiB";

/// Three components; the arguments say what else one of them does. With `{}` it is `sin(cos(x * w1) * w2) * w3`, summed.
pub(crate) const CHAIN: &str = include_str!("chain.py");

pub(crate) struct World {
    _broker: Mutex<Broker>,
    _couch: Mutex<Couch>,
    database: Database,
    invoker: Mutex<Invoker>,
    controller: Arc<Controller>,
    /// Beginning of the names of its containers.
    prefix: String,
}

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().unwrap());
static SHARED: LazyLock<tokio::sync::Mutex<World>> = LazyLock::new(|| {
    script("images", &["ffs/python"]);
    tokio::sync::Mutex::new(RUNTIME.block_on(World::start()).unwrap())
});

/// Runs a test in the shared world, when no other one does and nothing of those before is left.
pub(crate) fn in_world(test: impl AsyncFnOnce(&World)) {
    let shared = LazyLock::force(&SHARED);
    RUNTIME.block_on(async {
        let world = shared.lock().await;
        world.clear().await;
        test(&world).await;
    });
}

fn script(name: &str, arguments: &[&str]) {
    let program = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../scripts")
        .join(name);
    let status = Command::new(program).args(arguments).status().unwrap();
    assert!(status.success(), "scripts/{name} failed");
}

pub(crate) fn docker(arguments: &[&str]) -> String {
    let mut command = Command::new("docker");
    let output = command
        .args(["-H", "unix:///var/run/docker.sock"])
        .args(arguments)
        .output()
        .unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// What `docker inspect` says.
pub(crate) fn inspect(container: &str) -> Value {
    let found: Value = serde_json::from_str(&docker(&["inspect", container])).unwrap();
    found[0].clone()
}

impl World {
    async fn start() -> Result<Self, Box<dyn std::error::Error>> {
        let broker = Broker::start()?;
        let couch = Couch::start()?;
        let database = couch.database();
        let settings = Settings {
            database: Some(database.clone()),
            ..Settings::new(broker.hosts())
        };
        let controller = Controller::start(settings).await?;
        let program = Path::new(env!("CARGO_BIN_EXE_ffs-invoker"));
        let settings = InvokerSettings::new(program, broker.hosts(), database.clone())
            .with("CONFIG_whisk_containerPool_userMemory", "8192 m")
            .with("CONFIG_ffs_inventory", "simulated")
            .with("CONFIG_ffs_topology", TOPOLOGY)
            .with("CONFIG_ffs_gpuMemory", GPU_MEMORY)
            .with("CONFIG_ffs_gpuCpus", "4")
            .with("CONFIG_ffs_metricsAlways", "true")
            .with("METRICS_KAMON_TAGS", "true");
        let prefix = format!("wsk{}0_", settings.unique_name);
        let invoker = Invoker::start(settings)?;
        if let Err(error) = controller.until_healthy(0, PATIENCE).await {
            panic!("{error}\n{}", invoker.log());
        }
        Ok(Self {
            _broker: Mutex::new(broker),
            _couch: Mutex::new(couch),
            database,
            invoker: Mutex::new(invoker),
            controller,
            prefix,
        })
    }

    pub(crate) fn log(&self) -> String {
        self.invoker.lock().unwrap().log()
    }

    /// All of `/metrics`.
    pub(crate) async fn metrics(&self) -> String {
        let port = self.invoker.lock().unwrap().port();
        let request = http::request(Method::GET, "/metrics", &[], "");
        let reply = http::send(([127, 0, 0, 1], port).into(), request).await;
        assert_eq!(reply.status, 200);
        String::from_utf8(reply.bytes.to_vec()).unwrap()
    }

    /// How many activations are in flight in an instance, as the invoker says.
    async fn in_flight(&self, instance: &str) -> u64 {
        let port = self.invoker.lock().unwrap().port();
        let operator = format!("Basic {}", STANDARD.encode("invoker.user:invoker.pass"));
        let headers = [("authorization", operator.as_str())];
        let request = http::request(Method::GET, "/status.json", &headers, "");
        let status = http::send(([127, 0, 0, 1], port).into(), request).await.ok();
        let mut instances = status["instances"].as_array().unwrap().iter();
        let found = instances.find(|other| other["instance"] == instance);
        found.map_or(0, |instance| instance["in_flight"].as_u64().unwrap())
    }

    pub(crate) async fn until_in_flight(&self, instance: &str, count: u64) {
        let begun = Instant::now();
        while self.in_flight(instance).await != count {
            assert!(
                begun.elapsed() < PATIENCE,
                "never {count} in flight in {instance}\n{}",
                self.log()
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Writes an action of kind `python:3`; `ffs` is its annotation.
    pub(crate) async fn action(&self, name: &str, code: &str, ffs: Option<Value>, timeout_ms: u64) -> Action {
        self.action_of(
            name,
            json!({ "kind": "python:3", "code": code, "binary": false }),
            ffs,
            timeout_ms,
        )
        .await
    }

    pub(crate) async fn action_of(
        &self,
        name: &str,
        exec: Value,
        ffs: Option<Value>,
        timeout_ms: u64,
    ) -> Action {
        let annotations: Vec<Value> = ffs
            .map(|value| json!({ "key": "ffs", "value": value }))
            .into_iter()
            .collect();
        let document = json!({
            "_id": format!("guest/{name}"), "name": name, "namespace": "guest", "entityType": "action",
            "annotations": annotations, "parameters": [], "publish": false, "version": "0.0.1", "exec": exec,
            "limits": { "concurrency": 1, "logs": 10, "memory": 512, "timeout": timeout_ms },
        });
        let revision = self
            .database
            .put(&self.database.entities, document)
            .await
            .unwrap();
        Action {
            name: name.to_owned(),
            revision,
            timeout: Duration::from_millis(timeout_ms),
        }
    }

    /// Sends an activation.
    pub(crate) async fn send(&self, action: &Action, arguments: Value) -> Sent<'_> {
        let call = Call {
            memory_mb: 512,
            // Building and profiling are in `waitTime`, which the controller's patience has to cover.
            timeout: action.timeout.max(Duration::from_secs(60)),
            ..Call::new(message(action, arguments))
        };
        let running = self.controller.send_to(0, call).await.unwrap();
        Sent { world: self, running }
    }

    /// Sends it, and waits for the activation.
    pub(crate) async fn run(&self, action: &Action, arguments: Value) -> Value {
        self.send(action, arguments).await.activation().await
    }

    /// The record, which trails the ack.
    pub(crate) async fn record(&self, activation: &Value) -> Value {
        let id: ActivationId = activation["activationId"].as_str().unwrap().parse().unwrap();
        let begun = Instant::now();
        loop {
            if let Some(record) = self.database.record("guest", id).await.unwrap() {
                return record;
            }
            assert!(begun.elapsed() < PATIENCE, "{id} has no record");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Names of the invoker's containers that have this in their name.
    pub(crate) fn containers(&self, part: &str) -> Vec<String> {
        let filter = format!("name=^/{}", self.prefix);
        let all = docker(&["ps", "--all", "--filter", &filter, "--format", "{{.Names}}"]);
        let mut names: Vec<String> = all
            .lines()
            .filter(|name| name.contains(part))
            .map(str::to_owned)
            .collect();
        names.sort();
        names
    }

    /// The containers of an instance, the head first.
    pub(crate) fn lanes_of(&self, instance: &str) -> Vec<String> {
        let mut lanes = self.containers(&format!("_{instance}_s"));
        lanes.sort_by_key(|name| name.rsplit('_').next().map(str::to_owned));
        lanes
    }

    /// An instance's tmpfs.
    pub(crate) fn volumes_of(&self, instance: &str) -> Vec<String> {
        let filter = format!("label=ffs.instance={instance}");
        let ours = format!("label=ffs.invoker={}", self.prefix.trim_end_matches('_'));
        let all = docker(&["volume", "ls", "--quiet", "--filter", &filter, "--filter", &ours]);
        all.lines().map(str::to_owned).collect()
    }

    /// Waits until nothing of an instance is left.
    pub(crate) async fn until_gone(&self, instance: &str) {
        self.until(&format!("{instance} goes"), || {
            self.lanes_of(instance).is_empty() && self.volumes_of(instance).is_empty()
        })
        .await;
    }

    /// Ends an instance, so that its slices are free for the next test.
    pub(crate) async fn end(&self, instance: &str) {
        docker(&["kill", &self.lanes_of(instance)[0]]);
        self.until_gone(instance).await;
    }

    /// Ends all instances, also those that were started since an activation was late.
    async fn clear(&self) {
        self.until("no instance is left", || {
            let lanes = self.containers("_i-");
            for head in lanes.iter().filter(|name| name.ends_with("_s0l0")) {
                docker(&["kill", head]); // it may have gone meanwhile
            }
            lanes.is_empty()
        })
        .await;
    }

    pub(crate) async fn until(&self, what: &str, mut condition: impl FnMut() -> bool) {
        let begun = Instant::now();
        while !condition() {
            assert!(
                begun.elapsed() < PATIENCE,
                "it never came to this: {what}\n{}",
                self.log()
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Action {
    pub(crate) name: String,
    revision: String,
    timeout: Duration,
}

pub(crate) struct Sent<'a> {
    world: &'a World,
    running: stand_in_controller::controller::Running,
}

impl Sent<'_> {
    /// What the acks say of the activation, once its slot is free.
    pub(crate) async fn activation(mut self) -> Value {
        let finished = tokio::time::timeout(PATIENCE, self.running.finished()).await;
        let finished = finished.ok().flatten();
        let finished =
            finished.unwrap_or_else(|| panic!("{} was not answered\n{}", self.running.id, self.world.log()));
        let acks = finished
            .acks
            .iter()
            .map(|ack| serde_json::from_slice::<Value>(ack).unwrap());
        let answer = acks.map(|ack| ack["response"].clone()).find(Value::is_object);
        answer.unwrap_or_else(|| panic!("no ack of {} has the activation", self.running.id))
    }
}

fn message(action: &Action, content: Value) -> ActivationMessage {
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    let id = uuid::Uuid::new_v4().simple().to_string();
    serde_json::from_value(json!({
        "action": { "name": action.name, "path": "guest", "version": "0.0.1" },
        "activationId": id, "blocking": true, "content": content, "initArgs": [], "lockedArgs": {},
        "revision": action.revision, "rootControllerIndex": { "asString": "0", "instanceType": "controller" },
        "transid": [id, u64::try_from(now.as_millis()).unwrap()],
        "user": {
            "authkey": { "api_key": "23bc46b1-71f6-4ed5-8c54-816aa4f8c502:secret" }, "limits": {},
            "namespace": { "name": "guest", "uuid": "23bc46b1-71f6-4ed5-8c54-816aa4f8c502" },
            "rights": ["READ", "PUT", "DELETE", "ACTIVATE"], "subject": "guest",
        },
    }))
    .unwrap()
}

/// An annotation of an activation.
pub(crate) fn note<'a>(activation: &'a Value, key: &str) -> &'a Value {
    let notes = activation["annotations"]
        .as_array()
        .expect("annotations are a list");
    &notes
        .iter()
        .find(|note| note["key"] == key)
        .unwrap_or_else(|| panic!("no {key}: {activation}"))["value"]
}

pub(crate) fn result(activation: &Value) -> &Value {
    &activation["response"]["result"]
}

/// The sentence that a failed activation ends with.
pub(crate) fn error(activation: &Value) -> &str {
    assert_ne!(activation["response"]["statusCode"], 0, "{activation}");
    result(activation)["error"]
        .as_str()
        .unwrap_or_else(|| panic!("no sentence: {activation}"))
}

/// The instance that an activation ran in.
pub(crate) fn instance(activation: &Value) -> &str {
    note(activation, "ffs")["instance"]
        .as_str()
        .unwrap_or_else(|| panic!("{activation}"))
}
