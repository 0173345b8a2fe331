//! Functions made of several networks, from Kafka through `ffs-invoker run` to the ack and the record, each lane in a
//! Docker container on a simulated slice of its own.
//!
//! Broker, database and Docker are real. Tests take turns, since they share two GPUs' slices.
#![allow(clippy::unwrap_used)]

#[path = "../support/http.rs"]
#[allow(dead_code)] // other tests use the rest of it
mod http;

mod accounting;
mod containers;
mod failures;
mod whole;
mod world;
