//! `ffs-invoker run`: an invoker of a cluster, with the Scala invoker's command line and environment.
//!
//! Start and end are those of contract P-10 and P-11: settings, id, lock, edges, daemon, HTTP last; and exit
//! code 1 for whatever keeps it from starting.

mod arguments;
mod assign;
pub(super) mod doctor;
mod edges;
mod serve;

use self::arguments::CommandLine;
use super::log;
use crate::config::environment::Environment;
use crate::config::load;
use crate::config::reader::Reader;
use std::process::ExitCode;
use std::time::Duration;
use tracing::error;

/// Longest wait for threads that still do something when all is over.
const LAST: Duration = Duration::from_millis(500);

/// Run an invoker of a cluster: stop the Scala invoker, start this one with the same environment
///
/// Settings come from the environment, as OpenWhisk's invoker takes them, and from a TOML file. The last
/// one wins: defaults, OPENWHISK_CONFIG (HOCON), --config FILE, -D in INVOKER_OPTS or JAVA_OPTS, CONFIG_*
/// and plain variables such as KAFKA_HOSTS.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// --id N | --uniqueName NAME [--overwriteId N], --displayedName NAME, --config FILE,
    /// --print-config (shows each setting, its value, and where it comes from; starts nothing)
    #[arg(
        value_name = "OPTION",
        trailing_var_arg = true,
        allow_hyphen_values = true,
        num_args = 0..
    )]
    tokens: Vec<String>,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    // A name that is no text cannot be ours.
    let environment: Environment = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    let command_line = CommandLine::parse(&arguments.tokens);
    let file = command_line.as_ref().ok().and_then(|line| line.config.as_deref());
    let layers = load::layers(&environment, file);
    let print = command_line.as_ref().is_ok_and(|line| line.print_config);
    let _log = if print {
        None
    } else {
        // What is wrong with other settings is told in the shape that these ask for.
        let found = layers.as_ref().ok().cloned().unwrap_or_default();
        Some(log::start_as(load::log(&mut Reader::new(&found)))?)
    };
    let (layers, command_line) = match (layers, command_line) {
        (Ok(layers), Ok(command_line)) => (layers, command_line),
        (layers, command_line) => {
            let errors = [
                layers.err().map(anyhow::Error::from),
                command_line.err().map(anyhow::Error::from),
            ];
            return Ok(refuse(errors.into_iter().flatten(), print));
        }
    };
    let mut reader = Reader::new(&layers);
    let configuration = load::read(&mut reader);
    let edges = edges::read(&mut reader, &configuration);
    let report = reader.finish();
    if print {
        print!("{report}");
    }
    if !report.problems.is_empty() {
        let problems = report.problems.into_iter();
        return Ok(refuse(problems.map(anyhow::Error::from), print));
    }
    if print {
        return Ok(ExitCode::SUCCESS);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let outcome = runtime.block_on(serve::serve(&command_line, configuration, edges));
    // A client that waits for an answer from afar does not keep the process.
    runtime.shutdown_timeout(LAST);
    Ok(match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => refuse(std::iter::once(error), false),
    })
}

/// Says why there is no start: in the log, or where nothing else is written.
fn refuse(errors: impl Iterator<Item = anyhow::Error>, print: bool) -> ExitCode {
    for error in errors {
        if print {
            eprintln!("ffs-invoker: {error:#}");
        } else {
            error!("cannot start: {error:#}");
        }
    }
    ExitCode::FAILURE
}
