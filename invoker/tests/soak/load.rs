//! Three tenants who invoke something all the time, and in bursts.

use super::PATIENCE;
use super::world::World;
use proto::whisk::activation_message::ActivationMessage;
use serde_json::{Value, json};
use stand_in_controller::controller::{Call, Running};
use stand_in_controller::ledger::Finished;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// Between two activations of one tenant.
const PERIOD: Duration = Duration::from_millis(300);
/// Between two bursts, and how many activations of each tenant come in one.
const BURST: (Duration, usize) = (Duration::from_secs(7), 8);
/// Most activations of one tenant that are under way: OpenWhisk's own limit, beyond which callers are refused.
const MOST: usize = 30;

#[derive(Debug)]
pub(crate) struct Tenant {
    pub(crate) name: &'static str,
    /// The result is so many times the argument.
    pub(crate) factor: f64,
    /// Whether the invoker may run its activations a second time.
    pub(crate) retries: bool,
    /// Whether it has a function of several components.
    pub(crate) has_lanes: bool,
    /// Activations under way.
    open: AtomicUsize,
    memory_mb: u64,
    revision: String,
}

#[derive(Debug)]
pub(crate) struct Sent {
    pub(crate) tenant: Arc<Tenant>,
    pub(crate) x: usize,
    pub(crate) running: Running,
    pub(crate) finished: Finished,
}

/// Writes their actions. The first one's function always runs on several slices, the second one's may fit the
/// largest; for both at once there is no room. The second one's activations may be run again.
pub(crate) async fn tenants(world: &World) -> Vec<Arc<Tenant>> {
    let chain = |parts: u32| format!("PARTS = {parts}\n{}", include_str!("chain.py"));
    let plain = include_str!("plain.py");
    let minute = Duration::from_secs(60);
    vec![
        Tenant::new(world, "alice", &chain(3), Some(json!({})), 24.0, minute).await,
        Tenant::new(
            world,
            "bruno",
            &chain(2),
            Some(json!({ "retry": true })),
            6.0,
            minute,
        )
        .await,
        Tenant::new(world, "carla", plain, None, 1.0, minute).await,
    ]
}

impl Tenant {
    /// Writes its action; `ffs` is the annotation.
    pub(crate) async fn new(
        world: &World,
        name: &'static str,
        code: &str,
        ffs: Option<Value>,
        factor: f64,
        limit: Duration,
    ) -> Arc<Self> {
        let memory_mb = if ffs.is_some() { 512 } else { 128 };
        let annotations: Vec<Value> = ffs
            .iter()
            .map(|value| json!({ "key": "ffs", "value": value }))
            .collect();
        let document = json!({
            "_id": format!("{name}/work"), "name": "work", "namespace": name, "entityType": "action",
            "annotations": annotations, "parameters": [], "publish": false, "version": "0.0.1",
            "exec": { "kind": "python:3", "code": code, "binary": false },
            "limits": { "concurrency": 1, "logs": 10, "memory": memory_mb, "timeout": limit.as_millis() as u64 },
        });
        let database = &world.database;
        Arc::new(Self {
            name,
            factor,
            retries: ffs.as_ref().is_some_and(|ffs| ffs["retry"] == true),
            has_lanes: ffs.is_some(),
            open: AtomicUsize::new(0),
            memory_mb,
            revision: database.put(&database.entities, document).await.unwrap(),
        })
    }
}

/// The first activation, which waits until the function is built and measured.
pub(crate) async fn first(world: &Arc<World>, tenant: &Arc<Tenant>) {
    let sent = send(world, tenant, 1).await;
    let status = sent.finished.status.map(u8::from);
    assert_eq!(status, Some(0), "{}'s first activation", tenant.name);
}

/// Keeps all tenants busy until `end` has ended.
pub(crate) async fn during<T>(
    world: &Arc<World>,
    tenants: &[Arc<Tenant>],
    end: impl Future<Output = T>,
) -> (Vec<Sent>, T) {
    let mut end = std::pin::pin!(end);
    let mut period = tokio::time::interval(PERIOD);
    let mut bursts = tokio::time::interval(BURST.0);
    let mut sending = Vec::new();
    let mut x = 0;
    let result = loop {
        let count = tokio::select! {
            result = &mut end => break result,
            _ = period.tick() => 1,
            _ = bursts.tick() => BURST.1,
        };
        for _ in 0..count {
            x += 1;
            for tenant in tenants {
                if tenant.open.load(Ordering::Relaxed) >= MOST {
                    continue;
                }
                tenant.open.fetch_add(1, Ordering::Relaxed);
                let (world, tenant) = (Arc::clone(world), Arc::clone(tenant));
                sending.push(tokio::spawn(async move {
                    let sent = send(&world, &tenant, x).await;
                    tenant.open.fetch_sub(1, Ordering::Relaxed);
                    sent
                }));
            }
        }
    };
    let mut sent = Vec::new();
    for one in sending {
        sent.push(one.await.unwrap());
    }
    (sent, result)
}

/// From the sending to the completion. Every third one's caller does not wait.
async fn send(world: &World, tenant: &Arc<Tenant>, x: usize) -> Sent {
    let mut running = invoke(world, tenant, !x.is_multiple_of(3), json!({ "x": x })).await;
    let Ok(finished) = tokio::time::timeout(PATIENCE, running.finished()).await else {
        let status = world.status().await;
        panic!(
            "{} of {} has no completion: {status:#}\n{}",
            running.id,
            tenant.name,
            world.log()
        );
    };
    Sent {
        tenant: Arc::clone(tenant),
        x,
        running,
        finished: finished.unwrap(),
    }
}

pub(crate) async fn invoke(world: &World, tenant: &Tenant, blocking: bool, arguments: Value) -> Running {
    let mut call = Call::new(message(tenant, blocking, arguments));
    call.memory_mb = tenant.memory_mb;
    // Building and measuring are no part of the time limit, but the controller's patience has to cover them.
    call.timeout = PATIENCE;
    // While Docker is away the invoker asks for no work, and its callers have to come again (K-44, K-53).
    let sent = world.controller.schedule_within(call, PATIENCE).await;
    sent.unwrap_or_else(|error| panic!("{error}\n{}", world.log()))
}

fn message(tenant: &Tenant, blocking: bool, arguments: Value) -> ActivationMessage {
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    let id = uuid::Uuid::new_v4().simple().to_string();
    let uuid = uuid::Uuid::new_v4().to_string();
    serde_json::from_value(json!({
        "action": { "name": "work", "path": tenant.name, "version": "0.0.1" },
        "activationId": id, "blocking": blocking, "content": arguments, "initArgs": [], "lockedArgs": {},
        "revision": tenant.revision, "rootControllerIndex": { "asString": "0", "instanceType": "controller" },
        "transid": [id, u64::try_from(now.as_millis()).unwrap()],
        "user": {
            "authkey": { "api_key": format!("{uuid}:secret") }, "limits": {},
            "namespace": { "name": tenant.name, "uuid": uuid },
            "rights": ["READ", "PUT", "DELETE", "ACTIVATE"], "subject": tenant.name,
        },
    }))
    .unwrap()
}
