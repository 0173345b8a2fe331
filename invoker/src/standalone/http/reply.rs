//! What every answer has: the transaction id, the headers for browsers, and for refusals a body that
//! names the id and the reason.

use crate::admin::transaction;
use crate::standalone::controller::Refusal;
use axum::Json;
use axum::body::to_bytes;
use axum::extract::Request;
use axum::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN, ALLOW,
    CONTENT_TYPE, WWW_AUTHENTICATE,
};
use axum::http::{HeaderName, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde_json::json;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// `complete` makes the body, because the transaction id belongs into it.
impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

/// Gives the request its transaction id, and the answer what every answer has.
pub(super) async fn complete(mut request: Request, next: Next) -> Response {
    let transid = transaction::of(request.headers(), REQUEST_ID.as_str());
    let id = transid.id.clone();
    let mut response = match *request.method() {
        Method::OPTIONS => StatusCode::OK.into_response(),
        _ => {
            request.extensions_mut().insert(transid);
            next.run(request).await
        }
    };
    let refusal = match response.extensions_mut().remove::<Refusal>() {
        None if response.status().is_client_error() => unnamed(&mut response).await,
        refusal => refusal,
    };
    if let Some(refusal) = refusal {
        response = refused(&refusal, &id, response.headers().get(ALLOW).cloned());
    }
    let headers = response.headers_mut();
    if let Ok(id) = HeaderValue::from_str(&id) {
        headers.insert(REQUEST_ID, id);
    }
    for (name, value) in [
        (ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
        (
            ACCESS_CONTROL_ALLOW_HEADERS,
            "Authorization, Origin, X-Requested-With, Content-Type, Accept, User-Agent",
        ),
        (ACCESS_CONTROL_ALLOW_METHODS, "GET, DELETE, POST, PUT, HEAD"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

/// What axum has refused by itself, such as a path that is no UTF-8.
async fn unnamed(response: &mut Response) -> Option<Refusal> {
    let kind = response.headers().get(CONTENT_TYPE);
    if !kind.is_some_and(|kind| kind.as_bytes().starts_with(b"text/plain")) {
        return None;
    }
    let text = to_bytes(std::mem::take(response.body_mut()), 4096)
        .await
        .unwrap_or_default();
    Some(Refusal::new(response.status(), String::from_utf8_lossy(&text)))
}

fn refused(refusal: &Refusal, id: &str, allow: Option<HeaderValue>) -> Response {
    let body = Json(json!({ "error": refusal.text, "code": id }));
    let mut response = (refusal.status, body).into_response();
    if let Some(allow) = allow {
        response.headers_mut().insert(ALLOW, allow);
    }
    if refusal.status == StatusCode::UNAUTHORIZED {
        let challenge = HeaderValue::from_static("Basic realm=\"OpenWhisk secure realm\"");
        response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
    }
    response
}
