//! How things stand: what the admin API, the dashboard and gauges show.

use crate::containers::{Pool, PoolCounts};
use crate::instance::State;
use crate::memory::Memory;
use crate::pipelines::Pipelines;
use proto::ffs::migs::MigsDocument;
use proto::unit::Bytes;
use serde::Serialize;

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
    /// `starting`, `hot`, `draining`, `stopping`, `cold`.
    pub state: &'static str,
    /// Key of the partition.
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
    pub(crate) fn of(memory: &Memory, pool: &Pool, pipelines: &Pipelines) -> Self {
        let instances = pipelines.instances().map(|instance| InstanceView {
            instance: instance.id.to_string(),
            function: instance.function.to_string(),
            state: match instance.state {
                State::Starting => "starting",
                State::Hot { .. } => "hot",
                State::Draining { .. } => "draining",
                State::Stopping { .. } => "stopping",
                State::Cold { .. } => "cold",
            },
            plan: instance.key.clone(),
            slices: instance.slices().iter().map(ToString::to_string).collect(),
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
        }
    }
}
