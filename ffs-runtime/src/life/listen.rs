//! Where `/init` and `/run` are answered: a port, or a Unix socket that is removed at the end.

use crate::settings::Listen;
use axum::Router;
use std::path::{Path, PathBuf};
use tokio::net::{TcpListener, UnixListener};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot listen on {address}")]
    Tcp {
        address: std::net::SocketAddr,
        #[source]
        source: std::io::Error,
    },
    #[error("cannot listen at {} (FFS_LISTEN)", path.display())]
    Unix {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
}

/// Requests wait in it from the moment that it exists.
#[derive(Debug)]
pub(super) enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener, SocketFile),
}

/// A Unix socket's name in the file system, removed when dropped.
#[derive(Debug)]
pub(super) struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

pub(super) fn bind(address: &Listen) -> Result<Listener, Error> {
    match address {
        Listen::Tcp(address) => bind_tcp(*address)
            .map(Listener::Tcp)
            .map_err(|source| Error::Tcp {
                address: *address,
                source,
            }),
        Listen::Unix(path) => bind_unix(path).map_err(|source| Error::Unix {
            path: path.clone(),
            source,
        }),
    }
}

fn bind_tcp(address: std::net::SocketAddr) -> std::io::Result<TcpListener> {
    let listener = std::net::TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}

fn bind_unix(path: &Path) -> std::io::Result<Listener> {
    let listener = UnixListener::bind(path)?;
    Ok(Listener::Unix(listener, SocketFile(path.to_owned())))
}

/// The proxy at work.
#[derive(Debug)]
pub(super) struct Server {
    task: JoinHandle<std::io::Result<()>>,
    stop: CancellationToken,
    _file: Option<SocketFile>,
}

impl Server {
    pub(super) fn start(listener: Listener, router: Router) -> Self {
        let stop = CancellationToken::new();
        let stopped = stop.clone().cancelled_owned();
        let (task, file) = match listener {
            Listener::Tcp(tcp) => (
                tokio::spawn(
                    axum::serve(tcp, router)
                        .with_graceful_shutdown(stopped)
                        .into_future(),
                ),
                None,
            ),
            Listener::Unix(unix, file) => (
                tokio::spawn(
                    axum::serve(unix, router)
                        .with_graceful_shutdown(stopped)
                        .into_future(),
                ),
                Some(file),
            ),
        };
        Self {
            task,
            stop,
            _file: file,
        }
    }

    /// Accepts nothing more; waits until the answers that are due have been sent.
    pub(super) async fn finish(&mut self) {
        self.stop.cancel();
        let _ = (&mut self.task).await;
    }
}
