//! The topics that a controller makes (K-07) and the name of the one that an invoker makes.

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaErrorCode;
use std::time::Duration;

/// Largest message on `invokerN` and `completedC` by default (K-03).
pub const LARGEST: usize = 1_054_644;

/// The names of one cluster's topics (K-01).
#[derive(Clone, Debug, Default)]
pub struct Topics {
    pub prefix: String,
    /// Of `events` alone.
    pub events_prefix: String,
}

impl Topics {
    pub fn invoker(&self, index: u32) -> String {
        format!("{}invoker{index}", self.prefix)
    }

    pub fn completed(&self, controller: &str) -> String {
        format!("{}completed{controller}", self.prefix)
    }

    pub fn health(&self) -> String {
        format!("{}health", self.prefix)
    }

    pub fn events(&self) -> String {
        format!("{}events", self.events_prefix)
    }

    /// Makes `completedC`, `health`, `cacheInvalidation` and `events`; those that are there stay as they are.
    ///
    /// # Errors
    /// When the broker refuses.
    pub async fn make(
        &self,
        admin: &AdminClient<DefaultClientContext>,
        controller: &str,
    ) -> Result<(), (String, Cause)> {
        let largest = LARGEST.to_string();
        let (completed, health, events) = (self.completed(controller), self.health(), self.events());
        let invalidation = format!("{}cacheInvalidation", self.prefix);
        let kept = |name, retention| {
            NewTopic::new(name, 1, TopicReplication::Fixed(1))
                .set("segment.bytes", "536870912")
                .set("retention.bytes", "1073741824")
                .set("retention.ms", retention)
        };
        let topics = [
            kept(&completed, "3600000").set("max.message.bytes", &largest),
            kept(&health, "3600000"),
            kept(&invalidation, "300000"),
            kept(&events, "3600000"),
        ];
        create(admin, &topics).await
    }

    /// Makes `invokerN`, as an invoker does at its start.
    ///
    /// # Errors
    /// When the broker refuses.
    pub async fn make_invoker(
        &self,
        admin: &AdminClient<DefaultClientContext>,
        index: u32,
    ) -> Result<(), (String, Cause)> {
        let (name, largest) = (self.invoker(index), LARGEST.to_string());
        let topic = NewTopic::new(&name, 1, TopicReplication::Fixed(1)).set("max.message.bytes", &largest);
        create(admin, &[topic]).await
    }
}

async fn create(
    admin: &AdminClient<DefaultClientContext>,
    topics: &[NewTopic<'_>],
) -> Result<(), (String, Cause)> {
    let options = AdminOptions::new().operation_timeout(Some(Duration::from_secs(60)));
    let made = admin.create_topics(topics, &options).await;
    for result in made.map_err(|error| (topics[0].name.to_owned(), error.into()))? {
        match result {
            Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((topic, code)) => return Err((topic, KafkaError::AdminOp(code).into())),
        }
    }
    Ok(())
}

/// The client library's error, or another's.
pub type Cause = Box<dyn std::error::Error + Send + Sync>;
