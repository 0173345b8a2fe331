//! What an operator may set; the defaults are the contract's (section 1.3) and `fluidfaas.md`'s.

use proto::unit::Bytes;
use std::time::Duration;

/// Read once, before the first event.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Memory of all containers together, lanes included: `container-pool.user-memory` (P-50).
    pub user_memory: Bytes,
    /// Idle time until an ordinary container is paused: `container-proxy.timeouts.pause-grace` (P-57).
    pub pause_grace: Duration,
    /// Paused time until it is removed: `container-proxy.timeouts.idle-container` (P-56).
    pub idle_container: Duration,
    /// Stem cells of the manifest (P-125).
    pub stem_cells: Vec<StemCell>,
    /// First look at reactive stem cells: `prewarm-expiration-check-init-delay` (P-54).
    pub stem_cell_delay: Duration,
    /// Between looks: `prewarm-expiration-check-interval`, and the caller's random part of
    /// `-interval-variance`, so that not all invokers look at once.
    pub stem_cell_interval: Duration,
    /// Most stem cells that expire per look: `prewarm-expiration-limit`.
    pub stem_cell_expirations: usize,
    /// A container that is not gone this long after `RemoveContainer` no longer counts (L-27).
    pub removal_limit: Duration,
    /// An activation that waits for memory may be overtaken for this long by others that find a
    /// warm container (L-36).
    pub overtaking: Duration,
    /// A pipeline that waits for memory keeps younger activations from it for this long.
    pub claim: Duration,
    /// Containers that may fail to take one activation (C-45).
    pub tries: u32,

    /// Policy of functions that name none.
    pub policy: String,
    /// Idle time until an instance is stopped.
    pub keep_alive: Duration,
    /// An instance is not evicted before it was ready for this long.
    pub residency: Duration,
    /// Least time that an activation may wait, beside its own limit: `time-limit.std` (K-63).
    pub least_limit: Duration,
    /// A function's activations rest this long before its other slice profiles are measured.
    pub profile_rest: Duration,
    /// Decisions kept.
    pub decisions: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            user_memory: Bytes::mib(1024),
            pause_grace: Duration::from_secs(10),
            idle_container: Duration::from_secs(600),
            stem_cells: Vec::new(),
            stem_cell_delay: Duration::from_secs(600),
            stem_cell_interval: Duration::from_secs(600),
            stem_cell_expirations: 100,
            removal_limit: Duration::from_secs(60),
            overtaking: Duration::from_secs(1),
            claim: Duration::from_secs(10),
            tries: 3,
            policy: "fluidfaas".to_owned(),
            keep_alive: Duration::from_secs(600),
            residency: Duration::from_secs(1),
            least_limit: Duration::from_secs(60),
            profile_rest: Duration::from_secs(1),
            decisions: 200,
        }
    }
}

/// Containers of one kind and memory that are started before anyone asks for them (L-45).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StemCell {
    pub kind: String,
    pub memory: Bytes,
    pub initial_count: u32,
    pub reactive: Option<Reactive>,
}

/// How stem cells follow demand (L-48).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reactive {
    pub min_count: u32,
    pub max_count: u32,
    pub ttl: Duration,
    /// Cold starts per `increment`.
    pub threshold: u32,
    pub increment: u32,
}
