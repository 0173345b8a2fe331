//! CouchDB, as OpenWhisk uses it.

mod settings;

pub use self::settings::{CouchSettings, Databases};
