//! Ours: the SLO with as few slices as possible.

use super::{Policy, millis};
use crate::free::FreeSlices;
use crate::placement::{NoPlacement, PlaceOptions, Placement, place};
use crate::ranking::{RankBy, RankOptions, Ranking};
use std::time::Duration;

#[derive(Debug)]
pub(super) struct Slo;

impl Policy for Slo {
    fn name(&self) -> &'static str {
        "slo"
    }

    fn sentence(&self) -> &'static str {
        "Meets the SLO with the fewest slices; where nothing meets it, takes the shortest latency."
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
            slo_check: true,
            ..PlaceOptions::default()
        };
        place(ranking, free, options)
    }

    fn because(&self, _: &Ranking, placement: &Placement, slo: Option<Duration>) -> String {
        let latency = millis(placement.latency);
        let slices = placement.lanes.len();
        match slo {
            Some(slo) if placement.latency > slo => format!(
                "nothing that fits the free slices meets the SLO of {}; this has the shortest latency, {latency}",
                millis(slo)
            ),
            Some(slo) => format!(
                "{latency} on {slices} slices is within the SLO of {}, and no fewer slices would do",
                millis(slo)
            ),
            None => format!("there is no SLO, and no fewer than {slices} slices would do"),
        }
    }
}
