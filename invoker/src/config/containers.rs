//! How ordinary containers are kept and watched, beside the pool's own times.

use std::time::Duration;

/// `whisk.container-pool` and `whisk.container-proxy`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContainerSettings {
    pub stem_cells: StemCellSettings,
    pub log_errors: LogActivationErrors,
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
