//! One end of a ring, as one process holds it: what both ends do alike.
//!
//! ```text
//!               tail          consumer's next    published without a gap     producer's next
//!     free ───────┬─ with the reader ─┬─ published ───┬─ with the writer ─┬─── free
//! ```
//! A slot belongs to the producer until it stores the slot's turn (Release), after the frame is written; the consumer
//! loads the turn of the slot it waits for (Acquire) before it reads. The turn stands on one cache line with the frame's
//! header, so what says that there is a frame brings most of it along. `tail` is stored by the consumer alone (Release)
//! after it has read; the producer loads it (Acquire) before it writes again. Both ends may hold several slots and
//! finish them in any order and on any thread of their process: a [`Window`] counts them and moves an edge over those
//! that are done without a gap.

use crate::error::{Error, Fault, Poison, Reason, Side};
use crate::frame::{DATA_AT, DESCRIPTORS_AT};
use crate::futex::Bell;
use crate::header::{ALL_BITS, CONSUMER_CLOSED, Header, POISONED, PRODUCER_CLOSED};
use crate::name::Name;
use crate::sheet::Sheets;
use crate::spin::Spinner;
use crate::sync::{Arc, AtomicU32, AtomicU64, Mutex, Ordering, lock};
use std::time::Instant;

#[cfg(loom)]
pub(crate) use crate::model::Segment;
#[cfg(not(loom))]
pub(crate) use crate::segment::Segment;

/// What producer, consumer, frames and handles of one end share.
pub(crate) struct End {
    /// Before the segment: it is unregistered while it is still mapped.
    #[cfg(not(loom))]
    pinned: Mutex<Option<crate::pin::Pinned>>,
    pub(crate) segment: Segment,
    pub(crate) name: Name,
    pub(crate) side: Side,
    pub(crate) sheets: Sheets,
    window: Mutex<Window>,
    /// Where the window begins, where the other process cannot change it. Stored under the window's lock and before the
    /// turn or the tail: who has seen what the other end made of those, sees this too. Release and Acquire all the same,
    /// since who takes a slot again uses its sheet again, and a hostile peer can say that it may without having waited.
    pub(crate) edge: AtomicU64,
    /// The tail as the last commit saw it, for the producer; not checked yet.
    pub(crate) seen_tail: AtomicU64,
    /// Our own copy of what we did to `state`: the other process cannot take it back.
    verdict: AtomicU32,
    /// Our own copy of the note we left.
    note: Mutex<Option<Poison>>,
}

/// Slots that this end holds, from `edge` on. How many it has taken so far it counts itself.
struct Window {
    edge: u64,
    /// Which of the slots are done although one before them is not.
    done: Box<[bool]>,
}

impl Window {
    /// Marks slot `sequence` as done; says where the edge is now, if it has moved.
    fn finish(&mut self, sequence: u64) -> Option<u64> {
        let slots = self.done.len() as u64;
        self.done[(sequence % slots) as usize] = true;
        let before = self.edge;
        while std::mem::take(&mut self.done[(self.edge % slots) as usize]) {
            self.edge += 1;
        }
        (self.edge != before).then_some(self.edge)
    }
}

impl End {
    pub(crate) fn new(segment: Segment, name: Name, side: Side) -> Arc<Self> {
        let slots = segment.geometry().slots as usize;
        Arc::new(Self {
            #[cfg(not(loom))]
            pinned: Mutex::new(None),
            window: Mutex::new(Window {
                edge: 0,
                done: vec![false; slots].into(),
            }),
            edge: AtomicU64::new(0),
            seen_tail: AtomicU64::new(0),
            sheets: Sheets::new(segment.geometry().slots),
            segment,
            name,
            side,
            verdict: AtomicU32::new(0),
            note: Mutex::new(None),
        })
    }

    pub(crate) fn header(&self) -> &Header {
        self.segment.header()
    }

    pub(crate) fn ring(&self) -> String {
        self.name.as_str().to_owned()
    }

    /// Closed and poisoned bits, ours and the other's. Acquire: who sees `closed` also sees the last frame.
    pub(crate) fn state(&self) -> u32 {
        self.verdict.load(Ordering::Acquire) | self.header().state.0.load(Ordering::Acquire)
    }

    /// Fails if the ring is poisoned, or closed by one of `closers`, or if `state` is none that a peer may leave there.
    pub(crate) fn check(&self, state: u32, closers: u32) -> Result<(), Error> {
        if state == 0 {
            return Ok(());
        }
        let ours = lock(&self.note).clone();
        if ours.is_none() && state & !ALL_BITS != 0 {
            return Err(self.corrupt(Fault {
                field: "state",
                found: state.into(),
                expected: "bits 0 to 2 alone",
            }));
        }
        if state & POISONED != 0 {
            let poison = ours.unwrap_or_else(|| self.header().poison_note());
            return Err(Error::Poisoned {
                ring: self.ring(),
                poison,
            });
        }
        match state & closers {
            0 => Ok(()),
            by if by & PRODUCER_CLOSED != 0 => Err(Error::Closed {
                ring: self.ring(),
                by: Side::Producer,
            }),
            _ => Err(Error::Closed {
                ring: self.ring(),
                by: Side::Consumer,
            }),
        }
    }

    /// Waits until `ready`, or until it is worth another look.
    pub(crate) fn wait(
        &self,
        spinner: &mut Spinner,
        until: Option<Instant>,
        what: &'static str,
        ready: impl Fn() -> bool,
    ) -> Result<(), Error> {
        if until.is_some_and(|until| Instant::now() >= until) {
            return Err(Error::TimedOut {
                ring: self.ring(),
                what,
            });
        }
        if spinner.glance(&ready) {
            return Ok(());
        }
        let started = Instant::now();
        if !spinner.spin(started, until, &ready) {
            self.own_bell().sleep_unless(&ready, until);
            spinner.learn(started.elapsed());
        }
        Ok(())
    }

    /// Gives the slot of a frame that was read back to the producer, and with it those behind it that waited for it.
    pub(crate) fn release(&self, sequence: u64) {
        let mut window = lock(&self.window);
        if let Some(edge) = window.finish(sequence) {
            self.edge.store(edge, Ordering::Release);
            // Release: pairs with the Acquire in `Producer::room`; what we did to the slot is done.
            self.header().tail.0.store(edge, Ordering::Release);
        }
        drop(window);
        self.header().room.ring();
    }

    /// Publishes frame `sequence`, unless the ring has ended. The window's lock stands between this and a close, so
    /// that no frame is reported as sent behind the end that the consumer sees. `header` writes the frame's header, as
    /// the last thing before the turn: a reader that watches the turn takes their cache line away at every look.
    pub(crate) fn publish(&self, sequence: u64, header: impl FnOnce()) -> Result<(), Error> {
        let mut window = lock(&self.window);
        self.check(self.state(), PRODUCER_CLOSED | CONSUMER_CLOSED)?;
        self.turn_over(&mut window, sequence, header);
        drop(window);
        self.header().frames.ring();
        // While the reader has this frame: how far it was is what the next reservation needs to know, and the reader's
        // cache has the line.
        let slots = self.segment.geometry().slots.into();
        if (sequence + 1).saturating_sub(self.seen_tail.load(Ordering::Relaxed)) >= slots {
            // Acquire and Release: hand on to `Producer::room` what the reader's Release in `End::release` says.
            let tail = self.header().tail.0.load(Ordering::Acquire);
            self.seen_tail.store(tail, Ordering::Release);
        }
        // Likewise where the next one goes its own cache has the lines from the last time. Not
        // that of the turn, which it watches.
        self.segment.prefetch_to_write(sequence + 1, DESCRIPTORS_AT);
        self.segment.prefetch_to_write(sequence + 1, DATA_AT as usize);
        Ok(())
    }

    /// Hands on a slot in which there is no frame, as `header` says.
    pub(crate) fn give_up(&self, sequence: u64, header: impl FnOnce()) {
        self.turn_over(&mut lock(&self.window), sequence, header);
        self.header().frames.ring();
    }

    fn turn_over(&self, window: &mut Window, sequence: u64, header: impl FnOnce()) {
        if let Some(edge) = window.finish(sequence) {
            self.edge.store(edge, Ordering::Release);
        }
        let turn = self.segment.turn(sequence);
        header();
        // Release: pairs with the Acquire in `End::published`; the frame is written.
        turn.store(published_turn(sequence), Ordering::Release);
    }

    /// Whether frame `sequence` is published, for the consumer.
    pub(crate) fn published(&self, sequence: u64) -> Result<bool, Fault> {
        // Acquire: pairs with the Release in `End::turn_over`; the frame is written.
        let turn = self.segment.turn(sequence).load(Ordering::Acquire);
        if turn == self.stale_turn(sequence) {
            return Ok(false);
        }
        // A slot that was not given back is not delivered again: its frame is still in someone's hands.
        let end = self.edge.load(Ordering::Acquire) + u64::from(self.segment.geometry().slots);
        if turn != published_turn(sequence) || sequence >= end {
            return Err(Fault {
                field: "turn",
                found: turn,
                expected: "that of the slot's last frame or of its next",
            });
        }
        Ok(true)
    }

    /// Whether there is something to find in the slot of frame `sequence`, or the ring has ended.
    pub(crate) fn awaits_nothing(&self, sequence: u64) -> bool {
        let there = self.segment.turn(sequence).load(Ordering::Relaxed) != self.stale_turn(sequence);
        if there {
            // As `Frame::read` does, a few nanoseconds earlier.
            self.segment.prefetch(sequence, DESCRIPTORS_AT);
            self.segment.prefetch(sequence, DATA_AT as usize);
        }
        there || self.state() != 0
    }

    /// What the turn of frame `sequence` is until it is published: that of the frame before it in the slot, or 0.
    fn stale_turn(&self, sequence: u64) -> u64 {
        published_turn(sequence).saturating_sub(self.segment.geometry().slots.into())
    }

    /// Ends the ring in good order.
    pub(crate) fn close(&self) {
        let bit = match self.side {
            Side::Producer => PRODUCER_CLOSED,
            Side::Consumer => CONSUMER_CLOSED,
        };
        {
            let _no_commit_meanwhile = lock(&self.window);
            self.verdict.fetch_or(bit, Ordering::Release);
            self.header().state.0.fetch_or(bit, Ordering::Release); // pairs with the Acquire in `state`
        }
        self.wake_everyone();
    }

    /// Ends the ring at once, for both ends.
    pub(crate) fn poison(&self, reason: Reason, text: &str) {
        let mut note = lock(&self.note);
        if note.is_none() {
            *note = Some(Poison {
                reason,
                text: text.to_owned(),
            });
            self.verdict.fetch_or(POISONED, Ordering::Release);
            self.header().poison(reason, text); // under the lock: nobody sees half a note of ours
        }
        drop(note);
        self.wake_everyone();
    }

    /// The verdict on a peer that wrote nonsense.
    pub(crate) fn corrupt(&self, source: Fault) -> Error {
        self.poison(Reason::Corrupt, &source.to_string());
        Error::Corrupt {
            ring: self.ring(),
            source,
        }
    }

    fn wake_everyone(&self) {
        self.header().frames.ring_all();
        self.header().room.ring_all();
    }

    fn own_bell(&self) -> &Bell {
        match self.side {
            Side::Producer => &self.header().room,
            Side::Consumer => &self.header().frames,
        }
    }
}

fn published_turn(sequence: u64) -> u64 {
    sequence + 1
}

/// A hold on a ring by which any thread of this process can end it while another waits in it.
#[derive(Clone)]
pub struct Handle {
    pub(crate) end: Arc<End>,
}

impl Handle {
    /// Ends the ring for both ends at once: every wait in it, in either process, returns [`Error::Poisoned`]. The
    /// first note stays; `text` is cut after 240 bytes.
    pub fn poison(&self, reason: Reason, text: &str) {
        self.end.poison(reason, text);
    }

    /// Closes this end in good order: nothing more is sent, or nothing more is read.
    pub fn close(&self) {
        self.end.close();
    }

    /// Fails if the ring is closed by either end or poisoned.
    ///
    /// # Errors
    /// [`Error::Closed`], [`Error::Poisoned`].
    pub fn check(&self) -> Result<(), Error> {
        self.end
            .check(self.end.state(), PRODUCER_CLOSED | CONSUMER_CLOSED)
    }

    /// Registers the ring's memory with CUDA (`cuMemHostRegister`), once for this end, until the end and all frames of
    /// it are dropped. Says whether it is registered: it is not where this process has not loaded CUDA's driver, or the
    /// calling thread has no context.
    ///
    /// # Errors
    /// [`Error::Cuda`]; the ring works all the same.
    #[cfg(not(loom))]
    pub fn pin(&self) -> Result<bool, Error> {
        let mut pinned = lock(&self.end.pinned);
        if pinned.is_none() {
            let (base, bytes) = self.end.segment.memory();
            // SAFETY: the memory belongs to the segment, which `End` drops after `pinned`.
            *pinned = unsafe { crate::pin::Pinned::new(self.name(), base, bytes) }?;
        }
        Ok(pinned.is_some())
    }

    /// The ring's name, the last part of its path.
    pub fn name(&self) -> &str {
        self.end.name.as_str()
    }
}

impl std::fmt::Debug for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Handle({} of {})", self.end.side, self.end.name.as_str())
    }
}
