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
#![forbid(unsafe_code)]

pub mod free;
pub mod dag;
pub mod profile;
pub mod partition;
pub mod ranking;
pub mod rejection;
pub mod placement;
pub mod assignment;

pub mod event;
pub mod command;
pub mod reason;
pub mod decision;
pub mod settings;
pub mod work;
pub mod fault;
pub mod instant;

pub use command::Command;
pub use event::Event;
pub use instant::Instant;
pub use settings::Settings;
