//! The message bus: the contract of `Bus`, and what only the embedded one promises.
#![allow(clippy::unwrap_used)]

#[path = "../src/bus/conformance.rs"]
#[macro_use]
mod conformance;

use ffs_invoker::bus::embedded::EmbeddedBus;
use ffs_invoker::bus::{Bus, TopicSpec};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

bus_conforms!(embedded, async {
    let folder = tempfile::tempdir().unwrap();
    (EmbeddedBus::open(&folder.path().join("bus")).unwrap(), folder)
});

#[tokio::test]
async fn the_embedded_bus_remembers_messages_and_positions() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bus");
    let bus = EmbeddedBus::open(&path).unwrap();
    let topic = conformance::numbered(&bus, 4).await;
    let mut reader = bus.subscribe(&topic, "readers").await.unwrap();
    let read = conformance::take(&mut *reader, 3).await;
    reader.commit(&read[1]).await.unwrap();
    reader.close().await.unwrap();
    bus.close(Duration::from_secs(60)).await;
    drop(bus);

    let bus = EmbeddedBus::open(&path).unwrap();
    let mut reader = bus.subscribe(&topic, "readers").await.unwrap();
    assert_eq!(
        conformance::numbers(&conformance::take(&mut *reader, 2).await),
        [2, 3]
    );
}

#[tokio::test]
async fn the_embedded_bus_loses_nothing_that_was_sent_when_the_process_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bus");
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "sends_until_it_is_killed", "--nocapture"])
        .env(VICTIM, &path)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut sent = 0;
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    while sent < 200 {
        let line = lines
            .next()
            .expect("the child goes on until it is killed")
            .unwrap();
        sent += usize::from(line.contains("sent"));
    }
    child.kill().unwrap();
    child.wait().unwrap();

    let bus = EmbeddedBus::open(&path).unwrap();
    let mut reader = bus.subscribe("topic", "readers").await.unwrap();
    let read = conformance::numbers(&conformance::take(&mut *reader, sent).await);
    assert!(read.into_iter().eq(0..200));
}

const VICTIM: &str = "BUS_TEST_VICTIM";

/// Nothing by itself: the child of the test above.
#[tokio::test]
async fn sends_until_it_is_killed() {
    let Some(path) = std::env::var_os(VICTIM) else {
        return;
    };
    let bus = EmbeddedBus::open(Path::new(&path)).unwrap();
    let topic = TopicSpec {
        name: "topic".into(),
        ..TopicSpec::default()
    };
    bus.ensure_topic(&topic).await.unwrap();
    for n in 0.. {
        bus.send("topic", n.to_string().into_bytes()).await.unwrap();
        println!("sent {n}");
    }
}

#[tokio::test]
async fn the_embedded_bus_drops_what_every_group_has_committed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bus");
    let bus = EmbeddedBus::open(&path).unwrap();
    let topic = conformance::topic(&bus, &[]).await;
    let mut reader = bus.subscribe(&topic, "readers").await.unwrap();
    for _ in 0..200 {
        bus.send(&topic, vec![b'x'; 100_000]).await.unwrap();
        let read = conformance::take(&mut *reader, 1).await;
        reader.commit(&read[0]).await.unwrap();
    }
    reader.close().await.unwrap();

    let mut late = bus.subscribe(&topic, "late").await.unwrap();
    bus.send(&topic, b"7".to_vec()).await.unwrap();
    assert_eq!(conformance::numbers(&conformance::take(&mut *late, 1).await), [7]);
    let length = std::fs::metadata(&path).unwrap().len();
    assert!(
        length < 8 << 20,
        "20 MB went through, and the file has {length} bytes"
    );
}

#[tokio::test]
async fn the_embedded_bus_keeps_no_more_than_the_topic_is_allowed() {
    let folder = tempfile::tempdir().unwrap();
    let bus = EmbeddedBus::open(&folder.path().join("bus")).unwrap();
    let topic = conformance::topic(&bus, &[("retention.bytes", "10")]).await;
    for n in 10..40 {
        bus.send(&topic, n.to_string().into_bytes()).await.unwrap();
    }
    let mut reader = bus.subscribe(&topic, "readers").await.unwrap();
    assert_eq!(
        conformance::numbers(&conformance::take(&mut *reader, 5).await),
        [35, 36, 37, 38, 39]
    );
}

#[tokio::test]
async fn an_embedded_bus_that_is_open_elsewhere_or_broken_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bus");
    let bus = EmbeddedBus::open(&path).unwrap();
    let topic = TopicSpec {
        name: "topic".into(),
        ..TopicSpec::default()
    };
    bus.ensure_topic(&topic).await.unwrap();
    let second = EmbeddedBus::open(&path).unwrap_err();
    let cause = std::error::Error::source(&second).unwrap().to_string();
    assert!(cause.ends_with("bus is in use by another process"), "{cause}");
    let missing = bus.send("elsewhere", Vec::new()).await.unwrap_err();
    assert!(
        std::error::Error::source(&missing)
            .unwrap()
            .to_string()
            .contains("no topic elsewhere")
    );
    bus.close(Duration::from_secs(60)).await;
    drop(bus);

    let foreign = folder.path().join("foreign");
    std::fs::write(&foreign, "this is no database").unwrap();
    let refused = EmbeddedBus::open(&foreign).unwrap_err();
    assert!(
        refused.to_string().contains("foreign could not be opened"),
        "{refused}"
    );
    assert_eq!(std::fs::read(&foreign).unwrap(), b"this is no database");
}
