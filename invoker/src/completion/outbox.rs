//! Answers on their way: each is in the journal before it leaves, and stays there until it has arrived.
//!
//! Acks of one activation keep their order (S-13): the completion leaves when the result has arrived, and
//! waits for nobody else. Records trail (S-21). Nothing here holds up who answers.
//!
//! What follows closely is sent together, the more so the more activations are open: a request of many costs the broker,
//! and this process, what a request of one does.

use super::ack;
use super::delivery::{self, AckKey, Window};
use super::records::Records;
use crate::bus::Bus;
use crate::journal::{Debts, Journal, Part, Parts};
use crate::metrics;
use crate::pace::Pace;
use crate::readiness::Readiness;
use crate::store::Store;
use proto::id::ActivationId;
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{Instrument, error, info, info_span, warn};

/// Between two looks at a topic whose brokers are away.
const PAUSE: Duration = Duration::from_secs(1);

/// How far apart acks leave for each activation that is open, and at most: a wait that is short beside what so many
/// activations on one machine wait for anyway.
const SPACING: Duration = Duration::from_micros(500);
const LONGEST_SPACING: Duration = Duration::from_millis(8);

/// What delivers.
#[derive(Debug)]
pub struct Outbox {
    bus: Arc<dyn Bus>,
    journal: Arc<Journal>,
    /// Told whether acks leave.
    readiness: Readiness,
    records: Records,
    acks: TaskTracker,
    /// Activations that are owed an answer.
    open: TaskTracker,
    sending: Arc<Pace>,
    /// Deliveries that are not done by then go on after the next start.
    end: CancellationToken,
}

/// A result that is on its way.
#[derive(Clone, Debug)]
pub(super) struct OnItsWay(watch::Receiver<bool>);

impl OnItsWay {
    pub(super) fn has_arrived(&self) -> bool {
        *self.0.borrow()
    }

    async fn arrival(mut self) {
        // An ended sender has sent, or will not any more.
        let _ = self.0.wait_for(|arrived| *arrived).await;
    }
}

impl Outbox {
    pub fn new(
        bus: Arc<dyn Bus>,
        store: Arc<dyn Store>,
        journal: Arc<Journal>,
        readiness: Readiness,
    ) -> Self {
        let end = CancellationToken::new();
        let records = Records::start(store, Arc::clone(&journal), end.clone());
        Self {
            bus,
            journal,
            readiness,
            records,
            acks: TaskTracker::new(),
            open: TaskTracker::new(),
            sending: Arc::default(),
            end,
        }
    }

    /// Sends the result of an activation whose end is in the journal.
    pub(super) fn send_result(&self, id: ActivationId, mut debts: Debts) -> OnItsWay {
        let (arrived, on_its_way) = watch::channel(false);
        let window = window(&debts);
        if let Some(result) = debts.take(Part::Result) {
            let (bus, readiness) = (Arc::clone(&self.bus), self.readiness.clone());
            let turn = self.turn();
            self.spawn(async move {
                turn.await;
                delivery::send(&*bus, &readiness, id, result, window).await;
                arrived.send_replace(true);
            });
        }
        OnItsWay(on_its_way)
    }

    /// Delivers what an answered activation owes; a result that left before arrives first.
    pub(super) fn deliver(&self, id: ActivationId, mut debts: Debts, result: Option<OnItsWay>) {
        if let Some(record) = debts.take(Part::Record) {
            self.records.put(id, Some(record));
        }
        let window = window(&debts);
        let (result_debt, event, slot) = (
            debts.take(Part::Result),
            debts.take(Part::Event),
            debts.take(Part::Slot),
        );
        if slot.is_none() && result_debt.is_none() {
            return;
        }
        let (bus, journal) = (Arc::clone(&self.bus), Arc::clone(&self.journal));
        let readiness = self.readiness.clone();
        let turn = self.turn();
        self.spawn(async move {
            match (result, result_debt) {
                (Some(result), _) => result.arrival().await,
                (None, Some(debt)) => delivery::send(&*bus, &readiness, id, debt, window).await,
                (None, None) => {}
            }
            turn.await;
            let event = async {
                if let Some(event) = event
                    && let Err(error) = bus.send(&event.to, event.payload).await
                {
                    warn!(activation = %id, error = &error as &dyn std::error::Error, "event not sent");
                }
            };
            let ack = async {
                if let Some(slot) = slot {
                    delivery::send(&*bus, &readiness, id, slot, window).await;
                }
                journal.delivered(id, [Part::Result, Part::Slot, Part::Event].into_iter().collect());
            };
            // The event leaves first, and the ack does not wait for its arrival (S-15).
            tokio::join!(biased; event, ack);
        });
    }

    /// Delivers what an earlier process owed: what of it has arrived already is looked up first.
    pub async fn resume(&self, owing: Vec<(ActivationId, Parts)>) {
        if owing.is_empty() {
            return;
        }
        info!(
            activations = owing.len(),
            "what an earlier process owed is delivered"
        );
        let mut topics: BTreeMap<String, (i64, HashSet<AckKey>)> = BTreeMap::new();
        let mut unsure = Vec::new();
        for (id, parts) in owing {
            if parts.contains(Part::Record) {
                self.records.put(id, None);
            }
            if !parts.contains(Part::Slot) {
                continue;
            }
            let Some(debts) = self.read(id) else { continue };
            for debt in debts
                .all
                .iter()
                .filter(|debt| matches!(debt.part, Part::Result | Part::Slot))
            {
                let (since, acks) = topics
                    .entry(debt.to.clone())
                    .or_insert_with(|| (debts.since_ms, HashSet::new()));
                *since = (*since).min(debts.since_ms);
                acks.insert((id, delivery::part_key(debt.part)));
            }
            unsure.push(id);
        }
        let mut arrived = HashSet::new();
        for (topic, (since_ms, wanted)) in topics {
            arrived.extend(self.arrived(&topic, since_ms, wanted).await);
        }
        for id in unsure {
            let paid: Parts = [(Part::Result, false), (Part::Slot, true)]
                .into_iter()
                .filter(|(_, frees)| arrived.contains(&(id, *frees)))
                .map(|(part, _)| part)
                .collect();
            self.journal.delivered(id, paid);
            let Some(mut debts) = self.read(id) else { continue };
            debts.take(Part::Record); // it is on its way
            if paid.contains(Part::Slot) {
                debts.take(Part::Event);
            }
            let slot = debts.all.iter().find(|debt| debt.part == Part::Slot);
            let transid = slot
                .and_then(|slot| ack::transaction(&slot.payload))
                .unwrap_or_default();
            info_span!("owed", transid).in_scope(|| self.deliver(id, debts, None));
        }
    }

    async fn arrived(&self, topic: &str, since_ms: i64, wanted: HashSet<AckKey>) -> HashSet<AckKey> {
        let mut told = false;
        loop {
            match delivery::arrived(&*self.bus, topic, since_ms, wanted.clone()).await {
                Ok(arrived) => return arrived,
                Err(error) if !told => {
                    told = true;
                    warn!(
                        error = &error as &dyn std::error::Error,
                        "acks of an earlier process wait for the bus"
                    );
                }
                Err(_) => {}
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    fn read(&self, id: ActivationId) -> Option<Debts> {
        self.journal.debts(id).unwrap_or_else(|error| {
            error!(activation = %id, error = &error as &dyn std::error::Error, "what is owed cannot be read back");
            None
        })
    }

    /// Activations that are owed an answer.
    pub(super) fn open(&self) -> &TaskTracker {
        &self.open
    }

    /// Returns when an ack may leave.
    fn turn(&self) -> impl Future<Output = ()> + Send + 'static {
        let (sending, open) = (Arc::clone(&self.sending), self.open.clone());
        async move {
            let open = u32::try_from(open.len()).unwrap_or(u32::MAX);
            sending
                .turn(SPACING.saturating_mul(open).min(LONGEST_SPACING))
                .await;
        }
    }

    /// Records that are not stored yet.
    pub fn records_left(&self) -> usize {
        self.records.left()
    }

    /// Returns when everything is delivered, or after `limit`: the rest waits in the journal.
    pub async fn flush(&self, limit: Duration) {
        self.acks.close();
        let flushed = async {
            self.acks.wait().await;
            self.records.stored().await;
        };
        if tokio::time::timeout(limit, flushed).await.is_err() {
            warn!(
                acks = self.acks.len(),
                records = self.records.left(),
                "not all answers were delivered: they wait in the journal"
            );
        }
        self.end.cancel();
    }

    fn spawn(&self, delivery: impl Future<Output = ()> + Send + 'static) {
        // Outside a runtime nobody can deliver: the journal has it.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let (end, acks) = (self.end.clone(), self.acks.clone());
            let delivery = delivery.in_current_span();
            runtime.spawn(self.acks.track_future(async move {
                metrics::outbox("ack", acks.len());
                tokio::select! {
                    () = delivery => {}
                    () = end.cancelled() => {}
                }
                metrics::outbox("ack", acks.len().saturating_sub(1));
            }));
        }
    }
}

fn window(debts: &Debts) -> Window {
    Window {
        since_ms: debts.since_ms,
        until_ms: debts.until_ms,
    }
}
