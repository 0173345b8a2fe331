//! Tells the controller once a second that this invoker is there, unless an operator or the node's own
//! state speaks against it.
//!
//! Source: `InvokerReactive.scala`; contract K-40 … K-42, K-53. What the node's state is: `readiness`.

use crate::bus::Bus;
use crate::container::ContainerEngine;
use crate::metrics;
use crate::readiness::{Readiness, because};
use proto::whisk::instance::InvokerId;
use proto::whisk::ping::PingMessage;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

const PERIOD: Duration = Duration::from_secs(1);
/// Longest wait at the end for the last ping to leave, and for one that is under way.
const LAST: Duration = Duration::from_secs(1);
/// Longest wait for the container engine to say that it is there.
const ENGINE: Duration = Duration::from_secs(5);

/// What operators have asked for: enabled at first.
#[derive(Clone, Debug)]
pub struct Switch(Arc<watch::Sender<Wish>>);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Wish {
    disabled: bool,
    /// How often it was disabled so far; each time is told to the controller.
    times: u64,
}

impl Default for Switch {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(Wish::default())))
    }
}

impl Switch {
    pub fn is_enabled(&self) -> bool {
        !self.0.borrow().disabled
    }

    /// Whether it was disabled before.
    pub fn enable(&self) -> bool {
        let enabled = self.0.send_if_modified(|wish| std::mem::take(&mut wish.disabled));
        if enabled {
            info!("enabled");
        }
        enabled
    }

    /// Whether it was enabled before. What is queued is still run (H-06).
    pub fn disable(&self) -> bool {
        let mut enabled = false;
        self.0.send_modify(|wish| {
            enabled = !std::mem::replace(&mut wish.disabled, true);
            wish.times += 1;
        });
        if enabled {
            info!("disabled: no more work is asked for");
        }
        enabled
    }
}

/// The sender of pings.
#[derive(Debug)]
pub struct Health {
    bus: Arc<dyn Bus>,
    topic: String,
    /// With `isEnabled` false, and true.
    pings: [Vec<u8>; 2],
    switch: Switch,
    readiness: Readiness,
}

impl Health {
    /// Sends to the topic `health` with this prefix.
    pub fn new(
        bus: Arc<dyn Bus>,
        prefix: &str,
        id: &InvokerId,
        switch: Switch,
        readiness: Readiness,
    ) -> Self {
        let ping = |on| serde_json::to_vec(&PingMessage::new(id.clone(), on)).expect("a ping is JSON");
        Self {
            bus,
            topic: format!("{prefix}health"),
            pings: [ping(false), ping(true)],
            switch,
            readiness,
        }
    }

    /// Pings from when `consuming` says that activations are read, until `stop`. The last one says that
    /// this invoker takes no more work.
    pub async fn run(self, consuming: CancellationToken, stop: CancellationToken) {
        tokio::select! {
            () = stop.cancelled() => return,
            () = consuming.cancelled() => {}
        }
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.ping() => {}
        }
        let pinging = self.switch.is_enabled() && self.readiness.standing().is_ready();
        if pinging && tokio::time::timeout(LAST, self.send(false)).await.is_err() {
            warn!("the controller could not be told that this invoker leaves");
        }
    }

    /// Never ends.
    async fn ping(&self) {
        let (mut wishes, mut standings) = (self.switch.0.subscribe(), self.readiness.watch());
        let mut period = tokio::time::interval(PERIOD);
        // Not before the last one has ended (K-40).
        period.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut told = 0;
        let mut was_on = false;
        loop {
            let wish = *wishes.borrow_and_update();
            let ready = standings.borrow_and_update().is_ready();
            metrics::standing(ready, !wish.disabled);
            let on = ready && !wish.disabled;
            // Each time that it is disabled is told, and so is that it has become unable to work.
            let unable = was_on && !on && told == wish.times;
            for _ in 0..(wish.times - told + u64::from(unable)) {
                self.send(false).await;
            }
            told = wish.times;
            if on && !was_on {
                period.reset_immediately();
            }
            was_on = on;
            tokio::select! {
                biased;
                changed = wishes.changed() => changed.expect("`self` has a sender"),
                changed = standings.changed() => changed.expect("`self` has a sender"),
                _ = period.tick(), if on => self.send(true).await,
            }
        }
    }

    /// A ping that fails is logged, and that is all (K-42).
    async fn send(&self, enabled: bool) {
        let ping = self.pings[usize::from(enabled)].clone();
        let sent = self.bus.send(&self.topic, ping).await;
        metrics::ping(enabled, sent.is_ok());
        if let Err(error) = sent {
            warn!(error = &error as &dyn std::error::Error, "ping not sent");
        }
    }
}

/// Asks the container engine once a second whether it is there.
pub async fn watch_engine(engine: Arc<dyn ContainerEngine>, readiness: Readiness, stop: CancellationToken) {
    let mut period = tokio::time::interval(PERIOD);
    period.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let watching = async {
        loop {
            period.tick().await;
            let answer = tokio::time::timeout(ENGINE, engine.ready()).await;
            readiness.engine(match answer {
                Ok(answer) => answer.map_err(|error| because(&error)),
                Err(_) => Err(format!("{} is silent for {ENGINE:?}", engine.name())),
            });
        }
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = watching => {}
    }
}
