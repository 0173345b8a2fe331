//! Activations from message to record, in containers that answer what the contract speaks of: the
//! real daemon, and an engine whose containers are HTTP servers in this test.
#![allow(clippy::unwrap_used)] // what fails here fails the test

mod bench;
#[path = "../support/stand_in_engine.rs"]
#[allow(dead_code)]
mod stand_in_engine;
mod probe;
mod backlog;
mod containers;
mod messages;
mod recordings;

const NO_VALID_RESPONSE: &str = "The action did not produce a valid response and exited unexpectedly.";
