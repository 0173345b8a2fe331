//! Arguments → command → exit code.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    ffs_invoker::cli::main()
}
