//! The end that writes: reserve a slot, fill it in place, commit.

use crate::error::{Error, Fault, LayoutError, Side};
use crate::frame::{DATA_AT, FrameLayout, Kind, MAX_TENSORS, Placed, RawFrame, RawTensor};
use crate::header::{CONSUMER_CLOSED, PRODUCER_CLOSED};
use crate::name::Name;
use crate::ring::{End, Handle};
use crate::spin::{Spin, Spinner};
use crate::sync::{Arc, Ordering};
use crate::tensor::TensorLayout;
use std::ptr::NonNull;
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
        let (tensors, filled) = place(&self.end, layout)?;
        loop {
            if let Some(sequence) = self.take_slot()? {
                return Ok(FrameMut::new(self.end.clone(), sequence, layout, tensors, filled));
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
        let (tensors, filled) = place(&self.end, layout)?;
        let slot = self.take_slot()?;
        Ok(slot.map(|sequence| FrameMut::new(self.end.clone(), sequence, layout, tensors, filled)))
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
        if self.next - self.tail < slots {
            return Ok(true);
        }
        // Acquire: pairs with the Release in `End::finish` of the consumer; it has read what stood in the slot.
        let tail = self.end.header().tail.0.load(Ordering::Acquire);
        // Nothing beyond what was published can have been read: it may still be reserved.
        let published = self.end.edge.load(Ordering::Relaxed);
        if tail < self.tail || tail > published {
            let expected = "between its last value and head";
            return Err(self.end.corrupt(Fault {
                field: "tail",
                found: tail,
                expected,
            }));
        }
        self.tail = tail;
        Ok(self.next - tail < slots)
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

/// A reserved slot. It owns its hold on the ring: it may outlive the [`Producer`] and be committed on any thread.
///
/// Dropped without a commit, nothing is sent. Frames reserved later are delivered only after this one is committed or
/// dropped.
#[must_use = "a frame that is not committed is not sent"]
pub struct FrameMut {
    end: Arc<End>,
    sequence: u64,
    request: u128,
    deadline_ms: u64,
    flags: u32,
    kind: Kind,
    tensors: Vec<Placed>,
    /// End of the last tensor in the slot.
    filled: u64,
    json: Vec<u8>,
    committed: bool,
}

impl FrameMut {
    fn new(end: Arc<End>, sequence: u64, layout: &FrameLayout, tensors: Vec<Placed>, filled: u64) -> Self {
        Self {
            end,
            sequence,
            request: layout.request,
            deadline_ms: layout.deadline_ms,
            flags: layout.flags,
            kind: layout.kind,
            tensors,
            filled,
            json: Vec::new(),
            committed: false,
        }
    }

    /// Number of tensors.
    pub fn tensor_count(&self) -> usize {
        self.tensors.len()
    }

    /// Type and shape of tensor `index`.
    pub fn layout(&self, index: usize) -> Option<&TensorLayout> {
        self.tensors.get(index).map(|placed| &placed.layout)
    }

    /// The memory of tensor `index`, to be filled. It holds what an earlier frame left there.
    pub fn tensor_mut(&mut self, index: usize) -> Option<&mut [u8]> {
        let pointer = self.tensor_ptr(index)?;
        let bytes = self.tensors.get(index)?.layout.bytes() as usize;
        // SAFETY: `Placed` lies inside the slot, which is ours until the commit; `&mut self` makes this the only
        // reference into it.
        Some(unsafe { std::slice::from_raw_parts_mut(pointer.as_ptr(), bytes) })
    }

    /// Address of tensor `index`, 64-byte aligned; `layout(index).bytes()` from there may be written until the commit.
    pub fn tensor_ptr(&self, index: usize) -> Option<NonNull<u8>> {
        let placed = self.tensors.get(index)?;
        self.end.segment.writes(self.sequence);
        // SAFETY: `Placed::after` has seen that the tensor lies inside the slot.
        Some(unsafe { self.end.segment.slot(self.sequence).add(placed.at as usize) })
    }

    /// Adds a tensor behind those already there and tells its index; for outputs whose shape is known late.
    ///
    /// # Errors
    /// [`Error::TooLarge`], [`Error::Layout`] for a 17th tensor.
    pub fn push(&mut self, layout: TensorLayout) -> Result<usize, Error> {
        let slot_bytes = self.end.segment.geometry().slot_bytes - self.json.len() as u64;
        let index = self.tensors.len();
        let placed = place_one(&self.end, index, self.filled, layout, slot_bytes)?;
        self.filled = placed.end();
        self.tensors.push(placed);
        Ok(index)
    }

    /// Sets the JSON extras; they go behind the tensors.
    ///
    /// # Errors
    /// [`Error::JsonTooLarge`].
    pub fn set_json(&mut self, json: &[u8]) -> Result<(), Error> {
        let slot_bytes = self.end.segment.geometry().slot_bytes;
        let room = slot_bytes - self.filled;
        if json.len() as u64 > room {
            let (ring, bytes) = (self.end.ring(), json.len() as u64);
            return Err(Error::JsonTooLarge {
                ring,
                bytes,
                room,
                slot_bytes,
            });
        }
        self.json.clear();
        self.json.extend_from_slice(json);
        Ok(())
    }

    /// Sends the frame.
    ///
    /// # Errors
    /// [`Error::Closed`], [`Error::Poisoned`]; the frame is then not sent.
    pub fn commit(mut self) -> Result<(), Error> {
        self.write(&RawFrame {
            sequence: self.sequence,
            kind: self.kind as u16,
            tensors: self.tensors.len() as u16,
            flags: self.flags,
            request: self.request.to_be_bytes(),
            deadline_ms: self.deadline_ms,
            json_at: self.filled,
            json_bytes: self.json.len() as u64,
            sent_ns: crate::clock::monotonic_ns(),
        });
        self.end.publish(self.sequence)?;
        self.committed = true;
        Ok(())
    }

    fn write(&self, raw: &RawFrame) {
        self.end.segment.writes(self.sequence);
        let slot = self.end.segment.slot(self.sequence);
        // SAFETY: the slot is ours until it is published, 64-byte aligned, and at least DATA_AT bytes long, which
        // holds the header and MAX_TENSORS descriptors. The JSON was checked against the room behind `filled`.
        unsafe {
            slot.cast::<RawFrame>().write(*raw);
            let descriptors = slot.add(size_of::<RawFrame>()).cast::<RawTensor>();
            for (index, placed) in self.tensors.iter().enumerate() {
                placed.to_raw().write(descriptors.add(index));
            }
            slot.add(self.filled as usize)
                .copy_from_nonoverlapping(NonNull::from(self.json.as_slice()).cast(), self.json.len());
        }
    }
}

impl Drop for FrameMut {
    fn drop(&mut self) {
        if !self.committed {
            self.write(&RawFrame::void(self.sequence));
            self.end.finish(self.sequence);
        }
    }
}

impl std::fmt::Debug for FrameMut {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let layouts: Vec<_> = self.tensors.iter().map(|placed| placed.layout).collect();
        write!(
            f,
            "FrameMut({} #{}, {layouts:?})",
            self.end.name.as_str(),
            self.sequence
        )
    }
}

fn place(end: &End, layout: &FrameLayout) -> Result<(Vec<Placed>, u64), Error> {
    let slot_bytes = end.segment.geometry().slot_bytes;
    let mut tensors = Vec::with_capacity(layout.tensors.len());
    let mut filled = DATA_AT;
    for (index, tensor) in layout.tensors.iter().enumerate() {
        let placed = place_one(end, index, filled, *tensor, slot_bytes)?;
        filled = placed.end();
        tensors.push(placed);
    }
    Ok((tensors, filled))
}

fn place_one(
    end: &End,
    index: usize,
    filled: u64,
    layout: TensorLayout,
    until: u64,
) -> Result<Placed, Error> {
    if index >= MAX_TENSORS {
        return Err(Error::Layout {
            ring: end.ring(),
            tensor: index,
            source: LayoutError::TooManyTensors,
        });
    }
    Placed::after(filled, layout, until).map_err(|room| Error::TooLarge {
        ring: end.ring(),
        tensor: index,
        bytes: layout.bytes(),
        room,
        slot_bytes: end.segment.geometry().slot_bytes,
    })
}
