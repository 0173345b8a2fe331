//! The first 4096 bytes of a ring: what it is, how far each end is, how it ends.
//!
//! All of it is atomics, since the other process may change any of it at any time. What is fixed is copied into a
//! [`Geometry`], checked there, and never read again.

use crate::error::{Fault, Poison, Reason};
use crate::frame::{ALIGN, DATA_AT};
use crate::futex::Bell;
use crate::sync::{AtomicU8, AtomicU32, AtomicU64, Ordering};

/// First bytes of every ring, read as a little-endian number.
pub(crate) const MAGIC: u64 = u64::from_le_bytes(*b"FFSRING\0");
/// Version of the layout that this crate reads and writes.
pub const ABI_VERSION: u32 = 2;
/// Bytes before the first slot.
pub(crate) const HEADER_BYTES: u64 = 4096;
/// Most slots of a ring.
pub const MAX_SLOTS: u32 = 65_536;
/// Longest sentence in a poisoned ring, in bytes.
const TEXT_BYTES: usize = if cfg!(loom) { 2 } else { 240 };

/// Set in `state`: the producer sends nothing more.
pub(crate) const PRODUCER_CLOSED: u32 = 1;
/// Set in `state`: the consumer reads nothing more.
pub(crate) const CONSUMER_CLOSED: u32 = 2;
/// Set in `state`: the ring is given up.
pub(crate) const POISONED: u32 = 4;
/// All of `state` that has a meaning.
pub(crate) const ALL_BITS: u32 = PRODUCER_CLOSED | CONSUMER_CLOSED | POISONED;

/// A value on cache lines of its own; 128 bytes, since processors fetch lines in pairs.
#[repr(C, align(128))]
pub(crate) struct Lines<T>(pub(crate) T);

/// The control block. One writer for each field, named beside it.
#[repr(C)]
pub(crate) struct Header {
    fixed: Lines<Fixed>,
    /// Frames whose slots were given back so far. Consumer.
    pub(crate) tail: Lines<AtomicU64>,
    /// Where the consumer sleeps until there is a frame. Both.
    pub(crate) frames: Bell,
    /// Where the producer sleeps until there is room. Both.
    pub(crate) room: Bell,
    /// Closed and poisoned bits; a bit that is set stays. Both.
    pub(crate) state: Lines<AtomicU32>,
    /// Why it is poisoned. Whoever claims it first.
    note: Note,
}

/// Written by the producer before the ring gets its name, but for `consumers`.
#[repr(C)]
struct Fixed {
    magic: AtomicU64,
    abi: AtomicU32,
    /// Bits for what a reader must understand; none so far.
    features: AtomicU32,
    header_bytes: AtomicU64,
    bytes: AtomicU64,
    slot_bytes: AtomicU64,
    slot_stride: AtomicU64,
    slots: AtomicU32,
    /// Consumers so far: 0 or 1.
    consumers: AtomicU32,
    epoch: AtomicU64,
}

#[repr(C, align(128))]
struct Note {
    claimed: AtomicU32,
    reason: AtomicU32,
    text_bytes: AtomicU32,
    reserved: AtomicU32,
    text: [AtomicU8; TEXT_BYTES],
}

#[cfg(not(loom))]
const _: () = {
    use std::mem::offset_of;
    assert!(offset_of!(Header, fixed) == 0);
    assert!(offset_of!(Fixed, magic) == 0);
    assert!(offset_of!(Fixed, abi) == 8);
    assert!(offset_of!(Fixed, features) == 12);
    assert!(offset_of!(Fixed, header_bytes) == 16);
    assert!(offset_of!(Fixed, bytes) == 24);
    assert!(offset_of!(Fixed, slot_bytes) == 32);
    assert!(offset_of!(Fixed, slot_stride) == 40);
    assert!(offset_of!(Fixed, slots) == 48);
    assert!(offset_of!(Fixed, consumers) == 52);
    assert!(offset_of!(Fixed, epoch) == 56);
    assert!(offset_of!(Header, tail) == 128);
    assert!(offset_of!(Header, frames) == 256);
    assert!(offset_of!(Header, room) == 384);
    assert!(offset_of!(Header, state) == 512);
    assert!(offset_of!(Header, note) == 640);
    assert!(offset_of!(Note, text) == 16);
    assert!(size_of::<Header>() == 896 && size_of::<Header>() as u64 <= HEADER_BYTES);
};

/// The fixed numbers of a ring, checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Geometry {
    pub(crate) slots: u32,
    /// Bytes of a slot that a frame may fill, its header included.
    pub(crate) slot_bytes: u64,
    /// Distance between two slots.
    pub(crate) slot_stride: u64,
    /// Where the first slot begins.
    pub(crate) slots_at: u64,
    /// Size of the whole.
    pub(crate) bytes: u64,
    pub(crate) epoch: u64,
}

impl Geometry {
    /// For a ring to be made; a slot is rounded up to [`ALIGN`].
    pub(crate) fn new(slots: u32, slot_bytes: u64, epoch: u64) -> Result<Self, Fault> {
        let fault = Fault {
            field: "slot_bytes",
            found: slot_bytes,
            expected: "a size that fits into memory",
        };
        let slot_bytes = slot_bytes.checked_next_multiple_of(ALIGN).ok_or(fault.clone())?;
        let bytes = u64::from(slots)
            .checked_mul(slot_bytes)
            .and_then(|all| all.checked_add(HEADER_BYTES));
        let geometry = Self {
            slots,
            slot_bytes,
            slot_stride: slot_bytes,
            slots_at: HEADER_BYTES,
            bytes: bytes.ok_or(fault)?,
            epoch,
        };
        geometry.check()?;
        Ok(geometry)
    }

    fn check(&self) -> Result<(), Fault> {
        let fault = |field, found, expected| {
            Err(Fault {
                field,
                found,
                expected,
            })
        };
        if self.slots == 0 || self.slots > MAX_SLOTS {
            return fault("slots", self.slots.into(), "1 to 65536");
        }
        if self.slot_bytes < DATA_AT || !self.slot_bytes.is_multiple_of(ALIGN) {
            return fault("slot_bytes", self.slot_bytes, "a multiple of 64, at least 2496");
        }
        if self.slot_stride < self.slot_bytes || !self.slot_stride.is_multiple_of(ALIGN) {
            return fault(
                "slot_stride",
                self.slot_stride,
                "a multiple of 64, at least slot_bytes",
            );
        }
        if self.slots_at < HEADER_BYTES || !self.slots_at.is_multiple_of(ALIGN) {
            return fault("header_bytes", self.slots_at, "a multiple of 64, at least 4096");
        }
        let end = self
            .slot_stride
            .checked_mul(self.slots.into())
            .and_then(|all| all.checked_add(self.slots_at));
        if self.bytes > isize::MAX as u64 || end.is_none_or(|end| end > self.bytes) {
            return fault(
                "bytes",
                self.bytes,
                "a size that holds header_bytes and all slots",
            );
        }
        Ok(())
    }
}

impl Header {
    /// Fills a block of zeros.
    pub(crate) fn write(&self, geometry: &Geometry) {
        let fixed = &self.fixed.0;
        fixed.abi.store(ABI_VERSION, Ordering::Relaxed);
        fixed.header_bytes.store(geometry.slots_at, Ordering::Relaxed);
        fixed.bytes.store(geometry.bytes, Ordering::Relaxed);
        fixed.slot_bytes.store(geometry.slot_bytes, Ordering::Relaxed);
        fixed.slot_stride.store(geometry.slot_stride, Ordering::Relaxed);
        fixed.slots.store(geometry.slots, Ordering::Relaxed);
        fixed.epoch.store(geometry.epoch, Ordering::Relaxed);
        fixed.magic.store(MAGIC, Ordering::Release); // pairs with the Acquire in `read`
    }

    #[cfg(not(loom))]
    /// Copies what [`Header::write`] wrote, and checks the copy against the size of the mapping.
    ///
    /// # Errors
    /// The first field that holds what this version cannot read.
    pub(crate) fn read(&self, mapped: u64) -> Result<Geometry, Fault> {
        let fixed = &self.fixed.0;
        let magic = fixed.magic.load(Ordering::Acquire); // pairs with the Release in `write`
        if magic != MAGIC {
            return Err(Fault {
                field: "magic",
                found: magic,
                expected: "the bytes FFSRING and 0",
            });
        }
        let abi = fixed.abi.load(Ordering::Relaxed);
        if abi != ABI_VERSION {
            return Err(Fault {
                field: "abi",
                found: abi.into(),
                expected: "2, the version of both ends",
            });
        }
        let features = fixed.features.load(Ordering::Relaxed);
        if features != 0 {
            return Err(Fault {
                field: "features",
                found: features.into(),
                expected: "0, none are defined",
            });
        }
        let geometry = Geometry {
            slots: fixed.slots.load(Ordering::Relaxed),
            slot_bytes: fixed.slot_bytes.load(Ordering::Relaxed),
            slot_stride: fixed.slot_stride.load(Ordering::Relaxed),
            slots_at: fixed.header_bytes.load(Ordering::Relaxed),
            bytes: fixed.bytes.load(Ordering::Relaxed),
            epoch: fixed.epoch.load(Ordering::Relaxed),
        };
        if geometry.bytes != mapped {
            return Err(Fault {
                field: "bytes",
                found: geometry.bytes,
                expected: "the size of the file",
            });
        }
        geometry.check()?;
        Ok(geometry)
    }

    #[cfg(not(loom))]
    /// True for the first consumer that asks.
    pub(crate) fn claim_for_consumer(&self) -> bool {
        self.fixed
            .0
            .consumers
            .compare_exchange(0, 1, Ordering::Relaxed, Ordering::Relaxed)
            .is_ok()
    }

    /// Leaves the note, if nobody left one before, and marks the ring as given up.
    pub(crate) fn poison(&self, reason: Reason, text: &str) {
        let note = &self.note;
        if note
            .claimed
            .compare_exchange(0, 1, Ordering::Relaxed, Ordering::Relaxed)
            .is_ok()
        {
            note.reason.store(reason as u32, Ordering::Relaxed);
            let text = &text.as_bytes()[..text.floor_char_boundary(TEXT_BYTES)];
            for (shared, byte) in note.text.iter().zip(text) {
                shared.store(*byte, Ordering::Relaxed);
            }
            note.text_bytes.store(text.len() as u32, Ordering::Relaxed);
        }
        self.state.0.fetch_or(POISONED, Ordering::Release); // pairs with the Acquire in `End::state`
    }

    /// A copy of the note, whatever stands there.
    pub(crate) fn poison_note(&self) -> Poison {
        let bytes = self.note.text_bytes.load(Ordering::Relaxed) as usize;
        let text: Vec<u8> = self
            .note
            .text
            .iter()
            .take(bytes)
            .map(|byte| byte.load(Ordering::Relaxed))
            .collect();
        Poison {
            reason: Reason::from_number(self.note.reason.load(Ordering::Relaxed)),
            text: String::from_utf8_lossy(&text).into_owned(),
        }
    }
}

#[cfg(loom)]
impl Header {
    pub(crate) fn zeroed() -> Self {
        let zero32 = || AtomicU32::new(0);
        let zero64 = || AtomicU64::new(0);
        Self {
            fixed: Lines(Fixed {
                magic: zero64(),
                abi: zero32(),
                features: zero32(),
                header_bytes: zero64(),
                bytes: zero64(),
                slot_bytes: zero64(),
                slot_stride: zero64(),
                slots: zero32(),
                consumers: zero32(),
                epoch: zero64(),
            }),
            tail: Lines(zero64()),
            frames: Bell::new(),
            room: Bell::new(),
            state: Lines(zero32()),
            note: Note {
                claimed: zero32(),
                reason: zero32(),
                text_bytes: zero32(),
                reserved: zero32(),
                text: std::array::from_fn(|_| AtomicU8::new(0)),
            },
        }
    }
}
