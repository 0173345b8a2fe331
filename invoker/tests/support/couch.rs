//! The server of CouchDB's API that benches use, as a store of ours.

use ffs_invoker::store::couchdb::{CouchSettings, CouchStore, Databases};
use stand_in_controller::couch::{ACTIVATIONS, ADMIN, ENTITIES, PASSWORD, SUBJECTS};
use std::ops::{Deref, DerefMut};
use std::time::Duration;

pub(crate) struct Couch(stand_in_controller::couch::Couch);

impl Deref for Couch {
    type Target = stand_in_controller::couch::Couch;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl DerefMut for Couch {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.0
    }
}

impl Couch {
    /// A server without databases.
    pub(crate) fn start() -> Self {
        Self(stand_in_controller::couch::Couch::empty().unwrap())
    }

    /// The server of all tests of this process.
    pub(crate) fn shared() -> &'static Self {
        static SHARED: std::sync::OnceLock<Couch> = std::sync::OnceLock::new();
        SHARED.get_or_init(Self::start)
    }

    /// Three databases of their own, with views and the subjects `guest` and `whisk.system`.
    pub(crate) fn databases(&self) -> Databases {
        let prefix = format!("whisk_{}_", uuid::Uuid::new_v4().simple());
        self.databases_called(&prefix)
    }

    pub(crate) fn databases_called(&self, prefix: &str) -> Databases {
        self.make(prefix).unwrap();
        named(prefix)
    }

    pub(crate) fn settings(&self, databases: Databases) -> CouchSettings {
        settings(self.address().port(), databases)
    }

    /// A store of three fresh databases.
    pub(crate) async fn store(&self) -> CouchStore {
        CouchStore::open(self.settings(self.databases())).await.unwrap()
    }
}

/// How [`ADMIN`] gets to a server on a port.
pub(crate) fn settings(port: u16, databases: Databases) -> CouchSettings {
    CouchSettings {
        protocol: "http".into(),
        host: "127.0.0.1".into(),
        port,
        username: ADMIN.into(),
        password: PASSWORD.into(),
        databases,
        max_connections: 128,
        max_tries: 3,
        timeout: Duration::from_secs(60),
    }
}

pub(crate) fn named(prefix: &str) -> Databases {
    Databases {
        auth: format!("{prefix}{SUBJECTS}"),
        entity: format!("{prefix}{ENTITIES}"),
        activation: format!("{prefix}{ACTIVATIONS}"),
    }
}
