//! The baseline of the FluidFaaS paper: what ESG comes to when the unit is the whole function and the
//! resource a MIG profile. Source: FluidFaaS §13; of its options the one that takes a larger slice
//! where the smallest is not free (`at_least`).

use super::{Policy, millis};
use crate::free::FreeSlices;
use crate::placement::{NoPlacement, PlaceOptions, Placement, place};
use crate::ranking::{RankBy, RankOptions, Ranking};
use std::time::Duration;

#[derive(Debug)]
pub(super) struct Esg;

impl Policy for Esg {
    fn name(&self) -> &'static str {
        "esg"
    }

    fn sentence(&self) -> &'static str {
        "Keeps the function whole, on the smallest free slice that holds it and meets the SLO."
    }

    fn rank_options(&self) -> RankOptions {
        RankOptions {
            by: RankBy::Slo,
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
            whole: true,
            ..PlaceOptions::default()
        };
        place(ranking, free, options)
    }

    fn because(&self, _: &Ranking, placement: &Placement, slo: Option<Duration>) -> String {
        let latency = millis(placement.latency);
        match slo {
            Some(slo) if placement.latency > slo => format!(
                "no free slice that holds the whole function meets the SLO of {}; this is the fastest, {latency}",
                millis(slo)
            ),
            Some(slo) => format!(
                "the smallest free slice that holds the whole function within the SLO of {}, {latency}",
                millis(slo)
            ),
            None => "the smallest free slice that holds the whole function".to_owned(),
        }
    }
}
