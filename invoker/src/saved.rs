//! What is kept over restarts: the DAG, the profile and the terms of each function, so that BUILDDAG
//! and profiling happen once per action revision.
//!
//! One directory per action under `<state>/functions`, with the documents of its newest revision:
//! `dag.json`, `profile.json` and `kept.json`. Each is replaced whole or not at all.

use proto::ffs::dag::DagDocument;
use proto::ffs::profile::ProfileDocument;
use scheduler::work::{ActionRevision, Kept, Saved};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tracing::{error, warn};

#[derive(Debug, thiserror::Error)]
#[error("saved function state in {path} could not be {operation}")]
pub struct Error {
    operation: &'static str,
    path: PathBuf,
    #[source]
    source: std::io::Error,
}

/// The directory of saved functions.
#[derive(Clone, Debug)]
pub struct SavedState {
    directory: PathBuf,
}

impl SavedState {
    /// Opens `<state>/functions`, and makes it if need be.
    ///
    /// # Errors
    /// The directory cannot be made.
    pub fn open(state: &Path) -> Result<Self, Error> {
        let directory = state.join("functions");
        std::fs::create_dir_all(&directory).map_err(|source| Error {
            operation: "opened",
            path: directory.clone(),
            source,
        })?;
        Ok(Self { directory })
    }

    /// Replaces what is saved for the action. A failure is logged: the function is then built and
    /// profiled again after a restart.
    pub fn write(&self, saved: &Saved) {
        if let Err(error) = self.try_write(saved) {
            error!(function = %saved.function, error = &error as &dyn std::error::Error, "not saved");
        }
    }

    fn try_write(&self, saved: &Saved) -> Result<(), Error> {
        let directory = self.directory.join(escape(&saved.function.action));
        std::fs::create_dir_all(&directory).map_err(|source| Error {
            operation: "written",
            path: directory.clone(),
            source,
        })?;
        // The DAG goes last: a directory whose profile is newer than its DAG has mixed revisions,
        // and reading compares them.
        replace(&directory.join("kept.json"), &saved.kept)?;
        if let Some(profile) = &saved.profile {
            replace(&directory.join("profile.json"), profile.as_ref())?;
        }
        replace(&directory.join("dag.json"), saved.dag.as_ref())
    }

    /// Everything that is saved. What cannot be read is left out, with a line in the log.
    pub fn read_all(&self) -> Vec<Saved> {
        let entries = match std::fs::read_dir(&self.directory) {
            Ok(entries) => entries,
            Err(error) => {
                warn!(path = %self.directory.display(), %error, "saved functions cannot be listed");
                return Vec::new();
            }
        };
        let mut directories: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        directories.sort();
        directories
            .iter()
            .filter_map(|directory| read_one(directory))
            .collect()
    }
}

fn read_one(directory: &Path) -> Option<Saved> {
    let dag: DagDocument = read(&directory.join("dag.json"))?;
    let same =
        |profile: &ProfileDocument| profile.function == dag.function && profile.revision == dag.revision;
    let profile = read::<ProfileDocument>(&directory.join("profile.json"))
        .filter(same)
        .map(Arc::new);
    let kept = read::<BTreeMap<String, Kept>>(&directory.join("kept.json")).unwrap_or_default();
    let function = ActionRevision {
        action: dag.function.clone(),
        revision: dag.revision.clone(),
    };
    Some(Saved {
        function,
        dag: Arc::new(dag),
        profile,
        kept,
    })
}

fn read<T: DeserializeOwned>(path: &Path) -> Option<T> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return None,
        Err(error) => {
            warn!(path = %path.display(), %error, "saved document cannot be read");
            return None;
        }
    };
    match serde_json::from_slice(&bytes) {
        Ok(document) => Some(document),
        Err(error) => {
            warn!(path = %path.display(), %error, "saved document is not valid, it will be made anew");
            None
        }
    }
}

fn replace<T: Serialize>(path: &Path, document: &T) -> Result<(), Error> {
    let failed = |source: std::io::Error| Error {
        operation: "written",
        path: path.to_owned(),
        source,
    };
    let directory = path.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(directory).map_err(failed)?;
    serde_json::to_writer(&mut file, document).map_err(|error| failed(error.into()))?;
    file.flush().map_err(failed)?;
    file.as_file().sync_data().map_err(failed)?;
    file.persist(path).map(drop).map_err(|error| failed(error.error))
}

/// One path segment for an action's name: everything but letters, digits, `_` and `-` as `%xx`.
fn escape(name: &str) -> String {
    name.bytes().fold(String::new(), |mut text, byte| {
        if byte.is_ascii_alphanumeric() || b"_-".contains(&byte) {
            text.push(char::from(byte));
        } else {
            text.push_str(&format!("%{byte:02x}"));
        }
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn saved(revision: &str) -> Saved {
        let dag: DagDocument = serde_json::from_str(&format!(
            r#"{{"schema":"ffs.dag/1","function":"guest/a b","revision":"{revision}","built_at":"2026-01-02T03:04:05Z",
            "inputs":[],"nodes":[{{"id":"m","module":"app:M","inputs":[],"outputs":[{{"port":0,"dtype":"int8","shape":[1]}}]}}],
            "outputs":[{{"name":"y","node":"m","port":0}}]}}"#
        ))
        .expect("it is a DAG");
        let function = ActionRevision {
            action: dag.function.clone(),
            revision: dag.revision.clone(),
        };
        Saved {
            function,
            dag: Arc::new(dag),
            profile: None,
            kept: BTreeMap::new(),
        }
    }

    #[test]
    fn what_was_saved_last_is_read_again_by_the_next_process() {
        let state = tempfile::tempdir().expect("a directory");
        SavedState::open(state.path())
            .expect("opens")
            .write(&saved("1-a"));
        SavedState::open(state.path())
            .expect("opens")
            .write(&saved("2-b"));

        let read = SavedState::open(state.path()).expect("opens").read_all();

        assert_eq!(read, [saved("2-b")]);
    }

    #[test]
    fn a_torn_document_is_left_out() {
        let state = tempfile::tempdir().expect("a directory");
        let files = SavedState::open(state.path()).expect("opens");
        files.write(&saved("1-a"));
        std::fs::write(
            state.path().join("functions/guest%2fa%20b/dag.json"),
            "{\"schema\":",
        )
        .expect("writes");

        assert_eq!(files.read_all(), []);
    }
}
