//! Stands in for `segment.rs` under loom: memory that both ends share inside one process, whose slots tell the model
//! when they are read and written, so that a slot which both ends have at once is found.

use crate::error::Fault;
use crate::header::{Geometry, Header};
use crate::sync::{Arc, AtomicU64};
use loom::cell::UnsafeCell;
use std::ptr::NonNull;

/// One end's view of the memory.
pub(crate) struct Segment(Arc<Memory>);

struct Memory {
    header: Header,
    geometry: Geometry,
    /// Raw, since both ends hold pointers into it. The words keep the alignment.
    slots: Box<[std::cell::UnsafeCell<u128>]>,
    turns: Box<[AtomicU64]>,
    witnesses: Box<[UnsafeCell<()>]>,
}

// SAFETY: as for the real segment; `witnesses` finds the accesses that would not be.
unsafe impl Send for Memory {}
// SAFETY: as above.
unsafe impl Sync for Memory {}

/// Both views of a new ring.
pub(crate) fn create(slots: u32, slot_bytes: u64) -> Result<(Segment, Segment), Fault> {
    let geometry = Geometry::new(slots, slot_bytes, 1)?;
    let words = (geometry.slot_stride * u64::from(slots) / 16) as usize;
    let header = Header::zeroed();
    header.write(&geometry);
    let memory = Arc::new(Memory {
        header,
        geometry,
        slots: (0..words).map(|_| std::cell::UnsafeCell::new(0)).collect(),
        turns: (0..slots).map(|_| AtomicU64::new(0)).collect(),
        witnesses: (0..slots).map(|_| UnsafeCell::new(())).collect(),
    });
    Ok((Segment(memory.clone()), Segment(memory)))
}

impl Segment {
    pub(crate) fn geometry(&self) -> &Geometry {
        &self.0.geometry
    }

    pub(crate) fn header(&self) -> &Header {
        &self.0.header
    }

    pub(crate) fn slot(&self, sequence: u64) -> NonNull<u8> {
        let index = sequence % u64::from(self.0.geometry.slots);
        let at = (index * self.0.geometry.slot_stride / 16) as usize;
        NonNull::from(&self.0.slots[at..]).cast()
    }

    pub(crate) fn turn(&self, sequence: u64) -> &AtomicU64 {
        &self.0.turns[(sequence % u64::from(self.0.geometry.slots)) as usize]
    }

    pub(crate) fn prefetch(&self, _sequence: u64, _at: usize) {}

    pub(crate) fn prefetch_to_write(&self, _sequence: u64, _at: usize) {}

    pub(crate) fn prefetch_tail_to_write(&self) {}

    pub(crate) fn writes(&self, sequence: u64) {
        self.witness(sequence).with_mut(|_| ());
    }

    pub(crate) fn reads(&self, sequence: u64) {
        self.witness(sequence).with(|_| ());
    }

    fn witness(&self, sequence: u64) -> &UnsafeCell<()> {
        &self.0.witnesses[(sequence % u64::from(self.0.geometry.slots)) as usize]
    }
}
