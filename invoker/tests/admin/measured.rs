//! `/metrics` and the status page after things have happened (contract 8.2, O-13, O-22, O-23).

use crate::node::{Node, PATIENCE, eventually, text};
use hyper::Method;
use proto::unit::Bytes;
use scheduler::settings::{Reactive, StemCell};
use std::io::Read;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// The value of the first line that begins so and has all of these labels.
fn value(page: &str, name: &str, labels: &[&str]) -> f64 {
    let fits = |line: &&str| {
        let after = line.strip_prefix(name);
        after.is_some_and(|rest| rest.starts_with(['{', ' ']))
            && labels.iter().all(|label| line.contains(label))
    };
    let line = page
        .lines()
        .find(fits)
        .unwrap_or_else(|| panic!("{name} {labels:?}\n{page}"));
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

/// H-30: the text format 0.0.4, packed if asked for; without the switches there is no such route.
#[tokio::test]
async fn metrics_are_text_and_packed_if_asked_for() {
    let node = Node::start().await;
    let reply = node.send_as(Method::GET, "/metrics", &[]).await;
    assert_eq!(
        reply.headers["content-type"],
        "text/plain; version=0.0.4; charset=utf-8"
    );
    assert!(!reply.headers.contains_key("content-encoding"));
    for accepted in ["gzip", "deflate, gzip;q=0.5", "*"] {
        let reply = node
            .send_as(Method::GET, "/metrics", &[("accept-encoding", accepted)])
            .await;
        assert_eq!(reply.headers["content-encoding"], "gzip", "{accepted}");
        let mut page = String::new();
        flate2::read::GzDecoder::new(&*reply.bytes)
            .read_to_string(&mut page)
            .unwrap();
        assert!(
            page.contains("# TYPE gauge_containerPool_activeCount_counter gauge"),
            "{page}"
        );
    }
    for accepted in ["identity", "gzip;q=0", "deflate"] {
        let reply = node
            .send_as(Method::GET, "/metrics", &[("accept-encoding", accepted)])
            .await;
        assert!(!reply.headers.contains_key("content-encoding"), "{accepted}");
    }
    node.stop().await;

    let node = Node::with(|wishes| wishes.settings.metrics.exposed = false).await;
    assert_eq!(node.send_as(Method::GET, "/metrics", &[]).await.status, 401);
    assert_eq!(node.send(Method::GET, "/metrics").await.status, 404);
    node.stop().await;
}

/// H-31, H-32, H-32a, H-32b, H-32c, H-32d, H-32e, H-34, H-35, H-36, H-37, H-39: a cold run, warm ones and stem cells are
/// counted under the names that dashboards ask for.
#[tokio::test]
async fn what_the_pool_does_is_seen_in_the_metrics() {
    let stem_cell = |memory, initial_count, ttl| StemCell {
        kind: "nodejs:20".to_owned(),
        memory: Bytes::mib(memory),
        initial_count,
        reactive: Some(Reactive {
            min_count: 0,
            max_count: 1,
            ttl,
            threshold: 100,
            increment: 1,
        }),
    };
    let node = Node::with(|wishes| {
        wishes.decide.stem_cells = vec![
            stem_cell(128, 1, Duration::from_secs(600)),
            stem_cell(256, 0, Duration::from_secs(600)),
            stem_cell(192, 1, Duration::from_millis(1)),
        ];
        wishes.decide.stem_cell_delay = Duration::from_millis(1500);
        wishes.decide.stem_cell_interval = Duration::from_millis(500);
    })
    .await;
    node.create("measured", "cold", 256, 10).await;
    node.create("measured", "prewarmed", 128, 0).await;
    eventually("stem cells", || node.engine.started.load(Ordering::Relaxed) >= 2).await;
    for (n, name) in ["cold", "cold", "prewarmed"].into_iter().enumerate() {
        node.invoke(("measured", name), |_| {}).await;
        node.acks.at_least(n + 1).await;
    }

    let mut page = String::new();
    for _ in 0..600 {
        page = node.text(Method::GET, "/metrics").await;
        if page.contains("prewarmColdstart") && page.contains("prewarmExpired") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let start = "counter_invoker_containerStart_counter_total";
    let of = |state: &str, action: &str| {
        let labels = [
            format!("containerState=\"{state}\""),
            "initiator=\"measured\"".to_owned(),
            "namespace=\"measured\"".to_owned(),
            format!("action=\"{action}\""),
        ];
        value(&page, start, &labels.each_ref().map(String::as_str))
    };
    assert_eq!(of("cold", "cold"), 1.0);
    assert_eq!(of("warmed", "cold"), 1.0);
    assert_eq!(of("prewarmed", "prewarmed"), 1.0);
    let kind = |memory| [r#"kind="nodejs:20""#, memory];
    let name = "counter_containerPool_prewarmColdstart_counter_total";
    assert_eq!(value(&page, name, &kind(r#"memory="256 MB""#)), 1.0);
    let name = "counter_containerPool_prewarmExpired_counter_total";
    assert_eq!(value(&page, name, &kind(r#"memory="192 MB""#)), 1.0);
    assert!(value(&page, "counter_invoker_activation_start_total", &[]) >= 3.0);
    for timed in ["activationInit", "activationRun", "collectLogs"] {
        let count = format!("counter_invoker_{timed}_finish_total");
        let seconds = format!("histogram_invoker_{timed}_finish_seconds_sum");
        assert!(value(&page, &count, &[]) >= 1.0);
        assert!(value(&page, &seconds, &[]) < 60.0, "seconds, not milliseconds");
    }
    let topic = r#"topic="invoker0""#;
    assert!(value(&page, "histogram_kafka_topic_start_seconds_count", &[topic]) >= 3.0);
    assert!(value(&page, "counter_http_get_counter_total", &[r#"statusCode="200""#]) >= 1.0);
    assert!(value(&page, "process_resident_memory_bytes", &[]) > 1e6);
    node.stop().await;
}

async fn queue(node: &Node) -> Vec<serde_json::Value> {
    let status = node.send(Method::GET, "/status.json").await.ok();
    status["queue"].as_array().unwrap().clone()
}

/// H-32a, H-34, O-22, O-23: what runs and what waits, for whom, for how long and for what, in gauges and on the page.
#[tokio::test]
async fn what_waits_is_seen_with_its_age_and_its_reason() {
    let node = Node::with(|wishes| wishes.settings.user_memory = Bytes::mib(512)).await;
    node.create("guest", "hello", 512, 0).await;
    node.engine.answers.send_replace(false);
    node.invoke(("guest", "hello"), |_| {}).await;
    eventually("it runs", || node.engine.started.load(Ordering::Relaxed) == 1).await;
    let mut waiting = Vec::new();
    for _ in 0..2 {
        waiting.push(node.invoke(("guest", "hello"), |_| {}).await);
        let end = Instant::now() + PATIENCE;
        while queue(&node).await.len() < waiting.len() {
            assert!(Instant::now() < end, "it does not wait");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    let status = node.send(Method::GET, "/status.json").await.ok();
    assert_eq!(status["memory"]["budget"], 512 << 20);
    assert_eq!(status["invoker"], "invoker0/0");
    assert_eq!(
        (&status["enabled"], &status["ready"]),
        (&true.into(), &true.into())
    );
    let queue = queue(&node).await;
    for (view, id) in queue.iter().zip(&waiting) {
        assert_eq!(view["activation"], **id);
        assert_eq!(view["action"], "guest/hello");
        assert_eq!(view["namespace"], "guest");
        assert!(view["age_ms"].is_u64());
    }
    assert_eq!(queue[0]["waits"], "for memory: 512 MiB needed, 512 MB missing");
    assert_eq!(queue[1]["waits"], "behind the one before it");
    let page = node.text(Method::GET, "/status").await;
    assert!(
        page.contains("invoker0/0: enabled, ready. Memory of containers: 512 MiB of 512 MiB")
            && page.contains(&waiting[1]),
        "{page}"
    );
    let metrics = node.text(Method::GET, "/metrics").await;
    for (line, expected) in [
        ("gauge_containerPool_activeCount_counter", 1.0),
        ("gauge_containerPool_activeSize_counter_bytes", 536_870_912.0),
        ("gauge_containerPool_runBufferCount_counter", 2.0),
        ("gauge_containerPool_runBufferSize_counter_bytes", 1_073_741_824.0),
        ("ffs_invoker_memory_budget_bytes", 536_870_912.0),
    ] {
        assert_eq!(value(&metrics, line, &[]), expected, "{line}");
    }
    node.stop().await;
}

/// O-13: a container that goes leaves its reason on the page and in a counter.
#[tokio::test]
async fn removals_say_why() {
    let node = Node::with(|wishes| wishes.decide.pause_grace = Duration::from_millis(10)).await;
    node.create("guest", "hello", 256, 0).await;
    node.engine.pauses.store(false, Ordering::Relaxed);
    node.invoke(("guest", "hello"), |_| {}).await;
    node.acks.at_least(1).await;
    let mut page = String::new();
    for _ in 0..600 {
        page = text(&node.send(Method::GET, "/status").await);
        if page.contains("it could not be paused") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(
        page.contains("guest_hello") && page.contains("it could not be paused"),
        "{page}"
    );
    let metrics = node.text(Method::GET, "/metrics").await;
    assert!(
        value(
            &metrics,
            "ffs_invoker_removals_total",
            &[r#"reason="pause_failed""#]
        ) >= 1.0
    );
    node.stop().await;
}
