//! The plan for other programs: `{"ranking", "chosen", "rejected"}`.

use super::Plan;
use proto::ffs::assignment::LaneSlice;
use proto::ffs::ranking::RankingDocument;
use proto::id::{ComponentId, LaneId};
use proto::unit::Millis;
use scheduler::placement::{PlacedLane, Placement};
use scheduler::profile::document_hash;
use serde::Serialize;
use std::time::Duration;

/// What `plan --format json` prints.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PlanDocument {
    pub ranking: RankingDocument,
    /// Null if no partition fits the free slices.
    pub chosen: Option<Chosen>,
    pub rejected: Vec<Rejected>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Chosen {
    pub rank: u64,
    pub key: String,
    pub cv: f64,
    /// Stages and transfers, on the slices taken.
    pub latency_ms: Millis,
    pub bottleneck_ms: Millis,
    pub lanes: Vec<Lane>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Lane {
    pub id: LaneId,
    pub components: Vec<ComponentId>,
    pub mig: LaneSlice,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Rejected {
    pub key: String,
    pub because: String,
}

impl Plan {
    /// The plan as a document.
    pub fn document(&self) -> PlanDocument {
        PlanDocument {
            ranking: self.ranking.document(document_hash(&self.documents.profile)),
            chosen: self.chosen().map(|placement| self.chosen_document(placement)),
            rejected: self
                .rejected()
                .map(|(key, because)| Rejected { key, because })
                .collect(),
        }
    }

    fn chosen_document(&self, placement: &Placement) -> Chosen {
        Chosen {
            rank: placement.rank as u64,
            key: placement.key.clone(),
            cv: placement.cv,
            latency_ms: millis(placement.latency),
            bottleneck_ms: millis(placement.bottleneck),
            lanes: placement.lanes.iter().map(|lane| self.lane(lane)).collect(),
        }
    }

    fn lane(&self, lane: &PlacedLane) -> Lane {
        Lane {
            id: lane.id,
            components: lane
                .components
                .iter()
                .map(|component| self.dag.id(component).clone())
                .collect(),
            mig: LaneSlice {
                uuid: lane.slice.uuid.clone(),
                profile: lane.slice.profile.clone(),
                gpu_uuid: lane.slice.gpu_uuid.clone(),
                memory_bytes: lane.slice.memory_bytes,
            },
        }
    }
}

fn millis(duration: Duration) -> Millis {
    Millis(duration.as_nanos() as f64 / 1e6)
}
