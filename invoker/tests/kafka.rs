//! The Kafka bus against a real broker: the contract of `Bus`, and what only Kafka has.
#![allow(clippy::unwrap_used)]

#[path = "../src/bus/conformance.rs"]
#[macro_use]
mod conformance;
#[path = "support/kafka.rs"]
mod kafka;

use ffs_invoker::bus::kafka::{KafkaBus, KafkaSettings};
use ffs_invoker::bus::{Bus, Error, Message, Subscription, TopicSpec};
use kafka::{Broker, shared};
use std::collections::BTreeMap;
use std::error::Error as _;
use std::time::Duration;

bus_conforms!(real, async {
    let broker = tokio::task::spawn_blocking(shared).await.unwrap();
    (broker.bus(), ())
});

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_comes_back_is_found_again() {
    let mut broker = tokio::task::spawn_blocking(Broker::start).await.unwrap();
    let bus = broker.bus();
    let topic = conformance::numbered(&bus, 2).await;
    let mut reader = bus.subscribe(&topic, "readers").await.unwrap();
    conformance::take(&mut *reader, 2).await;

    let broker = tokio::task::spawn_blocking(move || {
        broker.restart();
        broker
    });
    let broker = broker.await.unwrap();
    bus.send(&topic, b"2".to_vec()).await.unwrap();

    // What was not committed may come once more.
    let mut read = next(&mut *reader).await;
    while read.last().unwrap().payload != b"2" {
        read = next(&mut *reader).await;
    }
    reader.commit(read.last().unwrap()).await.unwrap();
    reader.close().await.unwrap();
    bus.send(&topic, b"3".to_vec()).await.unwrap();
    let mut successor = bus.subscribe(&topic, "readers").await.unwrap();
    assert_eq!(conformance::numbers(&next(&mut *successor).await), [3]);
    successor.close().await.unwrap();
    tokio::task::spawn_blocking(move || drop(broker)).await.unwrap();
}

/// Reads, and tries again where the broker was away, as the trait says.
async fn next(reader: &mut dyn Subscription) -> Vec<Message> {
    let read = async {
        loop {
            match reader.next(10).await {
                Ok(batch) => return batch,
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(120), read)
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_is_made_as_it_is_asked_for_and_records_have_neither_key_nor_headers() {
    use rdkafka::admin::{AdminClient, AdminOptions, ResourceSpecifier};
    use rdkafka::client::DefaultClientContext;
    use rdkafka::consumer::{BaseConsumer, Consumer};
    use rdkafka::message::Message as _;
    let broker = tokio::task::spawn_blocking(shared).await.unwrap();
    let bus = broker.bus();
    let config = [
        ("max.message.bytes", "1054644"),
        ("retention.ms", "172800000"),
        ("segment.bytes", "536870912"),
    ];
    let topic = conformance::topic(&bus, &config).await;
    bus.send(&topic, b"{}".to_vec()).await.unwrap();

    let mut client = rdkafka::ClientConfig::new();
    client
        .set("bootstrap.servers", broker.hosts())
        .set("group.id", "looks")
        .set("auto.offset.reset", "earliest");
    let admin: AdminClient<DefaultClientContext> = client.create().unwrap();
    let described = admin
        .describe_configs([&ResourceSpecifier::Topic(&topic)], &AdminOptions::new())
        .await
        .unwrap();
    let described = described.into_iter().next().unwrap().unwrap();
    for (key, value) in config {
        let entry = described.get(key).unwrap();
        assert_eq!(entry.value.as_deref(), Some(value), "{key}");
    }
    let seen = tokio::task::spawn_blocking(move || {
        let consumer: BaseConsumer = client.create().unwrap();
        consumer.subscribe(&[&topic]).unwrap();
        // Without a message it returns on other events as well.
        let read = std::iter::repeat_with(|| consumer.poll(Duration::from_secs(1)))
            .take(120)
            .flatten()
            .find_map(Result::ok)
            .expect("the message comes");
        (
            read.key().map(<[u8]>::to_vec),
            read.headers().is_some(),
            read.payload().map(<[u8]>::to_vec),
        )
    });
    assert_eq!(seen.await.unwrap(), (None, false, Some(b"{}".to_vec())));
}

#[tokio::test]
async fn what_the_sender_is_not_allowed_to_send_is_too_large() {
    let broker = tokio::task::spawn_blocking(shared).await.unwrap();
    let bus = broker.bus();
    let topic = conformance::topic(&bus, &[("max.message.bytes", "10000000")]).await;
    let refused = bus.send(&topic, vec![b'x'; 1_054_645]).await;
    assert!(
        matches!(refused, Err(Error::TooLarge { bytes: 1_054_645, .. })),
        "{refused:?}"
    );
}

#[tokio::test]
async fn brokers_that_are_not_there_and_settings_that_are_wrong_are_named() {
    let nowhere = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = nowhere.local_addr().unwrap().to_string();
    drop(nowhere);
    let settings = |producer: &[(&str, &str)], hosts: &str| KafkaSettings {
        hosts: hosts.to_owned(),
        producer: producer
            .iter()
            .map(|(k, v)| (k.to_string(), v.to_string()))
            .collect(),
        message_bytes: 1_000_000,
        ..KafkaSettings::default()
    };
    let bus = KafkaBus::new(settings(&[("request.timeout.ms", "300")], &address)).unwrap();
    let lost = bus.send("topic", b"x".to_vec()).await.unwrap_err();
    assert_eq!(
        lost.to_string(),
        "a message of 1 bytes could not be sent to topic topic"
    );
    assert!(lost.source().is_some());
    let wrong = KafkaBus::new(settings(&[("acks", "many")], &address)).unwrap_err();
    let cause = wrong.source().unwrap().to_string();
    assert!(cause.starts_with("acks = many: "), "{cause}");
    let nobody = KafkaBus::new(settings(&[], " ")).unwrap_err();
    assert_eq!(nobody.source().unwrap().to_string(), "no broker is named");
}

/// K-06: one partition is what OpenWhisk makes; where there are more, all are read.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_with_several_partitions_is_read_whole() {
    let broker = tokio::task::spawn_blocking(shared).await.unwrap();
    let bus = broker.bus();
    let spec = TopicSpec {
        name: "three-partitions".into(),
        partitions: 3,
        replication: 1,
        config: BTreeMap::new(),
    };
    bus.ensure_topic(&spec).await.unwrap();
    for n in 0..50 {
        bus.send(&spec.name, n.to_string().into_bytes()).await.unwrap();
    }
    let mut reader = bus.subscribe(&spec.name, "readers").await.unwrap();
    let read = conformance::take(&mut *reader, 50).await;
    let mut numbers = conformance::numbers(&read);
    numbers.sort_unstable();
    assert_eq!(numbers, (0..50).collect::<Vec<u32>>());
    for message in &read {
        reader.commit(message).await.unwrap();
    }
    reader.close().await.unwrap();
    bus.send(&spec.name, b"50".to_vec()).await.unwrap();
    let mut successor = bus.subscribe(&spec.name, "readers").await.unwrap();
    assert_eq!(
        conformance::numbers(&conformance::take(&mut *successor, 1).await),
        [50]
    );
}
