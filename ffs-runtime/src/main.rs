//! `ffs-runtime`: arguments → environment → the life of one container → exit code.
#![forbid(unsafe_code)]

use std::io::Write;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let outcome = match arguments.first().and_then(|first| first.to_str()) {
        None if arguments.is_empty() => live(),
        Some("sandbox") => ffs_runtime::sandbox::run(&arguments[1..]),
        Some("--version") => {
            let version = concat!("ffs-runtime ", env!("CARGO_PKG_VERSION"), "\n");
            let written = std::io::stdout().write_all(version.as_bytes());
            written.map(|()| ExitCode::SUCCESS).map_err(Into::into)
        }
        _ => Err(anyhow::anyhow!(
            "argument {:?} is not known: ffs-runtime takes its settings from the environment (FFS_LISTEN, FFS_CONFIG, FFS_LANE, \
             FFS_TOKEN, FFS_PYTHON, FFS_LIFELINE)",
            arguments[0]
        )),
    };
    outcome.unwrap_or_else(|error| {
        ffs_runtime::logs::complain(&format!("ffs-runtime: {error:#}"));
        ExitCode::FAILURE
    })
}

/// One thread is enough: the work is done in the child, and it starts quickest.
fn live() -> anyhow::Result<ExitCode> {
    close_inherited();
    let settings = ffs_runtime::settings::Settings::read(|name| std::env::var_os(name))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let code = runtime.block_on(ffs_runtime::life::live(settings))?;
    // A write to a standard output that nobody reads must not keep the process alive.
    runtime.shutdown_background();
    Ok(code)
}

/// Closes what whoever started us has left open: it is no business of the user's code.
fn close_inherited() {
    let Ok(descriptors) = std::fs::read_dir("/proc/self/fd") else {
        return;
    };
    let descriptors: Vec<i32> = descriptors
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    for descriptor in descriptors {
        if descriptor > 2 {
            let _ = nix::unistd::close(descriptor); // one was the directory's own
        }
    }
}
