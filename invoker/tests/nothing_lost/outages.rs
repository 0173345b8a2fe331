//! Kafka or the store away for a while and back: nothing lost, nothing doubled.

use crate::kafka::{Broker, shared};
use crate::killed::check;
use crate::world::{LOGGED, Running, SILENT, Wishes, World, eventually, message, record};
use async_trait::async_trait;
use ffs_invoker::store::embedded::EmbeddedStore;
use ffs_invoker::store::{Database, Document, Error, Query, Store};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

/// A store that can be away for writers; so can the network of a real one.
#[derive(Debug)]
struct AwayStore {
    inner: Arc<EmbeddedStore>,
    away: AtomicBool,
    tries: AtomicUsize,
}

#[async_trait]
impl Store for AwayStore {
    async fn put(
        &self,
        on: Database,
        id: &str,
        revision: Option<&str>,
        body: &Value,
    ) -> Result<String, Error> {
        self.tries.fetch_add(1, Ordering::Relaxed);
        if self.away.load(Ordering::Relaxed) {
            return Err(Error::Failed {
                operation: "written",
                id: id.to_owned(),
                source: "connection refused".into(),
            });
        }
        self.inner.put(on, id, revision, body).await
    }

    async fn get(&self, on: Database, id: &str, revision: Option<&str>) -> Result<Option<Document>, Error> {
        self.inner.get(on, id, revision).await
    }

    async fn delete(&self, on: Database, id: &str, revision: &str) -> Result<(), Error> {
        self.inner.delete(on, id, revision).await
    }

    async fn attachment(
        &self,
        on: Database,
        id: &str,
        revision: Option<&str>,
        name: &str,
    ) -> Result<Option<Vec<u8>>, Error> {
        self.inner.attachment(on, id, revision, name).await
    }

    async fn blocked_namespaces(&self) -> Result<BTreeSet<String>, Error> {
        self.inner.blocked_namespaces().await
    }

    async fn put_attachment(
        &self,
        on: Database,
        id: &str,
        revision: &str,
        name: &str,
        content_type: &str,
        bytes: Vec<u8>,
    ) -> Result<String, Error> {
        self.inner
            .put_attachment(on, id, revision, name, content_type, bytes)
            .await
    }

    async fn list(&self, on: Database, query: &Query) -> Result<Vec<Document>, Error> {
        self.inner.list(on, query).await
    }

    async fn count(&self, on: Database, query: &Query) -> Result<usize, Error> {
        self.inner.count(on, query).await
    }

    async fn close(&self, grace: Duration) {
        self.inner.close(grace).await;
    }
}

/// D-46, D-45, S-21, O-02: the store is away: acks come as usual, and the records later, also those that
/// waited across a restart.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_wait_for_a_store_that_is_away_and_acks_do_not() {
    let broker = tokio::task::spawn_blocking(shared).await.unwrap();
    let world = World::new(broker).await;
    let store = Arc::new(world.open_store());
    let away = Arc::new(AwayStore {
        inner: store.clone(),
        away: AtomicBool::new(true),
        tries: AtomicUsize::new(0),
    });
    let running = world
        .start_with(&Wishes::default(), away.clone(), store.clone())
        .await
        .unwrap();
    // Larger than what is kept in memory, so that some are read back from the journal.
    for id in 1..=60 {
        let content = json!({ "bytes": if id % 3 == 0 { 700_000 } else { 100 } });
        world
            .send(&message(
                id,
                if id % 2 == 0 { LOGGED } else { SILENT },
                true,
                content,
            ))
            .await;
    }
    let acks = world.freed(60).await;
    assert_eq!(acks.iter().filter(|ack| ack.response().is_some()).count(), 60);
    assert_eq!(running.daemon.journal().size().activations, 60);
    assert!(record(&*store, 7).await.is_none());
    away.away.store(false, Ordering::Relaxed);
    for id in 1..=60 {
        running.record(id).await;
    }
    let journal = running.daemon.journal();
    eventually("the journal owes nothing", async || {
        journal.size().activations == 0
    })
    .await;

    // It goes away once more, and the daemon ends before it is back.
    away.away.store(true, Ordering::Relaxed);
    for id in 61..=70 {
        world.send(&message(id, LOGGED, false, json!({}))).await;
    }
    world.freed(70).await;
    let Running {
        daemon,
        engine,
        store: same,
    } = running;
    daemon.stop().await;
    drop((engine, same));
    assert!(record(&*store, 65).await.is_none());
    away.away.store(false, Ordering::Relaxed);
    let running = world
        .start_with(&Wishes::default(), away.clone(), store.clone())
        .await
        .unwrap();
    for id in 61..=70 {
        let record = running.record(id).await;
        assert_eq!(record["logs"].as_array().unwrap().len(), 1);
    }
    running.stop().await;
    drop((away, store));
    let sent: BTreeMap<u128, bool> = (1..=70).map(|id| (id, id <= 60)).collect();
    check(&world, &sent, &world.acks().await).await;
}

/// D-43: a record that is there already is left as it is, and nothing is tried again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_that_is_there_already_is_left_alone() {
    let broker = tokio::task::spawn_blocking(shared).await.unwrap();
    let world = World::new(broker).await;
    let running = world.start(&Wishes::default()).await;
    let id = format!("guest/{}", crate::world::hex(1));
    let sent = message(1, SILENT, true, json!({}));
    let now = &sent["transid"][1];
    let body = json!({ "entityType": "activation", "first": true, "start": now, "end": now });
    running
        .store
        .put(Database::Activation, &id, None, &body)
        .await
        .unwrap();
    world.send(&sent).await;
    world.freed(1).await;
    let journal = running.daemon.journal();
    eventually("nothing is owed", async || journal.size().activations == 0).await;
    assert_eq!(running.record(1).await, body);
    running.stop().await;
}

/// K-32, K-35, K-31, K-29, O-08, O-09, S-11, S-12: the broker goes away under load and comes back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_goes_and_comes_back_costs_nothing() {
    let mut broker = tokio::task::spawn_blocking(Broker::start).await.unwrap();
    let world = World::new(&broker).await;
    let running = world.start(&Wishes::default()).await;
    let mut sent = BTreeMap::new();
    for round in 0..2_u128 {
        for n in 0..60 {
            let (id, blocking) = (1000 * (round + 1) + n, n % 2 == 0);
            let action = if n % 3 == 0 { SILENT } else { LOGGED };
            world
                .send(&message(id, action, blocking, json!({ "sleep_ms": 100 })))
                .await;
            sent.insert(id, blocking);
        }
        // Some are answered, some run, some wait.
        world.freed(60 * usize::try_from(round).unwrap() + 10).await;
        broker = tokio::task::spawn_blocking(move || {
            // Longer than a message is tried for, so that what became of it has to be found out.
            broker.away(Duration::from_secs(5));
            broker
        })
        .await
        .unwrap();
    }
    let acks = world.freed(sent.len()).await;
    for &id in sent.keys() {
        running.record(id).await;
    }
    let journal = running.daemon.journal();
    eventually("nothing is owed", async || journal.size().activations == 0).await;
    running.stop().await;
    check(&world, &sent, &acks).await;
    tokio::task::spawn_blocking(move || drop(broker)).await.unwrap();
}
