//! `ffs-invoker run` in the Scala invoker's place: the real program, Kafka, a server of CouchDB's API, Docker
//! and the stand-in controller. What it answers and records is compared with what was recorded of the original.
#![allow(clippy::unwrap_used)]

mod compare;
mod messages;
mod recorded;
mod world;
