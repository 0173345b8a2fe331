//! The sentences that users see, word for word. Contract chapter E; `ErrorResponse.scala`.

use proto::unit::Bytes;
use std::time::Duration;

pub const NOT_INITIALIZED: &str = "The action did not initialize and exited unexpectedly."; // E-01
pub const NO_VALID_RESPONSE: &str = "The action did not produce a valid response and exited unexpectedly."; // E-02
pub const MEMORY_EXHAUSTED: &str = "The action exhausted its memory and was aborted."; // E-03
pub const NOT_FOUND: &str = "Action could not be found or may have been deleted."; // E-10
pub const NOT_COMPATIBLE: &str = "Action version is not compatible and cannot be invoked."; // E-11
pub const NOT_FETCHED: &str = "Action could not be fetched."; // E-12
pub const NOT_PROVISIONED: &str = "Failed to provision resources to run the action."; // E-15
pub const BLACKLISTED: &str = "The action was not invoked due to a blacklisted namespace."; // E-16
pub const LOGS_FAILED: &str = "There was an issue while collecting your logs. Data might be missing."; // E-21
pub const LOGS_MAY_MISS: &str =
    "The action did not initialize or run as expected. Log data might be missing."; // E-22

// Ours: what only this invoker says. Whisk errors, all of them.
pub const RESTARTED: &str = "The invoker was restarted while the action was running.";
pub const STOPPED: &str = "The invoker was stopped while the action was running.";
pub const STOPPED_BEFORE: &str = "The invoker was stopped before the action was run.";

/// E-04
pub fn invalid_run_response(body: &str) -> String {
    with_body(
        "The action did not produce a valid JSON or JSON Array response",
        body,
    )
}

/// E-05
pub fn invalid_init_response(body: &str) -> String {
    with_body("The action failed during initialization", body)
}

fn with_body(sentence: &str, body: &str) -> String {
    if body.is_empty() {
        format!("{sentence}.")
    } else {
        format!("{sentence}: {body}")
    }
}

/// E-06
pub fn truncated_response(start: &str, length: Bytes, limit: Bytes) -> String {
    format!(
        "The action produced a response that exceeded the allowed length: {} > {} bytes. \
         The truncated response was: {start}",
        length.0, limit.0
    )
}

/// E-07
pub fn run_timed_out(limit: Duration) -> String {
    format!(
        "The action exceeded its time limits of {} milliseconds.",
        limit.as_millis()
    )
}

/// E-08
pub fn init_timed_out(limit: Duration) -> String {
    format!(
        "The action exceeded its time limits of {} milliseconds during initialization.",
        limit.as_millis()
    )
}
