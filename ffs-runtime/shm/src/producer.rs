//! The end that writes: reserve a slot, fill it in place, commit.

use crate::error::{Error, Fault, Side};
use crate::frame::Kind;
use crate::header::{CONSUMER_CLOSED, PRODUCER_CLOSED};
use crate::layout::FrameLayout;
use crate::name::Name;
use crate::reservation::{self, FrameMut};
use crate::ring::{End, Handle};
use crate::spin::{Spin, Spinner};
use crate::sync::{Arc, Ordering};
use std::time::Instant;

/// What a ring is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingSpec {
    /// Frames that may be on their way or in the reader's hands at once; 1 to 65,536.
    pub slots: u32,
    /// Bytes of a slot, frame header included; rounded up to 64. [`FrameLayout::slot_bytes`] tells what a frame needs.
    pub slot_bytes: u64,
    /// Epoch of the assignment that this ring belongs to.
    pub epoch: u64,
}

/// The writing end. It made the ring, and takes its name away when it is dropped.
pub struct Producer {
    end: Arc<End>,
    spinner: Spinner,
    /// Number of the next reservation.
    next: u64,
    /// The tail as it was when we last looked: it only grows.
    tail: u64,
    #[cfg(not(loom))]
    file: crate::segment::FileId,
}

impl Producer {
    /// Makes a ring at `path`, `/dev/shm/<name>`, for this user alone. A ring of that name that an earlier epoch has
    /// left behind is replaced. The memory is taken at once.
    ///
    /// # Errors
    /// [`Error::Path`], [`Error::Geometry`], [`Error::Os`] (also when the memory is not there).
    #[cfg(not(loom))]
    pub fn create(path: impl AsRef<std::path::Path>, spec: &RingSpec) -> Result<Self, Error> {
        let name = Name::of(path.as_ref())?;
        let geometry =
            crate::header::Geometry::new(spec.slots, spec.slot_bytes, spec.epoch).map_err(|source| {
                Error::Geometry {
                    ring: name.as_str().to_owned(),
                    source,
                }
            })?;
        let (segment, file) = crate::segment::create(&name, geometry)?;
        Ok(Self {
            end: End::new(segment, name, Side::Producer),
            spinner: Spinner::new(),
            next: 0,
            tail: 0,
            file,
        })
    }

    #[cfg(loom)]
    pub(crate) fn of(segment: crate::ring::Segment, name: Name) -> Self {
        Self {
            end: End::new(segment, name, Side::Producer),
            spinner: Spinner::new(),
            next: 0,
            tail: 0,
        }
    }

    /// Reserves a slot for `layout` and places its tensors in it, waiting for room until the deadline (`None`: for as
    /// long as the ring lives). Several frames may be reserved at once; they are delivered in the order of their
    /// reservation.
    ///
    /// # Errors
    /// [`Error::TooLarge`] and [`Error::Layout`] before anything is waited for, [`Error::TimedOut`],
    /// [`Error::Closed`], [`Error::Poisoned`], [`Error::Corrupt`].
    pub fn reserve(&mut self, layout: &FrameLayout, until: Option<Instant>) -> Result<FrameMut, Error> {
        reservation::fits(&self.end, layout)?;
        loop {
            if let Some(sequence) = self.take_slot()? {
                return Ok(FrameMut::new(self.end.clone(), sequence, layout));
            }
            let (end, tail) = (&self.end, self.tail);
            end.wait(&mut self.spinner, until, "room", || {
                end.header().tail.0.load(Ordering::Relaxed) != tail || end.state() != 0
            })?;
        }
    }

    /// As [`Producer::reserve`], but `None` instead of waiting.
    ///
    /// # Errors
    /// As [`Producer::reserve`], but for the deadline.
    pub fn try_reserve(&mut self, layout: &FrameLayout) -> Result<Option<FrameMut>, Error> {
        reservation::fits(&self.end, layout)?;
        let slot = self.take_slot()?;
        Ok(slot.map(|sequence| FrameMut::new(self.end.clone(), sequence, layout)))
    }

    /// Sends JSON alone.
    ///
    /// # Errors
    /// As [`Producer::reserve`], and [`Error::JsonTooLarge`].
    pub fn send_json(
        &mut self,
        kind: Kind,
        request: u128,
        deadline_ms: u64,
        json: &[u8],
        until: Option<Instant>,
    ) -> Result<(), Error> {
        let mut frame = self.reserve(&FrameLayout::new(kind, request).deadline_ms(deadline_ms), until)?;
        frame.set_json(json)?;
        frame.commit()
    }

    /// Tells the reader that `request` has failed, so that a join there does not wait for it.
    ///
    /// # Errors
    /// As [`Producer::send_json`].
    pub fn send_error(&mut self, request: u128, json: &[u8], until: Option<Instant>) -> Result<(), Error> {
        self.send_json(Kind::Error, request, 0, json, until)
    }

    /// Whether [`Producer::reserve`] would return at once, with a slot or with the ring's end.
    pub fn has_room(&mut self) -> bool {
        !matches!(self.room(), Ok(false))
    }

    /// How this end waits for room.
    pub fn set_spin(&mut self, spin: Spin) {
        self.spinner.set(spin);
    }

    /// Number of slots.
    pub fn slots(&self) -> u32 {
        self.end.segment.geometry().slots
    }

    /// Size of a slot in bytes.
    pub fn slot_bytes(&self) -> u64 {
        self.end.segment.geometry().slot_bytes
    }

    /// A hold by which other threads can end the ring.
    pub fn handle(&self) -> Handle {
        Handle {
            end: self.end.clone(),
        }
    }

    fn take_slot(&mut self) -> Result<Option<u64>, Error> {
        if !self.room()? {
            return Ok(None);
        }
        let sequence = self.next;
        self.next += 1;
        Ok(Some(sequence))
    }

    fn room(&mut self) -> Result<bool, Error> {
        self.end
            .check(self.end.state(), PRODUCER_CLOSED | CONSUMER_CLOSED)?;
        let slots = u64::from(self.slots());
        // Acquire: as below, and the last commit has seen it.
        let seen = self.end.seen_tail.load(Ordering::Acquire);
        if self.next - self.tail >= slots && seen > self.tail {
            self.pass(seen)?;
        }
        if self.next - self.tail >= slots {
            // Acquire: pairs with the Release in `End::release` of the consumer; it has read what stood in the slot.
            let tail = self.end.header().tail.0.load(Ordering::Acquire);
            self.pass(tail)?;
        }
        Ok(self.next - self.tail < slots)
    }

    /// Checks how far the reader says it is.
    fn pass(&mut self, tail: u64) -> Result<(), Error> {
        // Nothing beyond what was published can have been read: it may still be reserved.
        let published = self.end.edge.load(Ordering::Acquire);
        if tail < self.tail || tail > published {
            let expected = "between its last value and the frames published";
            return Err(self.end.corrupt(Fault {
                field: "tail",
                found: tail,
                expected,
            }));
        }
        self.tail = tail;
        Ok(())
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        self.end.close();
        #[cfg(not(loom))]
        crate::segment::remove(&self.end.name, self.file);
    }
}

impl std::fmt::Debug for Producer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Producer({}, {:?})",
            self.end.name.as_str(),
            self.end.segment.geometry()
        )
    }
}
