//! Atomics, locks and the sleep of a thread: std's and the kernel's, or loom's under `--cfg loom`.
//!
//! The ring is written against these names only, so that `tests/loom.rs` explores the very code that runs.

#[cfg(loom)]
pub(crate) use loom::sync::{
    Arc, Mutex, MutexGuard,
    atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering, fence},
};
use std::sync::PoisonError;
#[cfg(not(loom))]
pub(crate) use std::sync::{
    Arc, Mutex, MutexGuard,
    atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering, fence},
};

/// Locks; a thread that panicked while it held the lock left nothing half done that a ring could not bear.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(loom)]
pub(crate) use loom::cell::UnsafeCell;

/// std's cell, reached as loom's is.
#[cfg(not(loom))]
pub(crate) struct UnsafeCell<T>(std::cell::UnsafeCell<T>);

#[cfg(not(loom))]
impl<T> UnsafeCell<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(value.into())
    }

    pub(crate) fn with<R>(&self, reads: impl FnOnce(*const T) -> R) -> R {
        reads(self.0.get())
    }

    pub(crate) fn with_mut<R>(&self, writes: impl FnOnce(*mut T) -> R) -> R {
        writes(self.0.get())
    }
}
