//! Whose lines are whose, where several activations run in one container at a time.
//!
//! The rule: what a stream carries between two sentinels is one activation's. Behind the sentinels of our own
//! runtime stands whose. Others say nothing: then a segment goes to whichever activation asks first. While runs
//! overlap their lines mix, which nobody can undo; but each line is given out once, none is lost, each
//! activation finds two sentinels (as many are written as runs end), and so no container is given up for it
//! (contract C-80 … C-82).

use super::log_file::Line;
use crate::container::Logs;
use crate::container::logs::{COLLECTION_FAILED, Collector, SENTINEL};
use proto::id::ActivationId;
use proto::unit::Bytes;
use std::collections::VecDeque;

/// Most of one segment that is kept: the largest log limit, and some more, so that going beyond it is seen.
const MOST_KEPT: u64 = 11 << 20;
/// Segments that nobody asks for (their runs were given up) go when there are more.
const MOST_SEGMENTS: usize = 1024;

#[derive(Debug, Default)]
pub(super) struct Segments {
    /// Standard output and error.
    streams: [Stream; 2],
    /// Numbers the lines, so that both streams' come out in the order in which they came.
    lines: u64,
    carry_ids: bool,
}

#[derive(Debug, Default)]
struct Stream {
    open: Segment,
    closed: VecDeque<Segment>,
}

/// What one stream carried up to a sentinel.
#[derive(Debug, Default)]
struct Segment {
    lines: Vec<Kept>,
    size: u64,
    /// Whether there was more than is kept.
    is_cut: bool,
    /// What stood behind the sentinel.
    activation: Option<String>,
}

#[derive(Debug)]
struct Kept {
    number: u64,
    raw: u64,
    /// None: a sentinel.
    shown: Option<String>,
}

impl Segments {
    pub(super) fn add(&mut self, line: &Line<'_>, raw: u64) {
        self.lines += 1;
        let stream = &mut self.streams[usize::from(line.stream == "stderr")];
        let behind = line.log.split_once(SENTINEL).map(|(_, behind)| behind.trim());
        stream.open.size += raw;
        if stream.open.size <= MOST_KEPT {
            stream.open.lines.push(Kept {
                number: self.lines,
                raw,
                shown: behind.is_none().then(|| line.shown()),
            });
        } else {
            stream.open.is_cut = true;
        }
        if let Some(behind) = behind {
            let is_id = behind.parse::<ActivationId>().is_ok();
            self.carry_ids |= is_id;
            stream.open.activation = is_id.then(|| behind.to_owned());
            stream.closed.push_back(std::mem::take(&mut stream.open));
            if stream.closed.len() > MOST_SEGMENTS {
                stream.closed.pop_front();
            }
        }
    }

    /// Lines so far.
    pub(super) fn lines(&self) -> u64 {
        self.lines
    }

    /// Whether sentinels say whose they are.
    pub(super) fn carry_ids(&self) -> bool {
        self.carry_ids
    }

    /// Whether both streams have come to a sentinel that can be the activation's.
    pub(super) fn has(&self, activation: ActivationId) -> bool {
        let has = |stream: &Stream| stream.closed.iter().any(|segment| segment.is_of(activation));
        self.streams.iter().all(has)
    }

    /// Up to the activation's sentinels; or, if they are not there, all that can be the activation's.
    pub(super) fn take(&mut self, activation: ActivationId, up_to_sentinel: bool, limit: Bytes) -> Logs {
        let mut taken = Vec::new();
        for stream in &mut self.streams {
            if up_to_sentinel {
                let own = stream.closed.iter().position(|segment| segment.is_of(activation));
                taken.extend(own.and_then(|own| stream.closed.remove(own)));
            } else {
                let closed = std::mem::take(&mut stream.closed).into_iter();
                let (own, others): (VecDeque<_>, _) = closed.partition(|segment| segment.is_of(activation));
                stream.closed = others;
                taken.extend(own);
                taken.push(std::mem::take(&mut stream.open));
            }
        }
        let is_cut = taken.iter().any(|segment| segment.is_cut);
        let mut lines: Vec<Kept> = taken.into_iter().flat_map(|segment| segment.lines).collect();
        lines.sort_by_key(|line| line.number);
        let mut collector = Collector::new(limit);
        for line in lines {
            let is_sentinel = line.shown.is_none();
            if !collector.add(line.raw, is_sentinel, || line.shown.unwrap_or_default()) {
                return collector.logs;
            }
        }
        if is_cut {
            collector.logs.fail(COLLECTION_FAILED);
        }
        collector.logs
    }
}

impl Segment {
    fn is_of(&self, activation: ActivationId) -> bool {
        self.activation
            .as_ref()
            .is_none_or(|id| *id == activation.to_string())
    }
}
