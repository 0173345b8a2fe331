//! What is read, when it is committed, and how much of it at once.

use crate::kafka::shared;
use crate::world::{LOGGED, SILENT, Wishes, World, eventually, hex, message};
use async_trait::async_trait;
use ffs_invoker::bus::{Bus, Error, Message, Subscription, TopicSpec, Visit};
use rdkafka::ClientConfig;
use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, Consumer};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::Mutex;

/// The position of the daemon's group; none before the first commit.
async fn committed(world: &World) -> Option<i64> {
    let (hosts, topic) = (world.hosts.clone(), world.topic("invoker0"));
    let asked = tokio::task::spawn_blocking(move || {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", hosts)
            .set("group.id", &topic)
            .create()
            .unwrap();
        let mut partitions = TopicPartitionList::new();
        partitions.add_partition(&topic, 0);
        let found = consumer
            .committed_offsets(partitions, Duration::from_secs(10))
            .ok()?;
        found.elements().first()?.offset().to_raw().filter(|at| *at >= 0)
    });
    asked.await.unwrap()
}

/// K-24, K-23, K-20, K-21, K-22, K-02: with 8 in the pool's hands no more than 16 wait behind them; what was
/// read is committed while it still runs, and reading goes on as activations end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_more_is_read_than_the_feed_has_room_for() {
    let broker = tokio::task::spawn_blocking(shared).await.unwrap();
    let world = World::new(broker).await;
    world.make("invoker0", &[]).await;
    for id in 1..=40 {
        world
            .send(&message(id, LOGGED, false, json!({ "gate": world.gate() })))
            .await;
    }
    let running = world.start(&Wishes::default()).await;

    eventually("8 run, 16 wait and are committed", async || {
        world.runs().len() == 8 && committed(&world).await == Some(24)
    })
    .await;
    assert!(world.acks().await.is_empty(), "none of them has ended yet");
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!((world.runs().len(), committed(&world).await), (8, Some(24)));

    world.open_gate();
    world.freed(40).await;
    eventually("all is committed", async || committed(&world).await == Some(40)).await;
    running.stop().await;
}

/// K-25, K-26, K-27, M-09, S-11, O-09, D-07: whatever becomes of a message, its unit of room comes back, once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_messages_cost_no_room() {
    let broker = tokio::task::spawn_blocking(shared).await.unwrap();
    let world = World::new(broker).await;
    let running = world.start(&Wishes::default()).await;
    let mut readable = Vec::new();
    for id in 1..=300_u128 {
        let blocking = id % 2 == 0;
        let good = message(id, if id % 3 == 0 { LOGGED } else { SILENT }, blocking, json!({}));
        let mut sent = good.clone();
        match id % 6 {
            0 => {} // good
            1 => sent = json!({ "this is": "no activation message" }),
            2 => sent["initArgs"] = Value::Null,
            3 => sent["action"]["name"] = "deleted".into(),
            4 => sent["content"] = json!({ "answer": { "error": "no" } }),
            _ => sent["content"] = json!({ "status": 500 }),
        }
        if matches!(id % 6, 0 | 3..) {
            readable.push(hex(id));
        }
        world.send(&sent).await;
    }
    let no_json = world.topic("invoker0");
    world.bus.send(&no_json, b"{\"action\":".to_vec()).await.unwrap();

    let acks = world.freed(readable.len()).await;

    let mut freed: Vec<String> = acks
        .iter()
        .filter(|ack| ack.frees_slot())
        .map(|ack| ack.activation_id().to_string())
        .collect();
    freed.sort();
    assert_eq!(freed, readable, "each readable one once");
    eventually("all is committed", async || committed(&world).await == Some(301)).await;
    // The room is what it was.
    for id in 1001..=1040 {
        world
            .send(&message(id, LOGGED, false, json!({ "gate": world.gate() })))
            .await;
    }
    let running_now = |runs: std::collections::BTreeMap<String, usize>| {
        (1001..=1040).filter(|id| runs.contains_key(&hex(*id))).count()
    };
    // They trickle in, so that batches are smaller than they could be: 9 to 16 wait.
    let read = async || committed(&world).await.unwrap_or(0) - 301;
    eventually("8 run, some wait", async || {
        running_now(world.runs()) == 8 && read().await > 16
    })
    .await;
    let (ran, read) = (running_now(world.runs()), read().await);
    assert!(ran == 8 && read <= 24, "{ran} run, {read} are read");
    running.stop().await;
}

/// K-21, K-20, K-28: a successor goes on behind the last commit, with what is new.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_successor_reads_what_came_meanwhile_and_nothing_else() {
    let broker = tokio::task::spawn_blocking(shared).await.unwrap();
    let world = World::new(broker).await;
    let running = world.start(&Wishes::default()).await;
    world.send(&message(1, SILENT, true, json!({}))).await;
    world.freed(1).await;
    running.stop().await;
    for id in 2..=3 {
        world.send(&message(id, SILENT, true, json!({}))).await;
    }
    let running = world.start(&Wishes::default()).await;
    let acks = world.freed(3).await;
    assert_eq!(acks.len(), 3);
    assert!(world.runs().values().all(|runs| *runs == 1));
    running.stop().await;
}

/// K-28: the bus gives out again what was committed: it is passed over.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_comes_again_is_passed_over() {
    let broker = tokio::task::spawn_blocking(shared).await.unwrap();
    let world = World::new(broker).await;
    let running = world.start(&Wishes::default()).await;
    let again = message(1, LOGGED, true, json!({}));
    for _ in 0..3 {
        world.send(&again).await;
    }
    world.send(&message(2, LOGGED, true, json!({}))).await;
    let acks = world.freed(2).await;
    assert_eq!(acks.len(), 4);
    running.stop().await;
    let running = world.start(&Wishes::default()).await;
    world.send(&again).await;
    world.send(&message(3, LOGGED, true, json!({}))).await;
    assert_eq!(world.freed(3).await.len(), 6);
    assert!(world.runs().values().all(|runs| *runs == 1));
    running.stop().await;
}

/// K-24, O-11: a long queue stays where it is; the daemon's memory does not grow with it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_queued_messages_stay_with_the_broker() {
    let broker = tokio::task::spawn_blocking(shared).await.unwrap();
    let world = World::new(broker).await;
    world.make("invoker0", &[]).await;
    // Not all at once: a message that has waited for half a minute before it is sent is given up.
    for batch in 0..20_u128 {
        let sends = (1..=500).map(|n| {
            let world = &world;
            async move {
                let content = json!({ "sleep_ms": 60_000 });
                world
                    .send(&message(batch * 500 + n, LOGGED, false, content))
                    .await
            }
        });
        futures::future::join_all(sends).await;
    }
    let child = crate::killed::start(&world);
    eventually("8 run", async || world.runs().len() == 8).await;
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
    let resident = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
    let kib: u64 = resident.split_whitespace().nth(1).unwrap().parse().unwrap();
    // Not optimized, with a store and containers inside: the figure for the product is in benches/README.md.
    assert!(kib < 100 << 10, "{resident}");
    eventually("24 are committed", async || committed(&world).await == Some(24)).await;
    crate::killed::stop(&world, child);
}

/// A broker's client whose first reader takes its place in the group, and then hears nothing more.
#[derive(Debug)]
struct Deaf {
    bus: Arc<dyn Bus>,
    readers: AtomicUsize,
    is_deaf: Arc<AtomicBool>,
}

#[derive(Debug)]
struct DeafReader {
    reader: Mutex<Box<dyn Subscription>>,
    is_deaf: Arc<AtomicBool>,
}

#[async_trait]
impl Bus for Deaf {
    async fn ensure_topic(&self, topic: &TopicSpec) -> Result<(), Error> {
        self.bus.ensure_topic(topic).await
    }

    async fn send(&self, topic: &str, payload: Vec<u8>) -> Result<(), Error> {
        self.bus.send(topic, payload).await
    }

    async fn subscribe(&self, topic: &str, group: &str) -> Result<Box<dyn Subscription>, Error> {
        let reader = self.bus.subscribe(topic, group).await?;
        Ok(match self.readers.fetch_add(1, Ordering::Relaxed) {
            0 => Box::new(DeafReader {
                reader: Mutex::new(reader),
                is_deaf: Arc::clone(&self.is_deaf),
            }),
            _ => reader,
        })
    }

    async fn look_back(&self, topic: &str, since_ms: i64, visit: Visit) -> Result<(), Error> {
        self.bus.look_back(topic, since_ms, visit).await
    }

    async fn close(&self, grace: Duration) {
        self.bus.close(grace).await;
    }
}

#[async_trait]
impl Subscription for DeafReader {
    async fn next(&mut self, max: usize) -> Result<Vec<Message>, Error> {
        while !self.is_deaf.load(Ordering::Relaxed) {
            let heard =
                tokio::time::timeout(Duration::from_millis(100), self.reader.get_mut().next(max)).await;
            assert!(heard.is_err(), "nothing was sent yet");
            self.is_deaf.store(self.lag().await == Some(0), Ordering::Relaxed);
        }
        std::future::pending().await
    }

    async fn commit(&mut self, message: &Message) -> Result<(), Error> {
        self.reader.get_mut().commit(message).await
    }

    fn is_committed(&self) -> bool {
        self.reader.try_lock().is_ok_and(|reader| reader.is_committed())
    }

    async fn lag(&self) -> Option<u64> {
        let reader = self.reader.lock().await;
        let asked = reader.lag();
        asked.await
    }

    async fn close(self: Box<Self>) -> Result<(), Error> {
        self.reader.into_inner().close().await
    }
}

/// K-29, O-09: a consumer that reads nothing although something waits is replaced, and what it did not give out
/// is read by the next.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_that_is_stuck_is_replaced() {
    let broker = tokio::task::spawn_blocking(shared).await.unwrap();
    let world = World::new(broker).await;
    world.make("invoker0", &[]).await;
    let deaf = Arc::new(Deaf {
        bus: world.client(),
        readers: AtomicUsize::new(0),
        is_deaf: Arc::default(),
    });
    let mut settings = world.settings(&Wishes::default());
    settings.feed.stuck = Duration::from_secs(2);
    let store = Arc::new(world.open_store());
    let running = world
        .start_on(deaf.clone(), settings, store.clone(), store)
        .await
        .unwrap();
    eventually("the reader is deaf", async || {
        deaf.is_deaf.load(Ordering::Relaxed)
    })
    .await;

    world.send(&message(1, LOGGED, true, json!({}))).await;

    assert_eq!(world.freed(1).await.len(), 2);
    assert_eq!(deaf.readers.load(Ordering::Relaxed), 2);
    assert_eq!(world.runs().values().sum::<usize>(), 1);
    running.stop().await;
}
