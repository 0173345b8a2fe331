//! HTTP for operators: enabling and disabling, metrics, and how things stand and why: a page for people,
//! the same as JSON, and the explanation of each function's newest instance.
//!
//! `standalone` merges [`router`] into its own server; `run` has [`Server`], where all but `/ping` and
//! `/metrics` wants credentials.

mod exposition;
mod page;
mod routes;
mod server;
mod tls;
pub mod transaction;

pub use server::{Error, Server};

use crate::dispatcher::{Inbox, Picture};
use crate::health::Switch;
use crate::readiness::{Readiness, Standing};
use axum::Router;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use proto::whisk::instance::InvokerId;
use serde::Serialize;

/// What operators may see and do.
#[derive(Clone, Debug)]
pub struct Operations {
    pub id: InvokerId,
    pub inbox: Inbox,
    pub switch: Switch,
    pub readiness: Readiness,
    /// Whether `/metrics` is there (H-30).
    pub exposes_metrics: bool,
}

impl Operations {
    /// `invoker0/0: enabled, ready`.
    fn standing(&self) -> String {
        let enabled = if self.switch.is_enabled() {
            "enabled"
        } else {
            "disabled"
        };
        format!("{}: {enabled}, {}", self.id, self.readiness.standing())
    }
}

/// Routes: `/status` (HTML), `/status.json`, `/explain/{namespace}/{name}` (text), `/metrics` if it is to be there.
pub fn router(operations: Operations) -> Router {
    let router = Router::new()
        .route("/status", get(status))
        .route("/status.json", get(status_json))
        .route("/explain/{*function}", get(explain));
    let router = match operations.exposes_metrics {
        true => router.route("/metrics", get(exposition::metrics)),
        false => router,
    };
    router.with_state(operations)
}

async fn status(State(operations): State<Operations>) -> Response {
    match operations.inbox.look().await {
        Some(picture) => Html(page::render(&operations.standing(), &picture)).into_response(),
        None => stopping(),
    }
}

/// A picture, and whose it is.
#[derive(Serialize)]
struct Status {
    invoker: String,
    enabled: bool,
    ready: bool,
    /// Why it is not ready.
    #[serde(skip_serializing_if = "Option::is_none")]
    because: Option<String>,
    #[serde(flatten)]
    picture: Picture,
}

async fn status_json(State(operations): State<Operations>) -> Response {
    let Some(picture) = operations.inbox.look().await else {
        return stopping();
    };
    let (ready, because) = match operations.readiness.standing() {
        Standing::Ready => (true, None),
        Standing::NotReady { because } => (false, Some(because)),
    };
    axum::Json(Status {
        invoker: operations.id.to_string(),
        enabled: operations.switch.is_enabled(),
        ready,
        because,
        picture,
    })
    .into_response()
}

async fn explain(State(operations): State<Operations>, Path(function): Path<String>) -> Response {
    let Some(Picture { explanations, .. }) = operations.inbox.look().await else {
        return stopping();
    };
    match explanations.get(&function) {
        Some(text) => (
            [(header::CONTENT_TYPE, "text/plain; charset=utf-8")],
            text.clone(),
        )
            .into_response(),
        None => {
            let sentence = format!("no instance of {function:?} was started since the daemon's start\n");
            (StatusCode::NOT_FOUND, sentence).into_response()
        }
    }
}

fn stopping() -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, "the daemon is stopping\n").into_response()
}
