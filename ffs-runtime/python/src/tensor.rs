//! A tensor's memory inside a ring: `numpy.asarray(tensor)` (buffer protocol) and `torch.from_dlpack(tensor)` copy
//! nothing.

use crate::dlpack;
use pyo3::exceptions::PyBufferError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use shm::{Dtype, Frame, TensorLayout};
use std::ffi::{CStr, c_int, c_void};
use std::ptr::{self, NonNull};
use std::sync::Arc;

/// What keeps the memory where it is.
#[derive(Clone, Debug)]
pub(crate) enum Keep {
    /// The mapping. The slot is the writer's until the commit.
    Reserved { _mapping: shm::Handle },
    /// The slot, which goes back to the writer when the last tensor of its frame is dropped.
    Received { _frame: Arc<Frame> },
}

/// One tensor of a frame. Writable; it keeps its memory for as long as anything views it.
#[pyclass(frozen, module = "FluidFaaS._native")]
#[derive(Debug)]
pub(crate) struct Tensor {
    keep: Keep,
    data: NonNull<u8>,
    dtype: Dtype,
    shape: Vec<isize>,
    /// In bytes.
    strides: Vec<isize>,
    bytes: isize,
    contiguous: bool,
}

// SAFETY: the address is that of memory in a mapping that `keep` holds; it is as valid on one thread as on another.
// What is read and written there is Python's to order, as with any array.
unsafe impl Send for Tensor {}
// SAFETY: as above; nothing in it changes.
unsafe impl Sync for Tensor {}

impl Tensor {
    /// `data` is valid for `layout.bytes()` for as long as `keep` lives.
    pub(crate) fn new(keep: Keep, data: NonNull<u8>, layout: &TensorLayout) -> Self {
        let item = layout.dtype().item_bytes() as isize;
        let shape: Vec<isize> = layout.shape().iter().map(|size| *size as isize).collect();
        let strides: Vec<isize> = layout
            .strides()
            .iter()
            .map(|stride| *stride as isize * item)
            .collect();
        let mut step = item;
        let contiguous = shape.iter().zip(&strides).rev().all(|(size, stride)| {
            let in_place = *size <= 1 || *stride == step;
            step *= size;
            in_place
        });
        let bytes = shape.iter().product::<isize>() * item;
        Self {
            keep,
            data,
            dtype: layout.dtype(),
            contiguous: contiguous || bytes == 0,
            shape,
            strides,
            bytes,
        }
    }
}

#[pymethods]
impl Tensor {
    /// Name of the element type: `float32`, `bfloat16` (viewed as uint16), `bytes` (viewed as uint8).
    #[getter]
    fn dtype(&self) -> &'static str {
        self.dtype.name()
    }

    /// Where it begins in this process's memory.
    #[getter]
    fn address(&self) -> usize {
        self.data.as_ptr().addr()
    }

    /// Its elements as bytes of their own, copied without the interpreter's lock. It must be contiguous.
    fn tobytes<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        if !self.contiguous {
            return Err(PyBufferError::new_err("the tensor is not contiguous"));
        }
        let bytes = self.bytes.unsigned_abs();
        PyBytes::new_with(py, bytes, |target| {
            let (from, to) = (Place(self.data), target);
            // SAFETY: the tensor spans `bytes` and `keep` holds them; `to` is new memory of that size.
            py.detach(move || unsafe { from.copy_to(to) });
            Ok(())
        })
    }

    /// DLPack's capsule over the same memory. bool is uint8 there.
    #[pyo3(signature = (*, stream = None, max_version = None, dl_device = None, copy = None))]
    fn __dlpack__<'py>(
        &self,
        py: Python<'py>,
        stream: Option<Bound<'py, PyAny>>,
        max_version: Option<Bound<'py, PyAny>>,
        dl_device: Option<(i32, i32)>,
        copy: Option<bool>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let _ = max_version; // the form without a version is one that every reader takes
        if stream.is_some() || dl_device.is_some_and(|device| device != dlpack::CPU) || copy == Some(true) {
            let sentence = "a tensor in a ring lies in host memory, and is lent, not copied";
            return Err(PyBufferError::new_err(sentence));
        }
        let item = self.dtype.item_bytes() as isize;
        let shape = self.shape.iter().map(|size| *size as i64).collect();
        let strides = self.strides.iter().map(|step| (step / item) as i64).collect();
        dlpack::capsule(py, self.keep.clone(), self.data, self.dtype, shape, strides)
    }

    /// DLPack's kind and number of the device: the CPU.
    fn __dlpack_device__(&self) -> (i32, i32) {
        dlpack::CPU
    }

    /// # Safety
    /// `view` is what the interpreter passes for this object.
    unsafe fn __getbuffer__(slf: Bound<'_, Self>, view: *mut ffi::Py_buffer, flags: c_int) -> PyResult<()> {
        if view.is_null() {
            return Err(PyBufferError::new_err("there is no view to fill"));
        }
        let this = slf.get();
        let wants = |what: c_int| flags & what == what;
        if !this.contiguous && !wants(ffi::PyBUF_STRIDES) {
            return Err(PyBufferError::new_err("the tensor is not contiguous"));
        }
        // The interpreter only reads through these, although their types do not say so.
        let table = |values: &[isize]| values.as_ptr().cast_mut();
        let filled = ffi::Py_buffer {
            buf: this.data.as_ptr().cast::<c_void>(),
            obj: ptr::null_mut(),
            len: this.bytes,
            itemsize: this.dtype.item_bytes() as isize,
            readonly: 0,
            ndim: this.shape.len() as c_int,
            format: if wants(ffi::PyBUF_FORMAT) {
                format(this.dtype).as_ptr().cast_mut()
            } else {
                ptr::null_mut()
            },
            shape: if wants(ffi::PyBUF_ND) {
                table(&this.shape)
            } else {
                ptr::null_mut()
            },
            strides: if wants(ffi::PyBUF_STRIDES) {
                table(&this.strides)
            } else {
                ptr::null_mut()
            },
            suboffsets: ptr::null_mut(),
            internal: ptr::null_mut(),
        };
        // SAFETY: not null, and the interpreter passes room for one view. Its `obj` owns a reference to us, which
        // keeps memory, shape and strides (none of which ever changes) until the view is released.
        unsafe {
            view.write(filled);
            (*view).obj = slf.into_any().into_ptr();
        }
        Ok(())
    }
}

/// An address that may be carried into a closure without the interpreter's lock.
pub(crate) struct Place(pub(crate) NonNull<u8>);

// SAFETY: it is only an address; who uses it vouches for what lies there.
unsafe impl Send for Place {}

impl Place {
    /// # Safety
    /// `to.len()` bytes from here may be read and are not part of `to`.
    unsafe fn copy_to(self, to: &mut [u8]) {
        // SAFETY: as the caller vouches.
        unsafe { self.0.as_ptr().copy_to_nonoverlapping(to.as_mut_ptr(), to.len()) }
    }

    /// # Safety
    /// `bytes` from both addresses are valid and do not overlap.
    pub(crate) unsafe fn fill_from(self, from: Self, bytes: usize) {
        // SAFETY: as the caller vouches.
        unsafe { self.0.as_ptr().copy_from_nonoverlapping(from.0.as_ptr(), bytes) }
    }
}

const _: () = assert!(size_of::<std::ffi::c_long>() == 8);

/// As the module `struct` names the type of an element.
const fn format(dtype: Dtype) -> &'static CStr {
    match dtype {
        Dtype::Float16 => c"e",
        Dtype::Bfloat16 => c"H",
        Dtype::Float32 => c"f",
        Dtype::Float64 => c"d",
        Dtype::Int8 => c"b",
        Dtype::Uint8 | Dtype::Bytes => c"B",
        Dtype::Int16 => c"h",
        Dtype::Int32 => c"i",
        Dtype::Int64 => c"l", // C's long; "q" would be another type to NumPy
        Dtype::Bool => c"?",
    }
}
