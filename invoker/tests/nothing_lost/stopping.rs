//! SIGTERM: what ends in time ends well, the rest is answered or kept, and the end comes.

use crate::kafka::{Broker, shared};
use crate::world::{LOGGED, PATIENCE, SILENT, Wishes, World, hex, message, record};
use ffs_invoker::config::JournalSettings;
use ffs_invoker::daemon::Error;
use ffs_invoker::store::Store;
use proto::whisk::acknowledgement::Acknowledgement;
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;

fn is_system_error(ack: &Acknowledgement) -> bool {
    match ack {
        Acknowledgement::Completion(ack) => ack.is_system_error,
        Acknowledgement::Combined(ack) => ack.is_system_error,
        Acknowledgement::Result(_) => false,
    }
}

async fn close(world: &World) -> Vec<(u128, Option<serde_json::Value>)> {
    let store = world.open_store();
    let mut records = Vec::new();
    for id in 1..=30 {
        records.push((id, record(&store, id).await));
    }
    store.close(Duration::from_secs(60)).await;
    records
}

/// N-30, N-31, K-36, S-11, O-15, H-06: running ones end within the grace period, the rest is answered with a
/// whisk error; the controller is told, nothing is left, and the next one starts at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_lets_what_can_end_end_and_answers_the_rest() {
    let broker = tokio::task::spawn_blocking(shared).await.unwrap();
    let world = World::new(broker).await;
    let wishes = Wishes {
        grace: Some(Duration::from_secs(6)),
        memory: Some(512),
        ..Wishes::default()
    };
    let running = world.start(&wishes).await;
    // Two end in time, two do not, and eight wait behind them.
    for id in 1..=12 {
        let content = match id {
            1 | 2 => json!({ "gate": world.gate() }),
            _ => json!({ "sleep_ms": 600_000 }),
        };
        world.send(&message(id, LOGGED, id % 2 == 0, content)).await;
    }
    crate::world::eventually("four run", async || world.runs().len() == 4).await;
    let engine = running.engine.clone();

    world.open_gate();
    let stopped = tokio::time::timeout(PATIENCE, running.stop()).await;

    assert!(stopped.is_ok(), "it waits for what does not end in time");
    assert_eq!(engine.count(), 0, "containers are left");
    let acks = world.acks().await;
    let freed: Vec<_> = acks.iter().filter(|ack| ack.frees_slot()).collect();
    assert_eq!(freed.len(), 12);
    for ack in freed {
        let id = ack.activation_id().as_u128();
        assert_eq!(is_system_error(ack), id > 2, "{ack:?}");
    }
    let ping = world.read("health").await.pop().unwrap();
    assert_eq!(ping["isEnabled"], false);
    let runs = world.runs();
    for (id, record) in close(&world).await.into_iter().take(12) {
        let record = record.unwrap_or_else(|| panic!("no record of {id}"));
        let said = record["response"]["result"]["error"]
            .as_str()
            .unwrap_or("nothing");
        let expected = match (id <= 2, runs.contains_key(&hex(id))) {
            (true, _) => "nothing",
            (false, true) => "The invoker was stopped while the action was running.",
            (false, false) => "The invoker was stopped before the action was run.",
        };
        assert_eq!(said, expected, "{record}");
    }

    // The group was left, so its successor does not wait for anything.
    world.send(&message(20, SILENT, true, json!({}))).await;
    let running = world.start(&Wishes::default()).await;
    assert_eq!(world.freed(13).await.len() - acks.len(), 1);
    running.stop().await;
}

/// N-31, K-28: with `keep_on_stop` what was not started waits for the successor.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_can_leave_to_the_successor_what_was_not_started() {
    let broker = tokio::task::spawn_blocking(shared).await.unwrap();
    let world = World::new(broker).await;
    let wishes = Wishes {
        grace: Some(Duration::from_millis(200)),
        memory: Some(256),
        journal: JournalSettings {
            keep_on_stop: true,
            ..JournalSettings::default()
        },
        ..Wishes::default()
    };
    let running = world.start(&wishes).await;
    for id in 1..=6 {
        world
            .send(&message(id, LOGGED, true, json!({ "gate": world.gate() })))
            .await;
    }
    let journal = running.daemon.journal();
    crate::world::eventually("two run, four wait", async || {
        world.runs().len() == 2 && journal.size().activations == 6
    })
    .await;
    running.stop().await;
    let acks = world.acks().await;
    assert_eq!(acks.iter().filter(|ack| ack.frees_slot()).count(), 2, "{acks:?}");
    assert!(acks.iter().filter(|ack| ack.frees_slot()).all(is_system_error));

    world.open_gate();
    let running = world.start(&wishes).await;
    let acks = world.freed(6).await;
    for id in 1..=6 {
        running.record(id).await;
    }
    running.stop().await;
    assert_eq!(
        acks.iter()
            .filter(|ack| ack.frees_slot() && !is_system_error(ack))
            .count(),
        4
    );
    assert!(world.runs().values().all(|runs| *runs == 1));
    assert_eq!(world.runs().len(), 6);
}

/// N-30, N-31, K-36: the end comes also while the broker is away, and the next start says what is still to say.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_does_not_wait_for_a_broker_that_is_away() {
    let mut broker = tokio::task::spawn_blocking(Broker::start).await.unwrap();
    let world = World::new(&broker).await;
    let wishes = Wishes {
        grace: Some(Duration::from_secs(4)),
        ..Wishes::default()
    };
    let running = world.start(&wishes).await;
    for id in 1..=4 {
        let content = match id {
            1..4 => json!({ "gate": world.gate() }),
            _ => json!({ "sleep_ms": 600_000 }),
        };
        world.send(&message(id, LOGGED, true, content)).await;
    }
    crate::world::eventually("four run", async || world.runs().len() == 4).await;
    let mut broker = tokio::task::spawn_blocking(move || {
        broker.stop();
        broker
    })
    .await
    .unwrap();
    world.open_gate();

    let stopped = tokio::time::timeout(PATIENCE, running.stop()).await;

    assert!(stopped.is_ok(), "it waits for the broker");
    let broker = tokio::task::spawn_blocking(move || {
        broker.go_on();
        broker
    })
    .await
    .unwrap();
    let running = world.start(&wishes).await;
    let acks = world.freed(4).await;
    for ack in acks.iter().filter(|ack| ack.frees_slot()) {
        assert_eq!(
            is_system_error(ack),
            ack.activation_id().as_u128() == 4,
            "{ack:?}"
        );
    }
    assert_eq!(acks.iter().filter(|ack| ack.response().is_some()).count(), 4);
    assert!(world.runs().values().all(|runs| *runs == 1));
    running.stop().await;
    tokio::task::spawn_blocking(move || drop(broker)).await.unwrap();
}

/// N-33, K-22: a second daemon of the same id starts nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_daemon_of_the_same_id_is_refused() {
    let broker = tokio::task::spawn_blocking(shared).await.unwrap();
    let world = World::new(broker).await;
    let running = world.start(&Wishes::default()).await;
    let store = running.store.clone();
    let second = world
        .start_with(&Wishes::default(), store.clone(), Arc::clone(&store))
        .await;
    let refused = second.err().expect("there is one already");
    assert!(matches!(refused, Error::Journal(_)), "{refused:?}");
    assert!(
        refused
            .to_string()
            .contains("another invoker of the same id is running"),
        "{refused}"
    );
    world.send(&message(1, SILENT, false, json!({}))).await;
    world.freed(1).await;
    running.stop().await;
}
