//! Brings records to the store, however long it is away: what waits is on disk, and in memory only its id.
//!
//! Source: `ArtifactActivationStore.scala`, `Batcher.scala`; contract D-42 … D-47. How requests are
//! batched is the store's business; here many are under way at once, so that it has something to batch.

use super::ack;
use crate::journal::{Debt, Journal, Part};
use crate::metrics;
use crate::store::{self, Store};
use hyper::body::Bytes;
use proto::id::ActivationId;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::{Mutex, Semaphore, mpsc, watch};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, Span, error, info, info_span, warn};

/// Most writes under way.
const AT_ONCE: usize = 512;
/// Most bytes of records in memory: those under way, and those that wait.
const BYTES_AT_ONCE: usize = 16 << 20;
const BYTES_WAITING: usize = 8 << 20;

/// Between two tries while the store is away; doubled each time.
const PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// A record that is to be stored; without contents they are read back from the journal.
#[derive(Debug)]
struct Due {
    id: ActivationId,
    record: Option<Debt>,
    /// Names the transaction (N-23); where the contents are read back, so is it.
    span: Span,
}

/// The queue in front of the store.
#[derive(Debug)]
pub(super) struct Records {
    /// Unbounded: it holds ids and a bounded amount of contents, and the journal bounds the ids.
    queue: mpsc::UnboundedSender<Due>,
    state: Arc<State>,
}

#[derive(Debug)]
struct State {
    store: Arc<dyn Store>,
    journal: Arc<Journal>,
    /// Contents that wait in memory, in bytes.
    waiting_bytes: AtomicUsize,
    left: watch::Sender<usize>,
    away: AtomicBool,
    /// While the store is away one at a time tries it.
    probe: Mutex<Duration>,
    /// What is not stored by then is stored after the next start.
    end: CancellationToken,
}

impl Records {
    /// Stores what is put, until `end`.
    pub(super) fn start(store: Arc<dyn Store>, journal: Arc<Journal>, end: CancellationToken) -> Self {
        let (queue, due) = mpsc::unbounded_channel();
        let state = Arc::new(State {
            store,
            journal,
            waiting_bytes: AtomicUsize::new(0),
            left: watch::Sender::new(0),
            away: AtomicBool::new(false),
            probe: Mutex::new(PAUSE),
            end,
        });
        tokio::spawn(write_all(Arc::clone(&state), due));
        Self { queue, state }
    }

    /// Never waits.
    pub(super) fn put(&self, id: ActivationId, record: Option<Debt>) {
        let state = &self.state;
        state.count(|left| left + 1);
        let record = record.filter(|record| {
            let bytes = record.payload.len();
            let before = state.waiting_bytes.fetch_add(bytes, Ordering::Relaxed);
            let fits = before + bytes <= BYTES_WAITING;
            if !fits {
                state.waiting_bytes.fetch_sub(bytes, Ordering::Relaxed);
            }
            fits
        });
        // After the end the journal has it.
        let span = record.as_ref().map_or(Span::none(), |_| Span::current());
        let _ = self.queue.send(Due { id, record, span });
    }

    /// How many are not stored yet.
    pub(super) fn left(&self) -> usize {
        *self.state.left.borrow()
    }

    /// Returns when all are stored.
    pub(super) async fn stored(&self) {
        let mut left = self.state.left.subscribe();
        // The sender lives as long as we do.
        let _ = left.wait_for(|left| *left == 0).await;
    }
}

async fn write_all(state: Arc<State>, mut due: mpsc::UnboundedReceiver<Due>) {
    let (slots, bytes) = (
        Arc::new(Semaphore::new(AT_ONCE)),
        Arc::new(Semaphore::new(BYTES_AT_ONCE)),
    );
    let end = state.end.clone();
    while let Some(Some(Due { id, record, span })) = end.run_until_cancelled(due.recv()).await {
        let (record, span) = match record {
            Some(record) => {
                let length = record.payload.len();
                state.waiting_bytes.fetch_sub(length, Ordering::Relaxed);
                (Some(record), span)
            }
            None => state.read(id),
        };
        let weight = record
            .as_ref()
            .map_or(1, |record| record.payload.len().clamp(1, BYTES_AT_ONCE));
        let weight = u32::try_from(weight).unwrap_or(u32::MAX);
        let (Ok(slot), Ok(held)) = (
            Arc::clone(&slots).acquire_owned().await,
            Arc::clone(&bytes).acquire_many_owned(weight).await,
        ) else {
            return; // neither is ever closed
        };
        let state = Arc::clone(&state);
        let work = async move {
            if let Some(record) = record {
                let written = state.end.run_until_cancelled(state.write(id, record)).await;
                if written.is_none() {
                    return;
                }
            }
            state.count(|left| left - 1);
            drop((slot, held));
        };
        tokio::spawn(work.instrument(span));
    }
}

impl State {
    fn count(&self, change: impl FnOnce(usize) -> usize) {
        self.left.send_modify(|left| {
            *left = change(*left);
            metrics::outbox("record", *left);
        });
    }

    /// From the journal, with a span that names the transaction; what is not there any more needs no delivery.
    fn read(&self, id: ActivationId) -> (Option<Debt>, Span) {
        match self.journal.all_debts(id) {
            Ok(Some((mut debts, owed))) => {
                let slot = debts.take(Part::Slot);
                let transid = slot.and_then(|slot| ack::transaction(&slot.payload));
                let record = debts.take(Part::Record).filter(|_| owed.contains(Part::Record));
                (
                    record,
                    info_span!("record", transid = transid.unwrap_or_default()),
                )
            }
            Ok(None) => (None, Span::none()),
            Err(error) => {
                error!(activation = %id, error = &error as &dyn std::error::Error, "a record cannot be read back");
                (None, Span::none())
            }
        }
    }

    /// Returns when the store has it, or will never take it; it never changes what the caller gets.
    async fn write(&self, id: ActivationId, record: Debt) {
        let Debt { to, payload, .. } = record;
        let document = Bytes::from(payload);
        loop {
            let mut turn = None;
            if self.away.load(Ordering::Acquire) {
                let probe = self.probe.lock().await;
                if self.away.load(Ordering::Acquire) {
                    tokio::time::sleep(*probe).await;
                    turn = Some(probe);
                }
            }
            match self.store.put_record(&to, document.clone()).await {
                Ok(_) => {
                    if self.away.swap(false, Ordering::AcqRel) {
                        info!(left = *self.left.borrow(), "the store is back");
                        if let Some(pause) = &mut turn {
                            **pause = PAUSE;
                        }
                    }
                    return self.journal.delivered(id, Part::Record.into());
                }
                Err(store::Error::Conflict { .. }) => {
                    // From before a crash, or from another invoker after a forced completion (D-43).
                    warn!(activation = %id, record = to, "a record of this activation is there already");
                    return self.journal.delivered(id, Part::Record.into());
                }
                Err(error) if error.is_final() => {
                    error!(activation = %id, record = to, error = &error as &dyn std::error::Error, "the store will not take a record");
                    return self.journal.delivered(id, Part::Record.into());
                }
                Err(error) => {
                    if !self.away.swap(true, Ordering::AcqRel) {
                        warn!(
                            error = &error as &dyn std::error::Error,
                            left = *self.left.borrow(),
                            "the store is away: records wait on disk"
                        );
                    }
                    if let Some(pause) = &mut turn {
                        **pause = (**pause * 2).min(LONGEST_PAUSE);
                    }
                }
            }
        }
    }
}
