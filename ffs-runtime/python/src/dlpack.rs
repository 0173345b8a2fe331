//! DLPack's exchange of tensors without a copy, as PyTorch takes them: `torch.from_dlpack(tensor)`.
//!
//! The structures are those of `dlpack.h` without a version, which every library reads.
//! Source: <https://dmlc.github.io/dlpack/latest/c_api.html>.

use crate::tensor::Keep;
use pyo3::ffi;
use pyo3::prelude::*;
use shm::Dtype;
use std::ffi::{CStr, c_void};
use std::ptr::{self, NonNull};

/// `kDLCPU`, number 0: rings lie in host memory.
pub(crate) const CPU: (i32, i32) = (1, 0);
/// What a capsule is called until someone takes its tensor.
const NAME: &CStr = c"dltensor";

#[repr(C)]
struct DataType {
    code: u8,
    bits: u8,
    lanes: u16,
}

#[repr(C)]
struct DlTensor {
    data: *mut c_void,
    device: (i32, i32),
    ndim: i32,
    dtype: DataType,
    shape: *mut i64,
    strides: *mut i64,
    byte_offset: u64,
}

#[repr(C)]
struct Managed {
    tensor: DlTensor,
    context: *mut c_void,
    deleter: Option<unsafe extern "C" fn(*mut Managed)>,
}

/// A managed tensor and what it points to.
#[repr(C)]
struct Lent {
    managed: Managed,
    shape: Vec<i64>,
    strides: Vec<i64>,
    _keep: Keep,
}

/// A capsule with the tensor at `data`; `strides` in elements. What takes it holds `keep` until it is done.
pub(crate) fn capsule(
    py: Python<'_>,
    keep: Keep,
    data: NonNull<u8>,
    dtype: Dtype,
    shape: Vec<i64>,
    strides: Vec<i64>,
) -> PyResult<Bound<'_, PyAny>> {
    let mut lent = Box::new(Lent {
        managed: Managed {
            tensor: DlTensor {
                data: data.as_ptr().cast(),
                device: CPU,
                ndim: shape.len() as i32,
                dtype: data_type(dtype),
                shape: ptr::null_mut(),
                strides: ptr::null_mut(),
                byte_offset: 0,
            },
            context: ptr::null_mut(),
            deleter: Some(give_back),
        },
        shape,
        strides,
        _keep: keep,
    });
    lent.managed.tensor.shape = lent.shape.as_mut_ptr();
    lent.managed.tensor.strides = lent.strides.as_mut_ptr();
    let lent = Box::into_raw(lent);
    // SAFETY: `lent` is a whole `Lent`, whose first member is the `Managed` that the name promises. Whoever takes it
    // renames the capsule and calls the deleter; otherwise `dropped` does. A capsule that was not made owns nothing.
    unsafe {
        let made = ffi::PyCapsule_New(lent.cast(), NAME.as_ptr(), Some(dropped));
        Bound::from_owned_ptr_or_err(py, made).inspect_err(|_| give_back(lent.cast()))
    }
}

/// Frees a tensor. May run on any thread, with or without the interpreter's lock.
///
/// # Safety
/// `managed` is one of ours, and nothing uses it any more.
unsafe extern "C" fn give_back(managed: *mut Managed) {
    // SAFETY: it is the first member of a `Lent` that was made by `Box`, and the caller gives it up.
    drop(unsafe { Box::from_raw(managed.cast::<Lent>()) });
}

/// Ends a capsule that nobody took the tensor of.
///
/// # Safety
/// `capsule` is what the interpreter passes to a destructor.
unsafe extern "C" fn dropped(capsule: *mut ffi::PyObject) {
    // SAFETY: a live capsule. If it has its first name, its pointer is still ours to free.
    unsafe {
        if ffi::PyCapsule_IsValid(capsule, NAME.as_ptr()) == 1 {
            give_back(ffi::PyCapsule_GetPointer(capsule, NAME.as_ptr()).cast());
        }
    }
}

/// bool is uint8: older PyTorch does not take DLPack's own.
fn data_type(dtype: Dtype) -> DataType {
    const INT: u8 = 0;
    const UINT: u8 = 1;
    const FLOAT: u8 = 2;
    const BFLOAT: u8 = 4;
    let code = match dtype {
        Dtype::Float16 | Dtype::Float32 | Dtype::Float64 => FLOAT,
        Dtype::Bfloat16 => BFLOAT,
        Dtype::Int8 | Dtype::Int16 | Dtype::Int32 | Dtype::Int64 => INT,
        Dtype::Uint8 | Dtype::Bool | Dtype::Bytes => UINT,
    };
    DataType {
        code,
        bits: dtype.item_bytes() as u8 * 8,
        lanes: 1,
    }
}
