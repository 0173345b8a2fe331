//! A frame in the reader's hands: looked at or changed in place, released when it is dropped.

use crate::error::Fault;
use crate::frame::{self, DATA_AT, DESCRIPTORS_AT, FRAME_AT, Kind, Placed, RawFrame, RawTensor};
use crate::ring::End;
use crate::sheet::Sheet;
use crate::sync::Arc;
use crate::tensor::TensorLayout;
use std::ptr::NonNull;
use std::time::Duration;

/// A frame that was delivered: its slot is the reader's until this is dropped.
///
/// It owns its hold on the ring: it may outlive the [`Consumer`] and be dropped on any thread. Several frames may be
/// held and dropped in any order; the producer gets a slot back once all frames before it are dropped too.
pub struct Frame {
    end: Arc<End>,
    sequence: u64,
}

impl Frame {
    /// Copies a published frame's header and descriptors, then checks the copies. `None`: the producer gave the slot up.
    pub(crate) fn read(end: &Arc<End>, sequence: u64) -> Result<Option<Self>, Fault> {
        end.segment.reads(sequence);
        // Asked for together: one after the other, each would be a wait for the other processor's cache.
        end.segment.prefetch(sequence, DESCRIPTORS_AT);
        end.segment.prefetch(sequence, DATA_AT as usize);
        end.segment.prefetch_tail_to_write(); // it is written when the frame is given back
        let slot = end.segment.slot(sequence);
        let slot_bytes = end.segment.geometry().slot_bytes;
        // SAFETY: the frame is published and was not read yet: its slot is ours, and nobody else has its sheet.
        let sheet = unsafe { end.sheets.get_mut(sequence) };
        // SAFETY: the slot is mapped, aligned and at least DATA_AT bytes long; any bytes make a valid RawFrame.
        // Volatile: this is the one time it is read, whatever the other process does meanwhile.
        sheet.head = unsafe { slot.add(FRAME_AT).cast::<RawFrame>().read_volatile() };
        let Some(kind) = frame::check(&sheet.head)? else {
            return Ok(None);
        };
        sheet.kind = kind;
        sheet.tensors.clear();
        sheet.tensors.resize(sheet.head.tensors.into(), Placed::NOWHERE);
        let mut filled = DATA_AT;
        for (index, placed) in sheet.tensors.iter_mut().enumerate() {
            // SAFETY: as above; `frame::check` has seen that there are at most MAX_TENSORS.
            unsafe {
                let from = slot.add(DESCRIPTORS_AT).cast::<RawTensor>().add(index);
                placed.read(from, filled, slot_bytes)?;
            }
            filled = placed.end();
        }
        frame::check_json(&sheet.head, filled, slot_bytes)?;
        Ok(Some(Self {
            end: end.clone(),
            sequence,
        }))
    }

    fn sheet(&self) -> &Sheet {
        // SAFETY: the frame is in our hands until we are dropped, and its sheet was last changed in `read`.
        unsafe { self.end.sheets.get(self.sequence) }
    }

    /// What the frame is about.
    pub fn kind(&self) -> Kind {
        self.sheet().kind
    }

    /// The activation id as a number, first hexadecimal digit highest.
    pub fn request(&self) -> u128 {
        u128::from_be_bytes(self.sheet().head.request)
    }

    /// The deadline of the whole pipeline in milliseconds since 1970, if it has one.
    pub fn deadline_ms(&self) -> Option<u64> {
        let deadline_ms = self.sheet().head.deadline_ms;
        (deadline_ms != 0).then_some(deadline_ms)
    }

    /// The bits that [`crate::FrameLayout::flags`] set.
    pub fn flags(&self) -> u32 {
        self.sheet().head.flags
    }

    /// Time since the commit: the frame's way through the ring, and its wait there.
    pub fn age(&self) -> Duration {
        Duration::from_nanos(crate::clock::monotonic_ns().saturating_sub(self.sheet().head.sent_ns))
    }

    /// Number of tensors.
    pub fn tensor_count(&self) -> usize {
        self.sheet().tensors.len()
    }

    /// Type and shape of tensor `index`.
    pub fn layout(&self, index: usize) -> Option<&TensorLayout> {
        self.sheet().tensors.get(index).map(|placed| &placed.layout)
    }

    /// The bytes of tensor `index`.
    pub fn tensor(&self, index: usize) -> Option<&[u8]> {
        let pointer = self.tensor_ptr(index)?;
        let bytes = self.sheet().tensors.get(index)?.layout.bytes() as usize;
        // SAFETY: inside the slot, which is ours until we are dropped. An honest producer leaves it alone; a hostile
        // one changes plain bytes, which have no invalid values.
        Some(unsafe { std::slice::from_raw_parts(pointer.as_ptr(), bytes) })
    }

    /// The bytes of tensor `index`, to be changed in place; nobody else sees it.
    pub fn tensor_mut(&mut self, index: usize) -> Option<&mut [u8]> {
        let pointer = self.tensor_ptr(index)?;
        let bytes = self.sheet().tensors.get(index)?.layout.bytes() as usize;
        // SAFETY: as in `tensor`; `&mut self` makes this the only reference into the slot.
        Some(unsafe { std::slice::from_raw_parts_mut(pointer.as_ptr(), bytes) })
    }

    /// Address of tensor `index`, 64-byte aligned; `layout(index).bytes()` from there may be read and written for as
    /// long as the frame lives.
    pub fn tensor_ptr(&self, index: usize) -> Option<NonNull<u8>> {
        let placed = self.sheet().tensors.get(index)?;
        self.end.segment.reads(self.sequence);
        // SAFETY: `Placed::from_raw` has seen that the tensor lies inside the slot.
        Some(unsafe { self.end.segment.slot(self.sequence).add(placed.at as usize) })
    }

    /// A copy of the JSON extras; empty if there are none. They are as untrusted as the other lane.
    pub fn json(&self) -> Vec<u8> {
        let head = &self.sheet().head;
        let (at, bytes) = (head.json_at as usize, head.json_bytes as usize);
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
        self.end.release(self.sequence);
    }
}

impl std::fmt::Debug for Frame {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let layouts: Vec<_> = self.sheet().tensors.iter().map(|placed| placed.layout).collect();
        write!(
            f,
            "Frame({} #{}, {:?}, {layouts:?})",
            self.ring(),
            self.sequence,
            self.sheet().kind
        )
    }
}
