//! Every setting, typed, with its default. Read once, before anything is connected, and passed on
//! as values; no module reads the environment.

pub mod size;

use crate::runtimes::Runtimes;
use proto::unit::Bytes;
use proto::whisk::limits::{SystemLimits, UserLimits};
use std::path::PathBuf;
use std::time::Duration;

/// What the daemon runs with.
#[derive(Clone, Debug)]
pub struct Settings {
    pub identity: Identity,
    /// Memory of all containers together.
    pub user_memory: Bytes,
    pub limits: SystemLimits,
    /// What a namespace may use that says nothing itself (P-76).
    pub namespace_limits: UserLimits,
    pub payload: PayloadLimits,
    pub pool: PoolSettings,
    pub pipelines: PipelineSettings,
    pub runtimes: Runtimes,
    /// Prefix of the topics `invokerN`, `completedC` and `health`.
    pub topic_prefix: String,
    /// `__OW_API_HOST` of every container.
    pub api_host: String,
    /// What must survive a restart: DAGs, profiles, rankings.
    pub state_dir: PathBuf,
    /// How long running activations may go on after a stop signal.
    pub grace: Duration,
}

/// Which invoker this is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    pub id: u32,
    pub unique_name: Option<String>,
    pub displayed_name: Option<String>,
}

/// `whisk.activation.payload` and `serdes-overhead`.
#[derive(Clone, Copy, Debug)]
pub struct PayloadLimits {
    pub max: Bytes,
    /// What is kept of a result that is longer.
    pub truncation: Bytes,
    pub overhead: Bytes,
}

impl Default for PayloadLimits {
    fn default() -> Self {
        Self {
            max: Bytes::mib(1),
            truncation: Bytes::mib(1),
            overhead: Bytes(6068),
        }
    }
}

impl PayloadLimits {
    /// Largest message on `invokerN` and `completedC` (K-03).
    pub fn largest_message(&self) -> Bytes {
        Bytes(self.max.0 + self.overhead.0)
    }
}

/// `whisk.container-pool` and `whisk.container-proxy`.
#[derive(Clone, Copy, Debug)]
pub struct PoolSettings {
    pub pause_grace: Duration,
    pub idle_container: Duration,
    /// (0, 1]
    pub concurrent_peek_factor: f64,
}

impl Default for PoolSettings {
    fn default() -> Self {
        Self {
            pause_grace: Duration::from_secs(10),
            idle_container: Duration::from_secs(600),
            concurrent_peek_factor: 0.5,
        }
    }
}

/// What concerns FFS functions alone.
#[derive(Clone, Debug)]
pub struct PipelineSettings {
    /// Policy of a function that names none.
    pub policy: String,
    /// Idle time before an instance goes cold.
    pub keep_alive: Duration,
    /// Directory that holds one config layer per instance; in memory.
    pub layers: PathBuf,
}

impl Settings {
    /// Activations that the pool may hold at once (K-24).
    pub fn peek(&self) -> usize {
        let containers = self.user_memory.as_mib() / self.limits.memory.min.max(1);
        let concurrency = self.limits.concurrency.max as f64;
        let shared = (containers as f64 * concurrency * self.pool.concurrent_peek_factor).floor() as u64;
        usize::try_from(containers.max(shared).max(1)).unwrap_or(usize::MAX)
    }

    /// `invokerN`, with the prefix.
    pub fn activation_topic(&self) -> String {
        format!("{}invoker{}", self.topic_prefix, self.identity.id)
    }
}
