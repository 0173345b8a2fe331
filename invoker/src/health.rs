//! Tells the controller once a second that this invoker is there, and whether it takes work.
//!
//! Source: `InvokerReactive.scala`; contract K-40 … K-42.

use crate::bus::Bus;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::warn;

const PERIOD: Duration = Duration::from_secs(1);

/// The sender of pings.
#[derive(Debug)]
pub struct Health {
    bus: Arc<dyn Bus>,
    topic: String,
    enabled_ping: Vec<u8>,
    disabled_ping: Vec<u8>,
}

impl Health {
    /// `ping` encodes the ping with `isEnabled` as given.
    pub fn new(bus: Arc<dyn Bus>, topic: String, ping: impl Fn(bool) -> Vec<u8>) -> Self {
        Self {
            bus,
            topic,
            enabled_ping: ping(true),
            disabled_ping: ping(false),
        }
    }

    /// Pings while `enabled`; each time it turns false one ping says so. Ends with such a ping.
    pub async fn run(self, mut enabled: watch::Receiver<bool>, stop: CancellationToken) {
        let mut period = tokio::time::interval(PERIOD);
        period.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let on = *enabled.borrow_and_update();
            if !on {
                self.send(&self.disabled_ping).await;
            }
            loop {
                tokio::select! {
                    () = stop.cancelled() => {
                        if on {
                            self.send(&self.disabled_ping).await;
                        }
                        return;
                    }
                    changed = enabled.changed() => match changed {
                        Ok(()) => break,
                        Err(_) => return self.send(&self.disabled_ping).await,
                    },
                    _ = period.tick(), if on => self.send(&self.enabled_ping).await,
                }
            }
        }
    }

    async fn send(&self, ping: &[u8]) {
        if let Err(error) = self.bus.send(&self.topic, ping.to_vec()).await {
            warn!(error = &error as &dyn std::error::Error, "ping not sent");
        }
    }
}
