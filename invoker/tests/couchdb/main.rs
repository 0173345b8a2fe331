//! CouchDB: the contract of `Store` against a real server, and what becomes of actions, records and the
//! blacklist, against that server and against a stub for what a real one does not answer.
#![allow(clippy::unwrap_used)]

#[path = "../../src/store/conformance.rs"]
#[macro_use]
mod conformance;
#[path = "../support/couch.rs"]
mod couch;
#[path = "../support/http.rs"]
#[allow(dead_code)]
mod http;

mod actions;
mod bench;
mod blacklist;
mod documents;
mod locked;
mod probe;
#[path = "../support/stand_in_engine.rs"]
#[allow(dead_code)] // other tests use the rest
mod stand_in_engine;
mod records;
mod stub;
mod views;

use self::couch::Couch;
use ffs_invoker::store::Store;

store_conforms!(couchdb, async { (Couch::shared().store().await, ()) });
