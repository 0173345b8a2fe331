//! Nothing lost with every part a real one: `ffs-invoker run`, Kafka, a server of CouchDB's API, containers of
//! Docker. Parts are taken away for a minute under load, and the invoker is killed at random instants.
#![allow(clippy::unwrap_used)]

#[path = "../support/docker_engine.rs"]
mod docker;
mod killed;
mod minute;
mod world;
