//! What was decided and why, printable; the last ones are kept for the admin API.

use crate::instant::Instant;
use serde::Serialize;
use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

/// One decision about instances and slices.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Decision {
    /// Milliseconds since the daemon's start.
    pub at: Instant,
    pub what: What,
    /// The function it is about, as people write it.
    pub function: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// What was chosen: the partition's key with its slices, or a slice profile.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chosen: Option<String>,
    /// One sentence.
    pub because: String,
    /// What was looked at before it, best first, and why it was not taken; at most 20.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rejected: Vec<Rejected>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum What {
    Build,
    Profile,
    /// Components take another time than the profile says.
    Drift,
    Start,
    Stop,
    /// A lane gets a replica.
    Join,
    /// It loses one.
    Leave,
    /// Weights go to host memory.
    Evict,
    /// They come back.
    Wake,
    /// Slices are opened to other instances, or closed.
    Share,
    Wait,
    Refuse,
    /// The slices have changed, or could not be read.
    Inventory,
}

impl What {
    /// The word for counters.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Build => "build",
            Self::Profile => "profile",
            Self::Drift => "drift",
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Join => "join",
            Self::Leave => "leave",
            Self::Evict => "evict",
            Self::Wake => "wake",
            Self::Share => "share",
            Self::Wait => "wait",
            Self::Refuse => "refuse",
            Self::Inventory => "inventory",
        }
    }
}

/// An alternative that was not taken.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Rejected {
    /// Key of the partition.
    pub key: String,
    pub because: String,
}

impl Decision {
    pub(crate) fn new(at: Instant, what: What, function: String, because: String) -> Self {
        Self {
            at,
            what,
            function,
            instance: None,
            chosen: None,
            because,
            rejected: Vec::new(),
        }
    }
}

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(chosen) = &self.chosen {
            write!(f, "{chosen}: ")?;
        }
        f.write_str(&self.because)
    }
}

/// The last decisions, oldest first.
#[derive(Clone, Debug)]
pub struct DecisionLog {
    kept: VecDeque<Arc<Decision>>,
    most: usize,
}

impl DecisionLog {
    pub fn new(most: usize) -> Self {
        Self {
            kept: VecDeque::with_capacity(most.min(1024)),
            most,
        }
    }

    pub fn push(&mut self, decision: Decision) -> Arc<Decision> {
        let decision = Arc::new(decision);
        if self.most > 0 {
            if self.kept.len() == self.most {
                self.kept.pop_front();
            }
            self.kept.push_back(Arc::clone(&decision));
        }
        decision
    }

    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Arc<Decision>> {
        self.kept.iter()
    }
}
