//! The real broker of the stand-in controller, and the invoker's client to it.

use ffs_invoker::bus::kafka::{KafkaBus, KafkaSettings};
use std::collections::BTreeMap;
use std::time::Duration;

pub(crate) struct Broker(stand_in_controller::broker::Broker);

impl Broker {
    pub(crate) fn start() -> Self {
        Self(stand_in_controller::broker::Broker::start().unwrap())
    }

    pub(crate) fn hosts(&self) -> String {
        self.0.hosts()
    }

    /// A client with short group time-outs, so that a lost member is soon forgotten.
    pub(crate) fn bus(&self) -> KafkaBus {
        let consumer = [("session.timeout.ms", "6000"), ("heartbeat.interval.ms", "1000")];
        let settings = KafkaSettings {
            hosts: self.hosts(),
            consumer: consumer.map(|(k, v)| (k.to_owned(), v.to_owned())).into(),
            producer: BTreeMap::new(),
            common: BTreeMap::from([("security.protocol".into(), "PLAINTEXT".into())]),
            message_bytes: 1_054_644,
        };
        KafkaBus::new(settings).unwrap()
    }

    /// Takes the broker away and brings it back, with what it has stored.
    pub(crate) fn restart(&mut self) {
        self.away(Duration::ZERO);
    }

    /// The same, and it stays away for so long.
    pub(crate) fn away(&mut self, long: Duration) {
        self.stop();
        std::thread::sleep(long);
        self.go_on();
    }

    pub(crate) fn stop(&mut self) {
        self.0.stop();
    }

    pub(crate) fn go_on(&mut self) {
        self.0.go_on().unwrap();
    }
}

/// The broker of all tests of this process; it removes its folder at the end.
pub(crate) fn shared() -> &'static Broker {
    static SHARED: std::sync::OnceLock<Broker> = std::sync::OnceLock::new();
    SHARED.get_or_init(Broker::start)
}
