//! Reads what is in a topic already, as a member of no group.

use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::Message as _;
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{Offset, TopicPartitionList};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// How long the broker may take to answer a question, or to send the next message.
const PATIENCE: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(100);

/// Blocks. `visit` is shown the payloads from `since_ms` on, up to the end as it is now.
pub(super) fn look_back(
    config: &ClientConfig,
    topic: &str,
    since_ms: i64,
    mut visit: impl FnMut(&[u8]),
) -> Result<(), KafkaError> {
    let mut config = config.clone();
    config.set("enable.partition.eof", "false");
    let consumer: BaseConsumer = config.create()?;
    let metadata = consumer.fetch_metadata(Some(topic), PATIENCE)?;
    let mut times = TopicPartitionList::new();
    for found in metadata.topics() {
        if let Some(error) = found.error() {
            return Err(KafkaError::MetadataFetch(RDKafkaErrorCode::from(error)));
        }
        for partition in found.partitions() {
            times.add_partition_offset(topic, partition.id(), Offset::Offset(since_ms))?;
        }
    }
    let starts = consumer.offsets_for_times(times, PATIENCE)?;
    // Partition → the offset at which it ended when we asked.
    let mut ends = BTreeMap::new();
    let mut from = TopicPartitionList::new();
    for start in starts.elements() {
        let (_, end) = consumer.fetch_watermarks(topic, start.partition(), PATIENCE)?;
        // Behind the last message there is no offset of that time.
        let Offset::Offset(offset) = start.offset() else {
            continue;
        };
        if offset < end {
            ends.insert(start.partition(), end);
            from.add_partition_offset(topic, start.partition(), Offset::Offset(offset))?;
        }
    }
    consumer.assign(&from)?;
    let mut heard = Instant::now();
    while !ends.is_empty() {
        match consumer.poll(POLL) {
            None if heard.elapsed() > PATIENCE => {
                return Err(KafkaError::MessageConsumption(
                    RDKafkaErrorCode::OperationTimedOut,
                ));
            }
            None => {}
            Some(Err(error)) => return Err(error),
            Some(Ok(message)) => {
                heard = Instant::now();
                let Some(&end) = ends.get(&message.partition()) else {
                    continue;
                };
                if message.offset() < end {
                    visit(message.payload().unwrap_or_default());
                }
                if message.offset() + 1 >= end {
                    ends.remove(&message.partition());
                }
            }
        }
    }
    Ok(())
}
