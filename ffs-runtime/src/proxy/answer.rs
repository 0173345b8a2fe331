//! Outcomes as HTTP answers, with OpenWhisk's status codes and texts (contract C-90).

use super::request::{MAX_BODY, Malformed};
use crate::child::protocol::Answer;
use axum::body::{Body, Bytes};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use proto::ffs::timing::{RUNTIME_HEADER, TIMING_HEADER, Timing};

/// One HTTP answer: JSON with a length, marked as ours.
#[derive(Debug)]
pub struct Reply {
    pub status: StatusCode,
    pub body: Bytes,
    pub timing: Option<Timing>,
}

/// Why a request is not served.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    #[error(transparent)]
    Malformed(#[from] Malformed),
    #[error("the request's body could not be read: it ended early, or is longer than {MAX_BODY} bytes")]
    Unreadable,
    #[error("the request's body has {0} bytes, more than {MAX_BODY}")]
    TooLong(u64),
    #[error("Cannot initialize the action more than once.")]
    InitializedBefore,
    #[error("no action defined yet: /init comes before {0}")]
    NotInitialized(&'static str),
    /// The user's code could not be loaded.
    #[error("{0}")]
    NotLoaded(String),
    /// The Python process of an ordinary action ended while it ran.
    #[error("command exited")]
    Exited,
    /// It had ended before.
    #[error("command exited")]
    ExitedBefore,
    /// The lane, or one of its peers, is lost.
    #[error("{0}")]
    LaneLost(String),
    #[error("The action did not return a dictionary or array.")]
    NotAnObject,
    #[error("the container is shutting down")]
    Leaving,
    #[error("{0} does not answer /init or /run; the head, lane s0l0, does")]
    NotTheHead(String),
    #[error("{label} serves an instance; {path} is for a container without a config layer")]
    Serving { label: String, path: &'static str },
    #[error("there is no {0} here: expected POST /init, /run, /ffs/build or /ffs/profile")]
    NoSuchPath(String),
    #[error("{0} is not a method of this path: expected POST")]
    WrongMethod(String),
}

impl Refusal {
    fn status(&self) -> StatusCode {
        match self {
            Self::Malformed(Malformed::NoCode) | Self::InitializedBefore => StatusCode::FORBIDDEN,
            Self::NotTheHead(_) | Self::Serving { .. } => StatusCode::FORBIDDEN,
            Self::Malformed(_) | Self::Unreadable | Self::Exited => StatusCode::BAD_REQUEST,
            Self::TooLong(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::NotInitialized(_) | Self::ExitedBefore => StatusCode::INTERNAL_SERVER_ERROR,
            Self::NotLoaded(_) | Self::LaneLost(_) | Self::NotAnObject => StatusCode::BAD_GATEWAY,
            Self::Leaving => StatusCode::SERVICE_UNAVAILABLE,
            Self::NoSuchPath(_) => StatusCode::NOT_FOUND,
            Self::WrongMethod(_) => StatusCode::METHOD_NOT_ALLOWED,
        }
    }
}

impl Reply {
    pub fn initialized() -> Self {
        Self {
            status: StatusCode::OK,
            body: Bytes::from_static(b"{\"ok\":true}\n"),
            timing: None,
        }
    }

    /// What the Python process answered, with the line end that OpenWhisk's proxies send.
    ///
    /// # Errors
    /// A result that is neither object nor array.
    pub fn from_child(answer: Answer) -> Result<Self, Refusal> {
        let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::BAD_GATEWAY);
        if status == StatusCode::OK && !matches!(answer.body.first(), Some(b'{' | b'[')) {
            return Err(Refusal::NotAnObject);
        }
        let body = [&answer.body[..], b"\n"].concat().into();
        Ok(Self {
            status,
            body,
            timing: answer.timing,
        })
    }
}

impl From<Refusal> for Reply {
    fn from(refusal: Refusal) -> Self {
        let body = serde_json::json!({ "error": refusal.to_string() });
        Self {
            status: refusal.status(),
            body: format!("{body}\n").into(),
            timing: None,
        }
    }
}

impl IntoResponse for Reply {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::from(self.body));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(
            HeaderName::from_static(RUNTIME_HEADER),
            HeaderValue::from_static("1"),
        );
        let timing = self.timing.and_then(|timing| serde_json::to_string(&timing).ok());
        if let Some(value) = timing.and_then(|text| HeaderValue::try_from(text).ok()) {
            headers.insert(HeaderName::from_static(TIMING_HEADER), value);
        }
        response
    }
}
