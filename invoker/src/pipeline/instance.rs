//! A running instance: its lanes, what holds them together, and how it ends.

use super::config_layer::ConfigLayer;
use super::control::Control;
use crate::container::{Container, SharedMemory};
use proto::ffs::timing::{LaneTiming, RecordLane};
use proto::id::{ComponentId, InstanceId, LaneId, ProfileName, SliceUuid};
use proto::unit::Millis;
use scheduler::fault::Fault;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::sync::{Mutex, watch};

/// One lane and where it runs.
#[derive(Debug)]
pub struct Lane {
    pub container: Container,
    pub components: Vec<ComponentId>,
    pub slice: SliceUuid,
    pub profile: ProfileName,
}

/// All lanes are loaded.
#[derive(Debug)]
pub struct Instance {
    pub(super) id: InstanceId,
    pub(super) plan: String,
    pub(super) slo: Option<Millis>,
    pub(super) lanes: BTreeMap<LaneId, Lane>,
    pub(super) death: watch::Receiver<Option<Fault>>,
    /// What stopping takes; none once it is stopped.
    pub(super) remains: Mutex<Option<Remains>>,
}

/// What an instance consists of besides its containers.
#[derive(Debug)]
pub(super) struct Remains {
    pub(super) layer: ConfigLayer,
    pub(super) control: Control,
    pub(super) shared_memory: Option<SharedMemory>,
    pub(super) epoch: u64,
}

impl Instance {
    pub fn id(&self) -> &InstanceId {
        &self.id
    }

    /// Key of its partition.
    pub fn plan(&self) -> &str {
        &self.plan
    }

    pub fn slo_ms(&self) -> Option<Millis> {
        self.slo
    }

    /// The container that answers `/run`.
    pub fn head(&self) -> &Container {
        &self.lanes[&LaneId::HEAD].container
    }

    pub fn lanes(&self) -> &BTreeMap<LaneId, Lane> {
        &self.lanes
    }

    /// Which lane died and why, if that becomes known within `wait`.
    pub async fn death(&self, wait: Duration) -> Option<Fault> {
        let mut death = self.death.clone();
        let known = tokio::time::timeout(wait, death.wait_for(Option::is_some)).await;
        known.ok()?.ok()?.clone()
    }

    /// A lane's times, with the slice that it runs on.
    pub fn record_lane(&self, timing: &LaneTiming) -> Option<RecordLane> {
        let lane = self.lanes.get(&timing.id)?;
        Some(RecordLane {
            id: timing.id,
            slice: lane.slice.to_string(),
            profile: lane.profile.clone(),
            queue_ms: timing.queue_ms,
            exec_ms: timing.exec_ms,
        })
    }
}

/// `lane s1l0 (components rec) on slice MIG-… (1g.10gb): <why>`.
pub(super) fn lane_sentence(
    lane: LaneId,
    components: &[ComponentId],
    slice: &SliceUuid,
    profile: &ProfileName,
    why: &str,
) -> String {
    if why.starts_with("lane ") {
        return why.to_owned(); // the lane has said where it is
    }
    let components: Vec<&str> = components.iter().map(ComponentId::as_str).collect();
    format!(
        "lane {lane} (components {}) on slice {slice} ({profile}): {why}",
        components.join(", ")
    )
}
