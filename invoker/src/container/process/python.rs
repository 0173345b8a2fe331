//! The interpreter that actions run in, and the files that it needs.

use serde::Deserialize;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::process::Command;

/// A machine under load starts an interpreter in seconds.
const LIMIT: Duration = Duration::from_secs(60);

/// Prints where the interpreter and its libraries are. A launcher (pyenv's, say) is seen through.
const QUESTION: &str = "import json, sys; print(json.dumps({\
    'executable': sys.executable, 'paths': [sys.prefix, sys.base_prefix, *sys.path]}))";

#[derive(Debug, Deserialize)]
pub(super) struct Python {
    pub(super) executable: PathBuf,
    /// What has to be readable for it: its installation, its environment, its search path.
    pub(super) paths: Vec<PathBuf>,
}

impl Python {
    /// Asks the interpreter about itself.
    ///
    /// # Errors
    /// A sentence, if there is none or it is none.
    pub(super) async fn ask(interpreter: &Path) -> Result<Self, String> {
        let name = interpreter.display();
        let advice = "name another one in the settings (python)";
        let mut command = Command::new(interpreter);
        command
            .args(["-c", QUESTION])
            .stdin(Stdio::null())
            .kill_on_drop(true);
        let output = match tokio::time::timeout(LIMIT, command.output()).await {
            Err(_) => {
                return Err(format!(
                    "the Python interpreter {name} did not start within {LIMIT:?}; {advice}"
                ));
            }
            Ok(Err(error)) => {
                return Err(format!(
                    "the Python interpreter {name} cannot be run: {error}; {advice}"
                ));
            }
            Ok(Ok(output)) => output,
        };
        let said = String::from_utf8_lossy(&output.stdout);
        match serde_json::from_str::<Self>(said.trim()) {
            Ok(python) if output.status.success() => Ok(python.complete()),
            _ => {
                let complaint = String::from_utf8_lossy(&output.stderr);
                let last = complaint
                    .lines()
                    .rfind(|line| !line.trim().is_empty())
                    .unwrap_or("it said nothing");
                Err(format!("{name} is not a Python interpreter: {last}; {advice}"))
            }
        }
    }

    /// Adds where links lead, and leaves out what is not there.
    fn complete(mut self) -> Self {
        self.paths.push(self.executable.clone());
        let real: Vec<_> = self
            .paths
            .iter()
            .filter_map(|path| path.canonicalize().ok())
            .collect();
        self.paths.extend(real);
        self.paths
            .retain(|path| path.is_absolute() && path.exists() && path != Path::new("/"));
        self.paths.sort();
        self.paths.dedup();
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_interpreter_says_where_it_lives() {
        let python = Python::ask(Path::new("python3")).await.expect("there is one");
        assert!(python.executable.is_absolute());
        assert!(
            python.paths.iter().any(|path| path.join("json").is_dir()),
            "{python:?}"
        );
    }

    #[tokio::test]
    async fn what_is_no_interpreter_is_named() {
        for (program, sentence) in [
            (
                "/nonexistent/python",
                "the Python interpreter /nonexistent/python cannot be run: ",
            ),
            (
                "/bin/true",
                "/bin/true is not a Python interpreter: it said nothing; name another one",
            ),
            ("/bin/sh", "/bin/sh is not a Python interpreter: "),
        ] {
            let error = Python::ask(Path::new(program)).await.expect_err(program);
            assert!(error.starts_with(sentence), "{error}");
        }
    }
}
