//! What one end keeps of the frame in each of its slots, in its own memory.
//!
//! The sheets are made with the ring and used again with their slots: a frame in hand is a pointer and a number, and to
//! make one or to pass it on allocates and moves nothing.

use crate::frame::{DATA_AT, Kind, Placed, RawFrame};
use crate::sync::UnsafeCell;

/// One frame, as this process has checked or decided it.
pub(crate) struct Sheet {
    pub(crate) head: RawFrame,
    pub(crate) kind: Kind,
    pub(crate) tensors: Vec<Placed>,
    /// End of the last tensor in the slot.
    pub(crate) filled: u64,
    /// What goes behind the tensors, for the producer.
    pub(crate) json: Vec<u8>,
}

/// One sheet for each slot. Whoever has a slot in hand has its sheet.
pub(crate) struct Sheets(Box<[UnsafeCell<Sheet>]>);

// SAFETY: sheets are reached through `get` and `get_mut` alone, whose callers vouch that nobody else has them.
unsafe impl Send for Sheets {}
// SAFETY: as above.
unsafe impl Sync for Sheets {}

impl Sheets {
    pub(crate) fn new(slots: u32) -> Self {
        let empty = |_| {
            UnsafeCell::new(Sheet {
                head: RawFrame::void(),
                kind: Kind::Control,
                tensors: Vec::new(),
                filled: DATA_AT,
                json: Vec::new(),
            })
        };
        Self((0..slots).map(empty).collect())
    }

    /// The sheet of the frame with this number.
    ///
    /// # Safety
    /// The caller has the frame in hand, and no reference by `get_mut`.
    pub(crate) unsafe fn get(&self, sequence: u64) -> &Sheet {
        // SAFETY: as the caller vouches; it lives as long as `self`.
        self.cell(sequence).with(|sheet| unsafe { &*sheet })
    }

    /// The sheet of the frame with this number, to be changed.
    ///
    /// # Safety
    /// The caller has the frame in hand, and no other reference to its sheet.
    #[expect(clippy::mut_from_ref, reason = "the frame in hand stands for the sheet")]
    pub(crate) unsafe fn get_mut(&self, sequence: u64) -> &mut Sheet {
        // SAFETY: as the caller vouches; it lives as long as `self`.
        self.cell(sequence).with_mut(|sheet| unsafe { &mut *sheet })
    }

    fn cell(&self, sequence: u64) -> &UnsafeCell<Sheet> {
        &self.0[(sequence % self.0.len() as u64) as usize]
    }
}
