//! What operators and the controller's health loop see of an invoker: routes, https, pings, metrics, lines.
#![allow(clippy::unwrap_used)]

#[path = "../support/http.rs"]
#[allow(dead_code)]
mod http;
#[path = "../support/stand_in_engine.rs"]
#[allow(dead_code)]
mod stand_in_engine;

mod containers;
mod health;
mod https;
mod lines;
mod measured;
mod node;
mod routes;
