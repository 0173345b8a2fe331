//! CouchDB: the contract of `Store` against a real server, and what a stub alone can answer.
#![allow(clippy::unwrap_used)]

#[path = "../src/store/conformance.rs"]
#[macro_use]
mod conformance;
#[path = "support/couch.rs"]
mod couch;

use self::couch::Couch;
use ffs_invoker::store::Store;

store_conforms!(couchdb, async { (Couch::shared().store().await, ()) });
