//! A slot on its way to be a frame: filled in place, then committed or given up.

use crate::error::{Error, LayoutError};
use crate::frame::{DATA_AT, DESCRIPTORS_AT, FRAME_AT, Kind, MAX_TENSORS, Placed, RawFrame, RawTensor};
use crate::layout::FrameLayout;
use crate::ring::End;
use crate::sync::Arc;
use crate::tensor::TensorLayout;
use std::ptr::NonNull;

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
    pub(crate) fn new(
        end: Arc<End>,
        sequence: u64,
        layout: &FrameLayout,
        tensors: Vec<Placed>,
        filled: u64,
    ) -> Self {
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
        let at = place_one(&self.end, index, self.filled, layout.bytes(), slot_bytes)?;
        self.filled = at + layout.bytes();
        self.tensors.push(Placed { layout, at });
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
        self.write_tensors_and_json();
        let raw = RawFrame {
            kind: self.kind as u16,
            tensors: self.tensors.len() as u16,
            flags: self.flags,
            request: self.request.to_be_bytes(),
            deadline_ms: self.deadline_ms,
            json_at: self.filled,
            json_bytes: self.json.len() as u64,
            sent_ns: crate::clock::monotonic_ns(),
        };
        self.end.publish(self.sequence, || self.write_header(&raw))?;
        self.committed = true;
        Ok(())
    }

    fn write_tensors_and_json(&self) {
        self.end.segment.writes(self.sequence);
        let slot = self.end.segment.slot(self.sequence);
        // SAFETY: the slot is ours until it is published, 64-byte aligned, and at least DATA_AT bytes long, which
        // holds MAX_TENSORS descriptors. The JSON was checked against the room behind `filled`.
        unsafe {
            let descriptors = slot.add(DESCRIPTORS_AT).cast::<RawTensor>();
            for (index, placed) in self.tensors.iter().enumerate() {
                placed.write(descriptors.add(index));
            }
            slot.add(self.filled as usize)
                .copy_from_nonoverlapping(NonNull::from(self.json.as_slice()).cast(), self.json.len());
        }
    }

    fn write_header(&self, raw: &RawFrame) {
        self.end.segment.writes(self.sequence);
        let slot = self.end.segment.slot(self.sequence);
        // SAFETY: as above; the header stands before the descriptors.
        unsafe { raw.write(slot.add(FRAME_AT).cast()) };
    }
}

impl Drop for FrameMut {
    fn drop(&mut self) {
        if !self.committed {
            self.end
                .give_up(self.sequence, || self.write_header(&RawFrame::void()));
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

/// Where the tensors of a layout go, and where the last one ends.
pub(crate) fn place(end: &End, layout: &FrameLayout) -> Result<(Vec<Placed>, u64), Error> {
    let slot_bytes = end.segment.geometry().slot_bytes;
    let mut tensors = Vec::with_capacity(layout.tensors.len());
    let mut filled = DATA_AT;
    for (index, tensor) in layout.tensors.iter().enumerate() {
        let at = place_one(end, index, filled, tensor.bytes(), slot_bytes)?;
        filled = at + tensor.bytes();
        tensors.push(Placed { layout: *tensor, at });
    }
    Ok((tensors, filled))
}

fn place_one(end: &End, index: usize, filled: u64, bytes: u64, until: u64) -> Result<u64, Error> {
    if index >= MAX_TENSORS {
        return Err(Error::Layout {
            ring: end.ring(),
            tensor: index,
            source: LayoutError::TooManyTensors,
        });
    }
    Placed::after(filled, bytes, until).map_err(|room| Error::TooLarge {
        ring: end.ring(),
        tensor: index,
        bytes,
        room,
        slot_bytes: end.segment.geometry().slot_bytes,
    })
}
