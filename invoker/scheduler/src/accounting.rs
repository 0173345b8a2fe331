//! Books of the slices' time, and of what instances went through.
//!
//! *MIG time* is Σ over slices of the time in use; *GPU time* is Σ over GPUs of the time in which at least one
//! slice is in use, so that a GPU counts as a whole. Source: FluidFaaS §10. The paper does not say when a
//! slice is in use, so there are two readings side by side: *busy* and *held*.

use crate::decision::What;
use crate::instant::Instant;
use proto::ffs::migs::MigsDocument;
use proto::id::{GpuUuid, ProfileName, SliceUuid};
use serde::{Serialize, Serializer};
use std::collections::BTreeMap;
use std::time::Duration;

/// What a slice is used for at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Use {
    /// Nobody has a lease.
    #[default]
    None,
    /// Somebody has, and does nothing.
    Held,
    /// Weights move, components are measured, or an activation is in flight in an instance there.
    Busy,
}

/// Time in use. What is busy is also held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Times {
    #[serde(rename = "held_ms", serialize_with = "milliseconds")]
    pub held: Duration,
    #[serde(rename = "busy_ms", serialize_with = "milliseconds")]
    pub busy: Duration,
}

fn milliseconds<S: Serializer>(time: &Duration, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_f64(time.as_secs_f64() * 1000.0)
}

impl Times {
    fn add(&mut self, time: Duration, of: Use) {
        if of >= Use::Held {
            self.held += time;
        }
        if of == Use::Busy {
            self.busy += time;
        }
    }
}

/// One GPU's time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct GpuTime {
    pub gpu: GpuUuid,
    #[serde(flatten)]
    pub times: Times,
    #[serde(skip)]
    in_use: Use,
}

/// Time of all slices of one profile of one GPU together. Those that are gone still count.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MigTime {
    pub gpu: GpuUuid,
    pub profile: ProfileName,
    #[serde(flatten)]
    pub times: Times,
    /// Slices in use: held, busy.
    #[serde(skip)]
    in_use: (u32, u32),
}

/// How often something happened.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Changes of instances' states, by the names of both.
    #[serde(serialize_with = "rows")]
    pub transitions: BTreeMap<(&'static str, &'static str), u64>,
    /// Starts, stops, evictions …, by [`What::name`] and the label of the reason.
    #[serde(serialize_with = "rows")]
    pub decisions: BTreeMap<(&'static str, &'static str), u64>,
    /// Times of components that were corrected by what was observed: by slice profile, `slower` or `faster`.
    #[serde(serialize_with = "rows")]
    pub drifts: BTreeMap<(ProfileName, &'static str), u64>,
}

fn rows<S: Serializer, K: Serialize>(
    counts: &BTreeMap<(K, &'static str), u64>,
    to: S,
) -> Result<S::Ok, S::Error> {
    to.collect_seq(
        counts
            .iter()
            .map(|((first, second), count)| (first, second, count)),
    )
}

/// The books, up to an instant.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Accounts {
    gpus: Vec<GpuTime>,
    migs: Vec<MigTime>,
    #[serde(flatten)]
    counts: Counts,
    #[serde(skip)]
    slices: BTreeMap<SliceUuid, Slice>,
    #[serde(skip)]
    at: Instant,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Slice {
    /// Places in `gpus` and `migs`.
    gpu: usize,
    mig: usize,
    in_use: Use,
    /// Whether the last inventory has it.
    listed: bool,
}

impl Accounts {
    /// Per GPU, in the order in which they were first seen.
    pub fn gpus(&self) -> &[GpuTime] {
        &self.gpus
    }

    /// Per GPU and profile, in the order in which they were first seen.
    pub fn migs(&self) -> &[MigTime] {
        &self.migs
    }

    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// The slices that there are from now on. One that is gone counts while somebody has it.
    pub(crate) fn list(&mut self, inventory: &MigsDocument) {
        for slice in self.slices.values_mut() {
            slice.listed = false;
        }
        for known in &inventory.slices {
            let gpu = position(
                &mut self.gpus,
                |gpu| gpu.gpu == known.gpu_uuid,
                || GpuTime {
                    gpu: known.gpu_uuid.clone(),
                    times: Times::default(),
                    in_use: Use::None,
                },
            );
            let is_it = |mig: &MigTime| mig.gpu == known.gpu_uuid && mig.profile == known.profile;
            let mig = position(&mut self.migs, is_it, || MigTime {
                gpu: known.gpu_uuid.clone(),
                profile: known.profile.clone(),
                times: Times::default(),
                in_use: (0, 0),
            });
            let new = Slice {
                gpu,
                mig,
                in_use: Use::None,
                listed: true,
            };
            self.slices.entry(known.uuid.clone()).or_insert(new).listed = true;
        }
    }

    /// Counts the time until `now` as it was in use until now, and says how it is in use from now on. A slice
    /// that several have is as busy as the busiest of them.
    pub(crate) fn settle<'a>(&mut self, now: Instant, uses: impl IntoIterator<Item = (&'a SliceUuid, Use)>) {
        self.advance(now);
        for slice in self.slices.values_mut() {
            slice.in_use = Use::None;
        }
        for (slice, of) in uses {
            if let Some(slice) = self.slices.get_mut(slice) {
                slice.in_use = slice.in_use.max(of);
            }
        }
        self.slices
            .retain(|_, slice| slice.listed || slice.in_use != Use::None);
        for gpu in &mut self.gpus {
            gpu.in_use = Use::None;
        }
        for mig in &mut self.migs {
            mig.in_use = (0, 0);
        }
        for slice in self.slices.values() {
            let gpu = &mut self.gpus[slice.gpu];
            gpu.in_use = gpu.in_use.max(slice.in_use);
            let (held, busy) = &mut self.migs[slice.mig].in_use;
            *held += u32::from(slice.in_use >= Use::Held);
            *busy += u32::from(slice.in_use == Use::Busy);
        }
    }

    /// The books as they are at `now`, if nothing has changed since they were settled.
    #[must_use]
    pub(crate) fn until(&self, now: Instant) -> Self {
        let mut accounts = self.clone();
        accounts.advance(now);
        accounts
    }

    fn advance(&mut self, now: Instant) {
        let passed = now.since(self.at);
        self.at = self.at.max(now);
        for gpu in &mut self.gpus {
            gpu.times.add(passed, gpu.in_use);
        }
        for mig in &mut self.migs {
            let (held, busy) = mig.in_use;
            mig.times.held += passed * held;
            mig.times.busy += passed * busy;
        }
    }

    pub(crate) fn count_transition(&mut self, from: &'static str, to: &'static str) {
        if from != to {
            *self.counts.transitions.entry((from, to)).or_default() += 1;
        }
    }

    pub(crate) fn count_drift(&mut self, on: &ProfileName, label: &'static str) {
        *self.counts.drifts.entry((on.clone(), label)).or_default() += 1;
    }

    pub(crate) fn count(&mut self, what: What, reason: &'static str) {
        *self.counts.decisions.entry((what.name(), reason)).or_default() += 1;
    }
}

/// Where it is; it is put at the end if it is not there.
fn position<T>(all: &mut Vec<T>, is_it: impl Fn(&T) -> bool, new: impl FnOnce() -> T) -> usize {
    all.iter().position(is_it).unwrap_or_else(|| {
        all.push(new());
        all.len() - 1
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// Slices as (GPU, profile), called `MIG-0`, `MIG-1` ….
    fn inventory(slices: &[(&str, &str)]) -> MigsDocument {
        let slice = |(at, (gpu, profile)): (usize, &(&str, &str))| {
            json!({
                "uuid": format!("MIG-{at}"), "gpu_uuid": gpu, "profile": profile, "compute_slices": 1,
                "memory_bytes": 1024, "state": "free",
            })
        };
        let slices: Vec<_> = slices.iter().enumerate().map(slice).collect();
        let document = json!({
            "schema": "ffs.migs/1", "taken_at": "2026-01-02T03:04:05Z", "source": "simulated", "gpus": [],
            "slices": slices,
        });
        serde_json::from_value(document).unwrap()
    }

    fn settle(accounts: &mut Accounts, at: u64, uses: &[(&str, Use)]) {
        let uses: Vec<(SliceUuid, Use)> = uses.iter().map(|(id, of)| (id.parse().unwrap(), *of)).collect();
        accounts.settle(seconds(at), uses.iter().map(|(id, of)| (id, *of)));
    }

    fn seconds(at: u64) -> Instant {
        Instant(Duration::from_secs(at))
    }

    /// Seconds held and busy, at an instant: of GPUs, and of profiles.
    fn times(accounts: &Accounts, at: u64) -> [Vec<(String, u64, u64)>; 2] {
        let accounts = accounts.until(seconds(at));
        let of = |name: String, times: Times| (name, times.held.as_secs(), times.busy.as_secs());
        let gpus = accounts
            .gpus()
            .iter()
            .map(|gpu| of(gpu.gpu.to_string(), gpu.times));
        let migs = accounts
            .migs()
            .iter()
            .map(|mig| of(format!("{} {}", mig.gpu, mig.profile), mig.times));
        [gpus.collect(), migs.collect()]
    }

    /// The worked example: two slices of one GPU overlap from 20 to 30 s, and are apart from 40 to 45 s.
    #[test]
    fn a_gpu_is_in_use_while_one_of_its_slices_is_and_each_slice_counts_by_itself() {
        let mut accounts = Accounts::default();
        accounts.list(&inventory(&[
            ("GPU-0", "4g.40gb"),
            ("GPU-0", "2g.20gb"),
            ("GPU-1", "2g.20gb"),
        ]));
        settle(&mut accounts, 5, &[]);
        settle(&mut accounts, 10, &[("MIG-0", Use::Busy)]);
        settle(&mut accounts, 20, &[("MIG-0", Use::Busy), ("MIG-1", Use::Busy)]);
        settle(&mut accounts, 30, &[("MIG-0", Use::Held), ("MIG-1", Use::Busy)]);
        settle(&mut accounts, 40, &[]);
        settle(&mut accounts, 45, &[("MIG-2", Use::Held)]);

        let of = |name: &str, held, busy| (name.to_owned(), held, busy);
        let [gpus, migs] = times(&accounts, 50);
        assert_eq!(gpus, [of("GPU-0", 30, 30), of("GPU-1", 5, 0)]);
        assert_eq!(
            migs,
            [
                of("GPU-0 4g.40gb", 30, 20),
                of("GPU-0 2g.20gb", 20, 20),
                of("GPU-1 2g.20gb", 5, 0)
            ]
        );
    }

    #[test]
    fn a_slice_that_several_have_counts_once_and_slices_of_one_profile_add_up() {
        let mut accounts = Accounts::default();
        accounts.list(&inventory(&[("GPU-0", "1g.10gb"), ("GPU-0", "1g.10gb")]));
        settle(
            &mut accounts,
            0,
            &[("MIG-0", Use::Busy), ("MIG-0", Use::Held), ("MIG-1", Use::Held)],
        );

        let of = |name: &str, held, busy| (name.to_owned(), held, busy);
        let [gpus, migs] = times(&accounts, 8);
        assert_eq!(gpus, [of("GPU-0", 8, 8)]);
        assert_eq!(migs, [of("GPU-0 1g.10gb", 16, 8)]);
    }

    #[test]
    fn a_slice_that_is_gone_counts_while_somebody_has_it_and_its_time_stays() {
        let mut accounts = Accounts::default();
        accounts.list(&inventory(&[("GPU-0", "1g.10gb")]));
        settle(&mut accounts, 0, &[("MIG-0", Use::Held)]);
        accounts.list(&inventory(&[]));
        settle(&mut accounts, 3, &[("MIG-0", Use::Held)]);
        settle(&mut accounts, 5, &[]);
        settle(&mut accounts, 6, &[("MIG-0", Use::Busy)]);

        let [gpus, migs] = times(&accounts, 9);
        assert_eq!(gpus, [("GPU-0".to_owned(), 5, 0)]);
        assert_eq!(migs, [("GPU-0 1g.10gb".to_owned(), 5, 0)]);
    }

    #[test]
    fn a_clock_that_goes_back_takes_nothing_away() {
        let mut accounts = Accounts::default();
        accounts.list(&inventory(&[("GPU-0", "1g.10gb")]));
        settle(&mut accounts, 10, &[("MIG-0", Use::Busy)]);
        settle(&mut accounts, 4, &[("MIG-0", Use::Busy)]);

        assert_eq!(times(&accounts, 12)[0], [("GPU-0".to_owned(), 2, 2)]);
    }

    #[test]
    fn only_changes_are_counted() {
        let mut accounts = Accounts::default();
        accounts.count_transition("hot", "hot");
        accounts.count_transition("starting", "hot");
        accounts.count(What::Stop, "idle");
        accounts.count(What::Stop, "idle");

        let counts = serde_json::to_value(accounts.counts()).unwrap();
        assert_eq!(
            counts,
            json!({"transitions": [["starting", "hot", 1]], "decisions": [["stop", "idle", 2]], "drifts": []})
        );
    }
}
