//! A bell in shared memory: one side sleeps at it, the other rings it, and nobody pays for a bell that no one hears.
//!
//! The word says whether someone sleeps. Both sides first write what the other waits to see, then look at what the
//! other wrote, with a full fence between the two; so at least one of them sees the other, and no wake-up is lost:
//!
//! ```text
//!   sleeper                         ringer
//!   word  = ASLEEP                  index = new
//!   fence(SeqCst)                   fence(SeqCst)
//!   index new?  no: futex wait      word not AWAKE?  word = AWAKE, futex wake
//! ```
//! Several threads may ring at once, since frames are committed and released on any thread. Whoever changes the word
//! does so by a read-modify-write that acquires and releases: no AWAKE can come after an ASLEEP it has not seen.

use crate::sync::{AtomicU32, Ordering, fence};
use std::time::Instant;

const AWAKE: u32 = 0;
const ASLEEP: u32 = 1;

/// A futex word with at most one sleeper, on cache lines of its own.
#[repr(C, align(128))]
pub(crate) struct Bell {
    word: AtomicU32,
    #[cfg(loom)]
    kernel: (loom::sync::Mutex<()>, loom::sync::Condvar),
}

impl Bell {
    #[cfg(loom)]
    pub(crate) fn new() -> Self {
        Self {
            word: AtomicU32::new(AWAKE),
            kernel: (loom::sync::Mutex::new(()), loom::sync::Condvar::new()),
        }
    }

    /// Sleeps once, unless `ready`. May return early; the caller looks and comes again.
    pub(crate) fn sleep_unless(&self, ready: &impl Fn() -> bool, until: Option<Instant>) {
        self.word.swap(ASLEEP, Ordering::AcqRel);
        fence(Ordering::SeqCst); // pairs with the fence in `ring`
        if !ready() {
            self.wait(until);
        }
        self.word.swap(AWAKE, Ordering::AcqRel);
    }

    /// Wakes the sleeper, if there is one. What it waits for is stored before.
    pub(crate) fn ring(&self) {
        fence(Ordering::SeqCst); // pairs with the fence in `sleep_unless`
        // What is neither was written by a hostile peer, under a sleeper of ours maybe.
        if self.word.load(Ordering::Relaxed) != AWAKE && self.word.swap(AWAKE, Ordering::AcqRel) != AWAKE {
            self.wake();
        }
    }

    /// Wakes whoever sleeps, also one that the word does not tell of: for the end of a ring.
    pub(crate) fn ring_all(&self) {
        fence(Ordering::SeqCst); // pairs with the fence in `sleep_unless`
        self.word.swap(AWAKE, Ordering::AcqRel);
        self.wake();
    }
}

#[cfg(not(loom))]
impl Bell {
    fn wait(&self, until: Option<Instant>) {
        wait(&self.word, ASLEEP, until);
    }

    fn wake(&self) {
        wake(&self.word);
    }
}

/// Returns at a wake-up, at the deadline, at a signal, or at once if the word is not `expected`.
#[cfg(not(loom))]
pub(crate) fn wait(word: &AtomicU32, expected: u32, until: Option<Instant>) {
    let timeout = until.map(|until| {
        let left = until.saturating_duration_since(Instant::now());
        libc::timespec {
            tv_sec: libc::time_t::try_from(left.as_secs()).unwrap_or(libc::time_t::MAX),
            tv_nsec: libc::c_long::from(left.subsec_nanos()),
        }
    });
    let timeout = timeout.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
    // SAFETY: the word is borrowed, `timeout` is null or points at a live timespec. The futex is a shared one: the two
    // ends map it at different addresses. Every way to return means "look again".
    unsafe {
        libc::syscall(
            libc::SYS_futex,
            word.as_ptr(),
            libc::FUTEX_WAIT,
            expected,
            timeout,
        );
    }
}

/// Wakes whoever sleeps on the word.
#[cfg(not(loom))]
pub(crate) fn wake(word: &AtomicU32) {
    // SAFETY: the word is borrowed; waking touches no memory.
    unsafe {
        libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, libc::c_int::MAX);
    }
}

/// The kernel's promise, modelled: comparing the word and falling asleep are one step for every waker.
#[cfg(loom)]
impl Bell {
    fn wait(&self, _until: Option<Instant>) {
        let guard = crate::sync::lock(&self.kernel.0);
        if self.word.load(Ordering::Relaxed) == ASLEEP {
            drop(self.kernel.1.wait(guard));
        }
    }

    fn wake(&self) {
        let _guard = crate::sync::lock(&self.kernel.0);
        self.kernel.1.notify_all();
    }
}
