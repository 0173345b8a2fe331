//! Type, shape and strides of a tensor, and what memory it spans.

use crate::dtype::Dtype;
use crate::error::LayoutError;

/// Most dimensions of a tensor.
pub const MAX_DIMS: usize = 8;

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
    /// No tensor of anyone's.
    pub(crate) const NOTHING: Self = Self {
        dtype: Dtype::Bytes,
        ndim: 0,
        shape: [0; MAX_DIMS],
        strides: [0; MAX_DIMS],
        bytes: 0,
    };

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
        let mut layout = Self::NOTHING;
        layout.set(dtype, shape.iter().copied().zip(strides.iter().copied()))?;
        Ok(layout)
    }

    /// Describes another tensor: sizes and strides, at most [`MAX_DIMS`]. After an error it is of no use.
    pub(crate) fn set(
        &mut self,
        dtype: Dtype,
        dims: impl Iterator<Item = (u64, i64)>,
    ) -> Result<(), LayoutError> {
        self.dtype = dtype;
        self.ndim = 0;
        for ((shape, stride), dim) in self.shape.iter_mut().zip(&mut self.strides).zip(dims) {
            (*shape, *stride) = dim;
            self.ndim += 1;
        }
        if let Some(dimension) = self.strides().iter().position(|stride| *stride < 0) {
            return Err(LayoutError::NegativeStride {
                dimension,
                stride: self.strides[dimension],
            });
        }
        self.bytes = extent(dtype, self.shape(), self.strides())
            .ok_or_else(|| LayoutError::TooLarge(self.shape().to_vec()))?;
        Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;

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
}
