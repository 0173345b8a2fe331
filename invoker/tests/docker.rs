//! The Docker engine keeps the engines' contract, and makes the containers that the original made.
//!
//! Most tests run real containers; what a real Docker cannot be made to do is shown by a stand-in for it.

#[macro_use]
#[path = "../src/container/conformance.rs"]
mod conformance;
#[path = "docker/lines.rs"]
mod lines;
#[path = "docker/real.rs"]
mod real;
#[path = "docker/stand_in.rs"]
mod stand_in;
#[path = "docker/support.rs"]
mod support;

use ffs_invoker::container::ContainerEngine;

engine_conforms!(docker, crate::support::engine());
