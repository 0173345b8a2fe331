//! Plays OpenWhisk's controller towards an invoker on real topics, and keeps the books on it: which
//! activations were answered twice, never, in the wrong form or order.
//!
//! [`health`], [`slots`] and [`ledger`] are state machines without clock or IO; [`controller`] puts Kafka and
//! a database around them; [`broker`], [`couch`] and [`invoker`] start the real processes beside it. Entities,
//! users and the REST API are left to the code behind `ffs-invoker standalone`.
//! Source: `InvokerSupervision.scala`, `ShardingContainerPoolBalancer.scala`, `CommonLoadBalancer.scala`;
//! contract K-07, K-34, K-43 … K-50, K-60 … K-67.
#![forbid(unsafe_code)]

pub mod broker;
pub mod controller;
pub mod couch;
pub mod database;
pub mod health;
pub mod invoker;
pub mod ledger;
pub mod slots;
pub mod topics;
