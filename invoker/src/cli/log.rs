//! The daemon's log: one line per entry. For people on standard error, or for an operator's pipeline on
//! standard output, as OpenWhisk writes it.

mod openwhisk;
mod output;

use crate::config::load::{LogFormat, LogSettings};
use std::io::Stdout;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// Begins logging at the level that `FFS_LOG` names (`info`; `debug`; `ffs_invoker::bus=trace`).
pub(super) fn start() {
    plain(EnvFilter::try_from_env("FFS_LOG").unwrap_or_else(|_| EnvFilter::new("info")));
}

/// Dropped, it writes what of the log is not written yet.
#[must_use = "the last lines are lost without it"]
#[derive(Debug)]
pub(super) struct Flush(Option<output::Output<Stdout>>);

impl Drop for Flush {
    fn drop(&mut self) {
        if let Some(output) = &self.0 {
            output.flush();
        }
    }
}

/// Begins logging as an operator has set it; `FFS_LOG` wins over the level.
///
/// # Errors
/// When there can be no thread that writes.
pub(super) fn start_as(settings: LogSettings) -> std::io::Result<Flush> {
    let filter = EnvFilter::try_from_env("FFS_LOG").unwrap_or_else(|_| filter(settings.level));
    match settings.format {
        LogFormat::Plain => {
            plain(filter);
            Ok(Flush(None))
        }
        LogFormat::OpenWhisk => {
            let output = output::Output::start(std::io::stdout())?;
            let lines = openwhisk::Lines(output.clone());
            // A second call, as from a test, changes nothing.
            let _ = tracing_subscriber::registry().with(filter).with(lines).try_init();
            Ok(Flush(Some(output)))
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
