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

impl RawTensor {
    /// Writes the descriptor as far as its dimensions go.
    ///
    /// # Safety
    /// `to` is valid for writes of a whole descriptor, and aligned.
    pub(crate) unsafe fn write(&self, to: NonNull<Self>) {
        let dims = usize::from(self.head.ndim).min(MAX_DIMS);
        let bytes = size_of::<RawTensorHead>() + dims * size_of::<RawDim>();
        // SAFETY: not more than the whole descriptor that the caller vouches for; `self` is our own memory.
        unsafe {
            to.cast::<u8>()
                .copy_from_nonoverlapping(NonNull::from(self).cast(), bytes)
        }
    }

    /// Copies a descriptor, as far as the dimensions go that it says it has.
    ///
    /// # Safety
    /// `from` is valid for reads of a whole descriptor, and aligned. Its bytes may be any, and may change meanwhile.
    pub(crate) unsafe fn read(from: NonNull<Self>) -> Self {
        // Volatile: this is the one time that it is read, whatever the other process does meanwhile.
        // SAFETY: the first part of what the caller vouches for; any bytes make valid numbers.
        let head = unsafe { from.cast::<RawTensorHead>().read_volatile() };
        let mut dims = [RawDim { size: 0, stride: 0 }; MAX_DIMS];
        for (index, dim) in dims.iter_mut().enumerate().take(head.ndim.into()) {
            // SAFETY: behind the first part are MAX_DIMS dimensions, and there are not more in `dims`.
            *dim = unsafe {
                from.cast::<RawTensorHead>()
                    .add(1)
                    .cast::<RawDim>()
                    .add(index)
                    .read_volatile()
            };
        }
        Self { head, dims }
    }
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
    /// Behind `filled` bytes of a slot of `slot_bytes`, or how many bytes were left for it.
    pub(crate) fn after(filled: u64, layout: TensorLayout, slot_bytes: u64) -> Result<Self, u64> {
        let at = filled.next_multiple_of(ALIGN);
        let room = slot_bytes.checked_sub(at).ok_or(0_u64)?;
        if layout.bytes() > room {
            Err(room)
        } else {
            Ok(Self { layout, at })
        }
    }

    /// Where in the slot it ends.
    pub(crate) fn end(&self) -> u64 {
        self.at + self.layout.bytes()
    }

    pub(crate) fn to_raw(self) -> RawTensor {
        let mut dims = [RawDim { size: 0, stride: 0 }; MAX_DIMS];
        for (dim, (size, stride)) in dims
            .iter_mut()
            .zip(self.layout.shape().iter().zip(self.layout.strides()))
        {
            *dim = RawDim {
                size: *size,
                stride: *stride,
            };
        }
        let head = RawTensorHead {
            dtype: self.layout.dtype() as u16,
            ndim: self.layout.shape().len() as u16,
            reserved: 0,
            at: self.at,
            bytes: self.layout.bytes(),
        };
        RawTensor { head, dims }
    }

    /// Checks a copied descriptor of a tensor that stands behind `filled` bytes of the slot.
    pub(crate) fn from_raw(raw: &RawTensor, filled: u64, slot_bytes: u64) -> Result<Self, Fault> {
        let dims = &raw.dims;
        let raw = &raw.head;
        let fault = |field, found, expected| Fault {
            field,
            found,
            expected,
        };
        let dtype = Dtype::from_number(raw.dtype).ok_or(fault(
            "tensor.dtype",
            raw.dtype.into(),
            "the number of a type, 1 to 11",
        ))?;
        let dims = dims
            .get(..raw.ndim.into())
            .ok_or(fault("tensor.ndim", raw.ndim.into(), "0 to 8"))?;
        let (mut shape, mut strides) = ([0; MAX_DIMS], [0; MAX_DIMS]);
        for (index, dim) in dims.iter().enumerate() {
            (shape[index], strides[index]) = (dim.size, dim.stride);
        }
        let (shape, strides) = (&shape[..dims.len()], &strides[..dims.len()]);
        let layout = TensorLayout::strided(dtype, shape, strides).map_err(|error| match error {
            LayoutError::NegativeStride { stride, .. } => {
                fault("tensor.strides", stride as u64, "no negative stride")
            }
            _ => fault(
                "tensor.shape",
                shape.iter().copied().max().unwrap_or(0),
                "a tensor that fits memory",
            ),
        })?;
        if raw.bytes != layout.bytes() {
            return Err(fault(
                "tensor.bytes",
                raw.bytes,
                "what dtype, shape and strides come to",
            ));
        }
        if raw.at < filled || !raw.at.is_multiple_of(ALIGN) {
            return Err(fault(
                "tensor.at",
                raw.at,
                "a multiple of 64 behind the tensor before it",
            ));
        }
        if raw.at.checked_add(raw.bytes).is_none_or(|end| end > slot_bytes) {
            return Err(fault("tensor.at", raw.at, "a place inside the slot"));
        }
        Ok(Self { layout, at: raw.at })
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

    fn place(layout: TensorLayout) -> RawTensor {
        Placed::after(DATA_AT, layout, 1 << 20).expect("it fits").to_raw()
    }

    #[test]
    fn a_descriptor_survives_the_way_through_memory() {
        let layout = TensorLayout::strided(Dtype::Bfloat16, &[2, 5], &[8, 1]).expect("a strided tensor");
        let back = Placed::from_raw(&place(layout), DATA_AT, 1 << 20).expect("what was written");
        assert_eq!((back.layout, back.at), (layout, DATA_AT));
    }

    #[test]
    fn a_descriptor_that_points_elsewhere_is_refused_by_its_field() {
        let good = place(TensorLayout::new(Dtype::Float32, &[16]).expect("a plain shape"));
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
            assert_eq!(
                Placed::from_raw(&raw, DATA_AT, 4096).expect_err("refused").field,
                field
            );
        }
    }

    #[test]
    fn a_descriptor_is_written_and_read_no_further_than_its_dimensions() {
        let mut memory = [u64::MAX; size_of::<RawTensor>() / 8];
        let raw = place(TensorLayout::new(Dtype::Float32, &[3, 16]).expect("a plain shape"));
        let slot = NonNull::from(&mut memory).cast();
        // SAFETY: `memory` is as large as a descriptor, and aligned.
        let back = unsafe {
            raw.write(slot);
            RawTensor::read(slot)
        };
        assert_eq!(
            Placed::from_raw(&back, DATA_AT, 4096)
                .expect("what was written")
                .layout
                .shape(),
            [3, 16]
        );
        assert!(memory[7..].iter().all(|word| *word == u64::MAX));
    }
}
