//! Ours: the shortest bottleneck on the slices that are really free.

use super::{Policy, millis};
use crate::free::FreeSlices;
use crate::placement::{NoPlacement, PlaceOptions, Placement, place};
use crate::ranking::{RankBy, RankOptions, Ranking};
use std::time::Duration;

#[derive(Debug)]
pub(super) struct Throughput;

impl Policy for Throughput {
    fn name(&self) -> &'static str {
        "throughput"
    }

    fn sentence(&self) -> &'static str {
        "Takes the partition and the free slices with the shortest bottleneck."
    }

    fn rank_options(&self) -> RankOptions {
        RankOptions {
            by: RankBy::Throughput,
            ..RankOptions::default()
        }
    }

    fn place(
        &self,
        ranking: &Ranking,
        free: &FreeSlices,
        slo: Option<Duration>,
    ) -> Result<Placement, NoPlacement> {
        let options = PlaceOptions {
            slo,
            slo_check: false,
            ..PlaceOptions::default()
        };
        place(ranking, free, options)
    }

    fn because(&self, ranking: &Ranking, placement: &Placement, _: Option<Duration>) -> String {
        format!(
            "of {} partitions it has the shortest bottleneck on the free slices, {}",
            ranking.len(),
            millis(placement.bottleneck)
        )
    }
}
