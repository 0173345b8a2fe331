//! `/metrics`: the text, with the pool as it is now (H-30, H-34).

use super::Operations;
use crate::metrics::{self, PoolGauges};
use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use flate2::Compression;
use flate2::write::GzEncoder;
use std::io::Write;
use std::time::Duration;

/// Longest wait for the dispatcher's view of the pool; then the gauges stay as they were.
const LOOK: Duration = Duration::from_secs(1);

pub(super) async fn metrics(State(operations): State<Operations>, headers: HeaderMap) -> Response {
    answer(&operations, &headers).await
}

/// All metrics, packed if the client takes that.
pub(super) async fn answer(operations: &Operations, headers: &HeaderMap) -> Response {
    let picture = tokio::time::timeout(LOOK, operations.inbox.look()).await;
    if let Ok(Some(picture)) = picture {
        let view = &picture.view;
        metrics::pool(&PoolGauges {
            active: view.containers.active,
            idle: view.containers.idle,
            stem_cells: view.containers.stem_cells,
            waiting: view.containers.waiting,
            budget: view.memory.budget,
            used: view.memory.used,
            oldest: view.queue.first().map_or(Duration::ZERO, |waiting| waiting.age),
        });
        metrics::pipelines(view, &picture.accounts);
        for rounds in &view.stem_cells {
            metrics::stem_cell_rounds(&rounds.kind, rounds.memory, rounds.cold_starts, rounds.expired);
        }
    }
    metrics::standing(
        operations.readiness.standing().is_ready(),
        operations.switch.is_enabled(),
    );
    let text = metrics::render();
    let kind = (CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8");
    match wants_gzip(headers).then(|| gzip(text.as_bytes())) {
        Some(Ok(packed)) => ([kind, (CONTENT_ENCODING, "gzip")], Body::from(packed)).into_response(),
        Some(Err(_)) | None => ([kind], text).into_response(),
    }
}

/// `gzip` or `*` among `Accept-Encoding`, not with the weight 0.
fn wants_gzip(headers: &HeaderMap) -> bool {
    let accepted = headers.get(ACCEPT_ENCODING).and_then(|value| value.to_str().ok());
    accepted.unwrap_or_default().split(',').any(|coding| {
        let mut parts = coding.split(';').map(str::trim);
        let name = parts.next().unwrap_or_default();
        let weight = parts.find_map(|part| part.strip_prefix("q="));
        let refused = weight.is_some_and(|weight| weight.parse() == Ok(0.0));
        (name.eq_ignore_ascii_case("gzip") || name == "*") && !refused
    })
}

fn gzip(bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes)?;
    encoder.finish()
}
