//! A placement becomes a running instance.

pub mod config_layer;
pub mod control;
#[cfg(test)]
mod sample;
