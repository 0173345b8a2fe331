//! A part is away for a minute while work comes in: nothing is lost, nothing is answered twice.

use super::world::{PATIENCE, World, prepare, shared_broker};
use stand_in_controller::broker::Broker;
use stand_in_controller::health::State;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const MINUTE: Duration = Duration::from_secs(60);
/// Under load, before something goes and after it is back.
const AROUND: Duration = Duration::from_secs(3);

/// Between two activations.
const PERIOD: Duration = Duration::from_millis(100);

/// Waits, and does what blocks elsewhere.
async fn then<T: Send + 'static>(pause: Duration, act: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::time::sleep(pause).await;
    tokio::task::spawn_blocking(act).await.unwrap()
}

/// Until the controller sends work again; and says so.
async fn healthy(world: &World, what: &str, began: Instant) {
    world.controller.until_healthy(0, PATIENCE).await.unwrap();
    println!(
        "{what} is back: the invoker is healthy after {:.1} s",
        began.elapsed().as_secs_f64()
    );
}

/// K-29, K-32, K-35, O-08, O-09, S-11
async fn kafka() {
    let broker = tokio::task::spawn_blocking(|| Arc::new(Mutex::new(Broker::start().unwrap())));
    let world = Arc::new(World::new(broker.await.unwrap(), false).await);
    let (sent, ()) = world
        .load(PERIOD, async {
            let broker = Arc::clone(&world.broker);
            then(AROUND, move || broker.lock().unwrap().stop()).await;
            let broker = Arc::clone(&world.broker);
            then(MINUTE, move || broker.lock().unwrap().go_on().unwrap()).await;
            let began = Instant::now();
            // What it was before is no news: pings have to come again.
            let pings = world.controller.pings().len();
            while world.controller.pings().len() == pings {
                assert!(began.elapsed() < PATIENCE, "no ping: {}", world.log());
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            healthy(&world, "Kafka", began).await;
            tokio::time::sleep(AROUND).await;
        })
        .await;
    let count = sent.len();
    world.balance(sent, false).await;
    println!("Kafka: {count} activations, each with its completion and its record");
}

/// D-45, D-46, S-21, O-02: acks come as usual, and the records later
async fn couchdb() {
    let broker = tokio::task::spawn_blocking(shared_broker).await.unwrap();
    let world = Arc::new(World::new(broker, false).await);
    let mut first = world.send().await;
    first.finished().await.unwrap(); // the action is known from now on
    let (sent, ()) = world
        .load(PERIOD, async {
            let couch = Arc::clone(&world.couch);
            then(AROUND, move || couch.lock().unwrap().stop()).await;
            let (couch, mut during) = (Arc::clone(&world.couch), world.send().await);
            let answered = tokio::time::timeout(MINUTE, during.finished()).await;
            answered.expect("answered while the database is away").unwrap();
            then(MINUTE, move || couch.lock().unwrap().go_on().unwrap()).await;
        })
        .await;
    let (count, began) = (sent.len(), Instant::now());
    world.balance(sent, false).await;
    println!(
        "CouchDB is back: {count} activations have their records after {:.1} s",
        began.elapsed().as_secs_f64()
    );
}

/// K-53, P-11, O-04: the controller is told, what waits starts when Docker is back; what ran ends with its container
async fn docker() {
    let broker = tokio::task::spawn_blocking(shared_broker).await.unwrap();
    let world = Arc::new(World::new(broker, true).await);
    let engine = Arc::clone(world.docker.as_ref().unwrap());
    let (sent, ()) = world
        .load(PERIOD, async {
            // A crash: its containers run on, and are ended by the engine that comes after it.
            let docker = Arc::clone(&engine);
            let began = then(AROUND, move || {
                let mut docker = docker.lock().unwrap();
                docker.kill();
                let killed = Instant::now();
                docker.go_on();
                println!(
                    "Docker itself answers {:.1} s after its end",
                    killed.elapsed().as_secs_f64()
                );
                Instant::now()
            });
            let began = began.await;
            healthy(&world, "a killed Docker", began).await;

            let docker = Arc::clone(&engine);
            then(AROUND, move || docker.lock().unwrap().stop()).await;
            let docker = Arc::clone(&engine);
            let away = then(MINUTE - Duration::from_secs(10), {
                let world = Arc::clone(&world);
                move || world.controller.health_of(0)
            });
            let away = away.await;
            assert_ne!(away, State::Healthy, "{}", world.log());
            then(Duration::from_secs(10), move || docker.lock().unwrap().go_on()).await;
            healthy(&world, "Docker", Instant::now()).await;
            tokio::time::sleep(AROUND).await;
        })
        .await;
    let count = sent.len();
    let ended = world.balance(sent, true).await;
    println!(
        "Docker: {count} activations, each with its completion and its record; {ended} ended with their container"
    );
}

#[test]
fn kafka_couchdb_and_docker_are_away_for_a_minute_and_nothing_is_lost() {
    prepare();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    // Side by side: most of it is waiting.
    let outages = runtime.block_on(async {
        let all = [
            tokio::spawn(kafka()),
            tokio::spawn(couchdb()),
            tokio::spawn(docker()),
        ];
        futures::future::join_all(all).await
    });
    for outage in outages {
        outage.unwrap();
    }
}
