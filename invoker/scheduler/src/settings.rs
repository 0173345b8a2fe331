//! What an operator may set; the defaults are the contract's (section 1.3) and `fluidfaas.md`'s.

use crate::drift::DriftSettings;
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
    /// An instance is neither evicted nor moved before it was ready for this long, or for twice the
    /// time that its weights take to return, whichever is longer.
    pub residency: Duration,
    /// Whose weights leave the slices first.
    pub victims: Victims,
    /// Part of `user_memory` that containers may hold while warm instances are kept.
    pub host_memory_high: f64,
    /// An instance that needs less than this share of its slices may be made to share them …
    pub demote: f64,
    /// … after it needed less for this long.
    pub dwell: Duration,
    /// An instance on shared slices that needs more than this is given slices of its own, if any are free.
    pub promote: f64,
    /// Instances on one slice may need this share of it together.
    pub share_most: f64,
    /// How long a lane may keep a shared slice while others wait for it.
    pub turn_most: Duration,
    /// Least time that an activation may wait, beside its own limit: `time-limit.std` (K-63).
    pub least_limit: Duration,
    /// A function's activations rest this long before its other slice profiles are measured.
    pub profile_rest: Duration,
    /// When observed times take the place of a profile's.
    pub drift: DriftSettings,
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
            victims: Victims::Hotness,
            host_memory_high: 0.8,
            demote: 0.2,
            dwell: Duration::from_secs(10),
            promote: 0.5,
            share_most: 0.8,
            turn_most: Duration::from_millis(200),
            least_limit: Duration::from_secs(60),
            profile_rest: Duration::from_secs(1),
            drift: DriftSettings::default(),
            decisions: 200,
        }
    }
}

/// Which idle instance makes room first. Source: FluidFaaS §9, "victim choice".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Victims {
    /// Least hotness × time to return / bytes freed.
    Hotness,
    /// Least recently used.
    Lru,
    /// Least often used.
    Lfu,
    /// Least time to return.
    Cost,
}

impl Victims {
    /// As the setting writes it.
    pub const ALL: [(&'static str, Self); 4] = [
        ("hotness", Self::Hotness),
        ("lru", Self::Lru),
        ("lfu", Self::Lfu),
        ("cost", Self::Cost),
    ];
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
