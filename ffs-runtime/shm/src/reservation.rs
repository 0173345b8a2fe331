//! A slot on its way to be a frame: filled in place, then committed or given up.

use crate::error::{Error, LayoutError};
use crate::frame::{
    ALIGN, DATA_AT, DESCRIPTORS_AT, FRAME_AT, MAX_TENSORS, Placed, RawFrame, RawTensor, TURN_AT,
};
use crate::layout::FrameLayout;
use crate::ring::End;
use crate::sheet::Sheet;
use crate::sync::Arc;
use crate::tensor::TensorLayout;
use std::ptr::NonNull;

/// Memory for JSON that stays with a slot, in bytes; more is rare, and given back.
const KEPT_JSON: usize = 64 * 1024;

/// A reserved slot. It owns its hold on the ring: it may outlive the [`Producer`] and be committed on any thread.
///
/// Dropped without a commit, nothing is sent. Frames reserved later are delivered only after this one is committed or
/// dropped.
#[must_use = "a frame that is not committed is not sent"]
pub struct FrameMut {
    end: Arc<End>,
    sequence: u64,
    committed: bool,
}

impl FrameMut {
    /// For a slot that was taken, and a layout that [`fits`].
    pub(crate) fn new(end: Arc<End>, sequence: u64, layout: &FrameLayout) -> Self {
        let mut frame = Self {
            end,
            sequence,
            committed: false,
        };
        let sheet = frame.sheet_mut();
        sheet.kind = layout.kind;
        sheet.head.kind = layout.kind as u16;
        sheet.head.flags = layout.flags;
        sheet.head.request = layout.request.to_be_bytes();
        sheet.head.deadline_ms = layout.deadline_ms;
        sheet.json.clear();
        sheet.tensors.clear();
        sheet.filled = DATA_AT;
        for tensor in &layout.tensors {
            let at = sheet.filled.next_multiple_of(ALIGN);
            sheet.filled = at + tensor.bytes();
            sheet.tensors.push(Placed { layout: *tensor, at });
        }
        frame
    }

    /// Number of tensors.
    pub fn tensor_count(&self) -> usize {
        self.sheet().tensors.len()
    }

    /// Type and shape of tensor `index`.
    pub fn layout(&self, index: usize) -> Option<&TensorLayout> {
        self.sheet().tensors.get(index).map(|placed| &placed.layout)
    }

    /// The memory of tensor `index`, to be filled. It holds what an earlier frame left there.
    pub fn tensor_mut(&mut self, index: usize) -> Option<&mut [u8]> {
        let pointer = self.tensor_ptr(index)?;
        let bytes = self.sheet().tensors.get(index)?.layout.bytes() as usize;
        // SAFETY: `Placed` lies inside the slot, which is ours until the commit; `&mut self` makes this the only
        // reference into it.
        Some(unsafe { std::slice::from_raw_parts_mut(pointer.as_ptr(), bytes) })
    }

    /// Address of tensor `index`, 64-byte aligned; `layout(index).bytes()` from there may be written until the commit.
    pub fn tensor_ptr(&self, index: usize) -> Option<NonNull<u8>> {
        let placed = self.sheet().tensors.get(index)?;
        self.end.segment.writes(self.sequence);
        // SAFETY: `Placed::after` has seen that the tensor lies inside the slot.
        Some(unsafe { self.end.segment.slot(self.sequence).add(placed.at as usize) })
    }

    /// Adds a tensor behind those already there and tells its index; for outputs whose shape is known late.
    ///
    /// # Errors
    /// [`Error::TooLarge`], [`Error::Layout`] for a 17th tensor.
    pub fn push(&mut self, layout: TensorLayout) -> Result<usize, Error> {
        let sheet = self.sheet();
        let slot_bytes = self.end.segment.geometry().slot_bytes - sheet.json.len() as u64;
        let index = sheet.tensors.len();
        let at = place_one(&self.end, index, sheet.filled, layout.bytes(), slot_bytes)?;
        let sheet = self.sheet_mut();
        sheet.filled = at + layout.bytes();
        sheet.tensors.push(Placed { layout, at });
        Ok(index)
    }

    /// Sets the JSON extras; they go behind the tensors.
    ///
    /// # Errors
    /// [`Error::JsonTooLarge`].
    pub fn set_json(&mut self, json: &[u8]) -> Result<(), Error> {
        let slot_bytes = self.end.segment.geometry().slot_bytes;
        let room = slot_bytes - self.sheet().filled;
        if json.len() as u64 > room {
            let (ring, bytes) = (self.end.ring(), json.len() as u64);
            return Err(Error::JsonTooLarge {
                ring,
                bytes,
                room,
                slot_bytes,
            });
        }
        let sheet = self.sheet_mut();
        sheet.json.clear();
        sheet.json.extend_from_slice(json);
        Ok(())
    }

    /// Sends the frame.
    ///
    /// # Errors
    /// [`Error::Closed`], [`Error::Poisoned`]; the frame is then not sent.
    pub fn commit(mut self) -> Result<(), Error> {
        // Its way here takes as long as all that is done before it is written.
        self.end.segment.prefetch_to_write(self.sequence, TURN_AT);
        self.write_tensors_and_json();
        let sheet = self.sheet_mut();
        sheet.head.tensors = sheet.tensors.len() as u16;
        sheet.head.json_at = sheet.filled;
        sheet.head.json_bytes = sheet.json.len() as u64;
        if sheet.json.capacity() > KEPT_JSON {
            sheet.json = Vec::new();
        }
        sheet.head.sent_ns = crate::clock::monotonic_ns();
        self.end
            .publish(self.sequence, || self.write_header(&self.sheet().head))?;
        self.committed = true;
        Ok(())
    }

    fn write_tensors_and_json(&self) {
        self.end.segment.writes(self.sequence);
        let slot = self.end.segment.slot(self.sequence);
        let sheet = self.sheet();
        // SAFETY: the slot is ours until it is published, 64-byte aligned, and at least DATA_AT bytes long, which
        // holds MAX_TENSORS descriptors. The JSON was checked against the room behind `filled`.
        unsafe {
            let descriptors = slot.add(DESCRIPTORS_AT).cast::<RawTensor>();
            for (index, placed) in sheet.tensors.iter().enumerate() {
                placed.write(descriptors.add(index));
            }
            slot.add(sheet.filled as usize)
                .copy_from_nonoverlapping(NonNull::from(sheet.json.as_slice()).cast(), sheet.json.len());
        }
    }

    fn write_header(&self, raw: &RawFrame) {
        self.end.segment.writes(self.sequence);
        let slot = self.end.segment.slot(self.sequence);
        // SAFETY: as above; the header stands before the descriptors.
        unsafe { raw.write(slot.add(FRAME_AT).cast()) };
    }

    fn sheet(&self) -> &Sheet {
        // SAFETY: the slot is ours, and what `sheet_mut` gave has ended, since it borrowed `self` mutably.
        unsafe { self.end.sheets.get(self.sequence) }
    }

    fn sheet_mut(&mut self) -> &mut Sheet {
        // SAFETY: the slot is ours, and `&mut self` makes this the only reference.
        unsafe { self.end.sheets.get_mut(self.sequence) }
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
        let layouts: Vec<_> = self.sheet().tensors.iter().map(|placed| placed.layout).collect();
        write!(
            f,
            "FrameMut({} #{}, {layouts:?})",
            self.end.name.as_str(),
            self.sequence
        )
    }
}

/// Whether the tensors of a layout have room in a slot.
pub(crate) fn fits(end: &End, layout: &FrameLayout) -> Result<(), Error> {
    let slot_bytes = end.segment.geometry().slot_bytes;
    let mut filled = DATA_AT;
    for (index, tensor) in layout.tensors.iter().enumerate() {
        filled = place_one(end, index, filled, tensor.bytes(), slot_bytes)? + tensor.bytes();
    }
    Ok(())
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
