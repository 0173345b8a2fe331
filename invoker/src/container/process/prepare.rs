//! What the machine permits, found out by trying it once.

use super::ProcessConfig;
use super::cgroups::Cgroups;
use super::isolation::Isolation;
use super::python::Python;
use nix::unistd::geteuid;
use proto::ffs::sandbox::{Namespaces, Sandbox};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, Command};

/// User of plain containers: nobody else's, and below those of instances.
pub(super) const PLAIN_USER: u32 = 199_999;
/// For a trial that does not come back.
const TRIAL_LIMIT: Duration = Duration::from_secs(60);
/// Files of the host that name resolution needs, wherever links to them lead.
const RESOLVER: [&str; 3] = ["/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf"];

#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) isolation: Isolation,
    /// Path of the interpreter itself.
    pub(super) python: PathBuf,
    /// What every container may read.
    pub(super) readable: Vec<PathBuf>,
}

impl Prepared {
    /// # Errors
    /// A sentence, if nothing can be run.
    pub(super) async fn find(config: &ProcessConfig, cgroups: &Cgroups) -> Result<Self, String> {
        if !config.runtime.is_file() {
            return Err(format!("there is no program {}", config.runtime.display()));
        }
        let python = Python::ask(&config.python).await?;
        let readable = readable(config, &python);
        let namespaces = if geteuid().is_root() {
            try_namespaces(config, &python.executable, &readable).await
        } else {
            Err("only root may make them".to_owned())
        };
        let user = match &namespaces {
            Ok(()) => Ok(()),
            Err(_) if !geteuid().is_root() => Err("only root may change users".to_owned()),
            Err(_) => all_may_read([&config.directory, &config.scratch].into_iter().chain(&readable)),
        };
        Ok(Self {
            isolation: Isolation::new(namespaces, user, cgroups),
            python: python.executable,
            readable,
        })
    }
}

fn readable(config: &ProcessConfig, python: &Python) -> Vec<PathBuf> {
    let mut all = vec![config.runtime.clone()];
    all.extend(config.readable.iter().cloned());
    all.extend(
        RESOLVER
            .iter()
            .filter_map(|file| Path::new(file).canonicalize().ok()),
    );
    all.extend(python.paths.iter().cloned());
    let real: Vec<_> = all.iter().filter_map(|path| path.canonicalize().ok()).collect();
    all.extend(real);
    all.retain(|path| path.is_absolute());
    all.sort();
    all.dedup();
    all
}

/// Starts the interpreter as a container would, for nothing.
async fn try_namespaces(config: &ProcessConfig, python: &Path, readable: &[PathBuf]) -> Result<(), String> {
    let sandbox = Sandbox {
        program: python.to_owned(),
        arguments: vec!["-c".to_owned(), "pass".to_owned()],
        user: Some(PLAIN_USER),
        namespaces: Some(Namespaces {
            network: false,
            root: config.directory.join("root"),
            readable: readable.to_vec(),
            ..Namespaces::default()
        }),
        ..Sandbox::default()
    };
    let trial = async {
        let mut child = launch(config, &sandbox).await?;
        let lifeline = child.stdin.take();
        let output = child.wait_with_output().await;
        drop(lifeline);
        output
    };
    let output = match tokio::time::timeout(TRIAL_LIMIT, trial).await {
        Ok(Ok(output)) => output,
        Ok(Err(error)) => return Err(format!("{} cannot be started: {error}", config.runtime.display())),
        Err(_) => return Err(format!("a trial did not end within {TRIAL_LIMIT:?}")),
    };
    if output.status.success() {
        return Ok(());
    }
    let complaint = String::from_utf8_lossy(&output.stderr);
    let last = complaint.lines().rfind(|line| !line.trim().is_empty());
    Err(last.map_or_else(|| format!("a trial ended with {}", output.status), str::to_owned))
}

/// Starts `ffs-runtime sandbox` and tells it what to become. Its standard input is its lifeline: when
/// that is dropped the launcher ends everything inside, which it could not do if it were killed.
pub(super) async fn launch(config: &ProcessConfig, sandbox: &Sandbox) -> std::io::Result<Child> {
    let mut line = serde_json::to_vec(sandbox)?;
    line.push(b'\n');
    let mut child = Command::new(&config.runtime)
        .arg("sandbox")
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let mut stdin = child.stdin.take().expect("it was asked to be a pipe");
    stdin.write_all(&line).await?;
    stdin.flush().await?;
    child.stdin = Some(stdin);
    Ok(child)
}

/// Whether any user can get at these without a view of files of its own.
fn all_may_read<'a>(paths: impl IntoIterator<Item = &'a PathBuf>) -> Result<(), String> {
    for path in paths {
        for part in path.ancestors() {
            let Ok(metadata) = part.metadata() else { continue };
            let needed = if metadata.is_dir() { 0o001 } else { 0o004 };
            if metadata.permissions().mode() & needed == 0 {
                return Err(format!("other users have no access to {}", part.display()));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_below_a_closed_directory_is_not_readable_for_all() {
        let directory = tempfile::tempdir().expect("a directory");
        let closed = std::fs::Permissions::from_mode(0o700);
        std::fs::set_permissions(directory.path(), closed).expect("ours");
        let file = directory.path().join("file");
        std::fs::write(&file, b"").expect("written");
        let error = all_may_read([&file]).expect_err("closed");
        assert_eq!(
            error,
            format!("other users have no access to {}", directory.path().display())
        );
        assert_eq!(all_may_read([&PathBuf::from("/etc/hosts")]), Ok(()));
    }
}
