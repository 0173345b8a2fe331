//! What goes wrong, at random instants: a lane is killed, a slice gets a critical error, the GPU falls off the bus.

use super::world::World;
use fake_nvml::Happening;
use proto::ffs::migs::Slice;
use rand::RngExt;
use rand::rngs::StdRng;
use serde_json::Value;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Seconds between two troubles.
const PAUSES: std::ops::Range<f64> = 1.0..4.0;

/// A lane that was killed while its instance served.
#[derive(Clone, Debug)]
pub(crate) struct Kill {
    pub(crate) tenant: String,
    pub(crate) instance: String,
    pub(crate) lane: String,
    /// None if its weights were in host memory.
    pub(crate) slice: Option<String>,
    /// When it was asked for, and when that had been done.
    pub(crate) at: Instant,
    pub(crate) done: Instant,
    /// Most activations in flight in the instance.
    pub(crate) limit: u64,
}

/// Makes trouble for so long; in the end the GPU is whole.
pub(crate) async fn make(world: &Arc<World>, mut random: StdRng, long: Duration) -> Vec<Kill> {
    let end = Instant::now() + long;
    let mut kills = Vec::new();
    while Instant::now() < end {
        tokio::time::sleep(Duration::from_secs_f64(random.random_range(PAUSES))).await;
        match random.random_range(0..10) {
            0..6 => kills.extend(kill(world, &mut random).await),
            6..9 => fence(world, &mut random).await,
            _ => lose(world).await,
        }
    }
    kills
}

/// Kills a lane of an instance that is ready.
async fn kill(world: &Arc<World>, random: &mut StdRng) -> Option<Kill> {
    let status = world.status().await;
    let ready = |instance: &&Value| {
        ["hot", "shared", "warm"]
            .iter()
            .any(|state| instance["state"] == *state)
    };
    let instances: Vec<&Value> = status["instances"].as_array()?.iter().filter(ready).collect();
    let instance = *instances.get(random.random_range(0..instances.len().max(1)))?;
    let lanes = lanes(instance["plan"].as_str()?);
    let place = random.random_range(0..lanes.len());
    let at = Instant::now();
    let mut kill = Kill {
        tenant: instance["function"].as_str()?.split('/').next()?.to_owned(),
        instance: instance["instance"].as_str()?.to_owned(),
        lane: lanes[place].clone(),
        slice: instance["slices"][place].as_str().map(str::to_owned),
        at,
        done: at,
        // A replica may join meanwhile.
        limit: instance["limit"].as_u64()? + 1,
    };
    let (world, of) = (Arc::clone(world), kill.clone());
    let which = random.random();
    let there =
        tokio::task::spawn_blocking(move || world.engine.kill(&world.folder, &of.instance, &of.lane, which));
    let there = there.await.unwrap();
    kill.done = Instant::now();
    println!(
        "killed: lane {} of {} of {}, {}, {} in flight",
        kill.lane, kill.instance, kill.tenant, instance["state"], instance["in_flight"]
    );
    there.then_some(kill)
}

/// The lanes of a chain in the order in which they hold their slices (none while they are warm): one a stage, then the
/// replicas of the one that has any.
fn lanes(plan: &str) -> Vec<String> {
    let stages: Vec<&str> = plan.split('|').collect();
    let mut lanes: Vec<String> = (0..stages.len()).map(|stage| format!("s{stage}l0")).collect();
    for (stage, key) in stages.iter().enumerate() {
        let count = key.split_once('*').map_or(1, |(_, count)| count.parse().unwrap());
        lanes.extend((1..count).map(|replica| format!("s{stage}l{replica}")));
    }
    lanes
}

/// A critical error on one slice, which is made anew some time later; for the one that a function cannot do
/// without, the GPU is reset.
async fn fence(world: &World, random: &mut StdRng) {
    let slices = world.gpus.lock().unwrap().machine.migs.slices.clone();
    let slice = &slices[random.random_range(0..slices.len())];
    fail(world, slice).await;
    tokio::time::sleep(Duration::from_secs_f64(random.random_range(PAUSES))).await;
    if slice.profile.as_str() == "3g.40gb" {
        return lose(world).await;
    }
    let state = |status: &Value| state(status, slice);
    let vanish = |vanished: bool| {
        let mut gpus = world.gpus.lock().unwrap();
        gpus.machine.faults.vanished.clear();
        if vanished {
            gpus.machine.faults.vanished.insert(slice.uuid.clone());
        }
        gpus.write();
    };
    vanish(true);
    world
        .until("the slice is gone", |status| state(status).is_none())
        .await;
    vanish(false);
    world
        .until("the slice is back", |status| {
            state(status).is_some_and(|state| state != "fenced")
        })
        .await;
}

/// A critical error on a slice; until it is fenced.
pub(crate) async fn fail(world: &World, slice: &Slice) {
    println!("fenced: {} {}", slice.profile, slice.uuid);
    {
        let mut gpus = world.gpus.lock().unwrap();
        gpus.machine.faults.events.push(Happening {
            gpu: slice.gpu_uuid.clone(),
            xid: Some(79),
            instance: slice.gi.zip(slice.ci),
        });
        gpus.write();
    }
    world
        .until("the slice is fenced", |status| {
            state(status, slice).as_deref() == Some("fenced")
        })
        .await;
}

fn state(status: &Value, slice: &Slice) -> Option<String> {
    let mut slices = status["migs"]["slices"].as_array()?.iter();
    let found = slices.find(|other| other["uuid"] == slice.uuid.as_str())?;
    found["state"].as_str().map(str::to_owned)
}

/// The GPU does not answer for a while; then its slices are in order.
pub(crate) async fn lose(world: &World) {
    println!("lost: the GPU");
    let lose = |lost: bool| {
        let mut gpus = world.gpus.lock().unwrap();
        let gpu = gpus.machine.migs.gpus[0].uuid.clone();
        gpus.machine.faults.lost.clear();
        if lost {
            gpus.machine.faults.lost.insert(gpu);
        }
        gpus.write();
    };
    let fenced = |status: &Value| {
        let slices = status["migs"]["slices"].as_array().unwrap();
        slices.iter().filter(|slice| slice["state"] == "fenced").count()
    };
    lose(true);
    world.until("all is fenced", |status| fenced(status) == 3).await;
    lose(false);
    world
        .until("nothing is fenced", |status| fenced(status) == 0)
        .await;
}
