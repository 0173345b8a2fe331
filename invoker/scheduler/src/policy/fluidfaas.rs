//! The paper's choice: balance first. Source: FluidFaaS, "pipeline construction" and "online placement".

use super::Policy;
use crate::free::FreeSlices;
use crate::placement::{NoPlacement, PlaceOptions, Placement, place};
use crate::ranking::{RankBy, RankOptions, Ranking};
use std::time::Duration;

#[derive(Debug)]
pub(super) struct FluidFaas;

impl Policy for FluidFaas {
    fn name(&self) -> &'static str {
        "fluidfaas"
    }

    fn sentence(&self) -> &'static str {
        "Takes the best balanced partition (smallest CV of stage times) whose lanes all find a free slice."
    }

    fn rank_options(&self) -> RankOptions {
        RankOptions {
            by: RankBy::Cv,
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
            "rank {} of {} partitions in the order of balance, CV {:.3}, is the first that fits the free slices",
            placement.rank,
            ranking.len(),
            placement.cv
        )
    }
}
