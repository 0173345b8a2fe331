//! The activation object: what acks carry and the database keeps.
//!
//! Source: `ContainerProxy.scala`; contract 3.5 and 7.4.

use proto::id::ActivationId;
use proto::whisk::activation::{Activation, Response};
use proto::whisk::activation_message::ActivationMessage;
use proto::whisk::parameter::Annotations;
use proto::whisk::version::Version;
use serde_json::Value;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Times of one run, as S-30 … S-35 want them.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// Milliseconds since the epoch.
    pub start: i64,
    pub end: i64,
    pub duration: i64,
    /// From the controller's acceptance to `/init` or `/run`.
    pub wait: i64,
    /// Only if there was an `/init`.
    pub init: Option<i64>,
}

/// One HTTP exchange: when it began, and how long it took.
#[derive(Clone, Copy, Debug)]
pub struct Interval {
    pub began: SystemTime,
    pub took: Duration,
}

impl Times {
    /// Nothing ran (S-41, S-42).
    pub fn none(message: &ActivationMessage) -> Self {
        let now = millis(SystemTime::now());
        Self {
            start: now,
            end: now,
            duration: 0,
            wait: now - message.transid.start,
            init: None,
        }
    }

    /// Of `/init` and `/run`, whichever there were.
    pub fn of(message: &ActivationMessage, init: Option<Interval>, run: Option<Interval>) -> Self {
        let took = |interval: Interval| i64::try_from(interval.took.as_millis()).unwrap_or(i64::MAX);
        let (Some(first), Some(last)) = (init.or(run), run.or(init)) else {
            return Self::none(message);
        };
        let init_time = init.map(took);
        let both = init.is_some() && run.is_some();
        // The gap between `/init` and `/run` is left out (S-31).
        let start = millis(last.began) - if both { init_time.unwrap_or(0) } else { 0 };
        let end = millis(last.began) + took(last);
        Self {
            start,
            end,
            duration: end - start,
            wait: millis(first.began) - message.transid.start,
            init: init_time,
        }
    }
}

/// Milliseconds since the epoch.
pub fn millis(at: SystemTime) -> i64 {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// A line of our own in an activation's logs: time in 30 columns, stream `stderr`, text (C-67, C-68).
pub fn note(at: SystemTime, text: &str) -> String {
    let at = OffsetDateTime::from(at).format(&Rfc3339).unwrap_or_default();
    format!("{at:<30} stderr: {text}")
}

/// What is known of an action once its document was read.
#[derive(Clone, Debug)]
pub struct ActionFacts {
    pub kind: String,
    pub version: Version,
    /// `{"concurrency","logs","memory","timeout"}` with defaults filled in.
    pub limits: Value,
}

/// The activation of an action that was read (S-36).
pub fn activation(
    message: &ActivationMessage,
    facts: &ActionFacts,
    times: Times,
    response: Response,
    timed_out: bool,
) -> Activation {
    let mut annotations = Annotations::default();
    if let Some(binding) = &message.action.binding {
        annotations.set("binding", binding.as_str());
    }
    caused_by(message, &mut annotations);
    annotations.set("path", path(message));
    annotations.set("waitTime", times.wait);
    annotations.set("kind", facts.kind.as_str());
    annotations.set("timeout", timed_out);
    annotations.set("limits", facts.limits.clone());
    if let Some(init) = times.init {
        annotations.set("initTime", init);
    }
    assemble(message, facts.version, annotations, times, response)
}

/// The activation of an action that was not read (S-41).
pub fn unread(message: &ActivationMessage, response: Response) -> Activation {
    let mut annotations = Annotations::default();
    caused_by(message, &mut annotations);
    annotations.set("path", path(message));
    annotations.set("kind", "unknown");
    let version = message.action.version.unwrap_or_default();
    assemble(message, version, annotations, Times::none(message), response)
}

fn caused_by(message: &ActivationMessage, annotations: &mut Annotations) {
    if message.cause.is_some() {
        annotations.set("causedBy", "sequence");
    }
}

fn path(message: &ActivationMessage) -> String {
    format!("{}/{}", message.action.path, message.action.name)
}

fn assemble(
    message: &ActivationMessage,
    version: Version,
    annotations: Annotations,
    times: Times,
    response: Response,
) -> Activation {
    let activation_id: ActivationId = message.activation_id;
    Activation {
        activation_id,
        annotations,
        cause: message.cause,
        duration: Some(times.duration),
        end: times.end,
        logs: Vec::new(),
        name: message.action.name.clone(),
        namespace: message.user.namespace.name.clone().into(),
        publish: false,
        response,
        start: times.start,
        subject: message.user.subject.clone(),
        version,
    }
}
