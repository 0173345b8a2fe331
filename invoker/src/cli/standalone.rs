//! Everything in one process: embedded bus and store, the REST API for `wsk`, simulated slices, and
//! the invoker itself.

use super::GpuArguments;
use crate::admin;
use crate::bus::embedded::EmbeddedBus;
use crate::config::node::InventoryKind;
use crate::config::{
    ContainerSettings, FeedSettings, Identity, JournalSettings, MetricsSettings, ParameterKeys,
    PayloadLimits, PipelineSettings, PoolSettings, RecordSettings, Settings, SharingSettings, TopicSettings,
};
use crate::container::process::{ProcessConfig, ProcessEngine};
use crate::daemon::{Daemon, Edges};
use crate::gpu::simulated::Host;
use crate::gpu::topology::Topology;
use crate::run_directory::{self, RunDirectory};
use crate::runtimes::Runtimes;
use crate::standalone::controller::{self, Controller};
use crate::standalone::http::Api;
use crate::standalone::key::Key;
use crate::store::embedded::{EmbeddedStore, Retention};
use anyhow::Context;
use proto::unit::Bytes;
use proto::whisk::limits::{Bounds, SystemLimits};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Run everything in one process: what a newcomer tries first
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Where the REST API for wsk listens; the status page is at /status
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:3233")]
    listen: SocketAddr,
    /// Key of the namespace guest: a UUID, a colon, 64 letters and digits [default: kept in the state directory]
    #[arg(long, value_name = "KEY", env = "FFS_AUTH", hide_env_values = true)]
    auth: Option<Key>,
    /// What must survive a restart [default: /var/lib/ffs-invoker, or ~/.local/state/ffs-invoker]
    #[arg(long, value_name = "DIRECTORY")]
    state: Option<PathBuf>,
    /// What need not: config layers and sockets [default: /run/ffs-invoker, or $XDG_RUNTIME_DIR/ffs-invoker]
    #[arg(long, value_name = "DIRECTORY")]
    run: Option<PathBuf>,
    #[command(flatten)]
    gpus: GpuArguments,
    /// Memory of all containers together [default: three quarters of the host's]
    #[arg(long, value_name = "SIZE", value_parser = crate::config::size::parse)]
    user_memory: Option<Bytes>,
    /// Seconds until an idle pipeline is stopped
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    keep_alive: u64,
    /// Scheduling policy of functions that name none
    #[arg(long, value_name = "NAME", default_value = "fluidfaas")]
    policy: String,
    /// Python interpreter with the package FluidFaaS
    #[arg(long, value_name = "FILE", default_value = "python3")]
    python: PathBuf,
    /// The ffs-runtime program [default: beside this one]
    #[arg(long, value_name = "FILE")]
    runtime: Option<PathBuf>,
}

/// The GPU of a newcomer: one A100 cut as in the paper.
const TOPOLOGY: &str = "[4g.40gb+2g.20gb+1g.10gb]@A100-80GB";
/// How long running activations may go on after a signal.
const GRACE: Duration = Duration::from_secs(10);

pub(super) fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    super::log::start();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(serve(arguments))?;
    Ok(ExitCode::SUCCESS)
}

async fn serve(arguments: Arguments) -> anyhow::Result<()> {
    let host = Host::read();
    let listener = crate::standalone::listen(arguments.listen).await?;
    let (state, run) = directories(&arguments)?;
    let run = RunDirectory::open(&run)?;
    let settings = settings(&arguments, &host, &state, &run)?;
    anyhow::ensure!(
        scheduler::policy::policies()
            .iter()
            .any(|policy| policy.name() == arguments.policy),
        "policy {:?} is not known: `ffs-invoker policies` lists those that are",
        arguments.policy
    );
    let mut gpus = arguments.gpus.clone();
    if gpus.inventory.is_none_or(|kind| kind == InventoryKind::Simulated) && gpus.topology.is_none() {
        gpus.topology = TOPOLOGY.parse::<Topology>().ok();
    }
    let inventory: Arc<dyn crate::gpu::GpuInventory> = gpus.inventory(&host)?.into();
    let engine = ProcessEngine::open(process_config(&arguments, &state, &run)).await?;
    let edges = Edges {
        bus: Arc::new(EmbeddedBus::open(&state.join("bus.redb"))?),
        store: Arc::new(EmbeddedStore::open(
            &state.join("store.redb"),
            Retention::default(),
        )?),
        engine: Arc::new(engine),
        inventory,
    };
    let key = match &arguments.auth {
        Some(key) => key.clone(),
        None => Key::kept_in(&state.join("auth"))?,
    };
    let mut control = controller::Settings::new(key);
    control.limits = settings.limits;
    let decide = scheduler::Settings {
        user_memory: settings.user_memory,
        policy: arguments.policy.clone(),
        keep_alive: Duration::from_secs(arguments.keep_alive),
        ..scheduler::Settings::default()
    };
    let controller = Controller::start(Arc::clone(&edges.bus), Arc::clone(&edges.store), control).await?;
    let daemon = Daemon::start(edges, settings, decide).await?;

    let address = listener.local_addr()?;
    println!("OpenWhisk API   http://{address}");
    println!("Status page     http://{address}/status");
    match &arguments.auth {
        Some(_) => println!("Key             as given"),
        None => println!("Key             in {}", state.join("auth").display()),
    }
    println!("Ready.");
    let app = Api::new(Arc::clone(&controller))
        .router()
        .merge(admin::router(daemon.operations().clone()));
    let stop = CancellationToken::new();
    let stopped = {
        let (stop, controller) = (stop.clone(), Arc::clone(&controller));
        async move {
            stop.cancelled().await;
            controller.close().await;
        }
    };
    let serving = tokio::spawn(
        axum::serve(listener, app)
            .with_graceful_shutdown(stopped)
            .into_future(),
    );
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    tracing::info!("stopping");
    stop.cancel();
    daemon.stop().await;
    // Whoever keeps a connection open longer than that is not waited for.
    let _ = tokio::time::timeout(Duration::from_secs(1), serving).await;
    Ok(())
}

fn settings(
    arguments: &Arguments,
    host: &Host,
    state: &Path,
    run: &RunDirectory,
) -> anyhow::Result<Settings> {
    let budget = arguments.user_memory.unwrap_or(Bytes(host.memory.0 / 4 * 3));
    anyhow::ensure!(
        budget >= Bytes::mib(128),
        "--user-memory {budget} is too little: the smallest action has 128 MiB"
    );
    let system = SystemLimits::default();
    Ok(Settings {
        identity: Identity {
            id: 0,
            unique_name: Some("standalone".to_owned()),
            ..Identity::default()
        },
        user_memory: budget,
        limits: SystemLimits {
            memory: Bounds {
                max: budget.as_mib(),
                ..system.memory
            },
            concurrency: Bounds { min: 1, max: 500 },
            ..system
        },
        namespace_limits: proto::whisk::limits::UserLimits::default(),
        payload: PayloadLimits::default(),
        pool: PoolSettings::default(),
        containers: ContainerSettings::default(),
        pipelines: PipelineSettings {
            policy: arguments.policy.clone(),
            sharing: SharingSettings::default(),
            drift: scheduler::drift::DriftSettings::default(),
            keep_alive: Duration::from_secs(arguments.keep_alive),
            weights: Bytes(host.memory.0 / 16),
            layers: run.layers(),
        },
        runtimes: Runtimes::built_in(),
        topics: TopicSettings::default(),
        feed: FeedSettings::default(),
        records: RecordSettings::default(),
        parameter_keys: ParameterKeys::default(),
        metrics: MetricsSettings {
            exposed: true,
            tags: true,
            logs: false,
        },
        blacklist_interval: Duration::from_secs(300),
        api_host: format!("http://{}", arguments.listen),
        state_dir: state.to_owned(),
        journal: JournalSettings {
            keep_on_stop: true,
            ..JournalSettings::default()
        },
        grace: GRACE,
    })
}

fn process_config(arguments: &Arguments, state: &Path, run: &RunDirectory) -> ProcessConfig {
    let mut config = ProcessConfig::new(run.process_engine(), state.join("scratch"));
    config.python.clone_from(&arguments.python);
    if let Some(runtime) = &arguments.runtime {
        config.runtime.clone_from(runtime);
    }
    config
}

/// State and run directory, made if need be.
fn directories(arguments: &Arguments) -> anyhow::Result<(PathBuf, PathBuf)> {
    let root = nix::unistd::geteuid().is_root();
    let variable = |name: &str| {
        std::env::var_os(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    let state = match (&arguments.state, root, variable("HOME")) {
        (Some(given), _, _) => std::path::absolute(given)?,
        (None, true, _) => PathBuf::from("/var/lib/ffs-invoker"),
        (None, false, Some(home)) => home.join(".local/state/ffs-invoker"),
        (None, false, None) => anyhow::bail!("there is no home directory to keep state in: give --state"),
    };
    let run = match &arguments.run {
        Some(given) => std::path::absolute(given)?,
        None => {
            run_directory::default_path("standalone", root, variable("XDG_RUNTIME_DIR").as_deref(), &state)
        }
    };
    std::fs::create_dir_all(&state)
        .with_context(|| format!("directory {} cannot be made", state.display()))?;
    Ok((state, run))
}
