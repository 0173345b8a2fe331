//! Nothing lost: each activation that was read gets one completion and one record and runs at most once,
//! whatever is killed, stopped or away. With a real broker.
#![allow(clippy::unwrap_used)]

#[path = "../support/kafka.rs"]
#[allow(dead_code)] // other tests use the rest
mod kafka;
#[path = "../support/stand_in_engine.rs"]
#[allow(dead_code)]
mod stand_in_engine;
mod answers;
mod engine;
mod killed;
mod outages;
mod feed;
mod stopping;
mod world;
