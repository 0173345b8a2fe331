//! Directories, shared memory, and what this machine permits to containers that are processes.

use super::super::{edges, serve};
use super::Finding;
use crate::config::load::Configuration;
use crate::container::ContainerEngine;
use crate::container::process::ProcessEngine;
use crate::run_directory::RunDirectory;
use proto::unit::Bytes;
use std::path::Path;

/// Less leaves no room for the rings of a function with large tensors.
const LEAST_SHARED: Bytes = Bytes::mib(256);

/// Where the journal, and what runs, is kept: the invoker's own directory, or the one that it would be made in.
pub(super) fn directories(configuration: &Configuration) -> Vec<Finding> {
    let (state, run) = serve::paths(configuration);
    vec![
        writable("state and journal", &state, "ffs.state-dir"),
        writable("what runs", &run, "ffs.run-dir"),
    ]
}

fn writable(what: &str, directory: &Path, setting: &str) -> Finding {
    let there = directory.ancestors().find(|ancestor| ancestor.exists());
    let there = there.unwrap_or(Path::new("/"));
    let shown = directory.display().to_string();
    if !there.is_dir() {
        let advice = format!("move it away, or set {setting}");
        return Finding::failed(what, format!("{} is no directory", there.display()), advice);
    }
    match try_file(there) {
        Ok(()) if there == directory => Finding::ok(what, shown),
        Ok(()) => Finding::ok(what, format!("{shown}, to be made")),
        Err(error) => {
            let advice = format!("let this user write there, or set {setting}");
            Finding::failed(what, format!("{}: {error}", there.display()), advice)
        }
    }
}

/// Permissions alone do not say it: the file system may be read-only, or full.
fn try_file(directory: &Path) -> std::io::Result<()> {
    use std::io::Write;
    let mut file = tempfile::NamedTempFile::new_in(directory)?;
    file.write_all(&[0; 4096])
}

/// Rings lie there where instances have no tmpfs of their own.
pub(super) fn shared_memory(at: &Path) -> Finding {
    let what = format!("shared memory at {}", at.display());
    let size = match nix::sys::statvfs::statvfs(at) {
        Ok(found) => Bytes(found.blocks() * found.fragment_size()),
        Err(error) => {
            return Finding::warning(what, error.to_string(), "mount a tmpfs there");
        }
    };
    if let Err(error) = try_file(at) {
        return Finding::warning(what, error.to_string(), "let this user write there");
    }
    if size < LEAST_SHARED {
        let advice = "make it larger: in a container, with --shm-size";
        return Finding::warning(what, size.to_string(), advice);
    }
    Finding::ok(what, size.to_string())
}

/// Opens one in a directory of its own, and takes it away again.
pub(super) async fn process_engine(configuration: &Configuration) -> Vec<Finding> {
    let what = "process engine";
    let failed = |error: String| {
        let advice = "set ffs.python and ffs.runtime to an interpreter and to the program ffs-runtime";
        vec![Finding::failed(what, error, advice)]
    };
    let folder = match tempfile::Builder::new().prefix("ffs-doctor-").tempdir() {
        Ok(folder) => folder,
        Err(error) => return failed(error.to_string()),
    };
    let run = match RunDirectory::open(&folder.path().join("run")) {
        Ok(run) => run,
        Err(error) => return failed(error.to_string()),
    };
    let config = edges::process(configuration, &folder.path().join("state"), &run);
    let engine = match ProcessEngine::open(config).await {
        Ok(engine) => engine,
        Err(error) => return failed(crate::readiness::because(&error)),
    };
    let findings = match engine.isolation().await {
        Err(reason) => failed(reason),
        Ok(isolation) => {
            let missing = isolation.shortcomings().into_iter().map(|shortcoming| {
                let advice = "run as root, with control groups mounted, or use Docker";
                Finding::warning("isolation of tenants", shortcoming, advice)
            });
            let mut findings = vec![Finding::ok(what, isolation.to_string())];
            findings.extend(missing);
            findings
        }
    };
    // Nothing is in it: its control groups go.
    let _ = engine.sweep().await;
    findings
}
