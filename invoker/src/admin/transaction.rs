//! The transaction id of an HTTP request (H-07).

use axum::http::HeaderMap;
use proto::whisk::transid::TransactionId;
use rand::RngExt;
use rand::distr::Alphanumeric;
use std::time::{SystemTime, UNIX_EPOCH};

/// The caller's, unless it looks like one of the system's own; else a new one. `header` names where it is.
///
/// Source: `BasicHttpService.scala`, `assignId`.
pub fn of(headers: &HeaderMap, header: &str) -> TransactionId {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let given = text(header).filter(|id| !id.is_empty() && !id.starts_with("sid_"));
    let new = || {
        let letters = rand::rng().sample_iter(Alphanumeric).take(32);
        letters.map(char::from).collect()
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let now = i64::try_from(now.as_millis()).unwrap_or(i64::MAX);
    TransactionId {
        extra_logging: text("x-ow-extra-logging").is_some_and(|value| value.eq_ignore_ascii_case("on")),
        ..TransactionId::new(given.map_or_else(new, str::to_owned), now)
    }
}
