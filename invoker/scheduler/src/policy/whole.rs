//! One slice for one function, as platforms without pipelines do.

use super::Policy;
use crate::free::FreeSlices;
use crate::placement::{NoPlacement, PlaceOptions, Placement, place};
use crate::ranking::{RankBy, RankOptions, Ranking};
use std::time::Duration;

#[derive(Debug)]
pub(super) struct Whole;

impl Policy for Whole {
    fn name(&self) -> &'static str {
        "whole"
    }

    fn sentence(&self) -> &'static str {
        "Keeps the function whole, on the smallest free slice that holds it, whatever the SLO."
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
        _: Option<Duration>,
    ) -> Result<Placement, NoPlacement> {
        let options = PlaceOptions {
            whole: true,
            ..PlaceOptions::default()
        };
        place(ranking, free, options)
    }

    fn because(&self, _: &Ranking, _: &Placement, _: Option<Duration>) -> String {
        "the smallest free slice that holds the whole function".to_owned()
    }
}
