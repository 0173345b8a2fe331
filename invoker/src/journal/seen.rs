//! Activations that were accepted a while ago, so that a message that comes again is not run again.

use proto::id::ActivationId;
use std::collections::{HashSet, VecDeque};

/// Ids are forgotten in lots of this many milliseconds.
const SPAN_MS: i64 = 60_000;

/// Ids by the minute of their arrival.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Oldest first.
    spans: VecDeque<Span>,
}

#[derive(Debug)]
struct Span {
    first_ms: i64,
    last_ms: i64,
    ids: HashSet<ActivationId>,
}

impl Seen {
    pub(super) fn insert(&mut self, id: ActivationId, at_ms: i64) {
        match self.spans.back_mut() {
            Some(span) if at_ms < span.first_ms + SPAN_MS => {
                span.last_ms = span.last_ms.max(at_ms);
                span.ids.insert(id);
            }
            Some(_) | None => self.spans.push_back(Span {
                first_ms: at_ms,
                last_ms: at_ms,
                ids: HashSet::from([id]),
            }),
        }
    }

    pub(super) fn contains(&self, id: ActivationId) -> bool {
        self.spans.iter().rev().any(|span| span.ids.contains(&id))
    }

    /// Forgets what arrived before `horizon_ms`, or a little less.
    pub(super) fn forget(&mut self, horizon_ms: i64) {
        while self.spans.front().is_some_and(|span| span.last_ms < horizon_ms) {
            self.spans.pop_front();
        }
    }

    pub(super) fn len(&self) -> usize {
        self.spans.iter().map(|span| span.ids.len()).sum()
    }
}
