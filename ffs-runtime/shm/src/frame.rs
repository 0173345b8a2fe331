//! What stands in a slot: the frame's header, one descriptor for each tensor, the tensors, the JSON extras.
//!
//! Here are the bytes and their checks; who may touch them when is the business of `ring.rs`.

use crate::dtype::Dtype;
use crate::error::{Fault, LayoutError};
use crate::tensor::{MAX_DIMS, TensorLayout};
use std::ptr::NonNull;

/// Slots and what stands in them begin at multiples of this many bytes: a cache line, the widest vector register.
pub const ALIGN: u64 = 64;
/// Most tensors of a frame.
pub const MAX_TENSORS: usize = 16;
/// Where in a slot the first tensor may begin; before it stand the header and all 16 descriptors.
pub(crate) const DATA_AT: u64 = (DESCRIPTORS_AT + MAX_TENSORS * size_of::<RawTensor>()) as u64;
/// Where in a slot the turn stands.
pub(crate) const TURN_AT: usize = 0;
/// Where in a slot the header begins; before it stands the turn, which says whether the frame is published.
pub(crate) const FRAME_AT: usize = size_of::<u64>();
/// Where in a slot the descriptors begin.
pub(crate) const DESCRIPTORS_AT: usize = FRAME_AT + size_of::<RawFrame>();

/// What a frame is about; the numbers are part of the ABI.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum Kind {
    /// Values of the function's tensors, perhaps with JSON beside them.
    Tensors = 1,
    /// JSON alone.
    Json = 2,
    /// The request has failed; JSON says why.
    Error = 3,
    /// From runtime to runtime; the author's code does not see it.
    Control = 4,
}

impl Kind {
    fn from_number(number: u16) -> Option<Self> {
        [Kind::Tensors, Kind::Json, Kind::Error, Kind::Control]
            .into_iter()
            .find(|kind| *kind as u16 == number)
    }
}

/// Header of a frame behind the slot's turn, byte for byte.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(crate) struct RawFrame {
    pub(crate) kind: u16,
    pub(crate) tensors: u16,
    pub(crate) flags: u32,
    /// The activation id, in the order of its hexadecimal digits.
    pub(crate) request: [u8; 16],
    /// Milliseconds since 1970, 0 for none.
    pub(crate) deadline_ms: u64,
    pub(crate) json_at: u64,
    pub(crate) json_bytes: u64,
    /// Reading of CLOCK_MONOTONIC at the commit, in nanoseconds.
    pub(crate) sent_ns: u64,
}

impl RawFrame {
    /// Writes the header, field by field: see [`Placed::write`].
    ///
    /// # Safety
    /// `to` is valid for writes of a header, and aligned.
    pub(crate) unsafe fn write(&self, to: NonNull<Self>) {
        let raw = to.as_ptr();
        // SAFETY: all fields are parts of the header that the caller vouches for.
        unsafe {
            (&raw mut (*raw).kind).write(self.kind);
            (&raw mut (*raw).tensors).write(self.tensors);
            (&raw mut (*raw).flags).write(self.flags);
            (&raw mut (*raw).request).write(self.request);
            (&raw mut (*raw).deadline_ms).write(self.deadline_ms);
            (&raw mut (*raw).json_at).write(self.json_at);
            (&raw mut (*raw).json_bytes).write(self.json_bytes);
            (&raw mut (*raw).sent_ns).write(self.sent_ns);
        }
    }

    /// Marks a slot that was reserved and then given up: the reader passes over it.
    pub(crate) fn void() -> Self {
        Self {
            kind: VOID,
            tensors: 0,
            flags: 0,
            request: [0; 16],
            deadline_ms: 0,
            json_at: 0,
            json_bytes: 0,
            sent_ns: 0,
        }
    }
}

/// The number that is no kind.
const VOID: u16 = 0;

/// Descriptor of a tensor, byte for byte. Behind its `ndim` dimensions nothing is written and nothing read, so that a
/// small frame touches few cache lines.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(crate) struct RawTensor {
    head: RawTensorHead,
    dims: [RawDim; MAX_DIMS],
}

#[repr(C)]
#[derive(Clone, Copy, Debug)]
struct RawTensorHead {
    dtype: u16,
    ndim: u16,
    reserved: u32,
    /// From the beginning of the slot.
    at: u64,
    bytes: u64,
}

#[repr(C)]
#[derive(Clone, Copy, Debug)]
struct RawDim {
    size: u64,
    /// In elements.
    stride: i64,
}

const _: () = {
    use std::mem::offset_of;
    assert!(offset_of!(RawFrame, kind) == 0);
    assert!(offset_of!(RawFrame, tensors) == 2);
    assert!(offset_of!(RawFrame, flags) == 4);
    assert!(offset_of!(RawFrame, request) == 8);
    assert!(offset_of!(RawFrame, deadline_ms) == 24);
    assert!(offset_of!(RawFrame, json_at) == 32);
    assert!(offset_of!(RawFrame, json_bytes) == 40);
    assert!(offset_of!(RawFrame, sent_ns) == 48);
    assert!(FRAME_AT == 8 && DESCRIPTORS_AT == 64);
    assert!(offset_of!(RawTensor, head) == 0);
    assert!(offset_of!(RawTensorHead, dtype) == 0);
    assert!(offset_of!(RawTensorHead, ndim) == 2);
    assert!(offset_of!(RawTensorHead, at) == 8);
    assert!(offset_of!(RawTensorHead, bytes) == 16);
    assert!(offset_of!(RawTensor, dims) == 24 && size_of::<RawTensorHead>() == 24);
    assert!(offset_of!(RawDim, stride) == 8 && size_of::<RawDim>() == 16);
    assert!(size_of::<RawTensor>() == 152);
    assert!(DATA_AT == 2496 && DATA_AT.is_multiple_of(ALIGN));
};

/// A tensor at its place in a slot.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Placed {
    pub(crate) layout: TensorLayout,
    /// From the beginning of the slot; a multiple of [`ALIGN`].
    pub(crate) at: u64,
}

impl Placed {
    /// To be read into.
    pub(crate) const NOWHERE: Self = Self {
        layout: TensorLayout::NOTHING,
        at: DATA_AT,
    };

    /// Where a tensor of `bytes` goes, behind `filled` bytes of a slot of `slot_bytes`; or how many were left for it.
    pub(crate) fn after(filled: u64, bytes: u64, slot_bytes: u64) -> Result<u64, u64> {
        let at = filled.next_multiple_of(ALIGN);
        let room = slot_bytes.checked_sub(at).ok_or(0_u64)?;
        if bytes > room { Err(room) } else { Ok(at) }
    }

    /// Where in the slot it ends.
    pub(crate) fn end(&self) -> u64 {
        self.at + self.layout.bytes()
    }

    /// Writes the descriptor as far as its dimensions go. Field by field, as all that is written on the way of a frame: a
    /// wide read of what was written in parts just before waits until those parts, and all before them, have left the
    /// processor's store buffer, which takes as long as it takes to get cache lines from the other processor.
    ///
    /// # Safety
    /// `to` is valid for writes of a whole descriptor, and aligned.
    pub(crate) unsafe fn write(&self, to: NonNull<RawTensor>) {
        let raw = to.as_ptr();
        // SAFETY: all fields are parts of the descriptor that the caller vouches for, and no layout has more than
        // MAX_DIMS dimensions.
        unsafe {
            (&raw mut (*raw).head.dtype).write(self.layout.dtype() as u16);
            (&raw mut (*raw).head.ndim).write(self.layout.shape().len() as u16);
            (&raw mut (*raw).head.reserved).write(0);
            (&raw mut (*raw).head.at).write(self.at);
            (&raw mut (*raw).head.bytes).write(self.layout.bytes());
            let dims = (&raw mut (*raw).dims).cast::<RawDim>();
            for (index, (size, stride)) in self.layout.shape().iter().zip(self.layout.strides()).enumerate() {
                (&raw mut (*dims.add(index)).size).write(*size);
                (&raw mut (*dims.add(index)).stride).write(*stride);
            }
        }
    }

    /// Copies and checks the descriptor of a tensor that stands behind `filled` bytes of the slot, into `self`, which is
    /// of no use after a fault.
    ///
    /// # Safety
    /// `from` is valid for reads of a whole descriptor, and aligned. Its bytes may be any, and may change meanwhile.
    pub(crate) unsafe fn read(
        &mut self,
        from: NonNull<RawTensor>,
        filled: u64,
        slot_bytes: u64,
    ) -> Result<(), Fault> {
        let raw = from.as_ptr();
        // Volatile: this is the one time that it is read, whatever the other process does meanwhile.
        // SAFETY: parts of what the caller vouches for; any bytes make valid numbers.
        let (dtype, ndim, at, bytes) = unsafe {
            (
                (&raw const (*raw).head.dtype).read_volatile(),
                (&raw const (*raw).head.ndim).read_volatile(),
                (&raw const (*raw).head.at).read_volatile(),
                (&raw const (*raw).head.bytes).read_volatile(),
            )
        };
        let fault = |field, found, expected| Fault {
            field,
            found,
            expected,
        };
        let dtype = Dtype::from_number(dtype).ok_or(fault(
            "tensor.dtype",
            dtype.into(),
            "the number of a type, 1 to 11",
        ))?;
        if usize::from(ndim) > MAX_DIMS {
            return Err(fault("tensor.ndim", ndim.into(), "0 to 8"));
        }
        let dims = (0..usize::from(ndim)).map(|index| {
            // SAFETY: the caller vouches for all MAX_DIMS dimensions.
            unsafe {
                let dim = (&raw const (*raw).dims).cast::<RawDim>().add(index);
                (
                    (&raw const (*dim).size).read_volatile(),
                    (&raw const (*dim).stride).read_volatile(),
                )
            }
        });
        let set = self.layout.set(dtype, dims);
        set.map_err(|error| match error {
            LayoutError::NegativeStride { stride, .. } => {
                fault("tensor.strides", stride as u64, "no negative stride")
            }
            _ => fault(
                "tensor.shape",
                self.layout.shape().iter().copied().max().unwrap_or(0),
                "a tensor that fits memory",
            ),
        })?;
        if bytes != self.layout.bytes() {
            return Err(fault(
                "tensor.bytes",
                bytes,
                "what dtype, shape and strides come to",
            ));
        }
        if at < filled || !at.is_multiple_of(ALIGN) {
            return Err(fault(
                "tensor.at",
                at,
                "a multiple of 64 behind the tensor before it",
            ));
        }
        if at.checked_add(bytes).is_none_or(|end| end > slot_bytes) {
            return Err(fault("tensor.at", at, "a place inside the slot"));
        }
        self.at = at;
        Ok(())
    }
}

/// Checks a copied frame header, all but its tensors. `None`: the slot was given up.
pub(crate) fn check(raw: &RawFrame) -> Result<Option<Kind>, Fault> {
    if usize::from(raw.tensors) > MAX_TENSORS {
        return Err(Fault {
            field: "frame.tensors",
            found: raw.tensors.into(),
            expected: "0 to 16",
        });
    }
    match (raw.kind, Kind::from_number(raw.kind)) {
        (VOID, _) => Ok(None),
        (_, Some(kind)) => Ok(Some(kind)),
        (_, None) => Err(Fault {
            field: "frame.kind",
            found: raw.kind.into(),
            expected: "0 to 4",
        }),
    }
}

/// Checks where the JSON stands; `filled` is the end of the last tensor.
pub(crate) fn check_json(raw: &RawFrame, filled: u64, slot_bytes: u64) -> Result<(), Fault> {
    if raw.json_bytes == 0 {
        return Ok(());
    }
    if raw.json_at < filled || raw.json_at > slot_bytes {
        return Err(Fault {
            field: "frame.json_at",
            found: raw.json_at,
            expected: "a place behind the tensors",
        });
    }
    if raw.json_bytes > slot_bytes - raw.json_at {
        return Err(Fault {
            field: "frame.json_bytes",
            found: raw.json_bytes,
            expected: "a size inside the slot",
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(layout: TensorLayout) -> RawTensor {
        let at = Placed::after(DATA_AT, layout.bytes(), 1 << 20).expect("it fits");
        let mut raw = RawTensor {
            head: RawTensorHead {
                dtype: 0,
                ndim: 0,
                reserved: 0,
                at: 0,
                bytes: 0,
            },
            dims: [RawDim { size: 0, stride: 0 }; MAX_DIMS],
        };
        // SAFETY: a whole descriptor of our own.
        unsafe { Placed { layout, at }.write(NonNull::from(&mut raw)) };
        raw
    }

    fn read(raw: &RawTensor, slot_bytes: u64) -> Result<Placed, Fault> {
        let mut placed = Placed::NOWHERE;
        // SAFETY: a whole descriptor of our own.
        unsafe { placed.read(NonNull::from(raw), DATA_AT, slot_bytes) }?;
        Ok(placed)
    }

    #[test]
    fn a_descriptor_survives_the_way_through_memory() {
        let layout = TensorLayout::strided(Dtype::Bfloat16, &[2, 5], &[8, 1]).expect("a strided tensor");
        let back = read(&written(layout), 1 << 20).expect("what was written");
        assert_eq!((back.layout, back.at), (layout, DATA_AT));
    }

    #[test]
    fn a_descriptor_that_points_elsewhere_is_refused_by_its_field() {
        let good = written(TensorLayout::new(Dtype::Float32, &[16]).expect("a plain shape"));
        type Change = fn(&mut RawTensor);
        let cases: [(&str, Change); 8] = [
            ("tensor.dtype", |raw| raw.head.dtype = 0),
            ("tensor.ndim", |raw| raw.head.ndim = 9),
            ("tensor.shape", |raw| raw.dims[0].size = u64::MAX),
            ("tensor.strides", |raw| raw.dims[0].stride = -4),
            ("tensor.bytes", |raw| raw.head.bytes = 65),
            ("tensor.at", |raw| raw.head.at = DATA_AT - 64),
            ("tensor.at", |raw| raw.head.at = DATA_AT + 1),
            ("tensor.at", |raw| raw.head.at = u64::MAX - 63),
        ];
        for (field, change) in cases {
            let mut raw = good;
            change(&mut raw);
            assert_eq!(read(&raw, 4096).expect_err("refused").field, field);
        }
    }

    #[test]
    fn a_descriptor_is_written_and_read_no_further_than_its_dimensions() {
        let mut memory = [u64::MAX; size_of::<RawTensor>() / 8];
        let layout = TensorLayout::new(Dtype::Float32, &[3, 16]).expect("a plain shape");
        let (mut back, slot) = (Placed::NOWHERE, NonNull::from(&mut memory).cast());
        // SAFETY: `memory` is as large as a descriptor, and aligned.
        unsafe {
            Placed { layout, at: DATA_AT }.write(slot);
            back.read(slot, DATA_AT, 4096).expect("what was written");
        }
        assert_eq!(back.layout, layout);
        assert!(memory[7..].iter().all(|word| *word == u64::MAX));
    }
}
