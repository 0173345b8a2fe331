//! The invoker: what arrives on Kafka is run in containers, and answered exactly once.
//!
//! ```text
//!  bus ─► activation ─► dispatcher ─► pipeline ─► container ─► completion ─► bus, store
//!                  event │    ▲ command
//!                        ▼    │
//!                       scheduler (a crate of its own: it decides and does nothing)
//! ```
//! A module uses only modules that stand below it here; `daemon` is the one place that joins them.
#![forbid(unsafe_code)]

pub mod cli;
pub mod standalone;
pub mod daemon;
pub mod admin;
pub mod health;
pub mod dispatcher;
pub mod activation;
pub mod pipeline;
pub mod explain;
pub mod plan;
pub mod saved;
pub mod completion;
pub mod blacklist;
pub mod weights;
pub mod container;
pub mod bus;
pub mod store;
pub mod readiness;
pub mod journal;
pub mod group_commit;
pub mod pace;
pub mod gpu;
pub mod metrics;
pub mod config;
pub mod runtimes;
pub mod run_directory;
