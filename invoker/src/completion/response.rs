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
            let text = body.text();
            let error = Json::parse(&text).ok().and_then(|json| json.member("error"));
            let response = match error {
                Some(error) => failure(Status::DeveloperError, &error),
                None => developer(texts::invalid_init_response(&text)),
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
        Outcome::Unsendable(_) => ended(our_fault()),
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
        Outcome::Unsendable(_) => ended(our_fault()),
    }
}

/// S-44: the container is not to blame.
fn our_fault() -> Response {
    Response::failure(Status::WhiskError, texts::NO_VALID_RESPONSE)
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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::time::SystemTime;

    const LIMIT: Duration = Duration::from_secs(10);
    const LARGEST: Bytes = Bytes(100);

    /// C-35a, C-35b, C-35c, C-35d, C-35e, C-35f, C-35g, C-35h, C-39, E-01, E-03, E-05, E-06, E-08: every row of `/init`, in order.
    #[test]
    fn an_init_ends_as_the_first_row_that_matches_says() {
        let late = LIMIT;
        let soon = LIMIT - Duration::from_millis(1);
        let cases = [
            (answer(503, "{}"), late, false, Verdict::Elsewhere),
            (answer(200, "not looked at"), late, false, Verdict::Initialized),
            (
                answer(502, "x"),
                late,
                false,
                timed_out("The action exceeded its time limits of 10000 milliseconds during initialization."),
            ),
            (
                Outcome::TimedOut,
                late,
                false,
                timed_out("The action exceeded its time limits of 10000 milliseconds during initialization."),
            ),
            (
                cut("start", 200),
                soon,
                false,
                failed(
                    2,
                    "The action produced a response that exceeded the allowed length: 200 > 100 bytes. The truncated response was: start",
                    Some(200),
                ),
            ),
            (
                answer(502, r#"{"error": {"why": [1.50]}, "more": 1}"#),
                soon,
                false,
                failed(
                    2,
                    json!({"why": [serde_json::from_str::<Value>("1.50").unwrap()]}),
                    Some(37),
                ),
            ),
            (
                answer(500, "plain text"),
                soon,
                false,
                failed(2, "The action failed during initialization: plain text", Some(10)),
            ),
            (
                answer(500, ""),
                soon,
                false,
                failed(2, "The action failed during initialization.", Some(0)),
            ),
            (
                answer(201, "{}"),
                soon,
                false,
                failed(2, "The action failed during initialization: {}", Some(2)),
            ),
            (
                Outcome::Broken,
                soon,
                true,
                failed(2, "The action exhausted its memory and was aborted.", None),
            ),
            (
                Outcome::Broken,
                soon,
                false,
                failed(2, "The action did not initialize and exited unexpectedly.", None),
            ),
            (
                Outcome::NoResponse,
                soon,
                false,
                failed(2, "The action did not initialize and exited unexpectedly.", None),
            ),
            (
                Outcome::Refused,
                soon,
                false,
                failed(2, "The action did not initialize and exited unexpectedly.", None),
            ),
        ];
        for (outcome, took, out_of_memory, expected) in cases {
            let exchange = exchange(outcome, took);
            assert_eq!(
                of_init(&exchange, LIMIT, LARGEST, out_of_memory),
                expected,
                "{exchange:?}"
            );
        }
    }

    /// C-36a, C-36b, C-36c, C-36d, C-36e, C-36f, C-36g, C-36h, C-36i, C-36j, C-22, C-37, C-38, C-39, E-02, E-03, E-04, E-06, E-07, V-07: every row of `/run`, in order.
    #[test]
    fn a_run_ends_as_the_first_row_that_matches_says() {
        let late = LIMIT;
        let soon = LIMIT - Duration::from_millis(1);
        let limit = "The action exceeded its time limits of 10000 milliseconds.";
        let invalid = "The action did not produce a valid JSON or JSON Array response";
        let cases = [
            (answer(503, "{}"), late, false, Verdict::Elsewhere),
            (answer(200, "{}"), late, false, timed_out(limit)),
            (Outcome::Broken, late, false, timed_out(limit)),
            (Outcome::TimedOut, late, false, timed_out(limit)),
            (
                cut("start", 200),
                soon,
                false,
                failed(
                    1,
                    "The action produced a response that exceeded the allowed length: 200 > 100 bytes. The truncated response was: start",
                    Some(200),
                ),
            ),
            (
                answer(200, "{\"n\": 1}\n"),
                soon,
                false,
                succeeded(json!({"n": 1}), 9),
            ),
            (
                answer(200, "[1, {\"error\": 1}]"),
                soon,
                false,
                succeeded(json!([1, {"error": 1}]), 17),
            ),
            (
                answer(200, r#"{"error": null, "more": 1}"#),
                soon,
                false,
                failed(1, Value::Null, Some(26)),
            ),
            (
                answer(200, r#"{"error": {"a": 1}}"#),
                soon,
                false,
                failed(1, json!({"a": 1}), Some(19)),
            ),
            (
                answer(502, r#"{"error": "bad", "x": 2}"#),
                soon,
                false,
                failed(2, "bad", Some(24)),
            ),
            (
                answer(201, "{}"),
                soon,
                false,
                failed(2, format!("{invalid}: {{}}"), Some(2)),
            ),
            (
                answer(200, "7"),
                soon,
                false,
                failed(2, format!("{invalid}: 7"), Some(1)),
            ),
            (
                answer(200, "\"s\""),
                soon,
                false,
                failed(2, format!("{invalid}: \"s\""), Some(3)),
            ),
            (
                answer(200, "no JSON"),
                soon,
                false,
                failed(2, format!("{invalid}: no JSON"), Some(7)),
            ),
            (
                answer(200, ""),
                soon,
                false,
                failed(2, format!("{invalid}."), Some(0)),
            ),
            (
                answer(400, "[1]"),
                soon,
                false,
                failed(2, format!("{invalid}: [1]"), Some(3)),
            ),
            (
                Outcome::Broken,
                soon,
                true,
                failed(2, "The action exhausted its memory and was aborted.", None),
            ),
            (
                Outcome::Broken,
                soon,
                false,
                failed(
                    2,
                    "The action did not produce a valid response and exited unexpectedly.",
                    None,
                ),
            ),
            (
                Outcome::NoResponse,
                soon,
                false,
                failed(
                    2,
                    "The action did not produce a valid response and exited unexpectedly.",
                    None,
                ),
            ),
            (
                Outcome::Refused,
                soon,
                false,
                failed(
                    2,
                    "The action did not produce a valid response and exited unexpectedly.",
                    None,
                ),
            ),
        ];
        for (outcome, took, out_of_memory, expected) in cases {
            let exchange = exchange(outcome, took);
            assert_eq!(
                of_run(&exchange, LIMIT, LARGEST, out_of_memory),
                expected,
                "{exchange:?}"
            );
        }
    }

    /// S-44, E-02: what fails for want of something of our own counts against us, not against the action.
    #[test]
    fn what_we_could_not_send_is_our_fault() {
        let unsendable = || {
            exchange(
                Outcome::Unsendable(std::io::Error::other("no ports")),
                Duration::ZERO,
            )
        };
        let expected = failed(3, texts::NO_VALID_RESPONSE, None);
        assert_eq!(of_init(&unsendable(), LIMIT, LARGEST, false), expected);
        assert_eq!(of_run(&unsendable(), LIMIT, LARGEST, false), expected);
    }

    /// C-33, M-66: sizes are UTF-16 units, and 0 for an empty body.
    #[test]
    fn a_size_counts_utf_16_units() {
        for (text, units) in [("", 0), ("abc", 3), ("{\"u\":\"é😀\"}", 11)] {
            assert_eq!(
                Body::of(text.as_bytes(), text.len() as u64, false).units(),
                units,
                "{text}"
            );
        }
        assert_eq!(Body::of(b"cut", 300, true).units(), 300);
    }

    /// L-41, S-43: those that waited for an `/init` get the response of the one that failed.
    #[test]
    fn a_failed_init_is_handed_on_as_it_is() {
        let response = failure(Status::DeveloperError, &json!({"why": 1}).into());
        let again = of_fault(&as_fault(&response));
        assert_eq!(
            (again.status_code, again.result),
            (response.status_code, response.result)
        );
    }

    fn exchange(outcome: Outcome, took: Duration) -> Exchange {
        Exchange {
            began: SystemTime::UNIX_EPOCH,
            took,
            outcome,
        }
    }

    fn answer(status: u16, body: &str) -> Outcome {
        Outcome::Response {
            status,
            body: Body::of(body.as_bytes(), body.len() as u64, false),
            timing: None,
        }
    }

    fn cut(kept: &str, length: u64) -> Outcome {
        Outcome::Response {
            status: 200,
            body: Body::of(kept.as_bytes(), length, true),
            timing: None,
        }
    }

    fn timed_out(sentence: &str) -> Verdict {
        Verdict::Ended {
            response: developer(sentence),
            timed_out: true,
        }
    }

    fn failed(status: u8, error: impl Into<Value>, size: Option<u64>) -> Verdict {
        let status = Status::try_from(status).expect("a status");
        ended(Response {
            size,
            ..Response::failure(status, error)
        })
    }

    fn succeeded(result: Value, size: u64) -> Verdict {
        ended(Response::success(Some(result.into()), Some(size)))
    }
}
