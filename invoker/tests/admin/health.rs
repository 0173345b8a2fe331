//! Pings, and what stops and starts them (contract 2.5).

use crate::containers::engine;
use crate::node::{Node, PATIENCE, eventually};
use async_trait::async_trait;
use ffs_invoker::bus::{Bus, Error, Subscription, TopicSpec, Visit};
use ffs_invoker::health::{Health, Switch, watch_engine};
use ffs_invoker::readiness::Readiness;
use hyper::Method;
use proto::unit::Bytes;
use proto::whisk::instance::InvokerId;
use serde_json::{Value, json};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// A bus that takes its time.
#[derive(Debug)]
struct SlowBus {
    /// Milliseconds of one send.
    takes: AtomicU64,
    fails: AtomicBool,
    under_way: AtomicUsize,
    /// When each send began, and what `isEnabled` was.
    sent: Mutex<Vec<(Instant, bool)>>,
}

impl SlowBus {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            takes: AtomicU64::new(1),
            fails: AtomicBool::new(false),
            under_way: AtomicUsize::new(0),
            sent: Mutex::default(),
        })
    }

    /// Milliseconds since `since` at which pings began, and what they said.
    fn since(&self, since: Instant) -> Vec<(u128, bool)> {
        let sent = self.sent.lock().unwrap();
        let after = sent.iter().filter(|(at, _)| *at >= since);
        after.map(|(at, on)| ((*at - since).as_millis(), *on)).collect()
    }
}

#[async_trait]
impl Bus for SlowBus {
    async fn ensure_topic(&self, _: &TopicSpec) -> Result<(), Error> {
        Ok(())
    }

    async fn send(&self, topic: &str, payload: Vec<u8>) -> Result<(), Error> {
        assert_eq!(topic, "test-health");
        let before = self.under_way.fetch_add(1, Ordering::Relaxed);
        assert_eq!(before, 0, "two pings at once");
        let ping: Value = serde_json::from_slice(&payload).unwrap();
        self.sent
            .lock()
            .unwrap()
            .push((Instant::now(), ping["isEnabled"].as_bool().unwrap()));
        tokio::time::sleep(Duration::from_millis(self.takes.load(Ordering::Relaxed))).await;
        self.under_way.fetch_sub(1, Ordering::Relaxed);
        match self.fails.load(Ordering::Relaxed) {
            false => Ok(()),
            true => Err(Error::Send {
                topic: topic.to_owned(),
                bytes: payload.len(),
                source: "the broker is away".into(),
            }),
        }
    }

    async fn subscribe(&self, topic: &str, _: &str) -> Result<Box<dyn Subscription>, Error> {
        Err(Error::Subscribe {
            topic: topic.to_owned(),
            source: "nobody reads pings here".into(),
        })
    }

    async fn look_back(&self, topic: &str, _: i64, _: Visit) -> Result<(), Error> {
        Err(Error::Read {
            topic: topic.to_owned(),
            source: "nobody reads pings here".into(),
        })
    }

    async fn close(&self, _: Duration) {}
}

struct Pinging {
    bus: Arc<SlowBus>,
    switch: Switch,
    readiness: Readiness,
    consuming: CancellationToken,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

fn pinging() -> Pinging {
    let bus = SlowBus::new();
    let (switch, readiness) = (Switch::default(), Readiness::default());
    let (consuming, stop) = (CancellationToken::new(), CancellationToken::new());
    let id = InvokerId::new(0, Bytes::mib(2048));
    let health = Health::new(bus.clone(), "test-", &id, switch.clone(), readiness.clone());
    let task = tokio::spawn(health.run(consuming.clone(), stop.clone()));
    Pinging {
        bus,
        switch,
        readiness,
        consuming,
        stop,
        task,
    }
}

/// Lets other tasks act at this instant.
async fn settle() {
    tokio::time::sleep(Duration::from_millis(2)).await;
}

/// K-40, G-01: one ping each second, the first as soon as consuming has begun.
#[tokio::test(start_paused = true)]
async fn pings_begin_with_consuming_and_come_each_second() {
    let p = pinging();
    let begin = Instant::now();
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(p.bus.since(begin), []);

    let consuming = Instant::now();
    p.consuming.cancel();
    tokio::time::sleep(Duration::from_millis(60_500)).await;

    let sent = p.bus.since(consuming);
    assert!((58..=61).contains(&sent.len()), "{}", sent.len());
    assert_eq!(sent[0], (0, true));
    assert!(sent.iter().all(|(_, on)| *on));
}

/// K-40, K-42: a ping that takes long puts the next off; one that fails does not stop the timer.
#[tokio::test(start_paused = true)]
async fn no_ping_begins_before_the_last_has_ended_and_failures_pass() {
    let p = pinging();
    p.bus.takes.store(2500, Ordering::Relaxed);
    p.bus.fails.store(true, Ordering::Relaxed);
    p.consuming.cancel();
    let begin = Instant::now();
    tokio::time::sleep(Duration::from_millis(5100)).await;
    let at: Vec<u128> = p.bus.since(begin).iter().map(|(at, _)| *at).collect();
    assert_eq!(at.len(), 3, "{at:?}");
    assert!(at[1] >= 2500 && at[2] >= 5000, "{at:?}");

    p.bus.fails.store(false, Ordering::Relaxed);
    p.bus.takes.store(1, Ordering::Relaxed);
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(p.bus.since(begin).len() >= 5);
}

/// K-41: each time that it is disabled one ping says so, then there is silence; enabled, it pings at once.
#[tokio::test(start_paused = true)]
async fn disabling_is_told_each_time_and_then_there_is_silence() {
    let p = pinging();
    p.consuming.cancel();
    tokio::time::sleep(Duration::from_millis(300)).await;
    let begin = Instant::now();
    assert!(p.switch.disable());
    settle().await;
    assert!(!p.switch.disable());
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert!(!p.switch.disable());
    settle().await;
    let sent = p.bus.since(begin);
    assert_eq!(sent.len(), 3, "{sent:?}");
    assert!(sent.iter().all(|(_, on)| !on));

    let enabled = Instant::now();
    assert!(p.switch.enable());
    assert!(!p.switch.enable());
    tokio::time::sleep(Duration::from_millis(2500)).await;
    assert_eq!(p.bus.since(enabled), [(0, true), (1000, true), (2000, true)]);
}

/// K-41, N-31: the last ping says that no more work is wanted; a bus that hangs does not hold up the end.
#[tokio::test(start_paused = true)]
async fn leaving_is_told_once_and_not_waited_for_long() {
    let p = pinging();
    p.consuming.cancel();
    tokio::time::sleep(Duration::from_millis(300)).await;
    let begin = Instant::now();
    p.stop.cancel();
    p.task.await.unwrap();
    assert_eq!(p.bus.since(begin), [(0, false)]);

    let p = pinging();
    p.consuming.cancel();
    tokio::time::sleep(Duration::from_millis(300)).await;
    p.bus.takes.store(100_000, Ordering::Relaxed);
    let begin = Instant::now();
    p.stop.cancel();
    p.task.await.unwrap();
    assert!(begin.elapsed() < Duration::from_secs(5));
}

/// K-53, O-04: a node whose engine does not answer says so once and falls silent; it comes back by itself.
#[tokio::test(start_paused = true)]
async fn a_node_without_its_engine_does_not_ask_for_work() {
    let p = pinging();
    let engine = Arc::new(engine());
    tokio::spawn(watch_engine(engine.clone(), p.readiness.clone(), p.stop.clone()));
    p.consuming.cancel();
    tokio::time::sleep(Duration::from_millis(2300)).await;
    let away = Instant::now();
    engine.away.store(true, Ordering::Relaxed);
    tokio::time::sleep(Duration::from_secs(60)).await;
    let sent = p.bus.since(away);
    let (last, before) = sent.split_last().unwrap();
    assert!(!last.1 && before.iter().all(|(_, on)| *on), "{sent:?}");
    assert!(last.0 <= 3000, "the controller learns it late: {sent:?}");

    let back = Instant::now();
    engine.away.store(false, Ordering::Relaxed);
    tokio::time::sleep(Duration::from_secs(10)).await;
    let sent = p.bus.since(back);
    assert!(sent.len() >= 7 && sent.iter().all(|(_, on)| *on), "{sent:?}");

    // An operator's word stands above it.
    p.switch.disable();
    settle().await;
    let disabled = Instant::now();
    engine.away.store(true, Ordering::Relaxed);
    tokio::time::sleep(Duration::from_secs(10)).await;
    engine.away.store(false, Ordering::Relaxed);
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(p.bus.since(disabled), []);
}

/// K-53: an engine that hangs counts as one that is away.
#[tokio::test(start_paused = true)]
async fn an_engine_that_hangs_is_not_waited_for() {
    let readiness = Readiness::default();
    let stop = CancellationToken::new();
    let engine = Arc::new(engine());
    engine.hangs.store(true, Ordering::Relaxed);
    tokio::spawn(watch_engine(engine, readiness.clone(), stop));
    tokio::time::sleep(Duration::from_secs(15)).await;
    assert_eq!(
        readiness.standing().to_string(),
        "not ready: the container engine does not answer: stand-in is silent for 5s"
    );
}

/// K-40, K-41, H-06, M-40, M-41, M-42, V-01, V-02, P-91: pings of a whole invoker; disabled, it goes on working.
#[tokio::test]
async fn a_disabled_invoker_is_silent_and_runs_what_is_queued() {
    let node = Node::with(|wishes| {
        wishes.settings.user_memory = Bytes::mib(1536);
        wishes.settings.identity.displayed_name = Some("host-a".to_owned());
        wishes.settings.identity.tags = vec!["ssd".to_owned()];
    })
    .await;
    let pings = node.pings.at_least(2).await;
    let expected = json!({ "isEnabled": true, "name": {
        "instance": 0, "instanceType": "invoker", "userMemory": "1610612736 B", "tags": ["ssd"],
        "dedicatedNamespaces": [], "uniqueName": "0", "displayedName": "host-a",
    }});
    assert_eq!(pings[0], expected);
    node.create("guest", "hello", 256, 0).await;

    node.send(Method::POST, "/disable").await;
    node.send(Method::POST, "/disable").await;
    let disabled = || {
        node.pings
            .now()
            .iter()
            .filter(|p| p["isEnabled"] == false)
            .count()
    };
    eventually("two pings say so", || disabled() == 2).await;
    let id = node.invoke(("guest", "hello"), |_| {}).await;
    let acks = node.acks.at_least(1).await;
    assert_eq!(acks[0]["activationId"], *id);
    assert_eq!(acks[0]["isSystemError"], false);
    assert_eq!(acks[0]["instance"], expected["name"]);
    assert_eq!(node.pings.now().last().unwrap()["isEnabled"], false);
    let count = node.pings.now().len();
    node.send(Method::POST, "/enable").await;
    let pings = node.pings.at_least(count + 2).await;
    assert!(pings[count..].iter().all(|p| p["isEnabled"] == true), "{pings:?}");
    node.stop().await;
}

/// V-01, M-41: nothing configured, and still the members that newer controllers need.
#[tokio::test]
async fn a_ping_has_tags_and_dedicated_namespaces_although_there_are_none() {
    let node = Node::with(|wishes| wishes.settings.identity.unique_name = None).await;
    let pings = node.pings.at_least(1).await;
    let recorded = include_str!("../../../proto/fixtures/wire/health/ping-1.json");
    let mut recorded: Value = serde_json::from_str(recorded).unwrap();
    recorded["name"]["userMemory"] = "1073741824 B".into();
    assert_eq!(pings[0], recorded);
    node.stop().await;
}

/// O-05, K-53: containers that do not start stop the pings although the engine answers, and a good one starts them.
#[tokio::test]
async fn containers_that_do_not_start_are_noticed() {
    let node = Node::start().await;
    for name in ["hello", "other"] {
        node.create("guest", name, 256, 0).await;
    }
    node.pings.at_least(1).await;
    node.invoke(("guest", "hello"), |_| {}).await;
    node.acks.at_least(1).await;
    node.engine.full.store(true, Ordering::Relaxed);
    for n in 2..=4 {
        node.invoke(("guest", "other"), |_| {}).await;
        let acks = node.acks.at_least(n).await;
        assert_eq!(acks[n - 1]["isSystemError"], true);
    }
    let last = || node.pings.now().last().unwrap()["isEnabled"].clone();
    eventually("a ping says so", || last() == false).await;
    let page = node.text(Method::GET, "/metrics").await;
    assert!(page.contains("ffs_invoker_ready 0"), "{page}");
    let status = node.send(Method::GET, "/status.json").await.ok();
    let because = status["because"].as_str().unwrap();
    assert!(
        because.starts_with("containers do not start: container wsk"),
        "{because}"
    );

    // After a pause one try is let through: the controller's test action.
    node.engine.full.store(false, Ordering::Relaxed);
    eventually("it pings again", || last() == true).await;
    node.invoke(("guest", "other"), |_| {}).await;
    let acks = node.acks.at_least(5).await;
    assert_eq!(acks[4]["isSystemError"], false);
    node.stop().await;
}

/// The controller's test action, as recorded.
fn test_action(controller: &str) -> impl FnOnce(&mut Value) {
    let recorded = include_str!("../../../proto/fixtures/wire/invoker0/health-test-1.json");
    let mut message: Value = serde_json::from_str(recorded).unwrap();
    let controller = controller.to_owned();
    move |made| {
        message["activationId"] = made["activationId"].clone();
        message["rootControllerIndex"]["asString"] = "0".into();
        message["action"]["name"] = format!("invokerHealthTestAction{controller}").into();
        *made = message;
    }
}

/// K-47, K-48, K-50, K-51, K-52, O-03: of a controller's queued test actions one runs; each is answered and stored.
#[tokio::test]
async fn queued_test_actions_of_one_controller_are_answered_by_one_run() {
    let node = Node::start().await;
    node.create("whisk.system", "invokerHealthTestAction0", 128, 10)
        .await;
    node.engine.answers.send_replace(false);
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.push(node.invoke(("whisk.system", "x"), test_action("0")).await);
    }
    eventually("one container", || {
        node.engine.started.load(Ordering::Relaxed) == 1
    })
    .await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(node.engine.started.load(Ordering::Relaxed), 1);
    node.engine.answers.send_replace(true);

    let acks = node.acks.at_least(5).await;
    let mut answered: Vec<&str> = acks
        .iter()
        .map(|ack| ack["activationId"].as_str().unwrap())
        .collect();
    answered.sort_unstable();
    ids.sort_unstable();
    assert_eq!(answered, ids);
    for ack in &acks {
        assert_eq!(
            ack["transid"],
            json!(["sid_invokerHealth", 1_795_314_980_096_u64])
        );
        assert_eq!(ack["isSystemError"], false);
    }
    assert_eq!(node.engine.started.load(Ordering::Relaxed), 1);
    let end = std::time::Instant::now() + PATIENCE;
    for id in &ids {
        let id = format!("whisk.system/{id}");
        while node
            .store
            .get(ffs_invoker::store::Database::Activation, &id, None)
            .await
            .unwrap()
            .is_none()
        {
            assert!(std::time::Instant::now() < end, "no record of {id}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    // One that comes later runs by itself.
    node.invoke(("whisk.system", "x"), test_action("0")).await;
    node.acks.at_least(6).await;
    node.stop().await;
}

/// K-50, K-49: the ack has the transaction value for value, whatever the controller puts there.
#[tokio::test]
async fn the_ack_of_a_test_action_echoes_its_transaction() {
    let node = Node::start().await;
    node.create("whisk.system", "invokerHealthTestAction0", 128, 10)
        .await;
    for (n, transid) in [
        json!(["sid_invokerHealth", 1_700_000_000_000_u64]),
        json!([
            "sid_invokerHealth",
            1_700_000_000_000_u64,
            true,
            ["parent", 1_700_000_000_001_u64]
        ]),
    ]
    .into_iter()
    .enumerate()
    {
        node.invoke(("whisk.system", "x"), |message| {
            test_action("0")(message);
            message["transid"] = transid.clone();
        })
        .await;
        let acks = node.acks.at_least(n + 1).await;
        assert_eq!(acks[n]["transid"], transid);
    }
    node.stop().await;
}

/// K-51, K-45: a whisk error is not passed on: each of those that wait gets a run of its own.
#[tokio::test]
async fn a_test_action_that_fails_by_our_fault_answers_for_itself_alone() {
    let node = Node::start().await;
    node.create("whisk.system", "invokerHealthTestAction0", 128, 10)
        .await;
    node.engine.full.store(true, Ordering::Relaxed);
    node.engine.starts.send_replace(false);
    for _ in 0..3 {
        node.invoke(("whisk.system", "x"), test_action("0")).await;
    }
    let asked = || node.engine.asked.load(Ordering::Relaxed);
    eventually("the first one is started", || asked() == 1).await;
    node.engine.starts.send_replace(true);
    let acks = node.acks.at_least(3).await;
    assert!(acks.iter().all(|ack| ack["isSystemError"] == true), "{acks:?}");
    assert_eq!(asked(), 3);
    node.stop().await;
}

/// K-51: test actions of different controllers, and actions of users by such a name, run by themselves.
#[tokio::test]
async fn only_one_controllers_test_actions_are_merged() {
    let node = Node::start().await;
    for (namespace, name) in [
        ("whisk.system", "invokerHealthTestAction0"),
        ("guest", "invokerHealthTestAction0"),
    ] {
        node.create(namespace, name, 128, 0).await;
    }
    node.engine.answers.send_replace(false);
    for controller in ["0", "1"] {
        node.invoke(("whisk.system", "x"), |message| {
            test_action("0")(message);
            message["rootControllerIndex"]["asString"] = controller.into();
        })
        .await;
    }
    for _ in 0..2 {
        node.invoke(("guest", "invokerHealthTestAction0"), |_| {}).await;
    }
    eventually("all four run", || {
        node.engine.started.load(Ordering::Relaxed) == 4
    })
    .await;
    node.stop().await;
}
