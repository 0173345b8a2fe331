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

type Context = *mut c_void;
type GetContext = unsafe extern "C" fn(*mut Context) -> c_int;
type PushContext = unsafe extern "C" fn(Context) -> c_int;
type PopContext = unsafe extern "C" fn(*mut Context) -> c_int;
type Register = unsafe extern "C" fn(*mut c_void, usize, c_uint) -> c_int;
type Unregister = unsafe extern "C" fn(*mut c_void) -> c_int;

/// Memory that is registered until this is dropped.
pub(crate) struct Pinned {
    base: NonNull<u8>,
    /// `None`: someone else registered it, and will undo it.
    undo: Option<Undo>,
}

/// How a registration is undone on a thread that has no context: the last view of a ring may die on any.
struct Undo {
    context: Context,
    push: PushContext,
    unregister: Unregister,
    pop: PopContext,
}

// SAFETY: `base` and `context` are only handed back to the driver, whose functions may be called from any thread.
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
                symbol::<PushContext>(c"cuCtxPushCurrent_v2"),
                symbol::<PopContext>(c"cuCtxPopCurrent_v2"),
            )
        };
        let (Some(get_context), Some(register), Some(unregister), Some(push), Some(pop)) = found else {
            return Ok(None);
        };
        let mut context: Context = std::ptr::null_mut();
        // SAFETY: `context` is a live pointer to write to.
        let status = unsafe { get_context(&mut context) };
        if status != 0 || context.is_null() {
            return Ok(None);
        }
        // SAFETY: the caller vouches for the memory.
        match unsafe { register(base.as_ptr().cast(), bytes, PORTABLE) } {
            0 => Ok(Some(Self {
                base,
                undo: Some(Undo {
                    context,
                    push,
                    unregister,
                    pop,
                }),
            })),
            ALREADY => Ok(Some(Self { base, undo: None })),
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
        let Some(undo) = &self.undo else {
            return;
        };
        // SAFETY: registered by us in this context, and still mapped. Where the context or CUDA is gone already the
        // first call fails, and the pin is gone with it.
        unsafe {
            if (undo.push)(undo.context) == 0 {
                (undo.unregister)(self.base.as_ptr().cast());
                (undo.pop)(&mut std::ptr::null_mut());
            }
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
