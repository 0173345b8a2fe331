//! Joins the parts, and starts and stops them in order. The one place that knows how.

use crate::activation::feed::{Fed, Feed, FeedStop};
use crate::activation::resolve::Resolver;
use crate::activation::room::{Room, Rooms};
use crate::activation::run::Runner;
use crate::admin::Operations;
use crate::blacklist::Blacklist;
use crate::bus::{self, Bus, TopicSpec};
use crate::completion::{Acks, Completer, Events, Outbox, Owed};
use crate::config::Settings;
use crate::container::{self, ContainerEngine};
use crate::dispatcher::{Dispatcher, Hands, Inbox, Message};
use crate::gpu::{self, GpuInventory};
use crate::health::{self, Health, Switch};
use crate::journal::{self, Journal};
use crate::metrics;
use crate::pipeline::config_layer::{self, ConfigLayers};
use crate::pipeline::{Pipelines, name_prefix};
use crate::readiness::Readiness;
use crate::saved::{self, SavedState};
use crate::store::Store;
use proto::ffs::migs::MigsDocument;
use scheduler::scheduler::Scheduler;
use scheduler::{Event, Instant};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

/// The four edges, whichever implementation each has.
#[derive(Clone, Debug)]
pub struct Edges {
    pub bus: Arc<dyn Bus>,
    pub store: Arc<dyn Store>,
    pub engine: Arc<dyn ContainerEngine>,
    pub inventory: Arc<dyn GpuInventory>,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Bus(#[from] bus::Error),
    #[error(transparent)]
    Journal(#[from] journal::Error),
    #[error("what an earlier process left could not be removed")]
    Sweep(#[source] container::Error),
    #[error("what an earlier process left did not go within {0:?}")]
    SweepTimedOut(Duration),
    #[error(transparent)]
    Layers(#[from] config_layer::Error),
    #[error(transparent)]
    Saved(#[from] saved::Error),
    #[error(transparent)]
    Gpu(#[from] gpu::Error),
    #[error("a thread to watch the GPUs could not be started")]
    Thread(#[source] std::io::Error),
}

/// Longest clean-up at start (L-60).
const SWEEP_LIMIT: Duration = Duration::from_secs(30);
/// How long each step of the end may take besides the grace period, also with bus, store and containers
/// away (N-30).
const FAREWELL_LIMIT: Duration = Duration::from_secs(1);
const CLEAN_UP_LIMIT: Duration = Duration::from_secs(3);
/// Longest flush of acks and records at the end (K-36).
const FLUSH_LIMIT: Duration = Duration::from_secs(3);

/// A running invoker.
#[derive(Debug)]
pub struct Daemon {
    inbox: Inbox,
    settings: Arc<Settings>,
    edges: Edges,
    operations: Operations,
    /// Ends what takes work in.
    intake: FeedStop,
    intake_tasks: TaskTracker,
    /// Ends what tells others that we are there.
    presence: CancellationToken,
    presence_tasks: TaskTracker,
    work: TaskTracker,
    /// Breaks off what the work is still at when the grace period is over.
    give_up: CancellationToken,
    dispatcher: tokio::task::JoinHandle<()>,
    completer: Arc<Completer>,
    journal: Arc<Journal>,
}

impl Daemon {
    /// Starts everything; once this returns activations are taken in, and pings are sent.
    ///
    /// # Errors
    /// Whatever keeps it from starting; nothing is left running then.
    pub async fn start(edges: Edges, settings: Settings, decide: scheduler::Settings) -> Result<Self, Error> {
        metrics::configure(&settings.metrics);
        let settings = Arc::new(settings);
        // Before anything of another process with this id is touched (N-33).
        let journal = Arc::new(Journal::open(&settings.journal_dir(), settings.journal)?);
        let topic = activation_topic(&settings);
        edges.bus.ensure_topic(&topic).await?;
        match tokio::time::timeout(SWEEP_LIMIT, edges.engine.sweep()).await {
            Ok(swept) => swept.map_err(Error::Sweep)?,
            Err(_) => return Err(Error::SweepTimedOut(SWEEP_LIMIT)),
        }
        let layers = ConfigLayers::open(settings.pipelines.layers.clone())?;
        let saved = SavedState::open(&settings.state_dir)?;
        let migs = edges.inventory.read()?;
        info!(slices = migs.slices.len(), source = ?migs.source, "inventory");
        let known = migs.clone();

        let id = settings.identity.invoker_id(settings.user_memory);
        let (switch, readiness) = (Switch::default(), Readiness::default());
        let (work, give_up) = (TaskTracker::new(), CancellationToken::new());
        let completer = Arc::new(Completer::new(
            Acks::new(settings.topics.prefix.clone(), id.clone()),
            Events::new(settings.topics.events.clone(), id.clone()),
            settings.records,
            Duration::from_millis(settings.limits.timeout.max),
            Arc::clone(&journal),
            Outbox::new(
                Arc::clone(&edges.bus),
                Arc::clone(&edges.store),
                Arc::clone(&journal),
                readiness.clone(),
            ),
        ));
        let unfinished = journal.unfinished()?;
        completer.recover(&unfinished);
        let blacklist = Arc::new(Blacklist::default());
        let rooms = Arc::new(Rooms::new(settings.peek(), !migs.slices.is_empty()));
        let resolver = Arc::new(Resolver::new(
            Arc::clone(&edges.store),
            Arc::clone(&settings),
            Arc::clone(&completer),
            Arc::clone(&blacklist),
            Arc::clone(&rooms),
        ));
        let hands = Arc::new(Hands {
            engine: Arc::clone(&edges.engine),
            runner: Runner::new(Arc::clone(&edges.engine), Arc::clone(&settings)),
            pipelines: Pipelines::new(Arc::clone(&edges.engine), layers, Arc::clone(&settings)),
            resolver: Arc::clone(&resolver),
            saved: saved.clone(),
            stem_cell_check: settings.pool.stem_cell_check,
            tasks: work.clone(),
            readiness: readiness.clone(),
            give_up: give_up.clone(),
            name_prefix: name_prefix(&settings.identity),
            api_host: settings.api_host.clone(),
            runtimes: settings.runtimes.clone(),
        });
        let (dispatcher, inbox) = Dispatcher::new(Scheduler::new(decide, Instant::ZERO), hands, migs);
        let (presence, presence_tasks) = (CancellationToken::new(), TaskTracker::new());
        watch_slices(&edges.inventory, known, &inbox, &presence)?;
        for saved in saved.read_all() {
            info!(function = %saved.function, "known from an earlier process");
            inbox.event(Event::Restored(Box::new(saved)));
        }
        let dispatcher = tokio::spawn(dispatcher.run());

        let (intake, intake_tasks) = (FeedStop::default(), TaskTracker::new());
        let (fed, mut feeding) = mpsc::channel::<Fed>(1);
        let feed = Feed::new(
            Arc::clone(&edges.bus),
            Arc::clone(&journal),
            topic.name,
            rooms,
            settings.feed,
            unfinished.waiting,
        );
        let consuming = feed.consuming();
        let (stop_feed, promises) = (intake.clone(), Arc::clone(&completer));
        intake_tasks.spawn(async move {
            for message in feed.run(fed, stop_feed).await {
                // Let go, it is answered or kept for the next start, as the settings say.
                drop(Owed::new(Arc::new(message), Room::none(), Arc::clone(&promises)));
            }
        });
        let arrivals = inbox.clone();
        let (resolving, given_up) = (work.clone(), give_up.clone());
        intake_tasks.spawn(async move {
            // As many are read at once as the feed has room for.
            while let Some(fed) = feeding.recv().await {
                let (resolver, arrivals, given_up) =
                    (Arc::clone(&resolver), arrivals.clone(), given_up.clone());
                resolving.spawn(async move {
                    tokio::select! {
                        () = given_up.cancelled() => {}
                        job = resolver.resolve(fed) => {
                            if let Some(job) = job {
                                arrivals.tell(Message::Arrived(Box::new(job)));
                            }
                        }
                    }
                });
            }
        });
        let health = Health::new(
            Arc::clone(&edges.bus),
            &settings.topics.prefix,
            &id,
            switch.clone(),
            readiness.clone(),
        );
        presence_tasks.spawn(health.run(consuming, presence.clone()));
        let (store, interval) = (Arc::clone(&edges.store), settings.blacklist_interval);
        presence_tasks.spawn(blacklist.run(store, interval, presence.clone()));
        presence_tasks.spawn(health::watch_engine(
            Arc::clone(&edges.engine),
            readiness.clone(),
            presence.clone(),
        ));
        let smallest = settings.limits.memory.min.max(1);
        info!(
            invoker = %id,
            memory = %settings.user_memory,
            containers = settings.user_memory.as_mib() / smallest,
            peek = settings.peek(),
            "started; all containers together may use this memory (user-memory), which is enough for so many of {smallest} MB"
        );
        Ok(Self {
            operations: Operations {
                id,
                inbox: inbox.clone(),
                switch,
                readiness,
                exposes_metrics: settings.metrics.exposed,
            },
            inbox,
            settings,
            edges,
            intake,
            intake_tasks,
            presence,
            presence_tasks,
            work,
            give_up,
            dispatcher,
            completer,
            journal,
        })
    }

    pub fn inbox(&self) -> &Inbox {
        &self.inbox
    }

    /// What operators may see and do.
    pub fn operations(&self) -> &Operations {
        &self.operations
    }

    /// What is written down, for metrics.
    pub fn journal(&self) -> &Journal {
        &self.journal
    }

    /// Stops in order, and within the grace period and some seconds, whatever is away (N-30, N-31).
    pub async fn stop(self) {
        // 1. The controller stops choosing us.
        self.presence.cancel();
        self.presence_tasks.close();
        let _ = tokio::time::timeout(FAREWELL_LIMIT, self.presence_tasks.wait()).await;
        // 2. Nothing new comes in; what was accepted may end, or its grace does.
        self.intake.reading.cancel();
        self.intake_tasks.close();
        let ended = tokio::time::timeout(self.settings.grace, async {
            self.intake_tasks.wait().await;
            self.completer.idle().await;
        });
        if ended.await.is_err() {
            warn!(grace = ?self.settings.grace, left = self.completer.open(), "the grace period is over");
        }
        // 3. What is left is answered, or kept for the next start.
        self.completer.leave();
        self.intake.handing_over.cancel();
        let _ = tokio::time::timeout(FAREWELL_LIMIT, self.intake_tasks.wait()).await;
        if self.completer.open() == 0 {
            let _ = tokio::time::timeout(CLEAN_UP_LIMIT, self.inbox.drain()).await;
        }
        self.give_up.cancel();
        self.dispatcher.abort();
        self.work.close();
        let _ = tokio::time::timeout(FAREWELL_LIMIT, self.work.wait()).await;
        // 4. Answers leave, or wait on disk; no container outlives us.
        let cleaned = tokio::time::timeout(CLEAN_UP_LIMIT, self.edges.engine.sweep());
        let ((), cleaned) = tokio::join!(self.completer.outbox().flush(FLUSH_LIMIT), cleaned);
        match cleaned {
            Ok(Ok(())) => {}
            Ok(Err(error)) => warn!(
                error = &error as &dyn std::error::Error,
                "something is left behind"
            ),
            Err(_) => warn!(limit = ?CLEAN_UP_LIMIT, "containers did not go in time"),
        }
        self.edges.bus.close(FAREWELL_LIMIT).await;
        self.journal.close();
        info!("stopped");
    }
}

/// Tells the scheduler whenever the slices change. A thread of its own, which nobody waits for: drivers
/// may take their time.
fn watch_slices(
    inventory: &Arc<dyn GpuInventory>,
    known: MigsDocument,
    inbox: &Inbox,
    stop: &CancellationToken,
) -> Result<(), Error> {
    let (inventory, inbox, stop) = (Arc::clone(inventory), inbox.clone(), stop.clone());
    std::thread::Builder::new()
        .name("inventory".to_owned())
        .spawn(move || inventory.watch(known, &stop, &mut |migs| inbox.event(Event::Inventory(migs))))
        .map_err(Error::Thread)?;
    Ok(())
}

/// Topic `invokerN` (K-02 … K-07).
fn activation_topic(settings: &Settings) -> TopicSpec {
    let mut config = settings.topics.config.clone();
    let largest = settings.payload.largest_message().0.to_string();
    config.insert("max.message.bytes".to_owned(), largest);
    TopicSpec {
        name: settings.activation_topic(),
        partitions: settings.topics.partitions,
        replication: settings.topics.replication,
        config,
    }
}
