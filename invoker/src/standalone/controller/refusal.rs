//! Why a request is not carried out: the HTTP status, and the text of OpenWhisk's controller.
//! `ErrorResponse.scala`.

use crate::{bus, store};
use axum::http::StatusCode;
use proto::whisk::limits::LimitViolation;

pub(crate) const CONFLICT: &str = "Concurrent modification to resource detected.";
pub(crate) const OTHER_COLLECTION: &str = "Resource by this name exists but is not in this collection.";
pub(crate) const ON_BINDING: &str = "Operation not permitted on package binding.";
pub(crate) const FINAL_PARAMETERS: &str =
    "Request defines parameters that are not allowed (e.g., reserved properties).";

#[derive(Clone, Debug, thiserror::Error)]
#[error("{text}")]
pub struct Refusal {
    pub status: StatusCode,
    pub text: String,
}

impl Refusal {
    pub fn new(status: StatusCode, text: impl Into<String>) -> Self {
        Self {
            status,
            text: text.into(),
        }
    }

    pub fn bad_request(text: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, text)
    }

    /// The body of the request is not what it should be.
    pub fn malformed(why: impl std::fmt::Display) -> Self {
        Self::bad_request(format!("The request content was malformed:\n{why}"))
    }

    pub fn conflict(text: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, text)
    }

    pub fn not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, "The requested resource does not exist.")
    }

    /// Somebody else's.
    pub fn forbidden(resource: impl std::fmt::Display) -> Self {
        let text = format!("The supplied authentication is not authorized to access '{resource}'.");
        Self::new(StatusCode::FORBIDDEN, text)
    }

    /// Sizes in bytes.
    pub fn too_large(what: &str, is: usize, allowed: usize) -> Self {
        let text = format!("{what} larger than allowed: {is} > {allowed} bytes.");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, text)
    }

    /// Our fault; what it was goes to the log.
    pub fn internal(error: &dyn std::error::Error) -> Self {
        tracing::error!(error = crate::readiness::because(error), "a request failed");
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "There was an internal server error.",
        )
    }
}

impl From<store::Error> for Refusal {
    fn from(error: store::Error) -> Self {
        match error {
            store::Error::Conflict { .. } => Self::conflict(CONFLICT),
            error => Self::internal(&error),
        }
    }
}

impl From<bus::Error> for Refusal {
    fn from(error: bus::Error) -> Self {
        match error {
            bus::Error::TooLarge { .. } => Self::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                "The request content is larger than the server is willing or able to process.",
            ),
            error => Self::internal(&error),
        }
    }
}

impl From<LimitViolation> for Refusal {
    fn from(violation: LimitViolation) -> Self {
        Self::bad_request(violation.to_string())
    }
}
