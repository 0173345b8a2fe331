//! Decides where a function runs, and does nothing.
//!
//! Told what has happened and what time it is, the scheduler says what to do: equal events at
//! equal instants give equal commands. No clock, no IO, no lock, no task, no randomness.
//!
//! How a function is split is a chain of pure functions:
//! ```text
//! dag.json ─► Dag ─────────┐
//! profile.json ─► Profile ─┴─► enumerate ─► rank ─┐    once per revision
//! migs.json ─► FreeSlices ────────────────────────┴─► place ─► assign ─► assignment.json
//! ```
//! Around them is one state machine, [`Scheduler`], which owns the ordinary containers and the
//! pipelines, because they share one budget of memory. A module uses only modules below it.
#![forbid(unsafe_code)]

pub mod scheduler;
pub mod view;
mod pipelines;
mod containers;
mod step;
mod job;
pub mod event;
pub mod command;
pub mod reason;
mod knowledge;
pub mod drift;
pub mod accounting;
pub mod decision;
pub mod instance;
pub mod hotness;
pub mod sharing;
pub mod slices;
pub mod memory;
pub mod policy;
pub mod assignment;
pub mod batch;
pub mod placement;
pub mod rejection;
pub mod ranking;
pub mod partition;
pub mod profile;
pub mod dag;
pub mod free;
pub mod settings;
pub mod work;
pub mod fault;
pub mod instant;

pub use command::Command;
pub use containers::PoolCounts;
pub use event::Event;
pub use instant::Instant;
pub use scheduler::Scheduler;
pub use settings::Settings;
