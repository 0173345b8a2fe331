//! The daemon's log: one line per entry. For people on standard error, or for an operator's pipeline on
//! standard output, as OpenWhisk writes it.

mod openwhisk;

use crate::config::load::{LogFormat, LogSettings};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// Begins logging at the level that `FFS_LOG` names (`info`; `debug`; `ffs_invoker::bus=trace`).
pub(super) fn start() {
    plain(EnvFilter::try_from_env("FFS_LOG").unwrap_or_else(|_| EnvFilter::new("info")));
}

/// Begins logging as an operator has set it; `FFS_LOG` wins over the level.
pub(super) fn start_as(settings: LogSettings) {
    let filter = EnvFilter::try_from_env("FFS_LOG").unwrap_or_else(|_| filter(settings.level));
    match settings.format {
        LogFormat::Plain => plain(filter),
        LogFormat::OpenWhisk => {
            let lines = tracing_subscriber::fmt::layer()
                .event_format(openwhisk::Lines)
                .with_writer(std::io::stdout)
                .with_ansi(false);
            let registry = tracing_subscriber::registry()
                .with(filter)
                .with(openwhisk::Transactions)
                .with(lines);
            // A second call, as from a test, changes nothing.
            let _ = registry.try_init();
        }
    }
}

fn plain(filter: EnvFilter) {
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .with_target(false)
        .try_init();
}

/// The level holds for us; the libraries below only warn, whatever it is.
fn filter(level: LevelFilter) -> EnvFilter {
    let libraries = level.min(LevelFilter::WARN);
    EnvFilter::new(format!("{libraries},ffs_invoker={level},scheduler={level}"))
}
