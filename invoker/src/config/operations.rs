//! What operators reach the invoker by: its HTTP server, metrics and markers in the log.

use std::net::SocketAddr;
use std::path::PathBuf;

/// The invoker's HTTP server: `PORT`, `whisk.invoker.*` (P-88 … P-90).
#[derive(Clone)]
pub struct AdminSettings {
    /// All interfaces, port 8080, unless told otherwise (H-01).
    pub listen: SocketAddr,
    pub username: String,
    pub password: String,
    /// None: plain HTTP.
    pub https: Option<HttpsSettings>,
    /// Header that carries the transaction id: `whisk.transactions.header` (P-87).
    pub transaction_header: String,
}

/// `whisk.invoker.https` (P-90).
#[derive(Clone)]
pub struct HttpsSettings {
    /// PKCS12: key and certificate, and the authority that client certificates are signed by.
    pub keystore: PathBuf,
    pub password: String,
    /// Whether clients must have a certificate.
    pub client_auth: bool,
}

impl std::fmt::Debug for AdminSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AdminSettings")
            .field("listen", &self.listen)
            .field("username", &self.username)
            .field("https", &self.https)
            .field("transaction_header", &self.transaction_header)
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for HttpsSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HttpsSettings")
            .field("keystore", &self.keystore)
            .field("client_auth", &self.client_auth)
            .finish_non_exhaustive()
    }
}

/// `whisk.metrics` (P-92, P-93).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MetricsSettings {
    /// Whether `GET /metrics` is there: `kamon-enabled` and `prometheus-enabled`, or a switch of ours (H-30).
    pub exposed: bool,
    /// `kamon-tags-enabled`: labels instead of values inside names (H-33).
    pub tags: bool,
    /// `logs-enabled`: markers at the end of lines (N-21).
    pub logs: bool,
}

impl Default for MetricsSettings {
    fn default() -> Self {
        Self {
            exposed: false,
            tags: false,
            logs: true,
        }
    }
}
