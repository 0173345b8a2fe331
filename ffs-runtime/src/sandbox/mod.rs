//! `ffs-runtime sandbox`: a container without a container daemon.
//!
//! ```text
//!  invoker ─► sandbox            a session of its own, outside: sees to the end of everything inside
//!                └─► inside      joins control groups, enters namespaces, gives up privileges,
//!                                and turns into the program (this same binary, as a rule)
//! ```
//! What is to be in the sandbox comes as one line on standard input ([`proto::ffs::sandbox`]); which
//! limits apply is written to the control groups by the invoker. Standard input is also the
//! lifeline: when the invoker is gone, nothing in here outlives it by a second.

mod inside;
mod outside;
mod view;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

/// What could not be done to set the sandbox up.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("the sandbox's description on standard input cannot be read")]
    Description(#[source] std::io::Error),
    #[error("the sandbox cannot {operation}")]
    System {
        operation: &'static str,
        #[source]
        source: std::io::Error,
    },
    #[error("the sandbox cannot {operation} {path}")]
    File {
        operation: &'static str,
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
}

impl Error {
    fn system<E: Into<std::io::Error>>(operation: &'static str) -> impl FnOnce(E) -> Self {
        move |source| Self::System {
            operation,
            source: source.into(),
        }
    }

    fn file<E: Into<std::io::Error>>(
        operation: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(E) -> Self {
        move |source| Self::File {
            operation,
            path: path.into(),
            source: source.into(),
        }
    }
}

/// Name of the argument that follows `sandbox` in the process inside.
const INSIDE: &str = "inside";

/// Runs the launcher; `arguments` are those behind `sandbox`. Returns when the container has ended,
/// with its exit code, or with 128 and the number of the signal that ended it.
///
/// # Errors
/// If the sandbox cannot be set up.
pub fn run(arguments: &[OsString]) -> anyhow::Result<ExitCode> {
    match arguments {
        [] => Ok(outside::run()?),
        [inside] if inside == INSIDE => match inside::run()? {},
        _ => anyhow::bail!("sandbox takes no arguments: what is to run is read from standard input"),
    }
}
