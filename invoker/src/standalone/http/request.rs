//! What a request says: who it comes from, its parameters, its body. Each is checked here.

use crate::standalone::controller::{Controller, Page, Refusal};
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{FromRequestParts, Query};
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use proto::whisk::identity::Identity;
use proto::whisk::transid::TransactionId;
use std::sync::Arc;
use std::time::Duration;

/// How long a client may take to send a body.
const BODY: Duration = Duration::from_secs(30);

/// Who calls; a request without a good key is refused before anything else is looked at.
#[derive(Debug)]
pub(super) struct User(pub(super) Identity);

impl FromRequestParts<Arc<Controller>> for User {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, controller: &Arc<Controller>) -> Result<Self, Refusal> {
        let refused = |text: &str| Refusal::new(StatusCode::UNAUTHORIZED, text);
        let Some(header) = parts.headers.get(AUTHORIZATION) else {
            return Err(refused(
                "The resource requires authentication, which was not supplied with the request",
            ));
        };
        let wrong = || refused("The supplied authentication is invalid");
        let basic = header.to_str().ok().and_then(|header| header.split_once(' '));
        let encoded = basic.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("basic"));
        let decoded = encoded.and_then(|(_, encoded)| STANDARD.decode(encoded.trim()).ok());
        let text = decoded.and_then(|decoded| String::from_utf8(decoded).ok());
        let text = text.ok_or_else(wrong)?;
        let (uuid, secret) = text.split_once(':').ok_or_else(wrong)?;
        let user = controller.authenticate(uuid, secret).await?;
        user.map(Self).ok_or_else(wrong)
    }
}

/// The id that `reply::complete` has given the request.
#[derive(Debug)]
pub(super) struct Transaction(pub(super) TransactionId);

impl<S: Sync> FromRequestParts<S> for Transaction {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        let given = parts.extensions.get::<TransactionId>().cloned();
        Ok(Self(given.unwrap_or_else(TransactionId::unknown)))
    }
}

/// The parameters behind the question mark.
#[derive(Debug)]
pub(super) struct Parameters(Vec<(String, String)>);

impl<S: Sync> FromRequestParts<S> for Parameters {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        let Query(parameters) = Query::try_from_uri(&parts.uri).map_err(|error| {
            Refusal::bad_request(format!("The query parameters were malformed:\n{error}"))
        })?;
        Ok(Self(parameters))
    }
}

impl Parameters {
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| &**value)
    }

    /// # Errors
    /// `BadRequest` with what `read` says about a value that it does not take.
    pub(super) fn parse<T>(
        &self,
        name: &str,
        read: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<Option<T>, Refusal> {
        let Some(value) = self.get(name) else {
            return Ok(None);
        };
        read(value).map(Some).map_err(|why| {
            Refusal::bad_request(format!("The query parameter '{name}' was malformed:\n{why}"))
        })
    }

    /// False where absent.
    pub(super) fn flag(&self, name: &str) -> Result<bool, Refusal> {
        let read = |value: &str| match &*value.to_ascii_lowercase() {
            "true" | "yes" | "on" | "1" => Ok(true),
            "false" | "no" | "off" | "0" => Ok(false),
            _ => Err(format!("'{value}' is not a valid Boolean value")),
        };
        Ok(self.parse(name, read)?.unwrap_or(false))
    }

    /// `skip`, `limit` and `count` of a list of `collection`.
    pub(super) fn page(&self, collection: &str) -> Result<Page, Refusal> {
        const MOST: usize = 200;
        const USUAL: usize = 30;
        let integer = |value: &str| {
            let read = value.parse::<i32>();
            read.map_err(|_| format!("The value '{value}' is not an integer for {collection}."))
        };
        let skip = |value: &str| {
            let number = integer(value)?;
            usize::try_from(number).map_err(|_| {
                format!("The value '{number}' is not greater than or equal to 0 for {collection}.")
            })
        };
        let limit = |value: &str| {
            let number = integer(value)?;
            match usize::try_from(number) {
                Ok(0) => Ok(MOST),
                Ok(limit) if limit <= MOST => Ok(limit),
                _ => Err(format!(
                    "The value '{number}' is not in the range of 0 to {MOST} for {collection}."
                )),
            }
        };
        Ok(Page {
            skip: self.parse("skip", skip)?.unwrap_or(0),
            limit: self.parse("limit", limit)?.unwrap_or(USUAL),
            count: self.flag("count")?,
        })
    }
}

/// Reads a JSON body of at most `most` bytes; an empty one if there is none.
///
/// # Errors
/// `UnsupportedMediaType` for another kind of body, `PayloadTooLarge`, `RequestTimeout`.
pub(super) async fn body(headers: &HeaderMap, body: Body, most: usize) -> Result<Bytes, Refusal> {
    let read = tokio::time::timeout(BODY, to_bytes(body, most)).await;
    let read = read.map_err(|_| {
        let text = format!(
            "The request was not received completely within {} seconds.",
            BODY.as_secs()
        );
        Refusal::new(StatusCode::REQUEST_TIMEOUT, text)
    })?;
    let bytes = read.map_err(|_| {
        let text = format!("The request content was larger than the {most} bytes that are allowed.");
        Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, text)
    })?;
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let kind = kind.unwrap_or_default();
    let media = kind.split(';').next().unwrap_or_default().trim();
    if bytes.is_empty() || media.eq_ignore_ascii_case("application/json") {
        return Ok(bytes);
    }
    let text = format!("The request's Content-Type '{kind}' is not supported. Expected:\napplication/json");
    Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, text))
}

/// A limit as a number of bytes in memory.
pub(super) fn most(limit: proto::unit::Bytes) -> usize {
    usize::try_from(limit.0).unwrap_or(usize::MAX)
}
