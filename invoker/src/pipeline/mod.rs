//! A placement becomes a running instance: built and profiled once, started as a whole, stopped
//! without a trace. Which placement, and when, is decided elsewhere.

pub mod build;
pub mod start;
pub mod replicas;
pub mod instance;
pub mod config_layer;
pub mod control;
#[cfg(test)]
mod sample;

pub use instance::{Instance, Report, Reporter};

use crate::activation::{Executable, Job, run};
use crate::config::{Identity, Settings};
use crate::container::{ContainerEngine, ContainerSpec, LaneSpec, SliceAccess, SliceLimits};
use crate::weights::WeightStore;
use config_layer::ConfigLayers;
use proto::ffs::migs::{MigsDocument, Slice};
use proto::unit::Bytes;
use proto::whisk::activation_message::ActivationMessage;
use scheduler::work::ActionRevision;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Lanes run as users from here up, one per instance (decision of the layout: no tenant is another's user).
const FIRST_UID: u32 = 200_000;
const UIDS: u32 = 60_000;

/// An activation's action and arguments, kept for BUILDDAG, profiling and starts.
#[derive(Debug)]
pub struct Example {
    pub revision: ActionRevision,
    pub executable: Arc<Executable>,
    /// None for an instance that is kept although no activation of it was seen yet.
    pub message: Option<Arc<ActivationMessage>>,
}

impl Example {
    /// None for an ordinary action.
    pub fn of(job: &Job) -> Option<Self> {
        matches!(job.executable.ffs, Some(Ok(_))).then(|| Self {
            revision: job.revision(),
            executable: Arc::clone(&job.executable),
            message: Some(Arc::clone(&job.message)),
        })
    }

    /// Body of `/init`.
    fn init_body(&self) -> Vec<u8> {
        let deadline = run::deadline(self.executable.time_limit());
        run::init_body(self.message.as_deref(), &self.executable, deadline)
    }

    /// What components are run with: the annotation's `example`, else the activation's arguments.
    fn arguments(&self) -> serde_json::Value {
        let declared = match &self.executable.ffs {
            Some(Ok(annotation)) => annotation.example.clone(),
            Some(Err(_)) | None => None,
        };
        let content = self.message.as_ref().and_then(|message| message.content.as_ref());
        match (declared, content) {
            (Some(example), _) => serde_json::Value::Object(example),
            (None, Some(content)) => content.decode().unwrap_or_default(),
            (None, None) => serde_json::Value::Object(serde_json::Map::new()),
        }
    }
}

/// What pipelines are made with.
#[derive(Debug)]
pub struct Pipelines {
    engine: Arc<dyn ContainerEngine>,
    layers: ConfigLayers,
    weights: WeightStore,
    settings: Arc<Settings>,
    uids: AtomicU32,
    names: AtomicU64,
}

impl Pipelines {
    pub fn new(engine: Arc<dyn ContainerEngine>, layers: ConfigLayers, settings: Arc<Settings>) -> Self {
        Self {
            engine,
            layers,
            weights: WeightStore::new(settings.pipelines.weights),
            settings,
            uids: AtomicU32::new(0),
            names: AtomicU64::new(0),
        }
    }

    /// A user of its own for the next instance.
    fn next_uid(&self) -> u32 {
        FIRST_UID + self.uids.fetch_add(1, Ordering::Relaxed) % UIDS
    }

    fn spec(&self, example: &Example, what: &str, memory: Bytes, lane: LaneSpec) -> ContainerSpec {
        let number = self.names.fetch_add(1, Ordering::Relaxed);
        let mut env = BTreeMap::from([("__OW_API_HOST".to_owned(), self.settings.api_host.clone())]);
        if lane.slice.as_ref().is_some_and(|slice| slice.simulated.is_some()) {
            env.extend(EXACT_MEMORY.map(|(name, value)| (name.to_owned(), value.to_owned())));
        }
        ContainerSpec {
            name: format!("{}_ffs{number}_{what}", name_prefix(&self.settings.identity)),
            labels: BTreeMap::new(),
            image: example.executable.image.clone(),
            memory,
            concurrency: 1,
            env,
            lane: Some(lane),
        }
    }
}

/// `wsk<unique name><id>`, the beginning of every container's name (L-05).
pub fn name_prefix(identity: &Identity) -> String {
    let allowed = |c: &char| c.is_ascii_alphanumeric() || "_.-".contains(*c);
    let unique: String = identity
        .unique_name
        .iter()
        .flat_map(|name| name.chars())
        .filter(allowed)
        .collect();
    format!("wsk{unique}{}", identity.id)
}

/// What a lane needs in the host's memory that would not lie on a GPU: the proxy, pages of the rings, a
/// request's text. A simulated slice's limit leaves room for it beside the slice's own memory.
const HOST_SHARE: Bytes = Bytes::mib(32);

/// Settings of glibc's malloc on simulated slices: what a component frees goes back at once, as on a GPU,
/// so that resident memory is what is alive. Without them measurements differ by a third from run to run.
const EXACT_MEMORY: [(&str, &str); 3] = [
    ("MALLOC_ARENA_MAX", "1"),
    ("MALLOC_MMAP_THRESHOLD_", "131072"),
    ("MALLOC_TRIM_THRESHOLD_", "131072"),
];

/// How a lane gets at a slice.
fn access(slice: &Slice) -> SliceAccess {
    let simulated = slice.cpu_quota.zip(slice.mem_limit);
    SliceAccess {
        uuid: slice.uuid.clone(),
        simulated: simulated.map(|(cpus, memory)| SliceLimits {
            cpus,
            memory: Bytes(memory.0 + HOST_SHARE.0),
        }),
    }
}

fn find<'a>(migs: &'a MigsDocument, uuid: &proto::id::SliceUuid) -> Option<&'a Slice> {
    migs.slices.iter().find(|slice| slice.uuid == *uuid)
}
