//! Id, lock, edges, daemon, HTTP; until a signal, and then back in the opposite order.

use super::arguments::CommandLine;
use super::assign;
use super::edges::{self, EdgeSettings};
use crate::admin::Server;
use crate::bus::kafka::KafkaBus;
use crate::config::load::Configuration;
use crate::config::node::EngineKind;
use crate::config::{PipelineSettings, Settings};
use crate::container::ContainerEngine;
use crate::container::docker::{DockerEngine, DockerSettings};
use crate::container::process::ProcessEngine;
use crate::daemon::{Daemon, Edges};
use crate::pipeline::name_prefix;
use crate::run_directory::{self, RunDirectory};
use crate::store::couchdb::CouchStore;
use anyhow::Context;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::info;

/// Longest wait at the end for whoever still talks to the HTTP server.
const LAST: Duration = Duration::from_secs(2);

/// Runs the invoker until SIGTERM or SIGINT.
///
/// # Errors
/// Whatever keeps it from starting.
pub(super) async fn serve(
    command_line: &CommandLine,
    mut configuration: Configuration,
    mut edges: EdgeSettings,
) -> anyhow::Result<()> {
    // From here on a signal ends it in order, however far it has come.
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let started = async {
        let id = id(command_line, &configuration.zookeeper_hosts).await?;
        let identity = &mut configuration.settings.identity;
        identity.id = id;
        identity.unique_name.clone_from(&command_line.unique_name);
        identity.displayed_name.clone_from(&command_line.displayed_name);
        edges.docker.name_prefix = format!("{}_", name_prefix(identity));
        start(configuration, edges).await
    };
    let running = tokio::select! {
        started = started => started?,
        _ = interrupt.recv() => return Ok(()),
        _ = terminate.recv() => return Ok(()),
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    info!("stopping");
    running.stop().await;
    Ok(())
}

/// `--id`, else what ZooKeeper has for the name (P-05).
async fn id(command_line: &CommandLine, zookeeper: &str) -> anyhow::Result<u32> {
    match (command_line.id, &command_line.unique_name) {
        (Some(id), _) => Ok(id),
        (None, Some(name)) => Ok(assign::assign(zookeeper, name, command_line.overwrite_id).await?),
        (None, None) => {
            anyhow::bail!("this invoker has no id: give --id N, or --uniqueName NAME and ZOOKEEPER_HOSTS")
        }
    }
}

/// What is to be stopped.
struct Running {
    daemon: Daemon,
    server: tokio::task::JoinHandle<()>,
    stop_server: CancellationToken,
    /// Held until all has ended.
    _run: RunDirectory,
}

impl Running {
    async fn stop(self) {
        self.daemon.stop().await;
        self.stop_server.cancel();
        // Whoever keeps a connection open longer than that is not waited for.
        let _ = tokio::time::timeout(LAST, self.server).await;
    }
}

async fn start(configuration: Configuration, edges: EdgeSettings) -> anyhow::Result<Running> {
    let (state, run) = directories(&configuration)?;
    let settings = Settings {
        state_dir: state.clone(),
        pipelines: PipelineSettings {
            layers: run.layers(),
            ..configuration.settings.pipelines.clone()
        },
        ..configuration.settings.clone()
    };
    tell_limits(&settings);
    let edges = Edges {
        bus: Arc::new(KafkaBus::new(edges.kafka)?),
        store: Arc::new(CouchStore::open(edges.couchdb).await?),
        engine: engine(&configuration, edges.docker, &state, &run).await?,
        inventory: edges::inventory(&configuration)?.into(),
    };
    let decide = decide(&settings);
    let daemon = Daemon::start(edges, settings, decide).await?;
    let server = match Server::bind(configuration.admin).await {
        Ok(server) => server,
        Err(error) => {
            daemon.stop().await;
            return Err(error.into());
        }
    };
    let stop_server = CancellationToken::new();
    let serving = server.serve(daemon.operations().clone(), stop_server.clone());
    Ok(Running {
        server: tokio::spawn(serving),
        daemon,
        stop_server,
        _run: run,
    })
}

async fn engine(
    configuration: &Configuration,
    docker: DockerSettings,
    state: &Path,
    run: &RunDirectory,
) -> anyhow::Result<Arc<dyn ContainerEngine>> {
    Ok(match configuration.node.engine {
        EngineKind::Docker => Arc::new(DockerEngine::open(docker, run.docker_engine()).await?),
        EngineKind::Process => {
            Arc::new(ProcessEngine::open(edges::process(configuration, state, run)).await?)
        }
    })
}

/// A directory of this invoker's own for each purpose; the second is locked against another process with
/// the same id (N-33).
fn directories(configuration: &Configuration) -> anyhow::Result<(PathBuf, RunDirectory)> {
    let (state, run) = paths(configuration);
    std::fs::create_dir_all(&state)
        .with_context(|| format!("the state directory {} cannot be made", state.display()))?;
    Ok((state, RunDirectory::open(&run)?))
}

/// Where they are: for what must survive a restart, and for what runs.
pub(super) fn paths(configuration: &Configuration) -> (PathBuf, PathBuf) {
    let name = format!("invoker{}", configuration.settings.identity.id);
    let state = configuration.node.state_dir.join(&name);
    let run = match &configuration.node.run_dir {
        Some(given) => given.join(&name),
        None => {
            let root = nix::unistd::geteuid().is_root();
            let session = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
            run_directory::default_path(&name, root, session.as_deref(), &state)
        }
    };
    (state, run)
}

/// An operator who raised a limit on the controllers alone finds it here (D-34).
fn tell_limits(settings: &Settings) {
    let limits = &settings.limits;
    info!(
        memory_mb = %format_args!("{}..{}", limits.memory.min, limits.memory.max),
        timeout_ms = %format_args!("{}..{}", limits.timeout.min, limits.timeout.max),
        logs_mb = %format_args!("{}..{}", limits.logs.min, limits.logs.max),
        concurrency = %format_args!("{}..{}", limits.concurrency.min, limits.concurrency.max),
        payload_bytes = settings.payload.max.0,
        "limits of actions; the controllers' must be the same"
    );
}

/// What the scheduler is told.
fn decide(settings: &Settings) -> scheduler::Settings {
    let stem_cells = &settings.containers.stem_cells;
    let variance = u64::try_from(stem_cells.variance.as_millis()).unwrap_or(u64::MAX);
    let jitter = Duration::from_millis(rand::random_range(0..=variance));
    settings.pipelines.sharing.applied_to(scheduler::Settings {
        user_memory: settings.user_memory,
        pause_grace: settings.pool.pause_grace,
        idle_container: settings.pool.idle_container,
        stem_cells: settings.runtimes.stem_cells().collect(),
        stem_cell_delay: stem_cells.first_look,
        stem_cell_interval: stem_cells.interval + jitter,
        stem_cell_expirations: stem_cells.expirations,
        policy: settings.pipelines.policy.clone(),
        keep_alive: settings.pipelines.keep_alive,
        least_limit: Duration::from_millis(settings.limits.std.timeout),
        drift: settings.pipelines.drift,
        ..scheduler::Settings::default()
    })
}
