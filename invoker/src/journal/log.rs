//! The log itself: what is appended, what of it is still needed, and how it is kept short.
//!
//! Files are deleted oldest first. What is still needed of the oldest is appended anew before, so replaying
//! the files in order gives the same state at any moment, whatever was cut off in between.

use super::debt::Parts;
use super::entry::{self, Entry, Step};
use super::seen::Seen;
use super::segment::{self, Place, Segment};
use proto::id::ActivationId;
use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A file larger than this is followed by a new one.
pub(super) const SEGMENT: u64 = 16 << 20;

/// Below this nothing is moved to save space.
const SMALL: u64 = 2 * SEGMENT;

/// What an activation needs of the journal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Live {
    pub(super) at_ms: i64,
    pub(super) started: bool,
    /// Until it is answered.
    pub(super) accepted: Option<Place>,
    pub(super) ended: Option<Place>,
    pub(super) answered: Option<Place>,
    /// Once it is answered.
    pub(super) owed: Parts,
}

#[derive(Debug)]
pub(super) struct Log {
    folder: PathBuf,
    /// Oldest first; the last one is written to, and there always is one.
    segments: VecDeque<Segment>,
    live: HashMap<ActivationId, Live>,
    seen: Seen,
    /// Frames of deliveries, which need not be in the file before anything else happens.
    marks: Vec<u8>,
    buffer: Vec<u8>,
    /// Counts the appends.
    written: u64,
    /// Files whose contents may not be on the disk yet, besides the last one.
    unsynced: Vec<Arc<File>>,
    /// A write that failed may have left bytes behind the last whole frame.
    torn: bool,
    /// Another process may be writing by now.
    closed: bool,
}

impl Log {
    pub(super) fn open(folder: &Path) -> io::Result<Self> {
        let mut log = Self {
            folder: folder.to_owned(),
            segments: VecDeque::new(),
            live: HashMap::new(),
            seen: Seen::default(),
            marks: Vec::new(),
            buffer: Vec::new(),
            written: 0,
            unsynced: Vec::new(),
            torn: false,
            closed: false,
        };
        for number in segment::list(folder)? {
            let mut steps = Vec::new();
            let opened = Segment::open(folder, number, |place, payload| {
                match entry::step(payload) {
                    Some(step) => steps.push((step, place)),
                    None => tracing::warn!(?place, "an entry of the journal is not known, and is left out"),
                };
            })?;
            log.segments.push_back(opened);
            for (step, place) in steps {
                log.apply(step, place);
            }
        }
        log.forget_the_unreadable();
        log.rotate()?;
        Ok(log)
    }

    /// What lost its message, as after a fault of the disk, can be neither run nor answered.
    fn forget_the_unreadable(&mut self) {
        self.live.retain(|id, live| {
            let kept = live.accepted.is_some() || live.ended.is_some() || live.answered.is_some();
            if !kept {
                tracing::error!(activation = %id, "the journal has lost the message of an activation");
            }
            kept
        });
    }

    /// Appends these entries with whatever marks wait, in one write. Returns the append's number.
    ///
    /// # Errors
    /// None of the entries is in the log then.
    pub(super) fn append(&mut self, entries: &[Entry<'_>]) -> io::Result<u64> {
        if self.closed {
            return Err(io::Error::other("it was closed"));
        }
        let last = self.last();
        if last.bytes >= SEGMENT || self.torn {
            self.rotate()?;
            self.torn = false;
        }
        self.buffer.clear();
        self.buffer.shrink_to(1 << 20);
        self.buffer.extend_from_slice(&self.marks);
        let (number, start) = (self.last().number, self.last().bytes);
        let mut places = Vec::with_capacity(entries.len());
        for entry in entries {
            let offset = start + self.buffer.len() as u64;
            let length = entry.encode(&mut self.buffer);
            places.push(place(number, offset, length)?);
        }
        if self.buffer.is_empty() {
            return Ok(self.written);
        }
        let last = self.last();
        if let Err(error) = last.file.write_all_at(&self.buffer, start) {
            // What follows must not stand behind half a frame.
            self.torn = last.file.set_len(start).is_err();
            return Err(error);
        }
        let bytes = self.buffer.len() as u64;
        self.last_mut().bytes += bytes;
        self.marks.clear();
        self.written += 1;
        for (entry, place) in entries.iter().zip(places) {
            self.apply(entry.step(), place);
        }
        Ok(self.written)
    }

    /// From now on nothing can be appended.
    pub(super) fn close(&mut self) {
        self.closed = true;
    }

    /// Takes note of a delivery; it is written with the next append.
    pub(super) fn mark(&mut self, id: ActivationId, parts: Parts) {
        let entry = Entry::Delivered { id, parts };
        entry.encode(&mut self.marks);
        self.deliver(id, parts);
    }

    pub(super) fn has_marks(&self) -> bool {
        !self.marks.is_empty()
    }

    fn apply(&mut self, step: Step, place: Place) {
        match step {
            Step::Accepted { id, at_ms } => {
                self.seen.insert(id, at_ms);
                let live = self.live.entry(id).or_default();
                live.at_ms = at_ms;
                if live.answered.is_none() {
                    let old = live.accepted.replace(place);
                    self.replace(old, place);
                }
            }
            Step::Started { id } => self.live.entry(id).or_default().started = true,
            Step::Ended { id } => {
                let live = self.live.entry(id).or_default();
                live.started = true;
                if live.answered.is_none() {
                    let old = live.ended.replace(place);
                    self.replace(old, place);
                }
            }
            Step::Answered { id, owed } => {
                let live = self.live.entry(id).or_default();
                if live.answered.is_none() {
                    live.owed = owed;
                }
                let old = [
                    live.accepted.take(),
                    live.ended.take(),
                    live.answered.replace(place),
                ];
                self.replace(None, place);
                old.into_iter().flatten().for_each(|old| self.release(old));
                self.deliver(id, Parts::default());
            }
            Step::Delivered { id, parts } => self.deliver(id, parts),
            Step::Seen(seen) => seen
                .into_iter()
                .for_each(|(id, at_ms)| self.seen.insert(id, at_ms)),
        }
    }

    fn deliver(&mut self, id: ActivationId, parts: Parts) {
        let Some(live) = self.live.get_mut(&id) else {
            return;
        };
        let Some(answered) = live.answered else { return };
        live.owed = live.owed.minus(parts);
        // An event alone is owed to nobody.
        if live.owed.is_empty() || live.owed == Parts::from(super::Part::Event) {
            self.live.remove(&id);
            self.release(answered);
        }
    }

    fn replace(&mut self, old: Option<Place>, new: Place) {
        if let Some(segment) = self.segment_mut(new.segment) {
            segment.live += u64::from(new.length);
        }
        if let Some(old) = old {
            self.release(old);
        }
    }

    fn release(&mut self, place: Place) {
        if let Some(segment) = self.segment_mut(place.segment) {
            segment.live = segment.live.saturating_sub(u64::from(place.length));
        }
    }

    fn segment_mut(&mut self, number: u64) -> Option<&mut Segment> {
        let at = self
            .segments
            .binary_search_by_key(&number, |segment| segment.number);
        at.ok().and_then(|at| self.segments.get_mut(at))
    }

    fn last(&self) -> &Segment {
        self.segments.back().expect("there always is one")
    }

    fn last_mut(&mut self) -> &mut Segment {
        self.segments.back_mut().expect("there always is one")
    }

    fn rotate(&mut self) -> io::Result<()> {
        let number = self.segments.back().map_or(1, |last| last.number + 1);
        let fresh = Segment::create(&self.folder, number)?;
        if let Some(last) = self.segments.back() {
            self.unsynced.push(Arc::clone(&last.file));
        }
        self.segments.push_back(fresh);
        Ok(())
    }

    /// The files whose contents the disk may lack, and the number of the last append that is in them.
    pub(super) fn take_unsynced(&mut self) -> (Vec<Arc<File>>, u64) {
        let mut files = std::mem::take(&mut self.unsynced);
        files.push(Arc::clone(&self.last().file));
        (files, self.written)
    }

    pub(super) fn live(&self) -> &HashMap<ActivationId, Live> {
        &self.live
    }

    /// Whether an activation of this id was accepted a while ago, or is under way.
    pub(super) fn knows(&self, id: ActivationId) -> bool {
        self.seen.contains(id) || self.live.contains_key(&id)
    }

    pub(super) fn seen(&self) -> usize {
        self.seen.len()
    }

    /// Of all files.
    pub(super) fn bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.bytes).sum()
    }

    pub(super) fn files(&self) -> usize {
        self.segments.len()
    }

    /// The file that `place` lies in; it can be read without holding on to the log.
    pub(super) fn file(&self, place: Place) -> Option<Arc<File>> {
        let at = self
            .segments
            .binary_search_by_key(&place.segment, |segment| segment.number);
        at.ok().map(|at| Arc::clone(&self.segments[at].file))
    }

    /// The oldest file, if what it takes up is worth moving what is still needed of it.
    pub(super) fn worth_cleaning(&mut self, horizon_ms: i64) -> Option<(u64, Arc<File>)> {
        self.seen.forget(horizon_ms);
        if self.segments.len() < 2 {
            return None;
        }
        let oldest = &self.segments[0];
        let (bytes, live) = (self.bytes(), self.segments.iter().map(|s| s.live).sum::<u64>());
        let mostly_dead = oldest.live * 2 < oldest.bytes || live * 2 < bytes;
        let tiny = oldest.bytes < SEGMENT / 16 && oldest.live == 0;
        ((bytes > SMALL && mostly_dead) || tiny).then(|| (oldest.number, Arc::clone(&oldest.file)))
    }

    /// What has to be appended anew because of one frame of the oldest file.
    pub(super) fn carry_over(&self, place: Place, payload: &[u8], horizon_ms: i64) -> Carried {
        let Some(step) = entry::step(payload) else {
            return Carried::default();
        };
        let recent = |(id, at_ms): (ActivationId, i64)| {
            (at_ms >= horizon_ms && !self.live.contains_key(&id)).then_some((id, at_ms))
        };
        let mut carried = Carried::default();
        match step {
            Step::Accepted { id, at_ms } => match self.live.get(&id) {
                Some(live) if live.accepted == Some(place) => carried.again = true,
                // One that is answered needs its message no more, but must not be accepted again.
                Some(live) if live.answered.is_some() && at_ms >= horizon_ms => {
                    carried.seen = vec![(id, at_ms)];
                }
                Some(_) => {}
                None => carried.seen.extend(recent((id, at_ms))),
            },
            Step::Started { id } => {
                let live = self.live.get(&id);
                carried.again = live.is_some_and(|live| live.started && live.answered.is_none());
            }
            Step::Ended { id } => {
                carried.again = self.live.get(&id).is_some_and(|live| live.ended == Some(place));
            }
            Step::Answered { id, owed } => {
                if let Some(live) = self.live.get(&id).filter(|live| live.answered == Some(place)) {
                    carried.again = true;
                    let parts = owed.minus(live.owed);
                    carried.delivered = (!parts.is_empty()).then_some((id, parts));
                }
            }
            Step::Delivered { .. } => {}
            Step::Seen(seen) => carried.seen = seen.into_iter().filter(|(_, at)| *at >= horizon_ms).collect(),
        }
        carried
    }

    /// Appends frames of the oldest file as they are.
    pub(super) fn append_again(&mut self, frames: &[(Place, Vec<u8>)], horizon_ms: i64) -> io::Result<()> {
        let mut seen = Vec::new();
        for (place, payload) in frames {
            let carried = self.carry_over(*place, payload, horizon_ms);
            seen.extend(carried.seen);
            if carried.again {
                self.copy(payload)?;
            }
            if let Some((id, parts)) = carried.delivered {
                self.append(&[Entry::Delivered { id, parts }])?;
            }
        }
        if !seen.is_empty() {
            self.append(&[Entry::Seen(&seen)])?;
        }
        Ok(())
    }

    fn copy(&mut self, payload: &[u8]) -> io::Result<()> {
        let Some(step) = entry::step(payload) else {
            return Ok(());
        };
        if let (Step::Accepted { id, at_ms }, Some(message)) = (&step, entry::message(payload)) {
            let (id, at_ms) = (*id, *at_ms);
            return self.append(&[Entry::Accepted { id, at_ms, message }]).map(drop);
        }
        let debts = entry::debts(payload).unwrap_or_default();
        match step {
            Step::Started { id } => self.append(&[Entry::Started { id }]),
            Step::Ended { id } => self.append(&[Entry::Ended { id, debts: &debts }]),
            Step::Answered { id, .. } => self.append(&[Entry::Answered { id, debts: &debts }]),
            Step::Accepted { .. } | Step::Delivered { .. } | Step::Seen(_) => Ok(0),
        }
        .map(drop)
    }

    /// Deletes the oldest file if nothing of it is needed.
    pub(super) fn remove_oldest(&mut self, number: u64) -> io::Result<bool> {
        match self.segments.front() {
            Some(oldest) if oldest.number == number && oldest.live == 0 && self.segments.len() > 1 => {
                std::fs::remove_file(segment::path(&self.folder, number))?;
                self.segments.pop_front();
                Ok(true)
            }
            Some(_) | None => Ok(false),
        }
    }
}

/// What one frame of the oldest file is still good for.
#[derive(Debug, Default)]
pub(super) struct Carried {
    /// The frame itself is appended anew.
    again: bool,
    /// And what of it was delivered already.
    delivered: Option<(ActivationId, Parts)>,
    /// Only who it was about matters.
    seen: Vec<(ActivationId, i64)>,
}

fn place(segment: u64, offset: u64, length: usize) -> io::Result<Place> {
    Ok(Place {
        segment,
        offset: u32::try_from(offset).map_err(io::Error::other)?,
        length: u32::try_from(length).map_err(io::Error::other)?,
    })
}
