//! The invoker's HTTP server: one port, http or https (H-01, H-02).

use super::{Operations, routes, tls};
use crate::config::AdminSettings;
use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use openssl::ssl::{Ssl, SslAcceptor};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_openssl::SslStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, info, warn};

/// Most connections at once; more wait.
const CONNECTIONS: usize = 256;
/// Longest TLS handshake, and longest wait for the head of a request.
const PATIENCE: Duration = Duration::from_secs(30);
/// Longest wait at the end for answers under way.
const LAST: Duration = Duration::from_secs(1);

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the admin server cannot listen at {at}")]
    Listen {
        at: SocketAddr,
        #[source]
        source: std::io::Error,
    },
    #[error(transparent)]
    Tls(#[from] tls::Error),
}

/// A server that has its port and its keys, and does not answer yet.
pub struct Server {
    listener: TcpListener,
    tls: Option<SslAcceptor>,
    settings: AdminSettings,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

impl Server {
    /// # Errors
    /// When the port is taken or the keystore cannot be used.
    pub async fn bind(settings: AdminSettings) -> Result<Self, Error> {
        let tls = settings.https.as_ref().map(tls::acceptor).transpose()?;
        let listener = TcpListener::bind(settings.listen).await;
        let listener = listener.map_err(|source| Error::Listen {
            at: settings.listen,
            source,
        })?;
        Ok(Self {
            listener,
            tls,
            settings,
        })
    }

    /// Where it listens, if the system says so.
    pub fn address(&self) -> SocketAddr {
        self.listener.local_addr().unwrap_or(self.settings.listen)
    }

    /// Answers until `stop`.
    pub async fn serve(self, operations: Operations, stop: CancellationToken) {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        info!(address = %self.address(), scheme, "admin server");
        let routes = routes::routes(&self.settings, operations);
        let (room, connections) = (Arc::new(Semaphore::new(CONNECTIONS)), TaskTracker::new());
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => break,
                accepted = accept(&self.listener, &room) => accepted,
            };
            let (stream, permit) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Such as too many open files: others may be closed meanwhile.
                    warn!(%error, "a connection was not accepted");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let (tls, routes, stop) = (self.tls.clone(), routes.clone(), stop.clone());
            connections.spawn(async move {
                match tls {
                    None => converse(stream, routes, stop).await,
                    Some(tls) => match shake_hands(stream, &tls).await {
                        Ok(stream) => converse(stream, routes, stop).await,
                        Err(because) => debug!(because, "no TLS connection"),
                    },
                }
                drop(permit);
            });
        }
        connections.close();
        let _ = tokio::time::timeout(LAST, connections.wait()).await;
    }
}

async fn accept(
    listener: &TcpListener,
    room: &Arc<Semaphore>,
) -> std::io::Result<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let permit = Arc::clone(room).acquire_owned().await;
    let permit = permit.expect("the semaphore is never closed");
    let (stream, _) = listener.accept().await?;
    Ok((stream, permit))
}

async fn shake_hands(stream: TcpStream, tls: &SslAcceptor) -> Result<SslStream<TcpStream>, String> {
    let ssl = Ssl::new(tls.context()).map_err(|error| error.to_string())?;
    let mut stream = SslStream::new(ssl, stream).map_err(|error| error.to_string())?;
    match tokio::time::timeout(PATIENCE, Pin::new(&mut stream).accept()).await {
        Ok(Ok(())) => Ok(stream),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("the client said nothing for {PATIENCE:?}")),
    }
}

async fn converse(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    routes: Router,
    stop: CancellationToken,
) {
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(PATIENCE);
    let connection = builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(routes));
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        debug!(%error, "a connection broke");
    }
}
