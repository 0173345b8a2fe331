//! A running instance: its lanes, what holds them together, and how it ends.

use super::config_layer::ConfigLayer;
use super::control::{Control, LaneEvent, Speaker};
use crate::container::{Container, SharedMemory};
use crate::weights::Door;
use proto::ffs::assignment::Lane as AssignedLane;
use proto::ffs::state::Desired;
use proto::ffs::timing::{LaneTiming, RecordLane};
use proto::id::{ComponentId, InstanceId, LaneId, ProfileName, SliceUuid};
use proto::unit::Millis;
use scheduler::fault::Fault;
use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use tokio::sync::{Mutex, mpsc, watch};
use tokio_util::sync::CancellationToken;

/// One lane and where it runs.
#[derive(Debug)]
pub struct Lane {
    pub container: Container,
    pub components: Vec<ComponentId>,
    pub slice: SliceUuid,
    pub profile: ProfileName,
    /// A replica that no request goes through any more: its end is asked for.
    pub(super) leaves: AtomicBool,
}

impl Lane {
    pub(super) fn new(assigned: &AssignedLane, container: Container) -> Arc<Self> {
        Arc::new(Self {
            container,
            components: assigned.components.clone(),
            slice: assigned.mig.uuid.clone(),
            profile: assigned.mig.profile.clone(),
            leaves: AtomicBool::new(false),
        })
    }
}

/// All lanes are loaded.
#[derive(Debug)]
pub struct Instance {
    pub(super) id: InstanceId,
    pub(super) plan: String,
    pub(super) slo: Option<Millis>,
    /// Of the action.
    pub(super) time_limit: Duration,
    /// Who the lanes run as.
    pub(super) uid: u32,
    pub(super) head: Container,
    /// Those that requests go through; replicas come and go.
    pub(super) lanes: RwLock<BTreeMap<LaneId, Arc<Lane>>>,
    /// What lanes say about a replica that comes or goes.
    pub(super) news: News,
    /// Whoever changes the lanes has it.
    pub(super) moving: Mutex<()>,
    pub(super) stopping: CancellationToken,
    pub(super) death: watch::Receiver<Death>,
    pub(super) speaker: Speaker,
    pub(super) changes: Changes,
    pub(super) report: Reporter,
    /// What stopping takes; none once it is stopped.
    pub(super) remains: Mutex<Option<Remains>>,
}

/// What is known of an instance's end.
#[derive(Clone, Debug)]
pub(super) enum Death {
    Unknown,
    /// A lane has gone; how its container ended is not known yet.
    Begun,
    Known(Fault),
}

/// What an instance consists of besides its containers.
#[derive(Debug)]
pub(super) struct Remains {
    pub(super) layer: ConfigLayer,
    pub(super) control: Control,
    pub(super) shared_memory: Option<SharedMemory>,
    /// What the lanes were given counts until they are gone.
    pub(super) weights: Option<Door>,
    /// Of the newest state that was written.
    pub(super) written: u64,
}

/// What an instance reports by itself after it was ready.
#[derive(Clone, Debug, PartialEq)]
pub enum Report {
    /// A lane has ended, or has to be given up; the last report.
    Died { lane: LaneId, because: String },
    /// All lanes have reached what they were last told.
    Reached(Desired),
    /// A lane on a shared slice wants its turn, or gives it back.
    Turn { lane: LaneId, want: bool, turn: u64 },
}

/// Where an instance's reports go.
#[derive(Clone)]
pub struct Reporter(Arc<dyn Fn(Report) + Send + Sync>);

impl Reporter {
    pub fn new(to: impl Fn(Report) + Send + Sync + 'static) -> Self {
        Self(Arc::new(to))
    }

    pub(super) fn tell(&self, report: Report) {
        (self.0)(report);
    }
}

impl std::fmt::Debug for Reporter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Reporter")
    }
}

/// Where those who change an instance's lanes hear what is said about that.
#[derive(Debug)]
pub(super) struct News {
    /// Lanes that are watched from now on.
    pub(super) watched: mpsc::UnboundedSender<LaneId>,
    listener: std::sync::Mutex<Option<mpsc::UnboundedSender<LaneEvent>>>,
}

impl News {
    pub(super) fn new(watched: mpsc::UnboundedSender<LaneId>) -> Self {
        Self {
            watched,
            listener: std::sync::Mutex::new(None),
        }
    }

    fn listener(&self) -> std::sync::MutexGuard<'_, Option<mpsc::UnboundedSender<LaneEvent>>> {
        self.listener.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on, instead of who listened before.
    pub(super) fn listen(&self) -> mpsc::UnboundedReceiver<LaneEvent> {
        let (sender, receiver) = mpsc::unbounded_channel();
        *self.listener() = Some(sender);
        receiver
    }

    /// Nobody is told what nobody waits for.
    pub(super) fn tell(&self, event: LaneEvent) {
        if let Some(listener) = &*self.listener() {
            let _ = listener.send(event);
        }
    }
}

/// The states that the lanes were told, until they have reached them.
#[derive(Debug)]
pub(super) struct Changes(std::sync::Mutex<Told>);

#[derive(Debug)]
struct Told {
    epoch: u64,
    open: VecDeque<(u64, Desired)>,
    /// The highest epoch that each lane has reached.
    reached: BTreeMap<LaneId, u64>,
}

impl Changes {
    pub(super) fn new(epoch: u64, lanes: impl IntoIterator<Item = LaneId>) -> Self {
        Self(std::sync::Mutex::new(Told {
            epoch,
            open: VecDeque::new(),
            reached: lanes.into_iter().map(|lane| (lane, epoch)).collect(),
        }))
    }

    fn with<T>(&self, use_it: impl FnOnce(&mut Told) -> T) -> T {
        use_it(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The epoch of another assignment.
    pub(super) fn next(&self) -> u64 {
        self.with(|told| {
            told.epoch += 1;
            told.epoch
        })
    }

    /// A lane that has just been told everything; states that are open are none of its business.
    pub(super) fn join(&self, lane: LaneId, epoch: u64) {
        self.with(|told| told.reached.insert(lane, epoch));
    }

    pub(super) fn leave(&self, lane: LaneId) {
        self.with(|told| told.reached.remove(&lane));
    }

    /// The epoch of a new state.
    pub(super) fn begin(&self, desired: Desired) -> u64 {
        self.with(|told| {
            told.epoch += 1;
            told.open.push_back((told.epoch, desired));
            told.epoch
        })
    }

    /// What all lanes have reached now that this one has; a later state stands for those before it.
    pub(super) fn reached(&self, lane: LaneId, epoch: u64) -> Vec<Desired> {
        self.with(|told| {
            if let Some(reached) = told.reached.get_mut(&lane) {
                *reached = (*reached).max(epoch);
            }
            let all = told.reached.values().copied().min().unwrap_or(0);
            let mut done = Vec::new();
            while told.open.front().is_some_and(|(epoch, _)| *epoch <= all) {
                done.extend(told.open.pop_front().map(|(_, desired)| desired));
            }
            done
        })
    }

    /// A lane that has not reached this epoch.
    pub(super) fn behind(&self, epoch: u64) -> Option<LaneId> {
        self.with(|told| {
            let behind = |(lane, reached): (&LaneId, &u64)| (*reached < epoch).then_some(*lane);
            told.reached.iter().find_map(behind)
        })
    }
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
        &self.head
    }

    /// The lanes that there are now.
    pub fn lanes(&self) -> BTreeMap<LaneId, Arc<Lane>> {
        self.lanes.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn lane(&self, id: LaneId) -> Option<Arc<Lane>> {
        let lanes = self.lanes.read().unwrap_or_else(PoisonError::into_inner);
        lanes.get(&id).cloned()
    }

    pub(super) fn change_lanes<T>(&self, change: impl FnOnce(&mut BTreeMap<LaneId, Arc<Lane>>) -> T) -> T {
        change(&mut self.lanes.write().unwrap_or_else(PoisonError::into_inner))
    }

    /// Which lane died and why, if a lane is seen to go within `wait`.
    pub async fn death(&self, wait: Duration) -> Option<Fault> {
        let mut death = self.death.clone();
        let begun = death.wait_for(|death| !matches!(death, Death::Unknown));
        tokio::time::timeout(wait, begun).await.ok()?.ok()?;
        let known = death.wait_for(|death| matches!(death, Death::Known(_)));
        match &*known.await.ok()? {
            Death::Known(fault) => Some(fault.clone()),
            Death::Unknown | Death::Begun => None,
        }
    }

    /// A sentence about a lane that says where it is.
    pub(super) fn in_lane(&self, lane: LaneId, why: &str) -> String {
        match self.lane(lane) {
            Some(place) => lane_sentence(lane, &place.components, &place.slice, &place.profile, why),
            None => format!("lane {lane}: {why}"),
        }
    }

    /// A lane's times, with the slice that it runs on.
    pub fn record_lane(&self, timing: &LaneTiming) -> Option<RecordLane> {
        let lane = self.lane(timing.id)?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_is_reached_when_the_last_lane_has_reached_it_or_a_later_one() {
        let other = LaneId::new(1, 0);
        let changes = Changes::new(1, [LaneId::HEAD, other]);
        let (shared, evicted) = (changes.begin(Desired::Run), changes.begin(Desired::Evict));
        assert_eq!((shared, evicted), (2, 3));

        assert_eq!(changes.reached(LaneId::HEAD, 3), []);
        assert_eq!(changes.behind(3), Some(other));
        assert_eq!(changes.reached(other, 2), [Desired::Run]);
        assert_eq!(changes.reached(other, 3), [Desired::Evict]);
        assert_eq!(changes.behind(3), None);
        assert_eq!(changes.reached(other, 3), [], "once");
    }
}
