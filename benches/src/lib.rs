//! What the programs in `bin/` share: load for an invoker, and what processes used. Criterion's benches
//! live in `benches/`.
#![forbid(unsafe_code)]

pub mod engine;
pub mod floor;
pub mod load;
pub mod process;
pub mod world;
