//! `kill -9` at any instant: the daemon is a process of its own, this test's binary started once more.

use crate::kafka::shared;
use crate::world::{LOGGED, PATIENCE, SILENT, Wishes, World, hex, message, record};
use proto::whisk::acknowledgement::Acknowledgement;
use proto::whisk::activation::Status;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::json;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const VICTIM: &str = "NOTHING_LOST_VICTIM";
const PREFIX: &str = "NOTHING_LOST_PREFIX";
const HOSTS: &str = "NOTHING_LOST_HOSTS";

/// Nothing by itself: the child of the tests below.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_that_is_killed() {
    let Some(folder) = std::env::var_os(VICTIM) else {
        return;
    };
    tracing_subscriber::fmt()
        .with_env_filter("info")
        .with_ansi(false)
        .with_writer(std::io::stderr)
        .init();
    let (hosts, prefix) = (std::env::var(HOSTS).unwrap(), std::env::var(PREFIX).unwrap());
    let world = World::at(hosts, prefix, Path::new(&folder));
    let running = world.start(&Wishes::default()).await;
    std::fs::write(world.folder.join("ready"), "").unwrap();
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()).unwrap();
    terminate.recv().await;
    running.stop().await;
}

pub(crate) fn start(world: &World) -> Child {
    let log = std::fs::File::options()
        .create(true)
        .append(true)
        .open(world.folder.join("log"))
        .unwrap();
    let ready = world.folder.join("ready");
    let _ = std::fs::remove_file(&ready);
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "killed::a_daemon_that_is_killed", "--nocapture"])
        .env(VICTIM, &world.folder)
        .env(HOSTS, &world.hosts)
        .env(PREFIX, &world.prefix)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .unwrap();
    let end = Instant::now() + PATIENCE;
    while !ready.exists() {
        let ended = child.try_wait().unwrap();
        assert!(
            ended.is_none() && Instant::now() < end,
            "{ended:?}: {}",
            log_of(world)
        );
        std::thread::sleep(Duration::from_millis(5));
    }
    child
}

pub(crate) fn stop(world: &World, mut child: Child) {
    let id = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
    nix::sys::signal::kill(id, nix::sys::signal::Signal::SIGTERM).unwrap();
    let ended = child.wait().unwrap();
    assert!(ended.success(), "{ended}: {}", log_of(world));
}

pub(crate) fn log_of(world: &World) -> String {
    let log = std::fs::read_to_string(world.folder.join("log")).unwrap_or_default();
    let start = log.len().saturating_sub(20_000);
    log.get(start..).unwrap_or_default().to_owned()
}

/// S-11, S-12, K-28, D-46, O-01, O-02, M-33: killed again and again at random instants, under load.
/// N-32, K-21: a successor goes on where the one before was.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_any_instant_it_answers_everything_once_and_runs_nothing_twice() {
    let broker = tokio::task::spawn_blocking(shared).await.unwrap();
    let world = World::new(broker).await;
    world.make("invoker0", &[]).await;
    let rounds = std::env::var("NOTHING_LOST_ROUNDS").map_or(15, |rounds| rounds.parse().unwrap());
    let seed = rand::rng().random::<u64>();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let mut sent: BTreeMap<u128, bool> = BTreeMap::new();
    for _ in 0..rounds {
        let mut child = start(&world);
        // Work comes in all the time, so that the end comes while there is some.
        let end = Instant::now() + Duration::from_millis(random.random_range(200..2500));
        while Instant::now() < end {
            for _ in 0..random.random_range(1..6) {
                let (id, blocking) = (random.random::<u128>(), random.random_bool(0.5));
                let action = if random.random_bool(0.5) { LOGGED } else { SILENT };
                let content = json!({ "sleep_ms": random.random_range(0..60) });
                world.send(&message(id, action, blocking, content)).await;
                sent.insert(id, blocking);
            }
            tokio::time::sleep(Duration::from_millis(random.random_range(0..40))).await;
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }

    let child = start(&world);
    let acks = world.freed(sent.len()).await;
    stop(&world, child);

    check(&world, &sent, &acks).await;
}

/// One slot-freeing ack and one record for each, a result for each blocking one, and no run twice.
pub(crate) async fn check(world: &World, sent: &BTreeMap<u128, bool>, acks: &[Acknowledgement]) {
    let mut freed: BTreeMap<u128, usize> = BTreeMap::new();
    let mut results: BTreeMap<u128, usize> = BTreeMap::new();
    for ack in acks {
        let id = ack.activation_id().as_u128();
        if ack.frees_slot() {
            *freed.entry(id).or_default() += 1;
        }
        if ack.response().is_some() && sent.get(&id) == Some(&true) {
            *results.entry(id).or_default() += 1;
        }
    }
    let runs = world.runs();
    let store = world.open_store();
    let (mut ran, mut interrupted) = (0, 0);
    for (&id, &blocking) in sent {
        let name = hex(id);
        assert_eq!(
            freed.get(&id),
            Some(&1),
            "slot-freeing acks of {name}\n{}",
            log_of(world)
        );
        assert_eq!(
            results.get(&id).copied().unwrap_or(0),
            usize::from(blocking),
            "results of {name}\n{}",
            log_of(world)
        );
        let record = record(&store, id)
            .await
            .unwrap_or_else(|| panic!("no record of {name}\n{}", log_of(world)));
        let runs = runs.get(&name).copied().unwrap_or(0);
        if record["response"]["statusCode"] == 0 {
            assert_eq!(runs, 1, "runs of {name}");
            ran += 1;
        } else {
            assert_eq!(record["response"]["statusCode"], 3, "{record}");
            let said = &record["response"]["result"]["error"];
            assert_eq!(
                said, "The invoker was restarted while the action was running.",
                "{record}"
            );
            assert!(runs <= 1, "{name} has run {runs} times\n{}", log_of(world));
            interrupted += 1;
        }
        let acked = acks
            .iter()
            .find(|ack| ack.frees_slot() && ack.activation_id().as_u128() == id)
            .unwrap();
        let system_error = match acked {
            Acknowledgement::Completion(ack) => ack.is_system_error,
            Acknowledgement::Combined(ack) => ack.is_system_error,
            Acknowledgement::Result(_) => unreachable!("it frees no slot"),
        };
        let stored: u8 = Status::WhiskError.into();
        assert_eq!(system_error, record["response"]["statusCode"] == stored, "{name}");
    }
    assert_eq!(freed.len(), sent.len(), "acks of strangers");
    ffs_invoker::store::Store::close(&store, Duration::from_secs(60)).await;
    println!("{ran} ran, {interrupted} were interrupted");
}
