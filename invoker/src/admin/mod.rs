//! HTTP for operators: how things stand, and why. A page for people, the same as JSON, and the
//! explanation of each function's newest instance.

mod page;

use crate::dispatcher::{Inbox, Picture};
use axum::Router;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;

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
