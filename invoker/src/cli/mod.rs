//! One file a command. A command turns arguments into a configuration, and an outcome into an exit code.

mod live;
mod log;
mod migs;
mod plan;
mod policies;
mod run;
mod standalone;
mod wire;

pub use migs::GpuArguments;

use clap::{Parser, Subcommand};
use std::io::Write;
use std::process::ExitCode;

/// Runs OpenWhisk actions, and pipelines of neural networks on MIG slices.
#[derive(Debug, Parser)]
#[command(name = "ffs-invoker", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Doctor(run::doctor::Arguments),
    /// Show the GPU slices as the daemon would see them
    Migs(migs::Arguments),
    Plan(Box<plan::Arguments>),
    Policies(policies::Arguments),
    Run(run::Arguments),
    Standalone(Box<standalone::Arguments>),
    Wire(wire::Arguments),
}

/// Runs the command that the arguments name. Errors go to standard error, with their causes.
pub fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::Doctor(arguments) => run::doctor::run(&arguments),
        Command::Migs(arguments) => migs::run(&arguments),
        Command::Plan(arguments) => plan::run(&arguments),
        Command::Policies(arguments) => policies::run(&arguments),
        Command::Run(arguments) => run::run(&arguments),
        Command::Standalone(arguments) => standalone::run(*arguments),
        Command::Wire(arguments) => wire::run(arguments),
    };
    match outcome {
        Ok(code) => code,
        Err(error) => {
            // Nobody may be left to read it; the exit code says it too.
            let _ = writeln!(std::io::stderr(), "ffs-invoker: {error:#}");
            ExitCode::FAILURE
        }
    }
}
