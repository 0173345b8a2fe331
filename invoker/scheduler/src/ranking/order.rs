//! One number a partition, and the order between two.

use super::costs::Stage;
use super::options::{RankBy, RankOptions};
use proto::ffs::ranking::Deviation;
use std::cmp::Ordering;

/// A partition: which stages, and what follows from them.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// CV × 10⁹, so that the order is total.
    pub(super) cv: u64,
    /// Where its stages are, and how many.
    pub(super) start: u32,
    pub(super) stages: u16,
    lanes: u16,
    /// Nanoseconds of all transfers of one request.
    pub(crate) transfer: u64,
    /// Nanoseconds at the reference.
    pub(super) bottleneck: u64,
    /// Nanoseconds at the reference, with transfers.
    pub(super) latency: u64,
    memory: u64,
    pub(crate) largest_lane: u64,
}

impl Entry {
    pub(super) fn new(sequence: &[u16], start: u32, stages: &[Stage], options: &RankOptions) -> Self {
        let n = sequence.len();
        let mut entry = Self {
            cv: 0,
            start,
            stages: n as u16,
            lanes: 0,
            transfer: 0,
            bottleneck: 0,
            latency: 0,
            memory: 0,
            largest_lane: 0,
        };
        let time = |at: usize| {
            let stage = &stages[usize::from(sequence[at])];
            let receive = if options.include_transfer {
                stage.receive.at(at)
            } else {
                0
            };
            stage.time + receive
        };
        let (mut sum, mut send_back) = (0, 0);
        for (at, stage) in sequence.iter().enumerate() {
            let stage = &stages[usize::from(*stage)];
            sum += time(at);
            send_back = send_back.max(stage.send_back.at(at));
            entry.lanes += stage.lanes.len() as u16;
            entry.transfer += stage.receive.at(at);
            entry.bottleneck = entry.bottleneck.max(stage.time);
            entry.latency += stage.time;
            entry.memory += stage.memory;
            entry.largest_lane = entry.largest_lane.max(stage.largest_lane);
        }
        entry.transfer += send_back;
        entry.latency += entry.transfer;
        // One stage has nothing to vary; its sample deviation would be undefined.
        if n > 1 {
            let mean = sum as f64 / n as f64;
            let squares: f64 = (0..n).map(|at| (time(at) as f64 - mean).powi(2)).sum();
            let divisor = match options.std {
                Deviation::Population => n,
                Deviation::Sample => n - 1,
            };
            entry.cv = ((squares / divisor as f64).sqrt() / mean * 1e9).round() as u64;
        }
        entry
    }

    pub(super) fn of<'a>(&self, sequence: &'a [u16]) -> &'a [u16] {
        let start = self.start as usize;
        &sequence[start..start + usize::from(self.stages)]
    }

    /// What is compared first; then the keys.
    fn numbers(&self, by: RankBy) -> [u64; 4] {
        let (stages, lanes) = (u64::from(self.stages), u64::from(self.lanes));
        match by {
            RankBy::Cv => [self.cv, stages, self.memory, 0],
            RankBy::Throughput => [self.bottleneck, lanes, self.latency, self.memory],
            RankBy::Slo => [lanes, self.latency, self.memory, 0],
        }
    }

    /// Best first; equal only for the same partition. `texts` are the keys of the stages.
    pub(super) fn compare<'t>(
        &self,
        other: &Self,
        by: RankBy,
        sequence: &[u16],
        texts: impl FnOnce() -> &'t [String],
    ) -> Ordering {
        self.numbers(by).cmp(&other.numbers(by)).then_with(|| {
            let texts = texts();
            let key = |entry: &Self| {
                let stages = entry.of(sequence).iter();
                stages.flat_map(|stage| std::iter::once(b'|').chain(texts[usize::from(*stage)].bytes()))
            };
            key(self).cmp(key(other))
        })
    }
}
