//! Something that went wrong outside the scheduler, with whose fault it was.

use serde_json::Value;
use std::fmt;

/// Whose fault an error is, as OpenWhisk's status codes have it (contract C-37).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// Status 1: the action ran and says that it failed, or a limit was violated.
    Application,
    /// Status 2: the action is broken.
    Developer,
    /// Status 3: the platform is; counts against the invoker's health.
    Whisk,
}

/// What an activation ends with when nothing can answer it.
#[derive(Clone, Debug, PartialEq)]
pub struct Fault {
    pub blame: Blame,
    /// Member `error` of the result: a sentence, unless it came from the user's container.
    pub error: Value,
}

impl Fault {
    pub fn new(blame: Blame, sentence: impl Into<String>) -> Self {
        Self {
            blame,
            error: Value::String(sentence.into()),
        }
    }

    pub fn developer(sentence: impl Into<String>) -> Self {
        Self::new(Blame::Developer, sentence)
    }

    pub fn whisk(sentence: impl Into<String>) -> Self {
        Self::new(Blame::Whisk, sentence)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.error {
            Value::String(sentence) => f.write_str(sentence),
            other => write!(f, "{other}"),
        }
    }
}
