//! The directory `FFS_CONFIG`: what the invoker wrote down about this instance.
//!
//! Read-only here. The Python process reads `dag.json` and the rings for itself; this side needs
//! to know who it is, and the body of `/init` where nobody posts one.

use axum::body::Bytes;
use proto::ffs::assignment::AssignmentDocument;
use proto::id::LaneId;
use std::path::{Path, PathBuf};

/// What one lane knows about itself from `assignment.json`.
#[derive(Clone, Debug)]
pub struct ConfigLayer {
    directory: PathBuf,
    pub lane: LaneId,
    pub epoch: u64,
    /// `lane s1l0 (components cls) on slice MIG-…`, for sentences about this lane.
    pub label: String,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{} of the config layer cannot be read", path.display())]
    Unreadable {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{} of the config layer is not a valid document", path.display())]
    Invalid {
        path: PathBuf,
        #[source]
        source: serde_json::Error,
    },
    #[error("FFS_LANE is {lane}, but {} has only {}", path.display(), lanes.join(", "))]
    NoSuchLane {
        lane: LaneId,
        path: PathBuf,
        lanes: Vec<String>,
    },
}

impl ConfigLayer {
    /// Reads `assignment.json` and finds `lane` in it.
    ///
    /// # Errors
    /// The file is missing, is not an assignment, or does not name the lane.
    pub fn read(directory: &Path, lane: LaneId) -> Result<Self, Error> {
        let path = directory.join("assignment.json");
        let bytes = read(&path)?;
        let assignment: AssignmentDocument =
            serde_json::from_slice(&bytes).map_err(|source| Error::Invalid {
                path: path.clone(),
                source,
            })?;
        let lanes = || assignment.stages.iter().flat_map(|stage| &stage.lanes);
        let Some(own) = lanes().find(|candidate| candidate.id == lane) else {
            let lanes = lanes().map(|lane| lane.id.to_string()).collect();
            return Err(Error::NoSuchLane { lane, path, lanes });
        };
        let components: Vec<_> = own.components.iter().map(|id| id.as_str()).collect();
        let label = format!(
            "lane {lane} (components {}) on slice {}",
            components.join(", "),
            own.mig.uuid
        );
        Ok(Self {
            directory: directory.to_owned(),
            lane,
            epoch: assignment.epoch,
            label,
        })
    }

    /// The Unix socket on which the invoker listens to its lanes.
    pub fn control(&self) -> PathBuf {
        self.directory.join("control")
    }

    /// `init.json`: the body of `/init`, for lanes to which nobody posts it.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn init_body(&self) -> Result<Bytes, Error> {
        read(&self.directory.join("init.json")).map(Bytes::from)
    }
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    std::fs::read(path).map_err(|source| Error::Unreadable {
        path: path.to_owned(),
        source,
    })
}
