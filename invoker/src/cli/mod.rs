//! One file a command. A command turns arguments into a configuration, and an outcome into an exit code.

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// Runs OpenWhisk actions, and pipelines of neural networks on MIG slices.
#[derive(Debug, Parser)]
#[command(name = "ffs-invoker", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {}

/// Runs the command that the arguments name. Errors go to standard error, with their causes.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome: anyhow::Result<ExitCode> = match arguments.command {};
    #[allow(unreachable_code)]
    match outcome {
        Ok(code) => code,
        Err(error) => {
            eprintln!("ffs-invoker: {error:#}");
            ExitCode::FAILURE
        }
    }
}
