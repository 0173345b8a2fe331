//! What the invoker under test lives among: a broker, a server of CouchDB's API, a controller.

use proto::whisk::activation_message::ActivationMessage;
use serde_json::{Value, json};
use stand_in_controller::broker::Broker;
use stand_in_controller::controller::{Controller, Settings};
use stand_in_controller::couch::{Couch, GUEST_KEY};
use stand_in_controller::invoker::InvokerSettings;
use std::path::PathBuf;
use std::sync::Arc;

pub type Cause = Box<dyn std::error::Error + Send + Sync>;

/// Everything but the invoker; it ends with this value.
#[derive(Debug)]
pub struct World {
    pub controller: Arc<Controller>,
    pub couch: Couch,
    pub broker: Broker,
    program: PathBuf,
}

impl World {
    /// `program` is ffs-invoker, by default the one beside this program. Acks are kept where they are looked at.
    ///
    /// # Errors
    /// If there is no such program, or something does not start.
    pub async fn start(program: Option<PathBuf>, keep_acks: bool) -> Result<Self, Cause> {
        let beside = std::env::current_exe()?.with_file_name("ffs-invoker");
        let program = program.unwrap_or(beside);
        if !program.exists() {
            return Err(format!("{} is not there: build it in the same profile", program.display()).into());
        }
        let broker = tokio::task::spawn_blocking(Broker::start).await??;
        let couch = tokio::task::spawn_blocking(Couch::start).await??;
        let settings = Settings {
            database: Some(couch.database()),
            keep_acks,
            ..Settings::new(broker.hosts())
        };
        let controller = Controller::start(settings).await?;
        Ok(Self {
            controller,
            couch,
            broker,
            program,
        })
    }

    /// An invoker here, with memory for containers, such as `8192 m`.
    pub fn invoker(&self, user_memory: &str) -> InvokerSettings {
        InvokerSettings::new(&self.program, self.broker.hosts(), self.couch.database())
            .with("CONFIG_whisk_containerPool_userMemory", user_memory)
    }
}

/// Writes the action `guest/NAME`, and makes a message that invokes it.
///
/// # Errors
/// If it cannot be written.
pub async fn action(
    couch: &Couch,
    name: &str,
    exec: Value,
    annotations: Value,
    limits: Value,
) -> Result<ActivationMessage, Cause> {
    let database = couch.database();
    let action = json!({
        "_id": format!("guest/{name}"), "name": name, "namespace": "guest", "entityType": "action",
        "annotations": annotations, "parameters": [], "publish": false, "version": "0.0.1",
        "exec": exec, "limits": limits,
    });
    let revision = database.put(&database.entities, action).await?;
    let message = json!({
        "action": { "name": name, "path": "guest", "version": "0.0.1" },
        "activationId": "00000000000000000000000000000000",
        "blocking": true, "content": {}, "initArgs": [], "lockedArgs": {}, "revision": revision,
        "rootControllerIndex": { "asString": "0", "instanceType": "controller" },
        "transid": ["bench", 0],
        "user": {
            "authkey": { "api_key": GUEST_KEY }, "limits": {}, "rights": ["READ", "PUT", "DELETE", "ACTIVATE"],
            "namespace": { "name": "guest", "uuid": GUEST_KEY.split(':').next() }, "subject": "guest",
        },
    });
    Ok(serde_json::from_value(message)?)
}
