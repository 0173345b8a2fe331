//! Pinned memory: a ring registered with CUDA is copied from and to a GPU without a detour.
//!
//! CUDA is used only where this process uses it already: the driver library is looked for among those that are loaded,
//! and nothing is initialised. Without it, or without a context on the calling thread, nothing happens.

use crate::error::Error;
use std::ffi::{CStr, c_int, c_uint, c_void};
use std::ptr::NonNull;

/// The driver's library; the runtime library and PyTorch load it under this name.
const LIBRARY: &CStr = c"libcuda.so.1";
/// CU_MEMHOSTREGISTER_PORTABLE: pinned for every context of the process.
const PORTABLE: c_uint = 1;
/// CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED.
const ALREADY: c_int = 712;

type GetContext = unsafe extern "C" fn(*mut *mut c_void) -> c_int;
type Register = unsafe extern "C" fn(*mut c_void, usize, c_uint) -> c_int;
type Unregister = unsafe extern "C" fn(*mut c_void) -> c_int;

/// Memory that is registered until this is dropped.
pub(crate) struct Pinned {
    base: NonNull<u8>,
    /// `None`: someone else registered it, and will undo it.
    unregister: Option<Unregister>,
}

// SAFETY: `base` is only handed back to the driver, whose functions may be called from any thread.
unsafe impl Send for Pinned {}

impl Pinned {
    /// Registers `bytes` from `base` on; `None` if this thread has no CUDA.
    ///
    /// # Errors
    /// [`Error::Cuda`].
    ///
    /// # Safety
    /// The memory stays mapped until the result is dropped.
    pub(crate) unsafe fn new(ring: &str, base: NonNull<u8>, bytes: usize) -> Result<Option<Self>, Error> {
        // SAFETY: these are the driver API's signatures (cuda.h).
        let found = unsafe {
            (
                symbol::<GetContext>(c"cuCtxGetCurrent"),
                symbol::<Register>(c"cuMemHostRegister_v2"),
                symbol::<Unregister>(c"cuMemHostUnregister"),
            )
        };
        let (Some(get_context), Some(register), Some(unregister)) = found else {
            return Ok(None);
        };
        let mut context = std::ptr::null_mut();
        // SAFETY: `context` is a live pointer to write to.
        let status = unsafe { get_context(&mut context) };
        if status != 0 || context.is_null() {
            return Ok(None);
        }
        // SAFETY: the caller vouches for the memory.
        match unsafe { register(base.as_ptr().cast(), bytes, PORTABLE) } {
            0 => Ok(Some(Self {
                base,
                unregister: Some(unregister),
            })),
            ALREADY => Ok(Some(Self {
                base,
                unregister: None,
            })),
            code => Err(Error::Cuda {
                ring: ring.to_owned(),
                call: "cuMemHostRegister",
                code,
            }),
        }
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        if let Some(unregister) = self.unregister {
            // SAFETY: registered by us, and still mapped. A failure means that CUDA is gone, and the pin with it.
            unsafe { unregister(self.base.as_ptr().cast()) };
        }
    }
}

/// A function of the driver, if it is loaded.
///
/// # Safety
/// `F` is a pointer to a function of that name's signature.
unsafe fn symbol<F: Copy>(name: &CStr) -> Option<F> {
    const { assert!(size_of::<F>() == size_of::<*mut c_void>()) };
    // SAFETY: RTLD_NOLOAD runs no code. The library is not closed again: what we found in it stays.
    let address = unsafe {
        let library = libc::dlopen(LIBRARY.as_ptr(), libc::RTLD_NOLOAD | libc::RTLD_LAZY);
        if library.is_null() {
            return None;
        }
        libc::dlsym(library, name.as_ptr())
    };
    // SAFETY: not null, of the same size, and a function of that signature, as the caller says.
    (!address.is_null()).then(|| unsafe { std::mem::transmute_copy(&address) })
}
