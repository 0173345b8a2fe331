//! Documents are checked against the types of `proto`, so that Python need not know their forms a second time.

use proto::ffs::assignment::AssignmentDocument;
use proto::ffs::build::{BuildRequest, ProfileRequest, ProfileRows};
use proto::ffs::dag::DagDocument;
use proto::ffs::migs::MigsDocument;
use proto::ffs::timing::Timing;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

/// Raises `ValueError` with the place and the reason if `text` is no document of this kind.
#[pyfunction]
pub(crate) fn check_document(kind: &str, text: &str) -> PyResult<()> {
    let outcome = match kind {
        "dag" => serde_json::from_str::<DagDocument>(text).map(drop),
        "assignment" => serde_json::from_str::<AssignmentDocument>(text).map(drop),
        "migs" => serde_json::from_str::<MigsDocument>(text).map(drop),
        "build-request" => serde_json::from_str::<BuildRequest>(text).map(drop),
        "profile-request" => serde_json::from_str::<ProfileRequest>(text).map(drop),
        "profile-rows" => serde_json::from_str::<ProfileRows>(text).map(drop),
        "timing" => serde_json::from_str::<Timing>(text).map(drop),
        other => {
            return Err(PyValueError::new_err(format!(
                "there is no document of kind {other:?}"
            )));
        }
    };
    outcome.map_err(|error| PyValueError::new_err(error.to_string()))
}
