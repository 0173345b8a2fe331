//! Where the database is, and who we are there.

use std::time::Duration;

/// `whisk.couchdb`, and what concerns its use (P-46, P-47, P-81, P-82).
#[derive(Clone, PartialEq, Eq)]
pub struct CouchSettings {
    /// `http` or `https`.
    pub protocol: String,
    pub host: String,
    pub port: u16,
    pub username: String,
    pub password: String,
    pub databases: Databases,
    /// Most connections at once; half of them write records (D-08, D-44).
    pub max_connections: usize,
    /// How often more a write of records is tried at once after a connection error (D-47).
    pub max_tries: u32,
    /// Longest exchange.
    pub timeout: Duration,
}

/// Names of OpenWhisk's databases.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Databases {
    /// `whisk.couchdb.databases.WhiskAuth`
    pub auth: String,
    /// `….WhiskEntity`
    pub entity: String,
    /// `….WhiskActivation`
    pub activation: String,
}

impl std::fmt::Debug for CouchSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CouchSettings")
            .field("protocol", &self.protocol)
            .field("host", &self.host)
            .field("port", &self.port)
            .field("username", &self.username)
            .field("databases", &self.databases)
            .finish_non_exhaustive()
    }
}
