//! What several of the tests need. Each uses a part of it.
#![allow(dead_code)]

pub(crate) mod daemon;
pub(crate) mod fake_gpus;
pub(crate) mod http;
pub(crate) mod standalone;
pub(crate) mod stand_in_invoker;
