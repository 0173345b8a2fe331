//! How a partition and its slices are chosen: one file a policy.

mod esg;
mod fluidfaas;
mod slo;
mod throughput;
mod whole;

use crate::free::FreeSlices;
use crate::placement::{NoPlacement, Placement};
use crate::ranking::{RankOptions, Ranking};
use std::fmt::Debug;
use std::time::Duration;

/// One way to choose. A policy holds no state: equal arguments give equal answers.
pub trait Policy: Debug + Send + Sync {
    /// As settings and the annotation write it.
    fn name(&self) -> &'static str;

    /// What it does, for people.
    fn sentence(&self) -> &'static str;

    /// The order in which partitions are tried; computed once per revision and profile.
    fn rank_options(&self) -> RankOptions;

    /// Chooses a partition and free slices for it.
    ///
    /// # Errors
    /// One reason for each partition, if none fits.
    fn place(
        &self,
        ranking: &Ranking,
        free: &FreeSlices,
        slo: Option<Duration>,
    ) -> Result<Placement, NoPlacement>;

    /// Why this placement was chosen: one sentence, lower case, no full stop.
    fn because(&self, ranking: &Ranking, placement: &Placement, slo: Option<Duration>) -> String;
}

/// All policies, the default first.
pub fn policies() -> &'static [&'static dyn Policy] {
    &[
        &fluidfaas::FluidFaas,
        &esg::Esg,
        &throughput::Throughput,
        &slo::Slo,
        &whole::Whole,
    ]
}

/// The policy of that name.
pub fn find(name: &str) -> Option<&'static dyn Policy> {
    policies().iter().copied().find(|policy| policy.name() == name)
}

/// The policy of that name, or the default: names are checked where they enter.
pub(crate) fn find_or_default(name: &str) -> &'static dyn Policy {
    find(name).unwrap_or(policies()[0])
}

fn millis(duration: Duration) -> String {
    format!("{:.1} ms", duration.as_secs_f64() * 1e3)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_are_unique_and_lead_to_their_policy() {
        let names: BTreeSet<_> = policies().iter().map(|policy| policy.name()).collect();
        assert_eq!(names.len(), policies().len());
        for policy in policies() {
            assert_eq!(find(policy.name()).unwrap().sentence(), policy.sentence());
        }
        assert!(find("fastest").is_none());
    }
}
