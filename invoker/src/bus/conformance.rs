//! The contract of [`Bus`], as tests that every implementation passes; run by `tests/bus.rs`.

use ffs_invoker::bus::{Bus, Error, Message, Subscription, TopicSpec};
use std::collections::BTreeMap;
use std::time::Duration;

/// Nothing here takes long; a busy machine does.
const PATIENCE: Duration = Duration::from_secs(60);

/// One test per law; `$bus` gives a bus of its own, and something that lives as long as it is used.
macro_rules! bus_conforms {
    ($name:ident, $bus:expr, [$($law:ident),* $(,)?]) => {
        mod $name {
            use super::*;
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $law() {
                    let (bus, _alive) = $bus.await;
                    $crate::conformance::$law(&bus).await;
                    $crate::Bus::close(&bus, std::time::Duration::from_secs(60)).await;
                }
            )*
        }
    };
    ($name:ident, $bus:expr) => {
        bus_conforms!($name, $bus, [
            messages_arrive_whole_and_in_order,
            a_read_returns_no_more_than_asked_for,
            a_read_waits_for_the_next_message,
            a_read_that_is_dropped_loses_nothing,
            a_group_goes_on_after_its_last_commit,
            what_was_not_committed_comes_again,
            every_group_gets_every_message,
            a_second_reader_of_a_group_takes_over_when_the_first_is_gone,
            many_senders_at_once_lose_and_repeat_nothing,
            a_topic_that_is_there_is_left_as_it_is,
            a_message_that_is_too_large_is_refused_and_the_next_is_not,
            what_was_sent_can_be_looked_at_without_being_read,
            a_reader_knows_what_is_left_and_what_is_committed,
        ]);
    };
}

pub(crate) async fn messages_arrive_whole_and_in_order(bus: &dyn Bus) {
    let topic = topic(bus, &[]).await;
    let payloads = [
        b"first".to_vec(),
        Vec::new(),
        (0..=255).collect(),
        vec![7; 900_000],
        "é😀".into(),
    ];
    for payload in &payloads {
        bus.send(&topic, payload.clone()).await.unwrap();
    }

    let mut reader = bus.subscribe(&topic, "readers").await.unwrap();
    let read = take(&mut *reader, payloads.len()).await;

    assert!(read.iter().map(|m| &m.payload).eq(payloads.iter()));
    assert!(read.windows(2).all(|two| two[0].offset < two[1].offset));
    assert!(
        read.iter()
            .all(|m| m.timestamp_ms.is_some_and(|t| t > 1_500_000_000_000))
    );
}

pub(crate) async fn a_read_returns_no_more_than_asked_for(bus: &dyn Bus) {
    let topic = numbered(bus, 7).await;
    let mut reader = bus.subscribe(&topic, "readers").await.unwrap();
    let mut read = Vec::new();
    while read.len() < 7 {
        let batch = patiently(reader.next(3)).await.unwrap();
        assert!((1..=3).contains(&batch.len()));
        read.extend(batch.iter().map(number));
    }
    assert_eq!(read, (0..7).collect::<Vec<u32>>());
}

pub(crate) async fn a_read_waits_for_the_next_message(bus: &dyn Bus) {
    let topic = numbered(bus, 1).await;
    let mut reader = bus.subscribe(&topic, "readers").await.unwrap();
    assert_eq!(numbers(&take(&mut *reader, 1).await), [0]);

    let (next, sent) = tokio::join!(patiently(reader.next(10)), bus.send(&topic, b"1".to_vec()));

    sent.unwrap();
    assert_eq!(numbers(&next.unwrap()), [1]);
}

pub(crate) async fn a_read_that_is_dropped_loses_nothing(bus: &dyn Bus) {
    let topic = numbered(bus, 0).await;
    let mut reader = bus.subscribe(&topic, "readers").await.unwrap();
    let mut read = Vec::new();
    for n in 0..20 {
        let sending = bus.send(&topic, n.to_string().into_bytes());
        tokio::select! {
            biased;
            batch = reader.next(10) => read.extend(numbers(&batch.unwrap())),
            sent = sending => sent.unwrap(),
        }
        // The sender may have been the one that was dropped, so the message is there or not.
        bus.send(&topic, format!("{}", 100 + n).into_bytes())
            .await
            .unwrap();
    }
    bus.send(&topic, b"999".to_vec()).await.unwrap();
    while read.last() != Some(&999) {
        read.extend(numbers(&patiently(reader.next(10)).await.unwrap()));
    }
    let kept: Vec<u32> = read.into_iter().filter(|n| (100..999).contains(n)).collect();
    assert_eq!(kept, (100..120).collect::<Vec<u32>>());
}

pub(crate) async fn a_group_goes_on_after_its_last_commit(bus: &dyn Bus) {
    let topic = numbered(bus, 5).await;
    let mut first = bus.subscribe(&topic, "readers").await.unwrap();
    let read = take(&mut *first, 5).await;
    first.commit(&read[0]).await.unwrap();
    first.commit(&read[2]).await.unwrap();
    first.close().await.unwrap();

    let mut second = bus.subscribe(&topic, "readers").await.unwrap();
    assert_eq!(numbers(&take(&mut *second, 2).await), [3, 4]);
}

pub(crate) async fn what_was_not_committed_comes_again(bus: &dyn Bus) {
    let topic = numbered(bus, 3).await;
    let mut first = bus.subscribe(&topic, "readers").await.unwrap();
    assert_eq!(numbers(&take(&mut *first, 3).await), [0, 1, 2]);
    drop(first);

    let mut second = bus.subscribe(&topic, "readers").await.unwrap();
    assert_eq!(numbers(&take(&mut *second, 3).await), [0, 1, 2]);
}

pub(crate) async fn every_group_gets_every_message(bus: &dyn Bus) {
    let topic = numbered(bus, 3).await;
    let mut one = bus.subscribe(&topic, "one").await.unwrap();
    let mut other = bus.subscribe(&topic, "other").await.unwrap();
    let read = take(&mut *one, 3).await;
    one.commit(&read[2]).await.unwrap();
    one.close().await.unwrap();
    bus.send(&topic, b"3".to_vec()).await.unwrap();

    assert_eq!(numbers(&read), [0, 1, 2]);
    assert_eq!(numbers(&take(&mut *other, 4).await), [0, 1, 2, 3]);
}

pub(crate) async fn a_second_reader_of_a_group_takes_over_when_the_first_is_gone(bus: &dyn Bus) {
    let topic = numbered(bus, 2).await;
    let mut first = bus.subscribe(&topic, "readers").await.unwrap();
    let read = take(&mut *first, 2).await;
    let mut second = bus.subscribe(&topic, "readers").await.unwrap();
    first.commit(&read[0]).await.unwrap();

    let (closed, next) = tokio::join!(first.close(), take(&mut *second, 1));

    closed.unwrap();
    assert_eq!(numbers(&next), [1]);
}

pub(crate) async fn many_senders_at_once_lose_and_repeat_nothing(bus: &dyn Bus) {
    let topic = numbered(bus, 0).await;
    let sends = (0..300u32).map(|n| bus.send(&topic, n.to_string().into_bytes()));
    for sent in futures::future::join_all(sends).await {
        sent.unwrap();
    }
    let mut reader = bus.subscribe(&topic, "readers").await.unwrap();
    let mut read = numbers(&take(&mut *reader, 300).await);
    read.sort_unstable();
    assert_eq!(read, (0..300).collect::<Vec<u32>>());
}

pub(crate) async fn a_topic_that_is_there_is_left_as_it_is(bus: &dyn Bus) {
    let name = numbered(bus, 2).await;
    let again = TopicSpec {
        name: name.clone(),
        partitions: 1,
        replication: 1,
        config: BTreeMap::from([("max.message.bytes".into(), "1".into())]),
    };
    bus.ensure_topic(&again).await.unwrap();
    bus.send(&name, b"2".to_vec()).await.unwrap();

    let mut reader = bus.subscribe(&name, "readers").await.unwrap();
    assert_eq!(numbers(&take(&mut *reader, 3).await), [0, 1, 2]);
}

pub(crate) async fn a_message_that_is_too_large_is_refused_and_the_next_is_not(bus: &dyn Bus) {
    let topic = topic(bus, &[("max.message.bytes", "2000")]).await;
    let refused = bus.send(&topic, vec![b'9'; 4000]).await;
    assert!(
        matches!(&refused, Err(Error::TooLarge { bytes: 4000, .. })),
        "{refused:?}"
    );
    bus.send(&topic, b"1".to_vec()).await.unwrap();

    let mut reader = bus.subscribe(&topic, "readers").await.unwrap();
    assert_eq!(numbers(&take(&mut *reader, 1).await), [1]);
}

pub(crate) async fn what_was_sent_can_be_looked_at_without_being_read(bus: &dyn Bus) {
    let topic = numbered(bus, 0).await;
    assert_eq!(look_back(bus, &topic, 0).await, Vec::<u32>::new());
    for n in 0..300u32 {
        bus.send(&topic, n.to_string().into_bytes()).await.unwrap();
    }
    assert_eq!(look_back(bus, &topic, 0).await, (0..300).collect::<Vec<u32>>());
    let tomorrow = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_millis() as i64
        + 86_400_000;
    assert_eq!(look_back(bus, &topic, tomorrow).await, Vec::<u32>::new());

    let mut reader = bus.subscribe(&topic, "readers").await.unwrap();
    assert_eq!(numbers(&take(&mut *reader, 2).await), [0, 1]);
}

async fn look_back(bus: &dyn Bus, topic: &str, since_ms: i64) -> Vec<u32> {
    let (seen, found) = std::sync::mpsc::channel();
    let visit = move |payload: &[u8]| {
        let number = std::str::from_utf8(payload).unwrap().parse().unwrap();
        seen.send(number).unwrap();
    };
    patiently(bus.look_back(topic, since_ms, Box::new(visit)))
        .await
        .unwrap();
    found.iter().collect()
}

pub(crate) async fn a_reader_knows_what_is_left_and_what_is_committed(bus: &dyn Bus) {
    let topic = numbered(bus, 5).await;
    let mut reader = bus.subscribe(&topic, "readers").await.unwrap();
    assert_eq!(reader.lag().await, None, "it has no place yet");
    let read = take(&mut *reader, 2).await;
    assert_eq!(reader.lag().await, Some(3));
    reader.commit(&read[1]).await.unwrap();
    let committed = async {
        while !reader.is_committed() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    patiently(committed).await;
}

/// A new topic.
pub(crate) async fn topic(bus: &dyn Bus, config: &[(&str, &str)]) -> String {
    let name = format!("topic-{}", uuid::Uuid::new_v4().simple());
    let spec = TopicSpec {
        name: name.clone(),
        partitions: 1,
        replication: 1,
        config: config
            .iter()
            .map(|(k, v)| (k.to_string(), v.to_string()))
            .collect(),
    };
    bus.ensure_topic(&spec).await.unwrap();
    name
}

/// A new topic with the messages `0`, `1` …
pub(crate) async fn numbered(bus: &dyn Bus, messages: u32) -> String {
    let name = topic(bus, &[]).await;
    for n in 0..messages {
        bus.send(&name, n.to_string().into_bytes()).await.unwrap();
    }
    name
}

/// Reads until there are `count` messages.
pub(crate) async fn take(reader: &mut dyn Subscription, count: usize) -> Vec<Message> {
    let mut read = Vec::new();
    while read.len() < count {
        let rest = count - read.len();
        read.extend(patiently(reader.next(rest)).await.unwrap());
    }
    read
}

pub(crate) fn numbers(messages: &[Message]) -> Vec<u32> {
    messages.iter().map(number).collect()
}

fn number(message: &Message) -> u32 {
    std::str::from_utf8(&message.payload).unwrap().parse().unwrap()
}

/// A bus that does not answer fails the test, and does not hang it.
async fn patiently<T>(answer: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, answer)
        .await
        .expect("the bus answers")
}
