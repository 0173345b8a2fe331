//! `ranking.json`: enough to audit a decision.

use super::{Ranking, Reference};
use crate::dag::ComponentSet;
use proto::ffs::ranking::{RankedLane, RankedPartition, RankedStage, RankingDocument, RankingSchema};
use proto::id::ComponentId;
use proto::unit::{Bytes, Millis};

impl Ranking {
    /// The ranking for people and other programs. `profile_hash` names the profile document that
    /// it was computed from.
    pub fn document(&self, profile_hash: String) -> RankingDocument {
        RankingDocument {
            schema: RankingSchema::V1,
            function: self.function.clone(),
            revision: self.revision.clone(),
            profile_hash,
            mode: self.mode,
            std: self.options.std,
            reference: match &self.options.reference {
                Reference::MinFit => "min_fit".to_owned(),
                Reference::Profile(profile) => format!("ref:{profile}"),
            },
            atoms: self.atoms.iter().map(|atom| self.ids_of(*atom)).collect(),
            coarsened: self.coarsened.then_some(true),
            total: self.total as u64,
            kept: self.len() as u64,
            partitions: (0..self.len()).map(|rank| self.partition(rank)).collect(),
        }
    }

    fn partition(&self, rank: usize) -> RankedPartition {
        let stages = self.stages_of(rank).map(|stage| RankedStage {
            time_ms: millis(stage.time),
            lanes: stage.lanes.iter().map(|lane| self.lane(*lane)).collect(),
        });
        RankedPartition {
            rank: rank as u64,
            key: self.key(rank),
            cv: self.cv(rank),
            stages: stages.collect(),
        }
    }

    fn lane(&self, lane: u16) -> RankedLane {
        let lane = &self.lanes[usize::from(lane)];
        RankedLane {
            components: self.ids_of(lane.components),
            memory_bytes: Bytes(lane.memory),
            min_profile: lane.min_fit.map(|kind| self.kinds[kind].profile.clone()),
            time_ms: millis(lane.time),
        }
    }

    fn ids_of(&self, components: ComponentSet) -> Vec<ComponentId> {
        components
            .iter()
            .map(|component| self.ids[component].clone())
            .collect()
    }
}

fn millis(nanos: u64) -> Millis {
    Millis(nanos as f64 / 1e6)
}
