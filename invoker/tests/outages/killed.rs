//! `kill -9` at random instants under load, and a successor on the same directories, again and again.

use super::world::{PATIENCE, World, shared_broker};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// S-11, S-12, K-28, L-26, L-27, O-01, O-02, M-33
#[test]
fn killed_at_any_instant_it_answers_everything_once_and_leaves_nothing() {
    let rounds: usize = std::env::var("OUTAGES_ROUNDS").map_or(12, |rounds| rounds.parse().unwrap());
    let seed =
        std::env::var("OUTAGES_SEED").map_or_else(|_| rand::rng().random(), |seed| seed.parse().unwrap());
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let broker = tokio::task::spawn_blocking(shared_broker).await.unwrap();
        let world = Arc::new(World::new(broker, false).await);
        let (sent, ()) = world
            .load(Duration::from_millis(30), async {
                for _ in 0..rounds {
                    // While it starts, or while it works.
                    if random.random_bool(0.5) {
                        tokio::time::sleep(Duration::from_millis(random.random_range(50..1500))).await;
                    } else {
                        let (begun, before) = (Instant::now(), world.runs().len());
                        while world.runs().len() == before {
                            assert!(begun.elapsed() < PATIENCE, "it does not work: {}", world.log());
                            tokio::time::sleep(Duration::from_millis(5)).await;
                        }
                        tokio::time::sleep(Duration::from_millis(random.random_range(0..1000))).await;
                    }
                    let world = Arc::clone(&world);
                    let again = tokio::task::spawn_blocking(move || {
                        let mut invoker = world.invoker.lock().unwrap();
                        invoker.kill().unwrap();
                        invoker.start_again().unwrap();
                    });
                    again.await.unwrap();
                }
            })
            .await;
        let count = sent.len();
        let ended = world.balance(sent, true).await;
        println!("{count} activations over {rounds} kills, {ended} were interrupted");

        let name = world.invoker.lock().unwrap().unique_name().to_owned();
        assert!(!containers(&name).is_empty(), "its containers have this name");
        let stopped = Arc::clone(&world);
        let status = tokio::task::spawn_blocking(move || stopped.invoker.lock().unwrap().stop());
        assert!(status.await.unwrap().unwrap().success(), "{}", world.log());
        let begun = Instant::now();
        while !containers(&name).is_empty() {
            assert!(begun.elapsed() < PATIENCE, "left: {}", containers(&name));
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let mut left = Vec::new();
        files(&world.folder().join("run"), &mut left);
        assert_eq!(left, ["lock"], "files in the directory for what runs");
        let shared_memory = docker(&["volume", "ls", "--quiet", "--filter", &format!("name={name}")]);
        assert_eq!(shared_memory, "");
    });
}

fn docker(arguments: &[&str]) -> String {
    let output = Command::new("docker")
        .args(["-H", "unix:///var/run/docker.sock"])
        .args(arguments)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

fn containers(name: &str) -> String {
    let filter = format!("name={name}");
    docker(&["ps", "--all", "--quiet", "--filter", &filter])
}

fn files(folder: &std::path::Path, found: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, found);
        } else {
            found.push(path.file_name().unwrap().to_string_lossy().into_owned());
        }
    }
}
