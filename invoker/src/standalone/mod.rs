//! What a cluster has besides invokers, in one process: OpenWhisk's REST API, and behind it the
//! controller's part. `wsk` and the invoker take it for the real ones.
//!
//! The API writes entities into the store and publishes activation messages on the bus; who runs them is
//! none of its business. Triggers, rules, sequences and web actions are left to real clusters.

pub mod controller;
pub mod http;
pub mod key;

use std::net::SocketAddr;
use tokio::net::TcpListener;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("port {} of {} is in use by another process: end that one, or choose another port", .0.port(), .0.ip())]
    PortInUse(SocketAddr),
    #[error("the API cannot listen on {address}")]
    Listen {
        address: SocketAddr,
        #[source]
        source: std::io::Error,
    },
}

/// Opens the port that the API is to be served on.
///
/// # Errors
/// `PortInUse` where another process listens.
pub async fn listen(address: SocketAddr) -> Result<TcpListener, Error> {
    TcpListener::bind(address)
        .await
        .map_err(|source| match source.kind() {
            std::io::ErrorKind::AddrInUse => Error::PortInUse(address),
            _ => Error::Listen { address, source },
        })
}
