//! HTTP for operators: enabling and disabling, metrics, and how things stand and why: a page for people,
//! the same as JSON, and the explanation of each function's newest instance.
//!
//! `standalone` merges [`router`] into its own server; `run` has [`Server`], where all but `/ping` and
//! `/metrics` wants credentials.

mod page;
mod routes;
mod server;
mod tls;
pub mod transaction;

pub use server::{Error, Server};

use crate::dispatcher::{Inbox, Picture};
use crate::health::Switch;
use crate::readiness::Readiness;
use axum::Router;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use proto::whisk::instance::InvokerId;

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

/// Routes: `/status` (HTML), `/status.json`, `/explain/{namespace}/{name}` (text).
pub fn router(inbox: Inbox) -> Router {
    Router::new()
        .route("/status", get(status))
        .route("/status.json", get(status_json))
        .route("/explain/{*function}", get(explain))
        .with_state(inbox)
}

async fn status(State(inbox): State<Inbox>) -> Response {
    match inbox.look().await {
        Some(picture) => Html(page::render(&picture)).into_response(),
        None => stopping(),
    }
}

async fn status_json(State(inbox): State<Inbox>) -> Response {
    match inbox.look().await {
        Some(picture) => axum::Json(picture).into_response(),
        None => stopping(),
    }
}

async fn explain(State(inbox): State<Inbox>, Path(function): Path<String>) -> Response {
    let Some(Picture { explanations, .. }) = inbox.look().await else {
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
