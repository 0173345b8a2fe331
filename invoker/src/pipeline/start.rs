//! tmpfs → config layer → control socket → lanes → ready; all or nothing. And the way back, which
//! always completes.

use super::config_layer::{ConfigLayer, Documents};
use super::control::{Control, Heard, LaneEvent};
use super::instance::{Changes, Death, Instance, Lane, News, Remains, Report, Reporter, lane_sentence};
use super::{Example, Pipelines, access, find};
use crate::completion::response::{self, Verdict};
use crate::completion::texts;
use crate::container::action_proxy::{self, BodyLimit, Connect};
use crate::container::{
    self, Container, ContainerEngine, ContainerSpec, LaneSpec, SharedMemory, SliceLimits,
};
use crate::readiness::because;
use crate::weights::{Door, Holder};
use futures::StreamExt as _;
use futures::future::join_all;
use futures::stream::FuturesUnordered;
use proto::ffs::assignment::{AssignmentDocument, Lane as AssignedLane};
use proto::ffs::control::InvokerMessage;
use proto::ffs::migs::MigsDocument;
use proto::ffs::state::{Desired, StateDocument, StateSchema};
use proto::id::LaneId;
use proto::unit::{Bytes, Millis};
use scheduler::assignment::{in_flight_limit, room_for_rings};
use scheduler::command::Start;
use scheduler::fault::Fault;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, RwLock};
use std::time::Duration;
use tokio::sync::{Mutex, mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// Loading takes at most the action's time limit, or this if that is less.
pub(super) const LEAST_START_LIMIT: Duration = Duration::from_secs(60);
/// Rings' headers, and what the tmpfs needs for itself.
const MEMORY_SLACK: Bytes = Bytes::mib(1);
/// How long lanes may take to move their weights, or to begin to take turns.
pub(super) const CHANGE_LIMIT: Duration = Duration::from_secs(60);
/// How long the rest of a start that is broken off may take before it is left to itself.
const SETTLE_LIMIT: Duration = Duration::from_secs(10);
/// How long lanes that were told to stop may take before they are killed.
const STOP_GRACE: Duration = Duration::from_millis(500);
/// Longest wait for how the container ended of a lane that has closed its connection: it exits within a second, and
/// a busy Docker tells so late.
const END_NEWS: Duration = Duration::from_secs(5);

/// What a platform's error means for the activation.
pub(super) fn as_fault(error: &container::Error) -> Fault {
    let sentence = because(error);
    match error {
        container::Error::Image { .. }
        | container::Error::NotPulled { .. }
        | container::Error::NoExecutable { .. } => Fault::developer(sentence),
        _ => Fault::whisk(sentence),
    }
}

/// What an ordinary container's activation ends with that could not be started (L-18).
pub fn provisioning_fault(error: &container::Error) -> Fault {
    match error {
        container::Error::Image { .. }
        | container::Error::NotPulled { .. }
        | container::Error::NoExecutable { .. } => as_fault(error),
        _ => Fault::whisk(texts::NOT_PROVISIONED),
    }
}

/// What a lane has in common with the others of its instance.
#[derive(Clone, Copy, Debug)]
pub(super) struct LaneOf<'a> {
    pub(super) assignment: &'a AssignmentDocument,
    pub(super) migs: &'a MigsDocument,
    pub(super) layer: &'a Path,
    pub(super) shared_memory: Option<&'a SharedMemory>,
    pub(super) uid: u32,
    pub(super) memory: Bytes,
}

/// A start that has come half-way; whatever is in it has to go if the rest fails.
#[derive(Debug, Default)]
pub(super) struct Scaffold {
    shared_memory: Option<SharedMemory>,
    weights: Option<Door>,
    pub(super) containers: Vec<Container>,
    /// Under way.
    starts: JoinSet<(LaneId, Result<Container, container::Error>)>,
}

impl Scaffold {
    pub(super) fn start(&mut self, lane: LaneId, spec: ContainerSpec, engine: &Arc<dyn ContainerEngine>) {
        let engine = Arc::clone(engine);
        self.starts
            .spawn(async move { (lane, engine.start(&spec).await) });
    }

    /// The next container whose start has ended; none if none is under way.
    pub(super) async fn next(&mut self) -> Option<(LaneId, Result<Container, container::Error>)> {
        let (lane, outcome) = self.starts.join_next().await?.expect("a start does not panic");
        self.containers.extend(outcome.as_ref().ok().cloned());
        Some((lane, outcome))
    }

    /// Waits for the starts that are under way: shared memory cannot go before their containers.
    pub(super) async fn settle(&mut self) {
        let settled = async { while self.next().await.is_some() {} };
        let _ = tokio::time::timeout(SETTLE_LIMIT, settled).await;
        self.starts.shutdown().await;
    }
}

impl Pipelines {
    /// Starts all lanes of an instance, or none; `stop` breaks it off. `report` hears what the instance says by
    /// itself once it is ready.
    ///
    /// # Errors
    /// Whose fault it is, with a sentence; nothing of the instance is left.
    pub async fn start(
        &self,
        start: &Start,
        example: &Example,
        stop: &CancellationToken,
        report: Reporter,
    ) -> Result<Arc<Instance>, Fault> {
        let mut scaffold = Scaffold::default();
        let limit = example.executable.time_limit().max(LEAST_START_LIMIT);
        let outcome = tokio::select! {
            outcome = self.erect(start, example, &mut scaffold, report) => outcome,
            () = stop.cancelled() => Err(Fault::whisk("the start was broken off")),
            () = tokio::time::sleep(limit) => {
                Err(Fault::developer(format!("the instance did not load within {} ms", limit.as_millis())))
            }
        };
        if let Err(fault) = &outcome {
            warn!(instance = %start.instance, %fault, "start failed");
            scaffold.settle().await;
            self.clear(scaffold.containers.iter(), scaffold.shared_memory.as_ref())
                .await;
        }
        outcome
    }

    async fn erect(
        &self,
        start: &Start,
        example: &Example,
        scaffold: &mut Scaffold,
        report: Reporter,
    ) -> Result<Arc<Instance>, Fault> {
        let assignment = &start.assignment;
        let uid = self.next_uid();
        if !assignment.rings.is_empty() {
            let size = Bytes(room_for_rings(assignment).0 + MEMORY_SLACK.0);
            let memory = self.engine.create_shared_memory(&start.instance, size, uid).await;
            scaffold.shared_memory = Some(memory.map_err(|error| as_fault(&error))?);
        }
        let init = example.init_body();
        let state = state(assignment.epoch, Desired::Run);
        let documents = Documents {
            dag: &start.dag,
            profile: &start.profile,
            ranking: &start.ranking,
            assignment,
            migs: &start.migs,
            state: &state,
            init: &init,
        };
        let owner = self.engine.lane_owner(uid);
        let layer = self
            .layers
            .create(&start.instance, owner, &documents)
            .map_err(|e| Fault::whisk(because(&e)))?;
        let lanes: Vec<&AssignedLane> = assignment.stages.iter().flat_map(|stage| &stage.lanes).collect();
        let (control, heard) = Control::listen(
            &layer.control(),
            owner,
            assignment.epoch,
            lanes.iter().map(|lane| lane.id),
        )
        .map_err(|error| Fault::whisk(because(&error)))?;

        scaffold.weights = self.open_weights(start, lanes.len(), &layer, owner);

        let mut limits = BTreeMap::new();
        for lane in &lanes {
            let of = LaneOf {
                assignment,
                migs: &start.migs,
                layer: layer.path(),
                shared_memory: scaffold.shared_memory.as_ref(),
                uid,
                memory: start.memory,
            };
            let token = control.token(lane.id).unwrap_or_default();
            let (spec, limit) = self.lane_spec(lane, &of, token, example)?;
            limits.insert(lane.id, limit);
            scaffold.start(lane.id, spec, &self.engine);
        }
        let mut loading = Loading {
            pipelines: self,
            control: &control,
            assignment,
            limits,
            containers: BTreeMap::new(),
            heard,
        };
        loading.all(scaffold, init, example).await?;
        let Loading {
            mut containers,
            heard,
            ..
        } = loading;

        let (dead, death) = watch::channel(Death::Unknown);
        let (watched, to_watch) = mpsc::unbounded_channel();
        let head = containers
            .get(&LaneId::HEAD)
            .cloned()
            .ok_or_else(|| Fault::whisk("the instance has no head"))?;
        let instance = Arc::new(Instance {
            id: start.instance.clone(),
            plan: plan_key(assignment),
            slo: assignment.slo_ms,
            time_limit: example.executable.time_limit(),
            uid,
            head,
            lanes: RwLock::new(
                lanes
                    .iter()
                    .filter_map(|lane| Some((lane.id, Lane::new(lane, containers.remove(&lane.id)?))))
                    .collect(),
            ),
            news: News::new(watched),
            moving: Mutex::new(()),
            stopping: CancellationToken::new(),
            death,
            speaker: control.speaker(),
            changes: Changes::new(assignment.epoch, lanes.iter().map(|lane| lane.id)),
            report,
            remains: Mutex::new(Some(Remains {
                layer,
                control,
                shared_memory: scaffold.shared_memory.clone(),
                weights: scaffold.weights.take(),
                written: assignment.epoch,
            })),
        });
        let watched = Arc::clone(&instance);
        let engine = Arc::clone(&self.engine);
        tokio::spawn(async move { watch_lanes(&watched, engine.as_ref(), heard, to_watch, dead).await });
        info!(instance = %start.instance, plan = instance.plan, "ready");
        Ok(instance)
    }

    /// What a lane's container is started with, and what its slice is limited to.
    pub(super) fn lane_spec(
        &self,
        lane: &AssignedLane,
        of: &LaneOf<'_>,
        token: String,
        example: &Example,
    ) -> Result<(ContainerSpec, Option<SliceLimits>), Fault> {
        let slice = find(of.migs, &lane.mig.uuid)
            .ok_or_else(|| Fault::whisk(format!("slice {} is not there any more", lane.mig.uuid)))?;
        let access = access(slice);
        let limit = access.simulated;
        let spec = LaneSpec {
            config_layer: Some(of.layer.to_owned()),
            shared_memory: of.shared_memory.cloned(),
            uid: of.uid,
            network: lane.id == LaneId::HEAD,
            slice: Some(access),
        };
        let name = format!("{}_{}", of.assignment.instance, lane.id);
        let mut spec = self.spec(example, &name, of.memory, spec);
        spec.concurrency = in_flight_limit(of.assignment.stages.len(), of.assignment.batch.max);
        spec.env.extend(lane.env.clone());
        spec.env.insert("FFS_LANE".to_owned(), lane.id.to_string());
        spec.env.insert("FFS_TOKEN".to_owned(), token);
        Ok((spec, limit))
    }

    /// Where the lanes of an instance find weights that others have, too; without it they use files of their own.
    fn open_weights(
        &self,
        start: &Start,
        lanes: usize,
        layer: &ConfigLayer,
        owner: Option<u32>,
    ) -> Option<Door> {
        let holder = Holder {
            namespace: start.function.namespace.clone(),
            instance: start.instance.clone(),
            limit: Bytes(start.memory.0.saturating_mul(lanes as u64)),
        };
        let opened = self.weights.open(&layer.weights(), owner, holder);
        let said =
            opened.inspect_err(|error| warn!(instance = %start.instance, %error, "weights are not shared"));
        said.ok()
    }

    /// Tells all lanes what to be; `shared` says whether they compute in turns. When they are,
    /// [`Report::Reached`] follows; a lane that does not get there in time is given up.
    pub fn change(&self, instance: &Arc<Instance>, desired: Desired, shared: Option<bool>) {
        let epoch = instance.changes.begin(desired);
        let told = StateDocument {
            shared,
            deadline_ms: None,
            ..state(epoch, desired)
        };
        for lane in instance.lanes().keys() {
            // One that has gone is reported by whoever watches it.
            let _ = instance.speaker.send(*lane, InvokerMessage::State(told.clone()));
        }
        let instance = Arc::clone(instance);
        tokio::spawn(async move {
            if let Some(remains) = &mut *instance.remains.lock().await
                && remains.written < epoch
            {
                remains.written = epoch;
                if let Err(error) = remains.layer.write_state(&told) {
                    warn!(instance = %instance.id, error = &error as &dyn std::error::Error, "state not written");
                }
            }
            tokio::time::sleep(CHANGE_LIMIT).await;
            let stopped = instance.remains.lock().await.is_none();
            if !stopped && let Some(lane) = instance.changes.behind(epoch) {
                let limit = CHANGE_LIMIT.as_secs();
                let because = instance.in_lane(lane, &format!("it did not {desired} within {limit} s"));
                warn!(instance = %instance.id, %because, "a lane is given up");
                instance.report.tell(Report::Died { lane, because });
            }
        });
    }

    /// It is this lane's turn on its slice.
    pub fn grant_turn(instance: &Instance, lane: LaneId, turn: u64) {
        // A lane that has gone gives its turn back by having gone.
        let _ = instance.speaker.send(lane, InvokerMessage::Turn { turn });
    }

    /// Takes an instance down. Afterwards nothing of it is left.
    pub async fn stop(&self, instance: &Instance) {
        instance.stopping.cancel();
        let _alone = instance.moving.lock().await;
        let Some(remains) = instance.remains.lock().await.take() else {
            return;
        };
        let stop = state(instance.changes.begin(Desired::Stop), Desired::Stop);
        if let Err(error) = remains.layer.write_state(&stop) {
            warn!(instance = %instance.id, error = &error as &dyn std::error::Error, "state not written");
        }
        let lanes = instance.lanes();
        for lane in lanes.keys() {
            // A lane that has gone already needs no word.
            let _ = remains.control.send(*lane, InvokerMessage::State(stop.clone()));
        }
        let ends = lanes.values().map(|lane| self.engine.ended(&lane.container.id));
        let _ = tokio::time::timeout(STOP_GRACE, join_all(ends)).await;
        self.clear(
            lanes.values().map(|lane| &lane.container),
            remains.shared_memory.as_ref(),
        )
        .await;
        drop(remains.weights);
        remains.control.close().await;
        if let Err(error) = remains.layer.remove() {
            warn!(instance = %instance.id, error = &error as &dyn std::error::Error, "config layer not removed");
        }
        info!(instance = %instance.id, "stopped");
    }

    pub(super) async fn clear(
        &self,
        containers: impl Iterator<Item = &Container>,
        memory: Option<&SharedMemory>,
    ) {
        let removals = containers.map(|container| async {
            if let Err(error) = self.engine.remove(&container.id).await {
                warn!(
                    container = container.name,
                    error = &error as &dyn std::error::Error,
                    "not removed"
                );
            }
        });
        join_all(removals).await;
        if let Some(memory) = memory
            && let Err(error) = self.engine.remove_shared_memory(memory).await
        {
            warn!(instance = %memory.instance, error = &error as &dyn std::error::Error, "shared memory not removed");
        }
    }
}

/// Lanes on their way from a container that starts to a loaded one, each at its own pace.
struct Loading<'a> {
    pipelines: &'a Pipelines,
    control: &'a Control,
    assignment: &'a AssignmentDocument,
    limits: BTreeMap<LaneId, Option<SliceLimits>>,
    /// Those that have started.
    containers: BTreeMap<LaneId, Container>,
    heard: mpsc::Receiver<LaneEvent>,
}

impl Loading<'_> {
    /// Every lane starts, says hello, is limited, is told to run, and loads; the head is initialised too.
    async fn all(&mut self, scaffold: &mut Scaffold, init: Vec<u8>, example: &Example) -> Result<(), Fault> {
        let engine = self.pipelines.engine.as_ref();
        let time_limit = example.executable.time_limit();
        let payload = &self.pipelines.settings.payload;
        let kept = BodyLimit {
            most: payload.max,
            cut: payload.truncation,
        };
        let mut init = Some(hyper::body::Bytes::from(init));
        let mut initialising = FuturesUnordered::new();
        let mut limiting = FuturesUnordered::new();
        let mut ended = FuturesUnordered::new();
        // A lane may say hello before Docker says that its container has started.
        let mut greeted: BTreeSet<LaneId> = BTreeSet::new();
        let mut loading: BTreeSet<LaneId> = self.limits.keys().copied().collect();
        while init.is_some() || !initialising.is_empty() || !loading.is_empty() {
            let up = tokio::select! {
                biased;
                event = self.heard.recv() => {
                    let Some(LaneEvent { lane, heard }) = event else {
                        return Err(Fault::whisk("the control socket was closed"));
                    };
                    match heard {
                        Heard::Hello => {
                            (greeted.insert(lane) && self.containers.contains_key(&lane)).then_some(lane)
                        }
                        Heard::Loaded { .. } => {
                            loading.remove(&lane);
                            None
                        }
                        Heard::Failed { sentence, at } => {
                            return Err(self.developer(lane, &failure(&sentence, at)));
                        }
                        Heard::Closed { because } => return Err(self.developer(lane, &because)),
                        Heard::State { .. } | Heard::Turn { .. } | Heard::Assignment(_) => None,
                    }
                }
                Some((lane, outcome)) = scaffold.next() => {
                    let container = outcome.map_err(|error| {
                        let error = as_fault(&error);
                        Fault::new(error.blame, in_lane(self.assignment, lane, &error.to_string()))
                    })?;
                    let (id, address) = (container.id.clone(), container.address.clone());
                    ended.push(async move { (lane, engine.ended(&id).await) });
                    if lane == LaneId::HEAD && let Some(body) = init.take() {
                        initialising.push(async move {
                            let ended = std::future::pending::<()>(); // seen below
                            action_proxy::post(&address, "/init", body, time_limit, kept, Connect::Patiently, ended).await
                        });
                    }
                    self.containers.insert(lane, container);
                    greeted.contains(&lane).then_some(lane)
                }
                Some(limited) = limiting.next() => {
                    let (lane, limited): (LaneId, Result<(), container::Error>) = limited;
                    limited.map_err(|error| as_fault(&error))?;
                    let message = InvokerMessage::State(state(self.assignment.epoch, Desired::Run));
                    self.control.send(lane, message).map_err(|error| Fault::whisk(error.to_string()))?;
                    None
                }
                Some(exchange) = initialising.next() => {
                    match response::of_init(&exchange, time_limit, kept.most, false) {
                        Verdict::Initialized => None,
                        Verdict::Elsewhere => return Err(Fault::whisk("the head is shutting down")),
                        Verdict::Ended { response, .. } => return Err(response::as_fault(&response)),
                    }
                }
                Some((lane, exit)) = ended.next() => return Err(self.developer(lane, &exit.to_string())),
            };
            if let Some(lane) = up {
                let (id, limits) = (self.containers[&lane].id.clone(), self.limits[&lane]);
                limiting.push(async move {
                    match limits {
                        Some(limits) => (lane, engine.limit(&id, limits).await),
                        None => (lane, Ok(())),
                    }
                });
            }
        }
        Ok(())
    }

    fn developer(&self, lane: LaneId, why: &str) -> Fault {
        Fault::developer(in_lane(self.assignment, lane, why))
    }
}

/// Until the first lane ends by itself, or the instance is stopped.
async fn watch_lanes(
    instance: &Instance,
    engine: &dyn container::ContainerEngine,
    mut heard: mpsc::Receiver<LaneEvent>,
    mut to_watch: mpsc::UnboundedReceiver<LaneId>,
    dead: watch::Sender<Death>,
) {
    let end_of =
        |id: LaneId, lane: Arc<Lane>| async move { (id, engine.ended(&lane.container.id).await, lane) };
    let mut ended: FuturesUnordered<_> = instance
        .lanes()
        .into_iter()
        .map(|(id, lane)| end_of(id, lane))
        .collect();
    let (lane, why) = loop {
        tokio::select! {
            Some(id) = to_watch.recv() => {
                ended.extend(instance.lane(id).map(|lane| end_of(id, lane)));
            }
            Some((id, exit, lane)) = ended.next() => {
                if !lane.leaves.load(Ordering::Acquire) {
                    break (id, exit.to_string());
                }
            }
            event = heard.recv() => {
                let Some(LaneEvent { lane, heard }) = event else { return };
                let known = instance.lane(lane).filter(|lane| !lane.leaves.load(Ordering::Acquire));
                let Some(known) = known else {
                    instance.news.tell(LaneEvent { lane, heard });
                    continue;
                };
                let (why, has_said_why) = match heard {
                    Heard::Failed { sentence, at } => (failure(&sentence, at), true),
                    Heard::Closed { because } => (because, false),
                    Heard::State { epoch, .. } => {
                        for desired in instance.changes.reached(lane, epoch) {
                            instance.report.tell(Report::Reached(desired));
                        }
                        continue;
                    }
                    Heard::Turn { want, turn } => {
                        instance.report.tell(Report::Turn { lane, want, turn });
                        continue;
                    }
                    Heard::Assignment(_) => {
                        instance.news.tell(LaneEvent { lane, heard });
                        continue;
                    }
                    Heard::Hello | Heard::Loaded { .. } => continue,
                };
                dead.send_replace(Death::Begun);
                // How the container ended may say more: that it was killed, or exceeded its memory.
                let end = tokio::time::timeout(END_NEWS, engine.ended(&known.container.id)).await;
                break match end {
                    Ok(exit) if exit.out_of_memory || !has_said_why => (lane, exit.to_string()),
                    _ => (lane, why),
                };
            }
        }
    };
    if instance.remains.lock().await.is_none() {
        return; // it was stopped: these are the ends that were asked for
    }
    let sentence = instance.in_lane(lane, &why);
    warn!(instance = %instance.id, %sentence, "a lane died");
    dead.send_replace(Death::Known(Fault::developer(sentence.clone())));
    instance.report.tell(Report::Died {
        lane,
        because: sentence,
    });
}

pub(super) fn failure(sentence: &str, at: Option<String>) -> String {
    match at {
        Some(at) => format!("{sentence} ({at})"),
        None => sentence.to_owned(),
    }
}

pub(super) fn in_lane(assignment: &AssignmentDocument, lane: LaneId, why: &str) -> String {
    let lane = assignment.lane(lane);
    lane.map_or_else(|| why.to_owned(), |lane| sentence(lane, why))
}

fn sentence(lane: &AssignedLane, why: &str) -> String {
    lane_sentence(lane.id, &lane.components, &lane.mig.uuid, &lane.mig.profile, why)
}

pub(super) fn state(epoch: u64, desired: Desired) -> StateDocument {
    StateDocument {
        schema: StateSchema::V1,
        epoch,
        desired,
        lanes: None,
        shared: None,
        deadline_ms: Some(Millis(STOP_GRACE.as_secs_f64() * 1000.0)),
    }
}

/// `m1;m2|m3`: the partition's key.
fn plan_key(assignment: &AssignmentDocument) -> String {
    let lane = |lane: &AssignedLane| {
        lane.components
            .iter()
            .map(|component| component.as_str())
            .collect::<Vec<_>>()
            .join(",")
    };
    let stages = assignment
        .stages
        .iter()
        .map(|stage| stage.lanes.iter().map(lane).collect::<Vec<_>>().join(";"));
    stages.collect::<Vec<_>>().join("|")
}
