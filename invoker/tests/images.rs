//! The images and the manifest that are shipped: `ffs-invoker run` with `docker/runtimes.json` as it is, from Kafka to
//! the ack. Broker, database and Docker are real.
#![allow(clippy::unwrap_used)]

use serde_json::{Value, json};
use stand_in_controller::broker::Broker;
use stand_in_controller::controller::{Call, Controller, Settings, fresh};
use stand_in_controller::couch::{Couch, GUEST_KEY};
use stand_in_controller::database::Database;
use stand_in_controller::invoker::{Invoker, InvokerSettings};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(180);

/// Says who it runs as, where it may write, and what it was asked.
const WHO: &str = "
import os, pathlib

def main(event):
    print('asked by', event['name'])
    home = pathlib.Path.home() / 'note'
    home.write_text('kept')
    return {'uid': os.getuid(), 'gid': os.getgid(), 'home': home.read_text(), 'name': event['name']}
";

const TORCH: &str = "
import torch

def main(event):
    return {'sum': float(torch.arange(10).sum()), 'threads': torch.get_num_threads()}
";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

fn image(name: &str) {
    let status = Command::new(root().join("scripts/images"))
        .arg(name)
        .status()
        .unwrap();
    assert!(status.success(), "scripts/images {name} failed");
}

/// A name for an image that this machine does not have, and which health tests run in; it goes with this.
struct StandIn(Option<&'static str>);

impl StandIn {
    fn tagged(image: &str, name: &'static str) -> Self {
        let is_here = docker(&["image", "inspect", name]);
        assert!(
            is_here || docker(&["tag", image, name]),
            "{image} cannot be tagged"
        );
        Self((!is_here).then_some(name))
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        if let Some(name) = self.0 {
            docker(&["rmi", name]);
        }
    }
}

fn docker(arguments: &[&str]) -> bool {
    let mut command = Command::new("docker");
    let command = command
        .args(["-H", "unix:///var/run/docker.sock"])
        .args(arguments);
    command.output().unwrap().status.success()
}

fn shipped_manifest() -> Value {
    let text = std::fs::read_to_string(root().join("docker/runtimes.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// Services, and one invoker with the shipped manifest. What is first is dropped first.
struct World {
    invoker: Invoker,
    controller: Arc<Controller>,
    database: Database,
    _couch: Couch,
    _broker: Broker,
}

impl World {
    async fn start() -> Self {
        let broker = tokio::task::spawn_blocking(|| Broker::start().unwrap());
        let broker = broker.await.unwrap();
        let couch = tokio::task::spawn_blocking(|| Couch::start().unwrap());
        let couch = couch.await.unwrap();
        let database = couch.database();
        let settings = Settings {
            database: Some(database.clone()),
            ..Settings::new(broker.hosts())
        };
        let controller = Controller::start(settings).await.unwrap();
        let program = Path::new(env!("CARGO_BIN_EXE_ffs-invoker"));
        let invoker = Invoker::start(InvokerSettings {
            manifest: shipped_manifest(),
            ..InvokerSettings::new(program, broker.hosts(), database.clone())
        });
        let invoker = invoker.unwrap();
        if let Err(error) = controller.until_healthy(0, PATIENCE).await {
            panic!("{error}\n{}", invoker.log());
        }
        Self {
            invoker,
            controller,
            database,
            _couch: couch,
            _broker: broker,
        }
    }

    /// Writes an action and invokes it; the activation with its logs.
    async fn run(&self, name: &str, exec: Value) -> Value {
        let document = json!({
            "_id": format!("guest/{name}"), "name": name, "namespace": "guest", "entityType": "action",
            "annotations": [], "parameters": [], "publish": false, "version": "0.0.1", "exec": exec,
            "limits": { "concurrency": 1, "logs": 10, "memory": 512, "timeout": 60000 },
        });
        let revision = self
            .database
            .put(&self.database.entities, document)
            .await
            .unwrap();
        let message = json!({
            "action": { "name": name, "path": "guest", "version": "0.0.1" },
            "activationId": "00000000000000000000000000000000", "blocking": true, "content": { "name": name },
            "initArgs": [], "lockedArgs": {}, "revision": revision, "transid": ["images", 0],
            "rootControllerIndex": { "asString": "0", "instanceType": "controller" },
            "user": {
                "authkey": { "api_key": GUEST_KEY }, "limits": {}, "rights": [], "subject": "guest",
                "namespace": { "name": "guest", "uuid": GUEST_KEY.split(':').next() },
            },
        });
        let message = fresh(&serde_json::from_value(message).unwrap());
        let id = message.activation_id;
        let call = Call {
            memory_mb: 512,
            ..Call::new(message)
        };
        let mut running = self.controller.send_to(0, call).await.unwrap();
        let finished = tokio::time::timeout(PATIENCE, running.finished()).await;
        assert!(
            finished.is_ok_and(|f| f.is_some()),
            "{name}\n{}",
            self.invoker.log()
        );
        let begun = std::time::Instant::now();
        loop {
            if let Some(record) = self.database.record("guest", id).await.unwrap() {
                return record;
            }
            assert!(begun.elapsed() < PATIENCE, "{id} has no record");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

fn result(record: &Value) -> &Value {
    assert_eq!(record["response"]["statusCode"], 0, "{record}");
    &record["response"]["result"]
}

/// C-60, L-16: the kind and the image by name run the same code, not as root, with a home to write to; the image is not
/// pulled, and logs are complete.
#[tokio::test(flavor = "multi_thread")]
async fn the_shipped_manifest_runs_actions_by_kind_and_by_image() {
    image("ffs/python");
    image("ffs/node-action");
    let _node = StandIn::tagged("ffs/node-action", "openwhisk/action-nodejs-v20:nightly");
    let world = World::start().await;
    let by_kind = json!({ "kind": "python:3", "code": WHO, "binary": false });
    let by_image = json!({ "kind": "blackbox", "image": "ffs/python", "code": WHO, "binary": false });
    for (name, exec) in [("kind", by_kind), ("image", by_image)] {
        let record = world.run(name, exec).await;
        let expected = json!({ "uid": 1000, "gid": 1000, "home": "kept", "name": name });
        assert_eq!(*result(&record), expected, "{record}");
        let logs = record["logs"].as_array().unwrap();
        let says = format!("stdout: asked by {name}");
        assert!(
            logs.len() == 1 && logs[0].as_str().unwrap().ends_with(&says),
            "{logs:?}"
        );
    }
    assert!(
        !world.invoker.log().contains("docker pull"),
        "native images are here"
    );
    if std::env::var_os("FFS_TEST_TORCH").is_none() {
        eprintln!("skipped: FFS_TEST_TORCH=1 makes ffs/python-torch from Debian's python3-torch and runs it");
        return;
    }
    image("ffs/python-torch");
    let exec = json!({ "kind": "blackbox", "image": "ffs/python-torch", "code": TORCH, "binary": false });
    let record = world.run("tensors", exec).await;
    assert_eq!(result(&record)["sum"].as_f64(), Some(45.0), "{record}");
}
