//! A world that carries out commands in any order and with any outcome, and that knows what must
//! never happen. Whatever it does is decided by a list of numbers, so that a failure can be shrunk
//! and played again.

use crate::documents::{chain, inventory, profile_rows};
use proto::ffs::Document as _;
use proto::ffs::assignment::AssignmentDocument;
use proto::ffs::migs::{MigsDocument, SliceState};
use proto::id::{ActivationId, InstanceId, LaneId, SliceUuid};
use proto::unit::{Bytes, Millis};
use scheduler::command::{Purpose, Start};
use scheduler::drift::DriftSettings;
use scheduler::event::{Event, Outcome};
use scheduler::fault::{Blame, Fault};
use scheduler::reason::WakeReason;
use scheduler::settings::{Reactive, StemCell};
use scheduler::work::{Action, ActionRevision, ContainerNumber, Ffs, FunctionKey, Request, Terms};
use scheduler::{Command, Instant, Scheduler, Settings};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

/// Numbers that decide what happens; when they are used up, all goes well.
pub(crate) struct Choices {
    numbers: std::vec::IntoIter<u32>,
}

impl Choices {
    pub(crate) fn new(numbers: Vec<u32>) -> Self {
        Self {
            numbers: numbers.into_iter(),
        }
    }

    /// A number below `n`; 0 when there are no more.
    fn below(&mut self, n: usize) -> usize {
        self.numbers.next().unwrap_or(0) as usize % n
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == n - 1
    }

    fn any_left(&self) -> bool {
        !self.numbers.as_slice().is_empty()
    }
}

/// Something under way that will end.
#[derive(Clone, Debug, PartialEq)]
enum Open {
    ContainerStart(ContainerNumber),
    Initialize(ContainerNumber),
    Run(ActivationId),
    Pause(ContainerNumber),
    Resume(ContainerNumber),
    Remove(ContainerNumber),
    Build(ActionRevision),
    Profile(ActionRevision),
    InstanceStart(InstanceId),
    InstanceStop(InstanceId),
    Evict(InstanceId),
    Wake(InstanceId),
    Share(InstanceId),
    Join(InstanceId, LaneId),
    Leave(InstanceId, LaneId),
    /// A lane on a shared slice computes.
    Turn(InstanceId, LaneId, u64),
}

#[derive(Debug)]
struct Activation {
    request: Request,
    ends: u32,
    runs_in: Option<Place>,
}

#[derive(Clone, Debug, PartialEq)]
enum Place {
    Container(ContainerNumber),
    Instance(InstanceId),
}

#[derive(Debug)]
struct Container {
    memory: Bytes,
    listens: bool,
    /// Namespace, identity and concurrency of whom it was first given to.
    owner: Option<(String, String, u32)>,
    initialized: bool,
    runs: BTreeSet<ActivationId>,
    /// Pausing, paused or resuming.
    asleep: bool,
    died: bool,
    removed_at: Option<Instant>,
}

#[derive(Debug)]
struct Instance {
    function: FunctionKey,
    slices: Vec<SliceUuid>,
    memory: Bytes,
    limit: usize,
    /// Lane and slice.
    lanes: Vec<(LaneId, SliceUuid)>,
    ready: bool,
    /// Its slices are its own again, or not at all.
    warm: bool,
    /// Its lanes ask before they compute.
    asks: bool,
    /// What it was told about asking, and does not do yet.
    will_ask: VecDeque<bool>,
    /// Turns that were asked for and are not granted.
    wanted: BTreeMap<LaneId, u64>,
    turns: u64,
    dead: bool,
    stopping: bool,
    runs: BTreeSet<ActivationId>,
}

impl Instance {
    /// A replica is gone.
    fn lose(&mut self, lane: LaneId) {
        self.memory.0 -= self.memory.0 / self.lanes.len() as u64;
        let at = self
            .lanes
            .iter()
            .position(|(id, _)| *id == lane)
            .expect("it was there");
        let (_, slice) = self.lanes.remove(at);
        self.slices.retain(|other| *other != slice);
    }
}

pub(crate) struct World {
    scheduler: Scheduler,
    choices: Choices,
    now: Instant,
    /// Much memory, and no plain activations: slices are what is short.
    pipelines_only: bool,
    /// One function of one namespace has nearly all requests, so that they wait for each other.
    crowded: bool,
    budget: Bytes,
    slices: &'static [&'static str],
    migs: MigsDocument,
    activations: BTreeMap<ActivationId, Activation>,
    containers: BTreeMap<ContainerNumber, Container>,
    instances: BTreeMap<InstanceId, Instance>,
    builds: BTreeMap<ActionRevision, Bytes>,
    profiles: BTreeMap<ActionRevision, (SliceUuid, Bytes)>,
    open: Vec<Open>,
    /// How long each slice has had a holder: GPU time and MIG time, counted from outside.
    held: BTreeMap<SliceUuid, Duration>,
    gpu_held: Duration,
    /// Everything that was commanded, as text.
    pub(crate) said: Vec<String>,
}

const SLICES: &[&str] = &["3g.40gb=1000", "2g.20gb=500", "1g.10gb=300", "1g.10gb=300"];
/// In a crowded world: a pipeline of two lanes, and one that could be a replica or somebody else's.
const FEW_SLICES: &[&str] = &["1g.10gb=300", "1g.10gb=300", "1g.10gb=300"];
const ACTIONS: &[&str] = &["guest/a", "guest/b", "jane/c"];
const CROWDED: &str = "jane/c";
const NAMESPACES: &[&str] = &["guest", "jane"];

/// Components with MiB of weights, by action.
fn components(action: &str) -> &'static [(&'static str, u64)] {
    match action {
        "guest/a" => &[("x", 100)],
        "guest/b" => &[("x", 450), ("y", 250), ("z", 600)],
        _ => &[("x", 100), ("y", 290)],
    }
}

impl World {
    pub(crate) fn new(mut choices: Choices) -> Self {
        let pipelines_only = choices.one_in(2);
        let crowded = pipelines_only && choices.one_in(3);
        let slices = if crowded { FEW_SLICES } else { SLICES };
        let settings = Settings {
            user_memory: Bytes::mib(if pipelines_only { 8192 } else { 1024 } + 256 * choices.below(4) as u64),
            stem_cells: stem_cells(&mut choices),
            stem_cell_delay: Duration::from_secs(30),
            stem_cell_interval: Duration::from_secs(30),
            keep_alive: Duration::from_secs(60),
            drift: DriftSettings {
                runs: 1,
                window: Duration::ZERO,
                ..DriftSettings::default()
            },
            policy: ["fluidfaas", "throughput", "slo", "esg", "whole"][choices.below(5)].to_owned(),
            ..Settings::default()
        };
        let budget = settings.user_memory;
        let mut world = Self {
            scheduler: Scheduler::new(settings, Instant::ZERO),
            choices,
            now: Instant::ZERO,
            pipelines_only,
            crowded,
            budget,
            slices,
            migs: inventory(slices),
            activations: BTreeMap::new(),
            containers: BTreeMap::new(),
            instances: BTreeMap::new(),
            builds: BTreeMap::new(),
            profiles: BTreeMap::new(),
            open: Vec::new(),
            held: BTreeMap::new(),
            gpu_held: Duration::ZERO,
            said: Vec::new(),
        };
        world.obey();
        let migs = world.migs.clone();
        world.tell(Event::Inventory(migs));
        world
    }

    /// Lets things happen until the numbers are used up.
    pub(crate) fn run(&mut self) {
        while self.choices.any_left() {
            match self.choices.below(16) {
                0..=2 => self.request(),
                3..=5 if self.crowded => self.request(),
                15 if self.crowded && !self.choices.one_in(4) => {}
                3..=10 => self.end_something(),
                11 if self.choices.one_in(2) => self.ask_for_a_turn(),
                11 | 12 => self.pass_time(),
                13 if self.choices.one_in(2) => self.cancel_something(),
                14 if self.choices.one_in(2) => self.break_something(),
                13 | 14 => {}
                _ => self.change_slices(),
            }
        }
    }

    /// Ends all that is under way and lets time pass, until nothing is left to do; everything goes
    /// well from now on.
    pub(crate) fn settle(&mut self) {
        self.migs = inventory(self.slices);
        self.tell(Event::Inventory(self.migs.clone()));
        let end = self.now + Duration::from_secs(3600);
        loop {
            while !self.open.is_empty() {
                self.end_something();
            }
            match self.scheduler.deadline().filter(|at| *at <= end) {
                Some(at) => self.tick_at(at),
                None => return,
            }
        }
    }

    pub(crate) fn drain(&mut self) {
        self.tell(Event::Drain);
        while !self.open.is_empty() {
            self.end_something();
        }
    }

    /// Every activation has ended once.
    pub(crate) fn assert_all_ended(&self) {
        for (id, activation) in &self.activations {
            assert_eq!(activation.ends, 1, "{id} has ended so many times: {activation:?}");
        }
    }

    /// Nothing is left, in the world and in the books.
    pub(crate) fn assert_empty(&self) {
        let view = self.scheduler.view();
        assert!(self.containers.is_empty(), "{:?}", self.containers);
        assert!(self.instances.is_empty(), "{:?}", self.instances);
        assert_eq!(view.memory.used, Bytes(0));
        let migs = view.migs.expect("an inventory was told");
        assert!(migs.slices.iter().all(|slice| slice.state != SliceState::Hot));
        assert!(self.scheduler.is_empty());
    }

    fn tell(&mut self, event: Event) {
        self.said.push(format!("{event:?}"));
        self.scheduler.handle(event, self.now);
        self.obey();
        // Nothing was forgotten: to look again finds nothing to do.
        self.scheduler.handle(Event::Tick, self.now);
        let forgotten = self.scheduler.next_command();
        assert_eq!(forgotten, None, "after {:?}", self.said.last());
    }

    fn obey(&mut self) {
        let mut commands = 0;
        while let Some(command) = self.scheduler.next_command() {
            self.said.push(format!("    {command:?}"));
            commands += 1;
            assert!(commands < 1000, "one event leads to commands without end");
            self.carry_out(command);
            self.assert_lawful();
        }
        self.assert_lawful();
    }

    fn pass_time(&mut self) {
        let longer = Duration::from_millis([100, 2_000, 30_000][self.choices.below(3)]);
        match self.scheduler.deadline() {
            Some(at) if self.choices.one_in(2) => self.tick_at(at),
            _ => {
                self.count(self.now + longer);
                self.tell(Event::Tick);
            }
        }
    }

    /// A tick at its deadline has some effect: the next deadline is later.
    fn tick_at(&mut self, at: Instant) {
        self.count(self.now.max(at));
        self.tell(Event::Tick);
        let next = self.scheduler.deadline();
        assert!(
            next.is_none_or(|next| next > self.now),
            "the deadline {at} does not pass"
        );
    }

    /// Lets time pass until `now`, and counts it for every slice that has a holder.
    fn count(&mut self, now: Instant) {
        let passed = now.since(self.now);
        self.now = now;
        let instances = self.instances.values().filter(|i| !i.warm);
        let measured = self.profiles.values().map(|(slice, _)| slice);
        let held: BTreeSet<SliceUuid> = instances
            .flat_map(|i| &i.slices)
            .chain(measured)
            .cloned()
            .collect();
        if !held.is_empty() {
            self.gpu_held += passed;
        }
        for slice in held {
            *self.held.entry(slice).or_default() += passed;
        }
    }

    /// The books say what was seen, and keep to the laws between GPU time and MIG time.
    pub(crate) fn assert_times(&self) {
        let accounts = self.scheduler.accounts(self.now);
        let [gpu] = accounts.gpus() else {
            panic!("one GPU: {accounts:?}");
        };
        let migs = accounts.migs();
        let held: Duration = migs.iter().map(|mig| mig.times.held).sum();
        let busy: Duration = migs.iter().map(|mig| mig.times.busy).sum();
        assert_eq!(held, self.held.values().sum::<Duration>(), "MIG time");
        assert_eq!(gpu.times.held, self.gpu_held, "GPU time");
        assert!(gpu.times.held <= self.now.0 && gpu.times.busy <= gpu.times.held);
        assert!(gpu.times.held <= held && held <= gpu.times.held * self.slices.len() as u32);
        assert!(gpu.times.busy <= busy && busy <= gpu.times.busy * self.slices.len() as u32);
        assert!(migs.iter().all(|mig| mig.times.busy <= mig.times.held));
    }

    fn request(&mut self) {
        let id = ActivationId::from_u128(self.activations.len() as u128 + 1);
        let crowd = self.crowded && !self.choices.one_in(6);
        let name = if crowd {
            CROWDED
        } else {
            ACTIONS[self.choices.below(ACTIONS.len())]
        };
        let revision = ["1-a", "1-a", "1-a", "2-b"][if crowd { 0 } else { self.choices.below(4) }];
        let ffs = self.choices.one_in(2) || self.pipelines_only;
        let most = [None, Some(1), Some(0)][if crowd { 0 } else { self.choices.below(3) }];
        let action = Action {
            namespace: NAMESPACES[if crowd { 0 } else { self.choices.below(2) }].to_owned(),
            name: name.to_owned(),
            revision: revision.to_owned(),
            identity: format!("{name} {revision} {ffs}"),
            kind: self.choices.one_in(2).then(|| "nodejs:20".to_owned()),
            memory: Bytes::mib(
                [128, 256, 256, 256, 512, 512, 1024, 4096]
                    [self.choices.below(if self.pipelines_only { 4 } else { 8 })],
            ),
            concurrency: [1, 1, 3][self.choices.below(3)],
            limit: Duration::from_secs(10),
        };
        let terms = Terms {
            min_instances: self.choices.below(2) as u32,
            max_instances: most,
            retry: self.choices.one_in(2),
            ..Terms::default()
        };
        let ffs = ffs.then_some(Ffs {
            terms,
            dag: None,
            profile: None,
        });
        let request = Request {
            activation: id,
            action,
            ffs,
        };
        let activation = Activation {
            request: request.clone(),
            ends: 0,
            runs_in: None,
        };
        self.activations.insert(id, activation);
        self.tell(Event::Request(Box::new(request)));
    }

    fn cancel_something(&mut self) {
        if !self.activations.is_empty() {
            let at = self.choices.below(self.activations.len());
            let activation = *self
                .activations
                .keys()
                .nth(at)
                .expect("it is below the number of them");
            self.tell(Event::Cancelled { activation });
        }
    }

    fn break_something(&mut self) {
        if self.choices.one_in(2) {
            let listening = |c: &Container| c.listens && !c.died;
            let mut numbers: Vec<_> = self.containers.iter().filter(|(_, c)| listening(c)).collect();
            if !numbers.is_empty() {
                let at = self.choices.below(numbers.len());
                let container = *numbers.swap_remove(at).0;
                self.containers
                    .get_mut(&container)
                    .expect("it was just found")
                    .died = true;
                self.tell(Event::ContainerDied { container });
            }
        } else if !self.instances.is_empty() {
            let at = self.choices.below(self.instances.len());
            let (id, instance) = self
                .instances
                .iter_mut()
                .nth(at)
                .expect("it is below the number of them");
            instance.dead = true;
            let instance = id.clone();
            self.tell(Event::LaneDied {
                instance,
                lane: LaneId::HEAD,
                because: "killed".to_owned(),
            });
        }
        // What nobody knows of changes nothing.
        self.tell(Event::Stopped {
            instance: "i-999".parse().expect("an id"),
        });
        self.tell(Event::ContainerRemoved {
            container: ContainerNumber(999),
        });
    }

    fn change_slices(&mut self) {
        let mut migs = inventory(self.slices);
        let at = self.choices.below(self.slices.len() + 1);
        match (migs.slices.get_mut(at), self.choices.below(2)) {
            (Some(slice), 0) => slice.state = SliceState::Fenced,
            (Some(_), _) => {
                migs.slices.remove(at);
            }
            (None, _) => {}
        }
        self.migs = migs.clone();
        self.tell(Event::Inventory(migs));
    }

    /// Ends one of the things under way, well or badly.
    fn end_something(&mut self) {
        if self.open.is_empty() {
            return;
        }
        let at = self.choices.below(self.open.len());
        let open = self.open.remove(at);
        let fails = self.choices.one_in(6);
        match open {
            Open::ContainerStart(container) if fails => {
                self.containers.remove(&container);
                self.tell(Event::ContainerFailed {
                    container,
                    fault: Fault::whisk("no image"),
                });
            }
            Open::ContainerStart(container) => {
                self.container(container).listens = true;
                self.tell(Event::ContainerStarted { container });
            }
            Open::Initialize(container) => self.end_initialize(container, fails),
            Open::Run(activation) => self.end_run(activation, fails),
            Open::Pause(container) if fails => self.tell(Event::PauseFailed { container }),
            Open::Pause(container) => self.tell(Event::Paused { container }),
            Open::Resume(container) if fails => self.tell(Event::ResumeFailed { container }),
            Open::Resume(container) => {
                self.container(container).asleep = false;
                self.tell(Event::Resumed { container });
            }
            Open::Remove(container) => {
                self.containers.remove(&container);
                self.tell(Event::ContainerRemoved { container });
            }
            Open::Build(function) => {
                self.builds.remove(&function);
                let ids: Vec<&str> = components(&function.action).iter().map(|(id, _)| *id).collect();
                let result = if fails {
                    Err(Fault::developer("syntax error"))
                } else {
                    Ok(Box::new(chain(&function, &ids)))
                };
                self.tell(Event::Built { function, result });
            }
            Open::Profile(function) => {
                let (slice, _) = self.profiles.remove(&function).expect("it was asked for");
                let memory = self
                    .migs
                    .slices
                    .iter()
                    .find(|s| s.uuid == slice)
                    .map_or(0, |s| s.memory_bytes.0);
                let fitting = components(&function.action)
                    .iter()
                    .filter(|(_, mib)| mib << 20 < memory);
                let rows: Vec<String> = fitting
                    .map(|(id, mib)| format!("{id}={mib}/{}", mib / 10))
                    .collect();
                let rows: Vec<&str> = rows.iter().map(String::as_str).collect();
                let result = if fails {
                    Err(Fault::developer("out of memory"))
                } else {
                    Ok(Box::new(profile_rows(&rows)))
                };
                self.tell(Event::Profiled {
                    function,
                    slice,
                    result,
                });
            }
            Open::InstanceStart(instance) => {
                let known = self.instances.get_mut(&instance).expect("it is starting");
                if fails || known.dead {
                    self.instances.remove(&instance);
                    self.open
                        .retain(|open| *open != Open::InstanceStop(instance.clone()));
                    self.tell(Event::StartFailed {
                        instance,
                        fault: Fault::developer("no such module"),
                    });
                } else {
                    known.ready = true;
                    self.tell(Event::Ready { instance });
                }
            }
            Open::Evict(instance) => {
                let Some(known) = self.instances.get_mut(&instance) else {
                    return;
                };
                known.warm = !known.dead && !known.stopping;
                self.tell(Event::SwappedOut { instance });
            }
            Open::Wake(instance) => {
                let Some(known) = self.instances.get_mut(&instance) else {
                    return;
                };
                known.ready = !known.dead;
                if known.ready {
                    self.tell(Event::Ready { instance });
                }
            }
            Open::Share(instance) => {
                let Some(known) = self.instances.get_mut(&instance) else {
                    return;
                };
                known.asks = known.will_ask.pop_front().expect("it was told");
                self.tell(Event::Sharing { instance });
            }
            Open::Join(instance, lane) => {
                let Some(known) = self.instances.get_mut(&instance) else {
                    return;
                };
                if fails {
                    known.lose(lane);
                    let fault = Fault::developer("no such module");
                    self.tell(Event::JoinFailed { instance, fault });
                } else {
                    known.limit += 1;
                    self.tell(Event::Joined { instance });
                }
            }
            Open::Leave(instance, lane) => {
                let Some(known) = self.instances.get_mut(&instance) else {
                    return;
                };
                known.lose(lane);
                self.tell(Event::Left { instance });
            }
            Open::Turn(instance, lane, turn) => self.tell(Event::TurnReturned { instance, lane, turn }),
            Open::InstanceStop(instance) => {
                // Those that are in flight lose their connection, before or after.
                let gone = self.instances.remove(&instance).expect("it is stopping");
                self.open
                    .retain(|open| *open != Open::InstanceStart(instance.clone()));
                assert!(gone.stopping);
                self.tell(Event::Stopped { instance });
            }
        }
    }

    /// A lane that works on a shared slice asks for its turn.
    fn ask_for_a_turn(&mut self) {
        let at_work = |i: &Instance| i.ready && i.asks && !i.dead && !i.stopping && !i.runs.is_empty();
        let mut lanes: Vec<(InstanceId, LaneId)> = Vec::new();
        for (id, instance) in self.instances.iter().filter(|(_, i)| at_work(i)) {
            let idle = |lane: &LaneId| {
                let open = |open: &Open| matches!(open, Open::Turn(i, l, _) if i == id && l == lane);
                !instance.wanted.contains_key(lane) && !self.open.iter().any(open)
            };
            let its = instance.lanes.iter().map(|(lane, _)| *lane).filter(idle);
            lanes.extend(its.map(|lane| (id.clone(), lane)));
        }
        if lanes.is_empty() {
            return;
        }
        let at = self.choices.below(lanes.len());
        let (id, lane) = lanes.swap_remove(at);
        let instance = self.instances.get_mut(&id).expect("it was just found");
        instance.turns += 1;
        let turn = instance.turns;
        instance.wanted.insert(lane, turn);
        self.tell(Event::TurnWanted {
            instance: id,
            lane,
            turn,
        });
    }

    fn end_initialize(&mut self, number: ContainerNumber, fails: bool) {
        let container = self.container(number);
        let activation = *container.runs.first().expect("one activation initialises it");
        let died = container.died;
        if !fails && !died {
            self.container(number).initialized = true;
            self.open.push(Open::Run(activation));
            return self.tell(Event::Initialized { container: number });
        }
        let outcome = if self.choices.one_in(2) {
            Outcome::Returned {
                because: "503".to_owned(),
            }
        } else {
            let fault = Fault::developer("no main");
            Outcome::InitFailed { fault }
        };
        self.finish(activation, outcome);
    }

    fn end_run(&mut self, activation: ActivationId, fails: bool) {
        let place = self.activations[&activation].runs_in.clone().expect("it runs");
        let outcome = match &place {
            Place::Container(number) => {
                let died = self.container(*number).died;
                match (fails || died, self.choices.below(2)) {
                    (false, _) => Outcome::Answered,
                    (true, 0) => Outcome::Spoiled,
                    (true, _) => Outcome::Returned {
                        because: "connection refused".to_owned(),
                    },
                }
            }
            Place::Instance(id) => {
                let fault = Fault::new(Blame::Developer, "the connection broke");
                match self.instances.get(id) {
                    None => Outcome::Lost { fault },
                    Some(instance) if instance.dead || instance.stopping => Outcome::Lost { fault },
                    Some(_) if fails => {
                        let because = "503".to_owned();
                        [
                            Outcome::Spoiled,
                            Outcome::Returned { because },
                            Outcome::Lost { fault },
                        ][self.choices.below(3)]
                        .clone()
                    }
                    Some(_) => Outcome::Answered,
                }
            }
        };
        if let (Place::Instance(id), Outcome::Answered) = (place, &outcome) {
            self.observe(id);
        }
        self.finish(activation, outcome);
    }

    /// The components of an instance took as long as was measured, or not. What it is follows from what has
    /// happened so far, so that it takes no numbers from the rest.
    fn observe(&mut self, instance: InstanceId) {
        let of = components(&self.instances[&instance].function.of.action);
        let seed = self.said.len();
        for at in 0..seed % 6 {
            let factor = [1.0, 4.0, 0.2, 0.0, f64::NAN][(seed / 6 + at) % 5];
            let times = of
                .iter()
                .map(|(id, mib)| (id.parse().expect("an id"), Millis((mib / 10) as f64 * factor)));
            let mut times: BTreeMap<_, _> = times.collect();
            times.insert("nobody".parse().expect("an id"), Millis(1.0));
            let instance = instance.clone();
            self.tell(Event::Observed { instance, times });
        }
    }

    /// Times that were corrected by what was observed.
    pub(crate) fn drifts(&self) -> u64 {
        self.scheduler.accounts(self.now).counts().drifts.values().sum()
    }

    fn finish(&mut self, id: ActivationId, outcome: Outcome) {
        let activation = self.activations.get_mut(&id).expect("it was requested");
        match activation.runs_in.take().expect("it runs") {
            Place::Container(number) => {
                self.container(number).runs.remove(&id);
            }
            Place::Instance(instance) => {
                if let Some(instance) = self.instances.get_mut(&instance) {
                    instance.runs.remove(&id);
                }
            }
        }
        match outcome {
            Outcome::Answered | Outcome::Spoiled | Outcome::InitFailed { .. } => {
                self.activations.get_mut(&id).expect("it was requested").ends += 1;
            }
            Outcome::Returned { .. } | Outcome::Lost { .. } => {}
        }
        self.tell(Event::Finished {
            activation: id,
            outcome,
        });
    }

    /// Whether a replica comes or goes.
    fn moves(&self, instance: &InstanceId) -> bool {
        let of = |open: &Open| matches!(open, Open::Join(i, _) | Open::Leave(i, _) if i == instance);
        self.open.iter().any(of)
    }

    fn container(&mut self, number: ContainerNumber) -> &mut Container {
        self.containers
            .get_mut(&number)
            .expect("commands name containers that are there")
    }

    fn carry_out(&mut self, command: Command) {
        match command {
            Command::Build { function, memory, .. } => {
                assert!(
                    self.builds.insert(function.clone(), memory).is_none(),
                    "built twice at once"
                );
                self.open.push(Open::Build(function));
            }
            Command::Profile {
                function,
                slice,
                memory,
                ..
            } => {
                let before = self.profiles.insert(function.clone(), (slice, memory));
                assert!(before.is_none(), "measured twice at once");
                self.open.push(Open::Profile(function));
            }
            Command::Save(saved) => assert!(!saved.dag.nodes.is_empty()),
            Command::Start(start) => self.start(*start),
            Command::Route { activation, instance } => self.route(activation, &instance),
            Command::Evict { instance, .. } => {
                let known = self
                    .instances
                    .get_mut(&instance)
                    .expect("what is evicted is there");
                assert!(known.runs.is_empty(), "{instance} is evicted while it works");
                assert!(known.ready && !known.stopping && !known.warm);
                known.ready = false;
                known.wanted.clear();
                self.open
                    .retain(|open| !matches!(open, Open::Turn(of, ..) if *of == instance));
                self.open.push(Open::Evict(instance));
            }
            Command::Wake { instance, because } => {
                let known = self.instances.get_mut(&instance).expect("what is woken is there");
                assert!(known.warm && !known.stopping);
                known.warm = false;
                known.asks = because == WakeReason::Shared;
                let asks = known.asks;
                known.will_ask.iter_mut().for_each(|will_ask| *will_ask = asks);
                self.open.push(Open::Wake(instance));
            }
            Command::Share { instance, shared, .. } => {
                let known = self.instances.get_mut(&instance).expect("what shares is there");
                known.will_ask.push_back(shared);
                self.open.push(Open::Share(instance));
            }
            Command::Join(join) => {
                assert_eq!(AssignmentDocument::check(&join.assignment), Ok(()));
                let known = self
                    .instances
                    .get_mut(&join.instance)
                    .expect("what is joined is there");
                assert!(
                    known.ready && !known.stopping && !known.asks,
                    "{known:?} is joined"
                );
                let lanes = |assignment: &AssignmentDocument| -> Vec<(LaneId, SliceUuid)> {
                    assignment
                        .lanes()
                        .map(|lane| (lane.id, lane.mig.uuid.clone()))
                        .collect()
                };
                let slice = join
                    .assignment
                    .lane(join.lane)
                    .expect("its lane")
                    .mig
                    .uuid
                    .clone();
                known.lanes.push((join.lane, slice.clone()));
                let sorted: BTreeSet<_> = known.lanes.iter().cloned().collect();
                assert_eq!(lanes(&join.assignment), sorted.into_iter().collect::<Vec<_>>());
                known.slices.push(slice);
                known.memory.0 += join.memory.0;
                assert!(!self.moves(&join.instance), "one at a time");
                self.open.push(Open::Join(join.instance, join.lane));
            }
            Command::Leave(leave) => {
                let (instance, lane, assignment) = (leave.instance, leave.lane, leave.assignment);
                assert_eq!(AssignmentDocument::check(&assignment), Ok(()));
                let known = self.instances.get_mut(&instance).expect("what is left is there");
                assert!(assignment.lane(lane).is_none());
                assert_eq!(assignment.lanes().count(), known.lanes.len() - 1);
                known.limit -= 1;
                assert!(!self.moves(&instance), "one at a time");
                self.open.push(Open::Leave(instance, lane));
            }
            Command::GrantTurn { instance, lane, turn } => {
                let known = self
                    .instances
                    .get_mut(&instance)
                    .expect("whose turn it is, is there");
                assert_eq!(
                    known.wanted.remove(&lane),
                    Some(turn),
                    "granted what was not asked for"
                );
                self.open.push(Open::Turn(instance, lane, turn));
            }
            Command::Stop { instance, .. } => {
                let known = self
                    .instances
                    .get_mut(&instance)
                    .expect("what is stopped is there");
                assert!(!known.stopping, "{instance} is stopped twice");
                assert!(
                    known.runs.is_empty() || known.dead,
                    "{instance} is stopped while it works"
                );
                known.stopping = true;
                known.wanted.clear();
                self.open
                    .retain(|open| !matches!(open, Open::Turn(of, ..) if *of == instance));
                self.open.push(Open::InstanceStop(instance));
            }
            Command::StartContainer {
                container,
                purpose,
                memory,
                ..
            } => {
                let owner = match purpose {
                    Purpose::Action { activation } => Some(self.owner(activation)),
                    Purpose::StemCell { .. } => None,
                };
                let new = Container {
                    memory,
                    listens: false,
                    owner,
                    initialized: false,
                    runs: BTreeSet::new(),
                    asleep: false,
                    died: false,
                    removed_at: None,
                };
                assert!(
                    self.containers.insert(container, new).is_none(),
                    "a number is given once"
                );
                self.open.push(Open::ContainerStart(container));
            }
            Command::Run {
                activation,
                container,
                initialize,
                may_return,
                ..
            } => self.run_in(activation, container, initialize, may_return),
            Command::Pause { container } => {
                let known = self.container(container);
                assert!(
                    known.runs.is_empty() && !known.asleep && known.initialized,
                    "{known:?} is paused"
                );
                known.asleep = true;
                self.open.push(Open::Pause(container));
            }
            Command::Resume { container } => {
                assert!(self.container(container).asleep);
                assert!(
                    !self.open.contains(&Open::Pause(container)),
                    "resumed before it is paused"
                );
                self.open.push(Open::Resume(container));
            }
            Command::RemoveContainer {
                container, paused, ..
            } => {
                let now = self.now;
                let known = self.container(container);
                assert!(
                    known.listens && known.removed_at.is_none(),
                    "{known:?} is removed"
                );
                assert!(known.runs.is_empty(), "{known:?} is removed while it works");
                assert!(
                    paused || !known.asleep,
                    "{known:?} has to be resumed before it is removed"
                );
                known.removed_at = Some(now);
                let about = [Open::Pause(container), Open::Resume(container)];
                self.open.retain(|open| !about.contains(open));
                self.open.push(Open::Remove(container));
            }
            Command::Refuse { activation, because } => {
                assert!(!because.to_string().is_empty());
                let known = self.activations.get_mut(&activation).expect("it was requested");
                assert_eq!(known.runs_in, None, "refused while it runs");
                known.ends += 1;
            }
        }
    }

    fn owner(&self, activation: ActivationId) -> (String, String, u32) {
        let action = &self.activations[&activation].request.action;
        (
            action.namespace.clone(),
            action.identity.clone(),
            action.concurrency,
        )
    }

    fn run_in(&mut self, id: ActivationId, number: ContainerNumber, initialize: bool, may_return: bool) {
        let owner = self.owner(id);
        let container = self.container(number);
        assert!(
            container.listens && !container.asleep && container.removed_at.is_none(),
            "{container:?}"
        );
        if initialize {
            assert!(
                container.runs.is_empty() && !container.initialized,
                "/init comes once, and first"
            );
        } else {
            assert!(container.initialized, "/run comes after /init");
        }
        assert_eq!(
            *container.owner.get_or_insert_with(|| owner.clone()),
            owner,
            "containers are not shared"
        );
        assert!(container.runs.is_empty() || !may_return || owner.2 > 1);
        container.runs.insert(id);
        assert!(
            container.runs.len() <= owner.2 as usize,
            "more at once than allowed"
        );
        let activation = self.activations.get_mut(&id).expect("it was requested");
        assert_eq!(activation.ends, 0, "run after its end");
        assert_eq!(activation.runs_in, None, "run twice at once");
        activation.runs_in = Some(Place::Container(number));
        self.open.push(if initialize {
            Open::Initialize(number)
        } else {
            Open::Run(id)
        });
    }

    fn start(&mut self, start: Start) {
        let lanes = start.assignment.stages.iter().flat_map(|stage| &stage.lanes);
        let slices: Vec<SliceUuid> = lanes.map(|lane| lane.mig.uuid.clone()).collect();
        for slice in &slices {
            let known = self
                .migs
                .slices
                .iter()
                .find(|s| s.uuid == *slice)
                .expect("the slice is there");
            assert_ne!(known.state, SliceState::Fenced, "the slice is in order");
        }
        let new = Instance {
            function: start.function,
            memory: Bytes(start.memory.0 * slices.len() as u64),
            limit: start.assignment.stages.len() + 1,
            lanes: start
                .assignment
                .stages
                .iter()
                .flat_map(|stage| &stage.lanes)
                .map(|lane| (lane.id, lane.mig.uuid.clone()))
                .collect(),
            warm: false,
            will_ask: VecDeque::new(),
            wanted: BTreeMap::new(),
            turns: 0,
            asks: slices.iter().any(|slice| {
                let migs = &start.migs.slices;
                migs.iter()
                    .any(|s| s.uuid == *slice && s.state == SliceState::Shared)
            }),
            slices,
            ready: false,
            dead: false,
            stopping: false,
            runs: BTreeSet::new(),
        };
        assert!(
            self.instances.insert(start.instance.clone(), new).is_none(),
            "a name is given once"
        );
        self.open.push(Open::InstanceStart(start.instance));
    }

    fn route(&mut self, id: ActivationId, instance: &InstanceId) {
        let activation = self.activations.get_mut(&id).expect("it was requested");
        assert_eq!(activation.ends, 0, "run after its end");
        assert_eq!(activation.runs_in, None, "run twice at once");
        activation.runs_in = Some(Place::Instance(instance.clone()));
        let action = &activation.request.action;
        let known = self
            .instances
            .get_mut(instance)
            .expect("it is routed to what is there");
        assert!(
            known.ready && !known.stopping && !known.dead,
            "{known:?} serves nothing"
        );
        assert_eq!(
            known.function.namespace, action.namespace,
            "instances are not shared"
        );
        assert_eq!(known.function.of.action, action.name);
        assert_eq!(known.function.of.revision, action.revision);
        known.runs.insert(id);
        assert!(known.runs.len() <= known.limit, "more in flight than allowed");
        self.open.push(Open::Run(id));
    }

    /// What holds after every command.
    fn assert_lawful(&self) {
        let mut holders: BTreeMap<&SliceUuid, Vec<Option<&Instance>>> = BTreeMap::new();
        for instance in self.instances.values().filter(|i| !i.warm) {
            for slice in &instance.slices {
                holders.entry(slice).or_default().push(Some(instance));
            }
        }
        for (slice, _) in self.profiles.values() {
            holders.entry(slice).or_default().push(None);
        }
        let told_to_ask = |instance: &&Instance| *instance.will_ask.back().unwrap_or(&instance.asks);
        for (slice, holders) in holders {
            if holders.len() > 1 {
                let ask = holders
                    .iter()
                    .all(|holder| holder.as_ref().is_some_and(told_to_ask));
                assert!(ask, "{slice} is leased twice: {holders:?}");
            }
            let computing = self.open.iter().filter_map(|open| match open {
                Open::Turn(id, lane, _) => {
                    let instance = &self.instances[id];
                    let here = instance.lanes.iter().any(|(id, on)| id == lane && on == slice);
                    here.then_some(instance)
                }
                _ => None,
            });
            let computing: Vec<&Instance> = computing.collect();
            assert!(
                computing.len() <= 1,
                "{} lanes compute on {slice}",
                computing.len()
            );
            if let Some(one) = computing.first() {
                let mut others = holders
                    .iter()
                    .flatten()
                    .filter(|other| !std::ptr::eq(**other, *one));
                assert!(
                    others.all(|other| other.asks || other.stopping || !other.ready),
                    "a turn on {slice} is granted beside one that does not ask"
                );
            }
        }
        // A removal that hangs does not count for ever.
        let counts = |c: &&Container| {
            c.removed_at
                .is_none_or(|at| self.now.since(at) < Settings::default().removal_limit)
        };
        let containers = self
            .containers
            .values()
            .filter(counts)
            .map(|c| c.memory.0)
            .sum::<u64>();
        let instances = self
            .instances
            .values()
            .map(|instance| instance.memory.0)
            .sum::<u64>();
        let builds = self.builds.values().map(|memory| memory.0).sum::<u64>();
        let profiles = self.profiles.values().map(|(_, memory)| memory.0).sum::<u64>();
        let used = Bytes(containers + instances + builds + profiles);
        assert!(used <= self.budget, "{used} used of {}", self.budget);
        for (id, activation) in &self.activations {
            assert!(activation.ends <= 1, "{id} has ended twice");
        }
    }
}

fn stem_cells(choices: &mut Choices) -> Vec<StemCell> {
    let reactive = Reactive {
        min_count: 0,
        max_count: 2,
        ttl: Duration::from_secs(45),
        threshold: 1,
        increment: 1,
    };
    (0..choices.below(2))
        .map(|_| StemCell {
            kind: "nodejs:20".to_owned(),
            memory: Bytes::mib(128),
            initial_count: 2,
            reactive: choices.one_in(2).then(|| reactive.clone()),
        })
        .collect()
}
