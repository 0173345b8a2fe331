//! The clock that all processes of a machine read alike.

/// CLOCK_MONOTONIC in nanoseconds; containers share it with their host.
#[cfg(not(loom))]
pub(crate) fn monotonic_ns() -> u64 {
    let mut now = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `now` is a live timespec. The call fails only for a clock that does not exist.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut now) };
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// The model has no time.
#[cfg(loom)]
pub(crate) fn monotonic_ns() -> u64 {
    0
}
