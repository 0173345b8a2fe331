//! Joins the parts, and starts and stops them in order. The one place that knows how.

use crate::activation::feed::Feed;
use crate::activation::resolve::Resolver;
use crate::activation::run::Runner;
use crate::admin::Operations;
use crate::blacklist::Blacklist;
use crate::bus::{self, Bus, TopicSpec};
use crate::completion::{Acks, Completer};
use crate::config::Settings;
use crate::container::{self, ContainerEngine};
use crate::dispatcher::{Dispatcher, Hands, Inbox, Message};
use crate::gpu::{self, GpuInventory};
use crate::health::{self, Health, Switch};
use crate::metrics;
use crate::pipeline::config_layer::{self, ConfigLayers};
use crate::pipeline::{Pipelines, name_prefix};
use crate::readiness::Readiness;
use crate::saved::{self, SavedState};
use crate::store::Store;
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
}

/// Longest clean-up at start (L-60).
const SWEEP_LIMIT: Duration = Duration::from_secs(30);
/// Longest flush of acks at the end (K-36).
const FLUSH_LIMIT: Duration = Duration::from_secs(3);

/// A running invoker.
#[derive(Debug)]
pub struct Daemon {
    inbox: Inbox,
    settings: Arc<Settings>,
    edges: Edges,
    operations: Operations,
    /// Ends what takes work in.
    intake: CancellationToken,
    intake_tasks: TaskTracker,
    /// Ends what tells others that we are there.
    presence: CancellationToken,
    presence_tasks: TaskTracker,
    work: TaskTracker,
    dispatcher: tokio::task::JoinHandle<()>,
}

impl Daemon {
    /// Starts everything; once this returns activations are taken in, and pings are sent.
    ///
    /// # Errors
    /// Whatever keeps it from starting; nothing is left running then.
    pub async fn start(edges: Edges, settings: Settings, decide: scheduler::Settings) -> Result<Self, Error> {
        metrics::configure(&settings.metrics);
        let settings = Arc::new(settings);
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

        let id = settings.identity.invoker_id(settings.user_memory);
        let (switch, readiness) = (Switch::default(), Readiness::default());
        let work = TaskTracker::new();
        let completer = Arc::new(Completer {
            acks: Acks::new(Arc::clone(&edges.bus), settings.topics.prefix.clone(), id.clone()),
            store: Arc::clone(&edges.store),
            tasks: work.clone(),
        });
        let blacklist = Arc::new(Blacklist::default());
        let resolver = Arc::new(Resolver::new(
            Arc::clone(&edges.store),
            Arc::clone(&settings),
            Arc::clone(&completer),
            Arc::clone(&blacklist),
        ));
        let hands = Arc::new(Hands {
            engine: Arc::clone(&edges.engine),
            runner: Runner::new(Arc::clone(&edges.engine), Arc::clone(&settings)),
            pipelines: Pipelines::new(Arc::clone(&edges.engine), layers, Arc::clone(&settings)),
            resolver: Arc::clone(&resolver),
            saved: saved.clone(),
            tasks: work.clone(),
            readiness: readiness.clone(),
            name_prefix: name_prefix(&settings.identity),
            api_host: settings.api_host.clone(),
            runtimes: settings.runtimes.clone(),
        });
        let (dispatcher, inbox) = Dispatcher::new(Scheduler::new(decide, Instant::ZERO), hands, migs);
        for saved in saved.read_all() {
            info!(function = %saved.function, "known from an earlier process");
            inbox.event(Event::Restored(Box::new(saved)));
        }
        let dispatcher = tokio::spawn(dispatcher.run());

        let (intake, intake_tasks) = (CancellationToken::new(), TaskTracker::new());
        let (fed, mut feeding) = mpsc::channel(1);
        let feed = Feed::new(Arc::clone(&edges.bus), topic.name, settings.peek());
        let consuming = feed.consuming();
        let (store, interval) = (Arc::clone(&edges.store), settings.blacklist_interval);
        intake_tasks.spawn(blacklist.run(store, interval, intake.clone()));
        intake_tasks.spawn(feed.run(fed, intake.clone()));
        let arrivals = inbox.clone();
        let resolving = work.clone();
        intake_tasks.spawn(async move {
            // As many are read at once as the feed has room for.
            while let Some(fed) = feeding.recv().await {
                let (resolver, arrivals) = (Arc::clone(&resolver), arrivals.clone());
                resolving.spawn(async move {
                    if let Some(job) = resolver.resolve(fed).await {
                        arrivals.tell(Message::Arrived(Box::new(job)));
                    }
                });
            }
        });
        let (presence, presence_tasks) = (CancellationToken::new(), TaskTracker::new());
        let health = Health::new(
            Arc::clone(&edges.bus),
            &settings.topics.prefix,
            &id,
            switch.clone(),
            readiness.clone(),
        );
        presence_tasks.spawn(health.run(consuming, presence.clone()));
        presence_tasks.spawn(health::watch_engine(
            Arc::clone(&edges.engine),
            readiness.clone(),
            presence.clone(),
        ));
        info!(invoker = %id, memory = %settings.user_memory, peek = settings.peek(), "started");
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
            dispatcher,
        })
    }

    pub fn inbox(&self) -> &Inbox {
        &self.inbox
    }

    /// What operators may see and do.
    pub fn operations(&self) -> &Operations {
        &self.operations
    }

    /// Stops in order: no new work, what runs may end, nothing is left, answers leave.
    pub async fn stop(self) {
        self.presence.cancel();
        self.presence_tasks.close();
        self.presence_tasks.wait().await;
        self.intake.cancel();
        self.intake_tasks.close();
        self.intake_tasks.wait().await;
        let drained = tokio::time::timeout(self.settings.grace, async {
            self.inbox.drain().await;
            self.work.close();
            self.work.wait().await;
        });
        if drained.await.is_err() {
            warn!(grace = ?self.settings.grace, left = self.work.len(), "the grace period is over");
            self.dispatcher.abort();
        }
        if let Err(error) = self.edges.engine.sweep().await {
            warn!(
                error = &error as &dyn std::error::Error,
                "something is left behind"
            );
        }
        self.edges.bus.close(FLUSH_LIMIT).await;
        info!("stopped");
    }
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
