//! Owns the scheduler: events in, commands out.
//!
//! One task, so no lock stands around the scheduler. Carrying out a command never waits: it spawns,
//! and what comes of it returns as a message.

mod carry_out;
mod instances;
mod stem_cell;

use crate::activation::run::{Ran, Runner};
use crate::activation::{Job, resolve::Resolver};
use crate::config::StemCellCheck;
use crate::container::{Container, ContainerEngine};
use crate::metrics;
use crate::pipeline::{Example, Instance, Pipelines};
use crate::readiness::Readiness;
use crate::runtimes::Runtimes;
use crate::saved::SavedState;
use proto::ffs::migs::MigsDocument;
use proto::id::{ActivationId, InstanceId};
use scheduler::accounting::Accounts;
use scheduler::decision::Decision;
use scheduler::event::Outcome;
use scheduler::scheduler::Scheduler;
use scheduler::view::View;
use scheduler::work::{ActionRevision, ContainerNumber};
use scheduler::{Event, Instant};
use serde::Serialize;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

/// How things stand, for the admin API.
#[derive(Clone, Debug, Serialize)]
pub struct Picture {
    #[serde(flatten)]
    pub view: View,
    /// GPU time and MIG time, and what instances went through.
    pub accounts: Accounts,
    /// Oldest first.
    pub decisions: Vec<Arc<Decision>>,
    /// Function → its newest instance, explained as text.
    pub explanations: BTreeMap<String, String>,
    /// Newest first; only the last [`REMOVALS_KEPT`].
    pub removals: Vec<Arc<Removal>>,
}

/// Between two looks for activations that have waited for so long (L-38).
const LOOK: Duration = Duration::from_secs(10);

/// How many removals are remembered one by one; all are counted.
pub const REMOVALS_KEPT: usize = 50;

/// An ordinary container that went, and why (O-13).
#[derive(Clone, Debug, Serialize)]
pub struct Removal {
    /// Since the daemon's start.
    pub at: Instant,
    /// None if it never listened.
    pub container: Option<String>,
    pub because: String,
}

/// What the dispatcher is told.
#[derive(Debug)]
pub enum Message {
    /// An activation that wants to run.
    Arrived(Box<Job>),
    /// Something happened that only the scheduler has to know.
    Event(Box<Event>),
    /// A container listens.
    Listening {
        number: ContainerNumber,
        container: Container,
    },
    /// All lanes of an instance are loaded.
    Ready(Arc<Instance>),
    /// A run is over; the job comes back if it was not answered.
    Ran {
        activation: ActivationId,
        /// None if it ran in an instance.
        container: Option<ContainerNumber>,
        ran: Ran,
    },
    /// A stem cell cannot be connected to any more (L-52).
    StemCellFails(ContainerNumber),
    /// Someone wants to see what is there.
    Look(oneshot::Sender<Picture>),
    /// Leave: see [`Event::Drain`]. Answered once nothing is left.
    Drain(oneshot::Sender<()>),
}

/// A way to tell the dispatcher something. Unbounded: what is told is bounded by the feed and by
/// what was asked for.
#[derive(Clone, Debug)]
pub struct Inbox(mpsc::UnboundedSender<Message>);

impl Inbox {
    /// A dispatcher that has ended needs to know nothing more.
    pub fn tell(&self, message: Message) {
        let _ = self.0.send(message);
    }

    pub fn event(&self, event: Event) {
        self.tell(Message::Event(Box::new(event)));
    }

    /// What is there now; none once the dispatcher has ended.
    pub async fn look(&self) -> Option<Picture> {
        let (answer, picture) = oneshot::channel();
        self.tell(Message::Look(answer));
        picture.await.ok()
    }

    /// Returns when everything is drained.
    pub async fn drain(&self) {
        let (answer, drained) = oneshot::channel();
        self.tell(Message::Drain(answer));
        let _ = drained.await; // also over if the dispatcher has ended before
    }
}

/// What commands are carried out with.
#[derive(Debug)]
pub struct Hands {
    pub engine: Arc<dyn ContainerEngine>,
    pub runner: Runner,
    pub pipelines: Pipelines,
    pub resolver: Arc<Resolver>,
    pub saved: SavedState,
    /// Told whether containers start.
    pub readiness: Readiness,
    /// How stem cells are looked after; none: they are not.
    pub stem_cell_check: Option<StemCellCheck>,
    pub tasks: TaskTracker,
    /// Breaks off whatever is being done; what was promised is answered by letting go of it.
    pub give_up: CancellationToken,
    /// Beginning of every container's name.
    pub name_prefix: String,
    pub api_host: String,
    pub runtimes: Runtimes,
}

/// The one task that touches the scheduler.
#[derive(Debug)]
pub struct Dispatcher {
    scheduler: Scheduler,
    hands: Arc<Hands>,
    started: tokio::time::Instant,
    inbox: Inbox,
    messages: mpsc::UnboundedReceiver<Message>,
    /// Activations that wait; one that runs is in the hands of its run.
    jobs: HashMap<ActivationId, Box<Job>>,
    containers: HashMap<ContainerNumber, Container>,
    /// Runs of each container that are under way.
    running: HashMap<ContainerNumber, u32>,
    /// Stem cells that nothing has been put into; each is looked after until it leaves this map.
    stem_cells: HashMap<ContainerNumber, DropGuard>,
    instances: HashMap<InstanceId, Arc<Instance>>,
    /// Starts under way, to break them off.
    starting: HashMap<InstanceId, CancellationToken>,
    /// Action and arguments of the newest revision of each FFS action seen.
    examples: HashMap<String, Arc<Example>>,
    migs: Arc<MigsDocument>,
    explanations: BTreeMap<String, String>,
    removals: VecDeque<Arc<Removal>>,
    drained: Option<oneshot::Sender<()>>,
}

impl Dispatcher {
    pub fn new(scheduler: Scheduler, hands: Arc<Hands>, migs: MigsDocument) -> (Self, Inbox) {
        let (sender, messages) = mpsc::unbounded_channel();
        let inbox = Inbox(sender);
        let dispatcher = Self {
            scheduler,
            hands,
            started: tokio::time::Instant::now(),
            inbox: inbox.clone(),
            messages,
            jobs: HashMap::new(),
            containers: HashMap::new(),
            running: HashMap::new(),
            stem_cells: HashMap::new(),
            instances: HashMap::new(),
            starting: HashMap::new(),
            examples: HashMap::new(),
            migs: Arc::new(migs.clone()),
            explanations: BTreeMap::new(),
            removals: VecDeque::new(),
            drained: None,
        };
        inbox.event(Event::Inventory(migs));
        (dispatcher, inbox)
    }

    /// Runs until everything is drained.
    pub async fn run(mut self) {
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            while let Some(command) = self.scheduler.next_command() {
                debug!(?command, "carry out");
                self.carry_out(command);
            }
            if self.is_empty()
                && let Some(drained) = self.drained.take()
            {
                let _ = drained.send(()); // who asked may have given up
                return;
            }
            let deadline = self.scheduler.deadline().map(|at| self.started + at.0);
            let message = tokio::select! {
                message = self.messages.recv() => message,
                () = until(deadline) => Some(Message::Event(Box::new(Event::Tick))),
                _ = look.tick() => {
                    self.warn_of_waiting();
                    continue;
                }
            };
            match message {
                Some(message) => self.take(message),
                None => return,
            }
        }
    }

    /// Names who has waited longest, of those that have waited for long (L-38).
    fn warn_of_waiting(&self) {
        if self.jobs.is_empty() {
            return;
        }
        let View {
            queue, containers, ..
        } = self.scheduler.view();
        if let Some(first) = queue.first().filter(|first| first.age >= LOOK) {
            let (waiting, wanted) = containers.waiting;
            warn!(
                activation = first.activation, action = first.action, namespace = first.namespace,
                memory = %first.memory, age = ?first.age, waits = first.waits, waiting, %wanted,
                "no container takes the activation that has waited longest"
            );
        }
    }

    fn is_empty(&self) -> bool {
        self.jobs.is_empty()
            && self.containers.is_empty()
            && self.instances.is_empty()
            && self.starting.is_empty()
            && self.hands.runner.running() == 0
    }

    fn take(&mut self, message: Message) {
        let now = Instant(self.started.elapsed());
        let event = match message {
            Message::Arrived(job) => match self.admit(job) {
                Some(event) => event,
                None => return,
            },
            Message::Event(event) => {
                self.note(&event);
                *event
            }
            Message::Listening { number, container } => {
                self.containers.insert(number, container);
                Event::ContainerStarted { container: number }
            }
            Message::Ready(instance) => {
                let id = instance.id().clone();
                let stop = self.starting.remove(&id);
                self.instances.insert(id.clone(), instance);
                if stop.is_some_and(|stop| stop.is_cancelled()) {
                    // Its start had ended when it was to be broken off.
                    self.stop(id, "it became ready while it was to stop");
                    return;
                }
                Event::Ready { instance: id }
            }
            Message::StemCellFails(number) => {
                if !self.stem_cells.contains_key(&number) {
                    return; // taken meanwhile: its run will show
                }
                let event = Event::ContainerDied { container: number };
                self.note(&event);
                event
            }
            Message::Ran {
                activation,
                container,
                ran,
            } => {
                if let Some(container) = container
                    && let Some(runs) = self.running.get_mut(&container)
                {
                    *runs -= 1;
                    if *runs == 0 {
                        self.running.remove(&container);
                    }
                }
                if let Outcome::Returned { .. } = ran.outcome {
                    metrics::rescheduled();
                }
                if let Some(job) = ran.job {
                    self.jobs.insert(activation, job);
                }
                Event::Finished {
                    activation,
                    outcome: ran.outcome,
                }
            }
            Message::Look(answer) => {
                let _ = answer.send(self.picture()); // who asked may have left
                return;
            }
            Message::Drain(done) => {
                self.drained = Some(done);
                Event::Drain
            }
        };
        self.scheduler.handle(event, now);
    }

    fn picture(&self) -> Picture {
        Picture {
            view: self.scheduler.view(),
            accounts: self.scheduler.accounts(Instant(self.started.elapsed())),
            decisions: self.scheduler.decisions().iter().cloned().collect(),
            explanations: self.explanations.clone(),
            removals: self.removals.iter().cloned().collect(),
        }
    }

    fn admit(&mut self, job: Box<Job>) -> Option<Event> {
        let activation = job.id();
        if self.jobs.contains_key(&activation) {
            warn!(transid = %job.message.transid, %activation, "an activation with this id waits already; the second one is refused");
            let hands = Arc::clone(&self.hands);
            self.hands.tasks.spawn(async move {
                let fault = scheduler::fault::Fault::whisk(format!("activation id {activation} is in use"));
                hands.runner.refuse(*job, fault, false).await;
            });
            return None;
        }
        if let Some(example) = Example::of(&job) {
            let known = self.examples.get(&example.revision.action);
            if known.is_none_or(|known| known.revision != example.revision) {
                self.examples
                    .insert(example.revision.action.clone(), Arc::new(example));
            }
        }
        let request = job.request();
        self.jobs.insert(activation, job);
        Some(Event::Request(Box::new(request)))
    }

    /// Lets go of what an event says is gone.
    fn note(&mut self, event: &Event) {
        match event {
            Event::Inventory(migs) => self.migs = Arc::new(migs.clone()),
            Event::ContainerDied { container } if self.stem_cells.remove(container).is_some() => {
                metrics::container_health_failed("prewarm");
            }
            Event::ContainerRemoved { container } | Event::ContainerFailed { container, .. } => {
                self.containers.remove(container);
                self.stem_cells.remove(container);
            }
            Event::StartFailed { instance, .. } | Event::Stopped { instance } => {
                self.starting.remove(instance);
                self.instances.remove(instance);
            }
            _ => {}
        }
    }

    /// Action and arguments of a revision, if an activation of it was seen.
    fn example(&self, function: &ActionRevision) -> Option<Arc<Example>> {
        let example = self.examples.get(&function.action)?;
        (example.revision == *function).then(|| Arc::clone(example))
    }
}

async fn until(deadline: Option<tokio::time::Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
