//! OpenWhisk's action proxy over HTTP/1.1: `/init`, `/run`, and our `/ffs/build` and `/ffs/profile`.
//!
//! Routes and bodies here, what they do in `action`, how it looks in `answer`.

pub mod request;
pub mod answer;
pub mod action;

use self::action::Action;
use self::answer::{Refusal, Reply};
use self::request::MAX_BODY;
use crate::child::Ask;
use axum::Router;
use axum::body::{Bytes, HttpBody, to_bytes};
use axum::extract::{Request, State};
use axum::routing::post;
use std::sync::Arc;

/// The routes, on top of one action.
pub fn router(action: Arc<Action>) -> Router {
    Router::new()
        .route("/init", post(init))
        .route("/run", post(run))
        .route("/ffs/build", post(build))
        .route("/ffs/profile", post(profile))
        .method_not_allowed_fallback(async |request: Request| {
            Reply::from(Refusal::WrongMethod(request.method().to_string()))
        })
        .fallback(async |request: Request| Reply::from(Refusal::NoSuchPath(request.uri().path().to_owned())))
        .with_state(action)
}

async fn init(State(action): State<Arc<Action>>, request: Request) -> Reply {
    match body_of(request).await {
        Ok(body) => action.init(body).await,
        Err(refusal) => refusal.into(),
    }
}

async fn run(State(action): State<Arc<Action>>, request: Request) -> Reply {
    ask(action, Ask::Run, request).await
}

async fn build(State(action): State<Arc<Action>>, request: Request) -> Reply {
    ask(action, Ask::Build, request).await
}

async fn profile(State(action): State<Arc<Action>>, request: Request) -> Reply {
    ask(action, Ask::Profile, request).await
}

async fn ask(action: Arc<Action>, what: Ask, request: Request) -> Reply {
    match body_of(request).await {
        Ok(body) => action.ask(what, body).await,
        Err(refusal) => refusal.into(),
    }
}

async fn body_of(request: Request) -> Result<Bytes, Refusal> {
    let body = request.into_body();
    let announced = body.size_hint().lower();
    if announced > MAX_BODY as u64 {
        return Err(Refusal::TooLong(announced));
    }
    to_bytes(body, MAX_BODY).await.map_err(|_| Refusal::Unreadable)
}
