//! Two functions on the slices of one A100 and plain actions, together under load, while lanes are killed, slices
//! are fenced, the GPU falls off the bus, and load comes in bursts. In the end each activation has one answer and
//! one record, whoever failed was in flight on a lane that was killed, and all books are balanced.
//!
//! Kafka, the server of CouchDB's API, Docker and the lanes are real; NVML's library is ours. `FFS_SOAK_SECONDS`
//! says how long, and `FFS_SOAK_SEED` what happens when.
#![allow(clippy::unwrap_used)]

mod books;
#[path = "../support/docker_engine.rs"]
#[allow(dead_code)]
mod docker_engine;
mod engine;
mod load;
mod one_by_one;
#[path = "../support/mod.rs"]
mod support;
mod trouble;
mod world;

use engine::EngineKind;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::sync::Arc;
use std::time::Duration;
use world::World;

/// How long anything may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(180);

/// Each needs the whole machine.
static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

#[tokio::test(flavor = "multi_thread")]
async fn processes_as_containers() {
    soak(EngineKind::Process).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn containers_of_docker() {
    soak(EngineKind::Docker).await;
}

async fn soak(engine: EngineKind) {
    let _turn = TURN.lock().await;
    let of = |name| std::env::var(name).ok();
    let seconds = of("FFS_SOAK_SECONDS").map_or(30, |text| text.parse().unwrap());
    let seed = of("FFS_SOAK_SEED").map_or_else(|| rand::rng().random(), |text| text.parse().unwrap());
    println!("{engine:?}: {seconds} s, seed {seed}");

    let world = Arc::new(World::start(engine).await);
    let tenants = load::tenants(&world).await;
    for tenant in &tenants {
        load::first(&world, tenant).await;
    }
    let random = StdRng::seed_from_u64(seed);
    let trouble = trouble::make(&world, random, Duration::from_secs(seconds));
    let (sent, kills) = load::during(&world, &tenants, trouble).await;
    let log = world.log();
    let count = |what: &str| log.matches(what).count();
    println!(
        "{} instances ready, {} replicas joined, {} left",
        count(" ready instance="),
        count(" joined instance="),
        count(" left instance=")
    );
    let outcomes = books::outcomes(&world, sent).await;
    books::balance(&world, &outcomes, &kills);
    world.until_quiet().await;
    world.stop().await;
}
