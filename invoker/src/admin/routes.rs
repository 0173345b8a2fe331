//! The invoker's own routes: what they need, and what they answer (H-03 … H-08).
//!
//! Source: `DefaultInvokerServer.scala`, `BasicRasService.scala`, `BasicHttpService.scala`.

use super::{Operations, exposition, transaction};
use crate::config::AdminSettings;
use crate::metrics;
use axum::Json;
use axum::Router;
use axum::extract::{Request, State};
use axum::http::header::{ALLOW, AUTHORIZATION};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use proto::whisk::transid::TransactionId;
use serde_json::json;
use sha2::{Digest, Sha256};
use std::sync::Arc;
use subtle::ConstantTimeEq;
use tower::ServiceExt;
use tracing::{debug, info};

const UNAUTHORIZED: &str = "The request has not been applied because it lacks valid authentication credentials for the target resource.";
const NOT_FOUND: &str = "The requested resource could not be found.";

#[derive(Debug)]
struct Server {
    operations: Operations,
    /// Digest of `user:password`: equally long whatever is sent.
    credentials: [u8; 32],
    transaction_header: HeaderName,
}

/// Everything that `run` serves; `/status` and `/explain` of [`super::router`] want credentials here.
pub(super) fn routes(settings: &AdminSettings, operations: Operations) -> Router {
    let credentials = format!("{}:{}", settings.username, settings.password);
    let header = settings.transaction_header.parse();
    let server = Server {
        operations,
        credentials: Sha256::digest(credentials).into(),
        transaction_header: header.unwrap_or(HeaderName::from_static("x-request-id")),
    };
    Router::new().fallback(serve).with_state(Arc::new(server))
}

async fn serve(State(server): State<Arc<Server>>, request: Request) -> Response {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let transid = transaction::of(request.headers(), server.transaction_header.as_str());
    let mut response = server.answer(request, &transid).await;
    let status = response.status().as_u16();
    metrics::http(method.as_str(), status);
    // What is asked every few seconds would drown the rest.
    match path.as_str() {
        "/ping" | "/metrics" => debug!(%transid, %method, path, status, "request"),
        _ => info!(%transid, %method, path, status, "request"),
    }
    if let Ok(id) = HeaderValue::from_str(&transid.id) {
        response
            .headers_mut()
            .insert(server.transaction_header.clone(), id);
    }
    response
}

impl Server {
    async fn answer(&self, request: Request, transid: &TransactionId) -> Response {
        let Operations {
            id,
            switch,
            exposes_metrics,
            ..
        } = &self.operations;
        let path = request.uri().path();
        let get = request.method() == Method::GET;
        match path {
            "/ping" if get => return "pong".into_response(),
            "/metrics" if get && *exposes_metrics => {
                return exposition::answer(&self.operations, request.headers()).await;
            }
            _ => {}
        }
        if !self.knows(request.headers()) {
            return refused(StatusCode::UNAUTHORIZED, UNAUTHORIZED, transid);
        }
        let allowed = match path {
            "/enable" | "/disable" => Method::POST,
            "/metrics" if !exposes_metrics => {
                return refused(StatusCode::NOT_FOUND, NOT_FOUND, transid);
            }
            "/ping" | "/metrics" | "/isEnabled" | "/status" | "/status.json" => Method::GET,
            explain if explain.starts_with("/explain/") => Method::GET,
            _ => return refused(StatusCode::NOT_FOUND, NOT_FOUND, transid),
        };
        if request.method() != allowed {
            let text = format!("HTTP method not allowed, supported methods: {allowed}");
            let mut response = refused(StatusCode::METHOD_NOT_ALLOWED, &text, transid);
            if let Ok(allowed) = HeaderValue::from_str(allowed.as_str()) {
                response.headers_mut().insert(ALLOW, allowed);
            }
            return response;
        }
        match path {
            "/enable" if switch.enable() => format!("{id} is now enabled.").into_response(),
            "/enable" => format!("{id} is already enabled.").into_response(),
            "/disable" if switch.disable() => format!("{id} is now disabled.").into_response(),
            "/disable" => format!("{id} is already disabled.").into_response(),
            "/isEnabled" => json!({ "enabled": switch.is_enabled() })
                .to_string()
                .into_response(),
            _ => match super::router(self.operations.clone()).oneshot(request).await {
                Ok(response) => response,
                Err(never) => match never {},
            },
        }
    }

    /// Whether the credentials are the operator's (H-04).
    fn knows(&self, headers: &HeaderMap) -> bool {
        let given = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let encoded = given.and_then(|given| {
            let (scheme, encoded) = given.split_once(' ')?;
            scheme.eq_ignore_ascii_case("basic").then(|| encoded.trim())
        });
        let decoded = encoded.and_then(|encoded| STANDARD.decode(encoded).ok());
        decoded.is_some_and(|decoded| {
            let digest: [u8; 32] = Sha256::digest(decoded).into();
            digest.ct_eq(&self.credentials).into()
        })
    }
}

/// H-04.
fn refused(status: StatusCode, text: &str, transid: &TransactionId) -> Response {
    (status, Json(json!({ "error": text, "code": transid.id }))).into_response()
}
