//! The end that reads: receive a frame, look at it in place, release it.

use crate::error::{Error, Fault, Side};
use crate::frame::{self, DATA_AT, Kind, Placed, RawFrame, RawTensor};
use crate::header::{CONSUMER_CLOSED, PRODUCER_CLOSED};
use crate::name::Name;
use crate::ring::{End, Handle, Segment};
use crate::spin::{Spin, Spinner};
use crate::sync::{Arc, Ordering};
use crate::tensor::TensorLayout;
use std::ptr::NonNull;
use std::time::{Duration, Instant};

/// The reading end.
pub struct Consumer {
    end: Arc<End>,
    spinner: Spinner,
    /// Number of the next frame.
    next: u64,
    /// The head as it was when we last looked: it only grows.
    head: u64,
}

impl Consumer {
    /// Waits until the ring of this epoch is at `path`, `/dev/shm/<name>`, and takes its reading end. A ring that an
    /// earlier epoch has left behind is passed over.
    ///
    /// # Errors
    /// [`Error::Path`], [`Error::TimedOut`], [`Error::Foreign`], [`Error::Epoch`], [`Error::Taken`],
    /// [`Error::Corrupt`], [`Error::Os`].
    #[cfg(not(loom))]
    pub fn open(
        path: impl AsRef<std::path::Path>,
        epoch: u64,
        until: Option<Instant>,
    ) -> Result<Self, Error> {
        let name = Name::of(path.as_ref())?;
        let mut pause = Duration::from_millis(1);
        loop {
            if let Some(consumer) = Self::find(&name, epoch)? {
                return Ok(consumer);
            }
            if until.is_some_and(|until| Instant::now() >= until) {
                return Err(Error::TimedOut {
                    ring: name.as_str().to_owned(),
                    what: "its producer to make it",
                });
            }
            // Rings are made while models are loaded, which takes far longer; no need to watch the directory.
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(10));
        }
    }

    /// As [`Consumer::open`], but `None` instead of waiting.
    ///
    /// # Errors
    /// As [`Consumer::open`], but for the deadline.
    #[cfg(not(loom))]
    pub fn try_open(path: impl AsRef<std::path::Path>, epoch: u64) -> Result<Option<Self>, Error> {
        Self::find(&Name::of(path.as_ref())?, epoch)
    }

    #[cfg(not(loom))]
    fn find(name: &Name, epoch: u64) -> Result<Option<Self>, Error> {
        let Some(segment) = crate::segment::open(name)? else {
            return Ok(None);
        };
        let found = segment.geometry().epoch;
        if found < epoch {
            return Ok(None);
        }
        let ring = || name.as_str().to_owned();
        if found > epoch {
            return Err(Error::Epoch {
                ring: ring(),
                found,
                expected: epoch,
            });
        }
        if !segment.header().claim_for_consumer() {
            return Err(Error::Taken { ring: ring() });
        }
        Ok(Some(Self::of(segment, name.clone())))
    }

    pub(crate) fn of(segment: Segment, name: Name) -> Self {
        Self {
            end: End::new(segment, name, Side::Consumer),
            spinner: Spinner::new(),
            next: 0,
            head: 0,
        }
    }

    /// The next frame, waiting until the deadline (`None`: for as long as the ring lives). What was sent before the
    /// producer closed the ring is still delivered; what was sent before it was poisoned is not.
    ///
    /// # Errors
    /// [`Error::TimedOut`], [`Error::Closed`], [`Error::Poisoned`], [`Error::Corrupt`].
    pub fn recv(&mut self, until: Option<Instant>) -> Result<Frame, Error> {
        loop {
            if let Some(frame) = self.try_recv()? {
                return Ok(frame);
            }
            let (end, next) = (&self.end, self.next);
            end.wait(&mut self.spinner, until, "a frame", || {
                end.header().head.0.load(Ordering::Relaxed) != next || end.state() != 0
            })?;
        }
    }

    /// The next frame, if there is one.
    ///
    /// # Errors
    /// As [`Consumer::recv`], but for the deadline.
    pub fn try_recv(&mut self) -> Result<Option<Frame>, Error> {
        let state = self.end.state(); // before `head`: a closed ring's head is final
        self.end.check(state, CONSUMER_CLOSED)?;
        if self.next == self.head {
            self.look()?;
        }
        while self.next != self.head {
            let sequence = self.next;
            let frame = self.read(sequence).map_err(|fault| self.end.corrupt(fault))?;
            self.next += 1;
            match frame {
                Some(frame) => return Ok(Some(frame)),
                None => self.end.finish(sequence), // given up by the producer
            }
        }
        self.end.check(state, PRODUCER_CLOSED)?;
        Ok(None)
    }

    /// Whether [`Consumer::recv`] would return at once, with a frame or with the ring's end.
    pub fn ready(&self) -> bool {
        self.end.header().head.0.load(Ordering::Relaxed) != self.next || self.end.state() != 0
    }

    /// How this end waits for frames.
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

    fn look(&mut self) -> Result<(), Error> {
        // Acquire: pairs with the Release in `End::finish_in` of the producer; the frames are written.
        let head = self.end.header().head.0.load(Ordering::Acquire);
        // A slot that was not given back is not delivered again: its frame is still in someone's hands.
        let end = self.end.edge.load(Ordering::Relaxed) + u64::from(self.slots());
        if head < self.head || head > end {
            let expected = "between its last value and tail + slots";
            return Err(self.end.corrupt(Fault {
                field: "head",
                found: head,
                expected,
            }));
        }
        self.head = head;
        Ok(())
    }

    /// Copies header and descriptors, then checks the copies. `None`: the producer gave the slot up.
    fn read(&self, sequence: u64) -> Result<Option<Frame>, Fault> {
        self.end.segment.reads(sequence);
        let slot = self.end.segment.slot(sequence);
        let slot_bytes = self.end.segment.geometry().slot_bytes;
        // SAFETY: the slot is mapped, aligned and at least DATA_AT bytes long; any bytes make a valid RawFrame.
        // Volatile: this is the one time it is read, whatever the other process does meanwhile.
        let raw = unsafe { slot.cast::<RawFrame>().read_volatile() };
        let Some(kind) = frame::check(&raw, sequence)? else {
            return Ok(None);
        };
        let mut tensors = Vec::with_capacity(raw.tensors.into());
        let mut filled = DATA_AT;
        for index in 0..usize::from(raw.tensors) {
            // SAFETY: as above; `frame::check` has seen that there are at most MAX_TENSORS.
            let raw =
                unsafe { RawTensor::read(slot.add(size_of::<RawFrame>()).cast::<RawTensor>().add(index)) };
            let placed = Placed::from_raw(&raw, filled, slot_bytes)?;
            filled = placed.end();
            tensors.push(placed);
        }
        frame::check_json(&raw, filled, slot_bytes)?;
        Ok(Some(Frame {
            end: self.end.clone(),
            sequence,
            request: u128::from_be_bytes(raw.request),
            deadline_ms: raw.deadline_ms,
            sent_ns: raw.sent_ns,
            json: (raw.json_at, raw.json_bytes),
            flags: raw.flags,
            kind,
            tensors,
        }))
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        self.end.close();
    }
}

impl std::fmt::Debug for Consumer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Consumer({}, {:?})",
            self.end.name.as_str(),
            self.end.segment.geometry()
        )
    }
}

/// A frame that was delivered: its slot is the reader's until this is dropped.
///
/// It owns its hold on the ring: it may outlive the [`Consumer`] and be dropped on any thread. Several frames may be
/// held and dropped in any order; the producer gets a slot back once all frames before it are dropped too.
pub struct Frame {
    end: Arc<End>,
    sequence: u64,
    request: u128,
    deadline_ms: u64,
    sent_ns: u64,
    /// Where the JSON stands in the slot, and how much of it; checked.
    json: (u64, u64),
    flags: u32,
    kind: Kind,
    tensors: Vec<Placed>,
}

impl Frame {
    /// What the frame is about.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The activation id as a number, first hexadecimal digit highest.
    pub fn request(&self) -> u128 {
        self.request
    }

    /// The deadline of the whole pipeline in milliseconds since 1970, if it has one.
    pub fn deadline_ms(&self) -> Option<u64> {
        (self.deadline_ms != 0).then_some(self.deadline_ms)
    }

    /// The bits that [`crate::FrameLayout::flags`] set.
    pub fn flags(&self) -> u32 {
        self.flags
    }

    /// Time since the commit: the frame's way through the ring, and its wait there.
    pub fn age(&self) -> Duration {
        Duration::from_nanos(crate::clock::monotonic_ns().saturating_sub(self.sent_ns))
    }

    /// Number of tensors.
    pub fn tensor_count(&self) -> usize {
        self.tensors.len()
    }

    /// Type and shape of tensor `index`.
    pub fn layout(&self, index: usize) -> Option<&TensorLayout> {
        self.tensors.get(index).map(|placed| &placed.layout)
    }

    /// The bytes of tensor `index`.
    pub fn tensor(&self, index: usize) -> Option<&[u8]> {
        let pointer = self.tensor_ptr(index)?;
        let bytes = self.tensors.get(index)?.layout.bytes() as usize;
        // SAFETY: inside the slot, which is ours until we are dropped. An honest producer leaves it alone; a hostile
        // one changes plain bytes, which have no invalid values.
        Some(unsafe { std::slice::from_raw_parts(pointer.as_ptr(), bytes) })
    }

    /// The bytes of tensor `index`, to be changed in place; nobody else sees it.
    pub fn tensor_mut(&mut self, index: usize) -> Option<&mut [u8]> {
        let pointer = self.tensor_ptr(index)?;
        let bytes = self.tensors.get(index)?.layout.bytes() as usize;
        // SAFETY: as in `tensor`; `&mut self` makes this the only reference into the slot.
        Some(unsafe { std::slice::from_raw_parts_mut(pointer.as_ptr(), bytes) })
    }

    /// Address of tensor `index`, 64-byte aligned; `layout(index).bytes()` from there may be read and written for as
    /// long as the frame lives.
    pub fn tensor_ptr(&self, index: usize) -> Option<NonNull<u8>> {
        let placed = self.tensors.get(index)?;
        self.end.segment.reads(self.sequence);
        // SAFETY: `Placed::from_raw` has seen that the tensor lies inside the slot.
        Some(unsafe { self.end.segment.slot(self.sequence).add(placed.at as usize) })
    }

    /// A copy of the JSON extras; empty if there are none. They are as untrusted as the other lane.
    pub fn json(&self) -> Vec<u8> {
        let (at, bytes) = (self.json.0 as usize, self.json.1 as usize);
        let mut json = vec![0; bytes];
        if bytes > 0 {
            self.end.segment.reads(self.sequence);
            // SAFETY: `frame::check_json` has seen that the bytes lie inside the slot, which is ours.
            unsafe {
                let from = self.end.segment.slot(self.sequence).add(at);
                from.copy_to_nonoverlapping(NonNull::from(json.as_mut_slice()).cast(), bytes);
            }
        }
        json
    }

    /// Name of the ring it came from.
    pub fn ring(&self) -> &str {
        self.end.name.as_str()
    }

    /// Gives the slot back; the same as dropping it.
    pub fn release(self) {}
}

impl Drop for Frame {
    fn drop(&mut self) {
        self.end.finish(self.sequence);
    }
}

impl std::fmt::Debug for Frame {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let layouts: Vec<_> = self.tensors.iter().map(|placed| placed.layout).collect();
        write!(
            f,
            "Frame({} #{}, {:?}, {layouts:?})",
            self.ring(),
            self.sequence,
            self.kind
        )
    }
}
