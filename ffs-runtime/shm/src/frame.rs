//! What stands in a slot: the frame's header, one descriptor for each tensor, the tensors, the JSON extras.
//!
//! Here are the bytes and their checks; who may touch them when is the business of `ring.rs`.

use crate::dtype::Dtype;
use crate::error::{Fault, LayoutError};
use crate::header::ALIGN;

/// Most tensors of a frame.
pub const MAX_TENSORS: usize = 16;
/// Most dimensions of a tensor.
pub const MAX_DIMS: usize = 8;
/// Where in a slot the first tensor may begin; before it stand the header and all 16 descriptors.
pub(crate) const DATA_AT: u64 = (size_of::<RawFrame>() + MAX_TENSORS * size_of::<RawTensor>()) as u64;

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

/// Number of the kind of a slot that was reserved and then given up. Readers pass over it.
pub(crate) const VOID: u16 = 0;

/// Header of a frame, byte for byte.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(crate) struct RawFrame {
    /// Which frame of the ring this is, counted from 0.
    pub(crate) sequence: u64,
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
    pub(crate) reserved: [u64; 8],
}

/// Descriptor of a tensor, byte for byte.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(crate) struct RawTensor {
    pub(crate) dtype: u16,
    pub(crate) ndim: u16,
    pub(crate) reserved: u32,
    /// From the beginning of the slot.
    pub(crate) at: u64,
    pub(crate) bytes: u64,
    pub(crate) shape: [u64; MAX_DIMS],
    /// In elements.
    pub(crate) strides: [i64; MAX_DIMS],
}

const _: () = {
    use std::mem::offset_of;
    assert!(offset_of!(RawFrame, sequence) == 0);
    assert!(offset_of!(RawFrame, kind) == 8);
    assert!(offset_of!(RawFrame, tensors) == 10);
    assert!(offset_of!(RawFrame, flags) == 12);
    assert!(offset_of!(RawFrame, request) == 16);
    assert!(offset_of!(RawFrame, deadline_ms) == 32);
    assert!(offset_of!(RawFrame, json_at) == 40);
    assert!(offset_of!(RawFrame, json_bytes) == 48);
    assert!(offset_of!(RawFrame, sent_ns) == 56);
    assert!(size_of::<RawFrame>() == 128);
    assert!(offset_of!(RawTensor, dtype) == 0);
    assert!(offset_of!(RawTensor, ndim) == 2);
    assert!(offset_of!(RawTensor, at) == 8);
    assert!(offset_of!(RawTensor, bytes) == 16);
    assert!(offset_of!(RawTensor, shape) == 24);
    assert!(offset_of!(RawTensor, strides) == 88);
    assert!(size_of::<RawTensor>() == 152);
    assert!(DATA_AT == 2560 && DATA_AT.is_multiple_of(ALIGN));
};

/// Element type, shape and strides of a tensor; cannot be wrong.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TensorLayout {
    dtype: Dtype,
    ndim: usize,
    shape: [u64; MAX_DIMS],
    strides: [i64; MAX_DIMS],
    bytes: u64,
}

impl TensorLayout {
    /// A tensor in row-major order without gaps.
    ///
    /// # Errors
    /// Too many dimensions, or larger than memory.
    pub fn new(dtype: Dtype, shape: &[u64]) -> Result<Self, LayoutError> {
        let mut strides = [0; MAX_DIMS];
        let strides = strides
            .get_mut(..shape.len())
            .ok_or(LayoutError::TooManyDimensions(shape.len()))?;
        let mut step = 1_i64;
        for (stride, dim) in strides.iter_mut().zip(shape).rev() {
            *stride = step;
            step = i64::try_from((*dim).max(1))
                .ok()
                .and_then(|dim| step.checked_mul(dim))
                .ok_or_else(|| LayoutError::TooLarge(shape.to_vec()))?;
        }
        Self::strided(dtype, shape, strides)
    }

    /// A tensor whose neighbours along dimension `d` are `strides[d]` elements apart: channels last, a broadcast.
    ///
    /// # Errors
    /// Too many dimensions, a negative stride, or larger than memory.
    pub fn strided(dtype: Dtype, shape: &[u64], strides: &[i64]) -> Result<Self, LayoutError> {
        if shape.len() > MAX_DIMS {
            return Err(LayoutError::TooManyDimensions(shape.len()));
        }
        if shape.len() != strides.len() {
            return Err(LayoutError::StridesDiffer {
                strides: strides.len(),
                dimensions: shape.len(),
            });
        }
        if let Some(dimension) = strides.iter().position(|stride| *stride < 0) {
            return Err(LayoutError::NegativeStride {
                dimension,
                stride: strides[dimension],
            });
        }
        let bytes = extent(dtype, shape, strides).ok_or_else(|| LayoutError::TooLarge(shape.to_vec()))?;
        let mut layout = Self {
            dtype,
            ndim: shape.len(),
            shape: [0; MAX_DIMS],
            strides: [0; MAX_DIMS],
            bytes,
        };
        layout.shape[..shape.len()].copy_from_slice(shape);
        layout.strides[..strides.len()].copy_from_slice(strides);
        Ok(layout)
    }

    /// Type of the elements.
    pub fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// Sizes of the dimensions; empty for a scalar.
    pub fn shape(&self) -> &[u64] {
        &self.shape[..self.ndim]
    }

    /// Distances along the dimensions, in elements, none negative.
    pub fn strides(&self) -> &[i64] {
        &self.strides[..self.ndim]
    }

    /// Bytes from the first element to the end of the last.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl std::fmt::Debug for TensorLayout {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}{:?} strides {:?}", self.dtype, self.shape(), self.strides())
    }
}

/// Bytes that a tensor spans, if that and its number of elements stay below `isize::MAX`.
fn extent(dtype: Dtype, shape: &[u64], strides: &[i64]) -> Option<u64> {
    let limit = isize::MAX as u64;
    // Also of a tensor without elements: what reads it multiplies the other dimensions.
    let volume = shape.iter().try_fold(dtype.item_bytes(), |volume, dim| {
        volume.checked_mul((*dim).max(1))
    })?;
    let mut last = 0_u64;
    for (dim, stride) in shape.iter().zip(strides) {
        last = last.checked_add(dim.saturating_sub(1).checked_mul(u64::try_from(*stride).ok()?)?)?;
    }
    let bytes = last.checked_add(1)?.checked_mul(dtype.item_bytes())?;
    if volume > limit || bytes > limit {
        return None;
    }
    Some(if shape.contains(&0) { 0 } else { bytes })
}

/// Everything about a frame that is known before its data: what to reserve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrameLayout {
    pub(crate) kind: Kind,
    pub(crate) request: u128,
    pub(crate) deadline_ms: u64,
    pub(crate) flags: u32,
    pub(crate) tensors: Vec<TensorLayout>,
}

impl FrameLayout {
    /// A frame for `request`, the activation id as a number (first hexadecimal digit highest), without tensors.
    pub fn new(kind: Kind, request: u128) -> Self {
        Self {
            kind,
            request,
            deadline_ms: 0,
            flags: 0,
            tensors: Vec::new(),
        }
    }

    /// The deadline of the whole pipeline, in milliseconds since 1970; 0 for none.
    #[must_use]
    pub fn deadline_ms(mut self, deadline_ms: u64) -> Self {
        self.deadline_ms = deadline_ms;
        self
    }

    /// Bits that mean something to the two ends and nothing to the ring.
    #[must_use]
    pub fn flags(mut self, flags: u32) -> Self {
        self.flags = flags;
        self
    }

    /// Adds a tensor; its index is the number of those before it.
    #[must_use]
    pub fn tensor(mut self, tensor: TensorLayout) -> Self {
        self.tensors.push(tensor);
        self
    }

    /// The tensors added so far.
    pub fn tensors(&self) -> &[TensorLayout] {
        &self.tensors
    }

    /// The smallest slot that takes this frame with `json_bytes` of JSON, in bytes.
    pub fn slot_bytes(&self, json_bytes: u64) -> u64 {
        self.tensors.iter().fold(DATA_AT, |end, tensor| {
            end.saturating_add(tensor.bytes.saturating_add(ALIGN - 1) / ALIGN * ALIGN)
        }) + json_bytes.next_multiple_of(ALIGN)
    }
}

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
        if layout.bytes > room {
            Err(room)
        } else {
            Ok(Self { layout, at })
        }
    }

    /// Where in the slot it ends.
    pub(crate) fn end(&self) -> u64 {
        self.at + self.layout.bytes
    }

    pub(crate) fn to_raw(self) -> RawTensor {
        RawTensor {
            dtype: self.layout.dtype as u16,
            ndim: self.layout.ndim as u16,
            reserved: 0,
            at: self.at,
            bytes: self.layout.bytes,
            shape: self.layout.shape,
            strides: self.layout.strides,
        }
    }

    /// Checks a copied descriptor of a tensor that stands behind `filled` bytes of the slot.
    pub(crate) fn from_raw(raw: &RawTensor, filled: u64, slot_bytes: u64) -> Result<Self, Fault> {
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
        let ndim = usize::from(raw.ndim);
        let (Some(shape), Some(strides)) = (raw.shape.get(..ndim), raw.strides.get(..ndim)) else {
            return Err(fault("tensor.ndim", raw.ndim.into(), "0 to 8"));
        };
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
        if raw.bytes != layout.bytes {
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
pub(crate) fn check(raw: &RawFrame, sequence: u64) -> Result<Option<Kind>, Fault> {
    if raw.sequence != sequence {
        return Err(Fault {
            field: "frame.sequence",
            found: raw.sequence,
            expected: "the number of frames before it",
        });
    }
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
    fn a_tensor_without_strides_is_row_major() {
        let tensor = TensorLayout::new(Dtype::Float32, &[2, 3, 4]).expect("a plain shape");
        assert_eq!(tensor.strides(), [12, 4, 1]);
        assert_eq!(tensor.bytes(), 96);
    }

    #[test]
    fn a_scalar_is_one_element_and_a_zero_dimension_is_none() {
        let scalar = TensorLayout::new(Dtype::Int64, &[]).expect("a scalar");
        assert_eq!((scalar.shape().len(), scalar.bytes()), (0, 8));
        let empty = TensorLayout::new(Dtype::Float64, &[3, 0, 5]).expect("no elements");
        assert_eq!(empty.bytes(), 0);
    }

    #[test]
    fn strides_with_gaps_and_broadcasts_span_what_they_reach() {
        let gaps = TensorLayout::strided(Dtype::Float16, &[4, 8], &[16, 1]).expect("rows of a wider matrix");
        assert_eq!(gaps.bytes(), 2 * (3 * 16 + 7 + 1));
        let broadcast = TensorLayout::strided(Dtype::Float32, &[1000], &[0]).expect("one value");
        assert_eq!(broadcast.bytes(), 4);
    }

    #[test]
    fn tensors_that_no_memory_holds_are_refused() {
        for shape in [&[u64::MAX][..], &[1 << 40, 1 << 40], &[0, u64::MAX], &[1 << 62]] {
            let error = TensorLayout::new(Dtype::Float64, shape).expect_err("too large");
            assert_eq!(error, LayoutError::TooLarge(shape.to_vec()));
        }
        let far = TensorLayout::strided(Dtype::Int8, &[3], &[i64::MAX]);
        assert_eq!(far, Err(LayoutError::TooLarge(vec![3])));
        let nine = TensorLayout::new(Dtype::Int8, &[1; 9]);
        assert_eq!(nine, Err(LayoutError::TooManyDimensions(9)));
        let back = TensorLayout::strided(Dtype::Int8, &[3], &[-1]);
        assert_eq!(
            back,
            Err(LayoutError::NegativeStride {
                dimension: 0,
                stride: -1
            })
        );
        let odd = TensorLayout::strided(Dtype::Int8, &[3], &[]);
        assert_eq!(
            odd,
            Err(LayoutError::StridesDiffer {
                strides: 0,
                dimensions: 1
            })
        );
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
        let slot = 4096;
        let cases: [(&str, RawTensor); 8] = [
            ("tensor.dtype", RawTensor { dtype: 0, ..good }),
            ("tensor.ndim", RawTensor { ndim: 9, ..good }),
            (
                "tensor.shape",
                RawTensor {
                    shape: [u64::MAX; 8],
                    ..good
                },
            ),
            (
                "tensor.strides",
                RawTensor {
                    strides: [-4; 8],
                    ..good
                },
            ),
            ("tensor.bytes", RawTensor { bytes: 65, ..good }),
            (
                "tensor.at",
                RawTensor {
                    at: DATA_AT - 64,
                    ..good
                },
            ),
            (
                "tensor.at",
                RawTensor {
                    at: DATA_AT + 1,
                    ..good
                },
            ),
            (
                "tensor.at",
                RawTensor {
                    at: u64::MAX - 63,
                    ..good
                },
            ),
        ];
        for (field, raw) in cases {
            assert_eq!(
                Placed::from_raw(&raw, DATA_AT, slot).expect_err("refused").field,
                field
            );
        }
    }
}
