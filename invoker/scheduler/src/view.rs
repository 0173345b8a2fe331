//! How things stand: what the admin API, the dashboard and gauges show.

use crate::containers::{Pool, PoolCounts};
use crate::instant::Instant;
use crate::job::Job;
use crate::memory::Memory;
use crate::pipelines::Pipelines;
use crate::reason::Waiting;
use proto::ffs::migs::MigsDocument;
use proto::unit::Bytes;
use serde::{Serialize, Serializer};
use std::time::Duration;

/// One picture of the scheduler.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct View {
    pub memory: MemoryView,
    pub containers: PoolCounts,
    /// The slices with their states and owners; none before the first inventory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub migs: Option<MigsDocument>,
    pub instances: Vec<InstanceView>,
    /// Functions whose activations wait.
    pub waiting: Vec<WaitingView>,
    /// Activations that no container has taken, oldest first; the first [`QUEUE_SHOWN`] of them.
    pub queue: Vec<QueuedView>,
    pub stem_cells: Vec<StemCellRounds>,
}

/// How many waiting activations are shown one by one; all are counted.
pub const QUEUE_SHOWN: usize = 100;

/// An activation that waits for a container (contract O-23).
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct QueuedView {
    pub activation: String,
    /// `namespace/[package/]name` of the action.
    pub action: String,
    /// The invoking namespace.
    pub namespace: String,
    pub memory: Bytes,
    /// Since it came.
    #[serde(rename = "age_ms", serialize_with = "milliseconds")]
    pub age: Duration,
    /// What for.
    pub waits: String,
}

/// Looks at one definition of stem cells since the start (contract H-32c, H-32d).
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StemCellRounds {
    pub kind: String,
    pub memory: Bytes,
    /// Looks that found cold starts.
    pub cold_starts: u64,
    /// Looks that found expired ones.
    pub expired: u64,
}

fn milliseconds<S: Serializer>(time: &Duration, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_u64(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MemoryView {
    pub budget: Bytes,
    pub used: Bytes,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct InstanceView {
    pub instance: String,
    pub function: String,
    /// As [`State::name`](crate::instance::State::name) says it.
    pub state: &'static str,
    /// Key of the partition; a lane with replicas has their number behind it, `m1|m2*3`.
    pub plan: String,
    pub slices: Vec<String>,
    pub in_flight: usize,
    /// Most in flight.
    pub limit: usize,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct WaitingView {
    pub function: String,
    pub activations: usize,
    /// What for, if it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waits: Option<String>,
}

impl View {
    pub(crate) fn of(memory: &Memory, pool: &Pool, pipelines: &Pipelines, now: Instant) -> Self {
        let instances = pipelines.instances().map(|instance| InstanceView {
            instance: instance.id.to_string(),
            function: instance.function.to_string(),
            state: instance.state.name(),
            plan: instance.plan(),
            slices: instance.slices().map(ToString::to_string).collect(),
            in_flight: instance.runs.len(),
            limit: instance.limit,
        });
        let waiting = pipelines.waiting().filter(|(_, activations, _)| *activations > 0);
        Self {
            memory: MemoryView {
                budget: memory.budget(),
                used: memory.used(),
            },
            containers: pool.counts(),
            migs: pipelines.ledger().map(|ledger| ledger.document()),
            instances: instances.collect(),
            waiting: waiting
                .map(|(key, activations, waits)| WaitingView {
                    function: key.to_string(),
                    activations,
                    waits: waits.map(ToString::to_string),
                })
                .collect(),
            queue: queue(memory, pool, now),
            stem_cells: pool.stem_cell_rounds().collect(),
        }
    }
}

fn queue(memory: &Memory, pool: &Pool, now: Instant) -> Vec<QueuedView> {
    let shown = pool.waiting().take(QUEUE_SHOWN).enumerate();
    let view = |(before, job): (usize, &Job)| {
        let needed = job.action.memory;
        let missing = Bytes(needed.0.saturating_sub(memory.free().0));
        let waits = match before {
            0 if missing > Bytes(0) => Waiting::Memory { needed, missing }.to_string(),
            0 => "for its turn".to_owned(),
            1 => "behind the one before it".to_owned(),
            n => format!("behind {n} others"),
        };
        QueuedView {
            activation: job.activation.to_string(),
            action: job.action.name.clone(),
            namespace: job.action.namespace.clone(),
            memory: needed,
            age: now.since(job.since),
            waits,
        }
    };
    shown.map(view).collect()
}
