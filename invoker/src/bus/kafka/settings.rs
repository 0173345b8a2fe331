//! Kafka settings as operators write them for OpenWhisk, in the names of Java's client, and what
//! librdkafka makes of them.

use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaConfRes;
use std::collections::BTreeMap;

/// Keys have dots, such as `session.timeout.ms`; each overrides what stands here by default (K-20, K-30).
#[derive(Clone, Debug, Default)]
pub struct KafkaSettings {
    /// `host:port,host:port`.
    pub hosts: String,
    /// For producer, consumer and administration.
    pub common: BTreeMap<String, String>,
    pub producer: BTreeMap<String, String>,
    pub consumer: BTreeMap<String, String>,
    /// Largest message that is sent or read, in bytes (K-03).
    pub message_bytes: u64,
}

/// A setting that cannot be followed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSetting {
    #[error(
        "{key} = {value}: JKS stores cannot be read; give a PEM file as ssl.truststore.location and a PKCS12 file as ssl.keystore.location"
    )]
    Jks { key: String, value: String },
    #[error("{key} = {value}: {reason}")]
    Refused {
        key: String,
        value: String,
        reason: String,
    },
    #[error("{0}")]
    Other(String),
}

// Where librdkafka would wait longer before it connects again, Java's times stand.
const PRODUCER: &[(&str, &str)] = &[
    ("acks", "1"),
    ("request.timeout.ms", "30000"),
    ("metadata.max.age.ms", "15000"),
    // A message is sent again on errors that pass, but not after a time-out: it may have arrived (K-31).
    ("message.send.max.retries", "3"),
    ("retry.backoff.ms", "100"),
    ("linger.ms", "0"),
    ("socket.nagle.disable", "true"),
    ("reconnect.backoff.ms", "50"),
    ("reconnect.backoff.max.ms", "1000"),
];

const CONSUMER: &[(&str, &str)] = &[
    ("enable.auto.commit", "false"),
    ("auto.offset.reset", "earliest"),
    ("session.timeout.ms", "30000"),
    ("heartbeat.interval.ms", "10000"),
    ("max.poll.interval.ms", "1800000"),
    ("fetch.wait.max.ms", "500"),
    // What is read ahead waits in memory, and nobody else can have it.
    ("queued.min.messages", "64"),
    ("queued.max.messages.kbytes", "16384"),
    ("fetch.queue.backoff.ms", "10"),
    ("socket.nagle.disable", "true"),
    ("reconnect.backoff.ms", "50"),
    ("reconnect.backoff.max.ms", "1000"),
];

/// How Java's names are called here (K-15). None: there is no such thing, and it does not matter.
fn translate(key: &str) -> Option<&str> {
    match key {
        "max.request.size" => Some("message.max.bytes"),
        "fetch.max.wait.ms" => Some("fetch.wait.max.ms"),
        "max.partition.fetch.bytes" => Some("fetch.message.max.bytes"),
        "ssl.truststore.location" => Some("ssl.ca.location"),
        // A PEM file has no password, and its type is plain.
        "ssl.truststore.password" | "ssl.truststore.type" | "ssl.keystore.type" => None,
        // Taken where messages are read, or part of how Java's client works.
        "max.poll.records" | "key.serializer" | "value.serializer" | "key.deserializer"
        | "value.deserializer" => None,
        other => Some(other),
    }
}

impl KafkaSettings {
    pub(super) fn producer(&self) -> Result<ClientConfig, InvalidSetting> {
        let mut config = self.config(PRODUCER, &self.producer)?;
        default(&mut config, "message.max.bytes", self.message_bytes.to_string());
        let timeout = config.get("request.timeout.ms").unwrap_or("30000").to_owned();
        default(&mut config, "message.timeout.ms", timeout);
        known(config)
    }

    pub(super) fn consumer(&self, topic: &str, group: &str) -> Result<ClientConfig, InvalidSetting> {
        let mut config = self.config(CONSUMER, &self.consumer)?;
        config.remove("request.timeout.ms");
        config.set("group.id", group);
        config.set("client.id", format!("consumer-{topic}"));
        // Below these librdkafka could not read what the topic may hold.
        default(
            &mut config,
            "fetch.message.max.bytes",
            self.message_bytes.max(1 << 20).to_string(),
        );
        default(
            &mut config,
            "receive.message.max.bytes",
            (self.message_bytes + (100 << 20)).to_string(),
        );
        known(config)
    }

    pub(super) fn admin(&self) -> Result<ClientConfig, InvalidSetting> {
        known(self.config(&[], &BTreeMap::new())?)
    }

    fn config(
        &self,
        defaults: &[(&str, &str)],
        own: &BTreeMap<String, String>,
    ) -> Result<ClientConfig, InvalidSetting> {
        let mut config = ClientConfig::new();
        config.set_log_level(RDKafkaLogLevel::Warning);
        for (key, value) in defaults {
            config.set(*key, *value);
        }
        for (key, value) in self.common.iter().chain(own) {
            let is_store = key.ends_with("store.location");
            if is_store && value.to_ascii_lowercase().ends_with(".jks") {
                return Err(InvalidSetting::Jks {
                    key: key.clone(),
                    value: value.clone(),
                });
            }
            match (translate(key), &**value) {
                (None, _) => tracing::debug!(key, "this Kafka setting is for Java's client only"),
                (Some(key @ "ssl.endpoint.identification.algorithm"), "") => drop(config.set(key, "none")),
                (Some(key), value) => drop(config.set(key, value)),
            }
        }
        config.set("bootstrap.servers", &self.hosts);
        Ok(config)
    }
}

fn default(config: &mut ClientConfig, key: &str, value: String) {
    if config.get(key).is_none() {
        config.set(key, value);
    }
}

/// Leaves out what librdkafka does not know, with one warning each (K-14).
fn known(mut config: ClientConfig) -> Result<ClientConfig, InvalidSetting> {
    loop {
        let (kind, reason, key, value) = match config.create_native_config() {
            Ok(_) => return Ok(config),
            Err(KafkaError::ClientConfig(kind, reason, key, value)) => (kind, reason, key, value),
            Err(other) => return Err(InvalidSetting::Other(other.to_string())),
        };
        if kind != RDKafkaConfRes::RD_KAFKA_CONF_UNKNOWN || config.get(&key).is_none() {
            return Err(InvalidSetting::Refused { key, value, reason });
        }
        tracing::warn!(key, "this Kafka setting is not known, and ignored");
        config.remove(&key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(pairs: &[(&str, &str)]) -> KafkaSettings {
        KafkaSettings {
            hosts: "a:1,b:2".into(),
            common: pairs
                .iter()
                .map(|(k, v)| (k.to_string(), v.to_string()))
                .collect(),
            message_bytes: 1_054_644,
            ..KafkaSettings::default()
        }
    }

    /// K-03, K-11, K-20, K-21, K-30
    #[test]
    fn without_settings_it_is_what_openwhisk_uses() {
        let producer = settings(&[]).producer().unwrap();
        assert_eq!(producer.get("bootstrap.servers"), Some("a:1,b:2"));
        assert_eq!(producer.get("acks"), Some("1"));
        assert_eq!(producer.get("message.max.bytes"), Some("1054644"));
        let consumer = settings(&[]).consumer("ow-invoker3", "ow-invoker3").unwrap();
        assert_eq!(consumer.get("group.id"), Some("ow-invoker3"));
        assert_eq!(consumer.get("client.id"), Some("consumer-ow-invoker3"));
        assert_eq!(consumer.get("enable.auto.commit"), Some("false"));
    }

    #[test]
    fn javas_names_are_translated_and_unknown_ones_ignored() {
        let given = [
            ("max.request.size", "2000000"),
            ("fetch.max.wait.ms", "7"),
            ("ssl.endpoint.identification.algorithm", ""),
            ("ssl.truststore.location", "/conf/ca.pem"),
            ("ssl.truststore.password", "x"),
            ("max.poll.records", "5"),
            ("interceptor.classes", "org.example.Thing"),
        ];
        let producer = settings(&given).producer().unwrap();
        assert_eq!(producer.get("message.max.bytes"), Some("2000000"));
        assert_eq!(
            producer.get("ssl.endpoint.identification.algorithm"),
            Some("none")
        );
        assert_eq!(producer.get("ssl.ca.location"), Some("/conf/ca.pem"));
        assert_eq!(producer.get("interceptor.classes"), None);
        assert_eq!(
            settings(&given)
                .consumer("t", "g")
                .unwrap()
                .get("fetch.wait.max.ms"),
            Some("7")
        );
    }

    #[test]
    fn what_cannot_be_followed_is_refused_with_a_sentence() {
        let jks = settings(&[("ssl.keystore.location", "/conf/kafka.jks")])
            .producer()
            .unwrap_err();
        assert!(jks.to_string().contains("PKCS12"), "{jks}");
        let refused = settings(&[("session.timeout.ms", "soon")])
            .consumer("t", "g")
            .unwrap_err();
        assert!(
            refused.to_string().starts_with("session.timeout.ms = soon: "),
            "{refused}"
        );
    }
}
