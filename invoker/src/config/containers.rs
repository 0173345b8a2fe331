//! How ordinary containers are kept and watched, beside the pool's own times.

use std::time::Duration;

/// `whisk.container-pool`, `whisk.container-proxy` and `whisk.apache-client`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContainerSettings {
    pub stem_cells: StemCellSettings,
    pub log_errors: LogActivationErrors,
    pub client: ClientSettings,
}

/// Looks at reactive stem cells (P-54, L-48).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StemCellSettings {
    pub first_look: Duration,
    pub interval: Duration,
    /// Largest random part of the interval, so that not all invokers look at once.
    pub variance: Duration,
    /// Most that expire at one look.
    pub expirations: usize,
}

impl Default for StemCellSettings {
    fn default() -> Self {
        Self {
            first_look: Duration::from_secs(600),
            interval: Duration::from_secs(600),
            variance: Duration::from_secs(10),
            expirations: 100,
        }
    }
}

/// Of which activations that end in an error a line says so (P-59).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogActivationErrors {
    pub application: bool,
    pub developer: bool,
    pub whisk: bool,
}

impl Default for LogActivationErrors {
    fn default() -> Self {
        Self {
            application: false,
            developer: false,
            whisk: true,
        }
    }
}

/// Requests to containers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientSettings {
    /// Between two tries to connect (C-42): twice as long with the pooled client (P-52).
    pub retry_pause: Duration,
    /// Whether a connection that was closed without an answer is tried again (C-44, P-102).
    pub retry_no_response: bool,
}

impl Default for ClientSettings {
    fn default() -> Self {
        Self {
            retry_pause: Duration::from_millis(50),
            retry_no_response: false,
        }
    }
}
