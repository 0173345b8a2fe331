//! The REST API: paths, parameters, bodies, headers. What requests mean is the controller's business.
//! `RestAPIs.scala`, `ApiUtils.scala`.

mod actions;
mod activations;
mod info;
mod packages;
mod reply;
mod request;

use super::controller::{Controller, Refusal};
use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::StatusCode;
use axum::middleware::from_fn;
use axum::routing::get;
use axum::serve::ListenerExt;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// The API of one controller.
#[derive(Clone, Debug)]
pub struct Api {
    controller: Arc<Controller>,
}

impl Api {
    pub fn new(controller: Arc<Controller>) -> Self {
        Self { controller }
    }

    /// All routes, to be served by itself or beside others.
    pub fn router(&self) -> Router {
        let namespaces = "/api/v1/namespaces";
        let at = |path: &str| format!("{namespaces}/{{namespace}}{path}");
        let plain_action = get(actions::get)
            .put(actions::put)
            .delete(actions::delete)
            .post(actions::invoke);
        let packed_action = get(actions::get_packed)
            .put(actions::put_packed)
            .delete(actions::delete_packed)
            .post(actions::invoke_packed);
        let package = get(packages::get).put(packages::put).delete(packages::delete);
        let mut router = Router::new()
            .route("/", get(info::root))
            .route("/ping", get(|| async { "pong" }))
            .route(&at("/actions/{name}"), plain_action)
            .route(&at("/actions/{package}/"), get(actions::list_packed))
            .route(&at("/actions/{package}/{name}"), packed_action)
            .route(&at("/packages/{name}"), package)
            .route(&at("/activations/{id}/result"), get(activations::result))
            .route(&at("/activations/{id}/logs"), get(activations::logs));
        for slash in ["", "/"] {
            let at = |path: &str| at(&format!("{path}{slash}"));
            router = router
                .route(&format!("/api/v1{slash}"), get(info::version))
                .route(&format!("{namespaces}{slash}"), get(info::namespaces))
                .route(&at("/limits"), get(info::limits))
                .route(&at("/actions"), get(actions::list))
                .route(&at("/packages"), get(packages::list))
                .route(&at("/activations"), get(activations::list))
                .route(&at("/activations/{id}"), get(activations::get))
                .route(&at("/triggers"), get(info::nothing))
                .route(&at("/rules"), get(info::nothing));
        }
        for kind in ["triggers", "rules"] {
            let absent = get(info::absent)
                .put(info::unsupported)
                .delete(info::absent)
                .post(info::absent);
            router = router.route(&at(&format!("/{kind}/{{name}}")), absent);
        }
        router
            .method_not_allowed_fallback(no_such_method)
            .fallback(no_such_path)
            .with_state(self.controller.clone())
            .layer(DefaultBodyLimit::disable())
            .layer(from_fn(reply::complete))
    }

    /// Serves the API until `stop`; then answers who waits, and returns when all connections are closed.
    ///
    /// # Errors
    /// When connections can no longer be accepted.
    pub async fn serve(&self, listener: TcpListener, stop: CancellationToken) -> Result<(), std::io::Error> {
        let controller = self.controller.clone();
        let stopped = async move {
            stop.cancelled().await;
            controller.close().await;
        };
        // Answers are small, and their clients wait for them.
        let listener = listener.tap_io(|connection| {
            if let Err(error) = connection.set_nodelay(true) {
                tracing::debug!(%error, "answers on this connection may be late");
            }
        });
        axum::serve(listener, self.router())
            .with_graceful_shutdown(stopped)
            .await
    }
}

async fn no_such_path(_user: request::User) -> Refusal {
    Refusal::new(
        StatusCode::NOT_FOUND,
        "The requested resource could not be found.",
    )
}

async fn no_such_method() -> Refusal {
    Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "HTTP method not allowed.")
}
