//! Whose fault it was: what a container answered becomes one of OpenWhisk's four outcomes.
//!
//! Source: `ActivationResult.scala`, `Container.scala`; contract C-35, C-36. First matching row wins.

use super::texts;
use crate::container::action_proxy::{Body, Exchange, Outcome};
use proto::json::Json;
use proto::unit::Bytes;
use proto::whisk::activation::{Response, Status};
use scheduler::fault::{Blame, Fault};
use serde_json::Value;
use std::time::Duration;

/// What became of `/init` or `/run`.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// `/init` went well.
    Initialized,
    /// The activation ends with this.
    Ended { response: Response, timed_out: bool },
    /// 503: the container is shutting down, another one is to take the activation (C-34).
    Elsewhere,
}

fn developer(sentence: impl Into<Value>) -> Response {
    Response::failure(Status::DeveloperError, sentence)
}

fn ended(response: Response) -> Verdict {
    Verdict::Ended {
        response,
        timed_out: false,
    }
}

/// C-35.
pub fn of_init(exchange: &Exchange, limit: Duration, largest: Bytes, out_of_memory: bool) -> Verdict {
    let timed_out = || Verdict::Ended {
        response: developer(texts::init_timed_out(limit)),
        timed_out: true,
    };
    match &exchange.outcome {
        Outcome::Response { status: 503, .. } => Verdict::Elsewhere,
        Outcome::Response {
            status: 200, body, ..
        } if !body.is_cut() => Verdict::Initialized,
        _ if exchange.took >= limit => timed_out(),
        Outcome::TimedOut => timed_out(),
        Outcome::Response { body, .. } if body.is_cut() => {
            let sentence = texts::truncated_response(&body.text(), body.length, largest);
            ended(Response {
                size: Some(body.units()),
                ..developer(sentence)
            })
        }
        Outcome::Response { body, .. } => {
            let response = match error_member(&body.text()) {
                Some(error) => developer(error),
                None => developer(texts::invalid_init_response(&body.text())),
            };
            ended(Response {
                size: Some(body.units()),
                ..response
            })
        }
        Outcome::Refused | Outcome::Broken | Outcome::NoResponse if out_of_memory => {
            ended(developer(texts::MEMORY_EXHAUSTED))
        }
        Outcome::Refused | Outcome::Broken | Outcome::NoResponse => ended(developer(texts::NOT_INITIALIZED)),
    }
}

/// C-36.
pub fn of_run(exchange: &Exchange, limit: Duration, largest: Bytes, out_of_memory: bool) -> Verdict {
    let timed_out = || Verdict::Ended {
        response: developer(texts::run_timed_out(limit)),
        timed_out: true,
    };
    match &exchange.outcome {
        Outcome::Response { status: 503, .. } => Verdict::Elsewhere,
        _ if exchange.took >= limit => timed_out(),
        Outcome::TimedOut => timed_out(),
        Outcome::Response { body, .. } if body.is_cut() => {
            let sentence = texts::truncated_response(&body.text(), body.length, largest);
            let response = Response::failure(Status::ApplicationError, sentence);
            ended(Response {
                size: Some(body.units()),
                ..response
            })
        }
        Outcome::Response { status, body, .. } => {
            let response = answered(*status, body);
            ended(Response {
                size: Some(body.units()),
                ..response
            })
        }
        Outcome::Refused | Outcome::Broken | Outcome::NoResponse if out_of_memory => {
            ended(developer(texts::MEMORY_EXHAUSTED))
        }
        Outcome::Refused | Outcome::Broken | Outcome::NoResponse => {
            ended(developer(texts::NO_VALID_RESPONSE))
        }
    }
}

/// Rows d … h of C-36: a whole body.
fn answered(status: u16, body: &Body) -> Response {
    let text = body.text();
    let Ok(json) = Json::parse(&text) else {
        return developer(texts::invalid_run_response(&text));
    };
    let error = json.member("error");
    match (status, error) {
        (200, Some(error)) => failure(Status::ApplicationError, &error),
        (200, None) if json.is_object() || json.is_array() => Response::success(Some(json), None),
        (_, Some(error)) => failure(Status::DeveloperError, &error),
        (_, None) => developer(texts::invalid_run_response(&text)),
    }
}

/// `{"error": error}` and nothing else of the object.
fn failure(status: Status, error: &Json) -> Response {
    Response {
        result: Some(Json::object([("error", error)])),
        size: None,
        status_code: status,
    }
}

fn error_member(text: &str) -> Option<Value> {
    Json::parse(text).ok()?.member("error")?.decode().ok()
}

/// What an activation ends with that never ran.
pub fn of_fault(fault: &Fault) -> Response {
    let status = match fault.blame {
        Blame::Application => Status::ApplicationError,
        Blame::Developer => Status::DeveloperError,
        Blame::Whisk => Status::WhiskError,
    };
    Response::failure(status, fault.error.clone())
}

/// Why `/init` failed, for those that waited for it too.
pub fn as_fault(response: &Response) -> Fault {
    let error = response.result.as_ref().and_then(|result| result.member("error"));
    let error = error.and_then(|error| error.decode().ok()).unwrap_or(Value::Null);
    let blame = match response.status_code {
        Status::Success | Status::ApplicationError => Blame::Application,
        Status::DeveloperError => Blame::Developer,
        Status::WhiskError => Blame::Whisk,
    };
    Fault { blame, error }
}
