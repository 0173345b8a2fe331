//! The daemon's log: one line per entry on standard error.

use tracing_subscriber::EnvFilter;

/// Begins logging at the level that `FFS_LOG` names (`info`; `debug`; `ffs_invoker::bus=trace`).
pub(super) fn start() {
    let filter = EnvFilter::try_from_env("FFS_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    // A second call, as from a test, changes nothing.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .with_target(false)
        .try_init();
}
