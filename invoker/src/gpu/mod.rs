//! The edge to the GPUs: which slices there are. NVML, or a simulated topology, or none.
//!
//! An inventory reads; who holds a slice is the scheduler's business.

pub mod geometry;
pub mod topology;
pub mod simulated;
pub mod none;
pub mod nvml;

use proto::ffs::migs::MigsDocument;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio_util::sync::CancellationToken;

#[derive(Debug, thiserror::Error)]
#[error("the GPU inventory could not be read: {reason}")]
pub struct Error {
    pub reason: String,
}

/// Where slices come from.
pub trait GpuInventory: Send + Sync + std::fmt::Debug {
    /// All GPUs and slices as they are now; every healthy slice is `free`, a sick one `fenced`.
    fn read(&self) -> Result<MigsDocument, Error>;

    /// Tells whatever differs from what is known, and then from what was told, until it is stopped.
    /// Blocks; returns at once where nothing ever changes.
    fn watch(&self, _known: MigsDocument, _stop: &CancellationToken, _tell: &mut dyn FnMut(MigsDocument)) {}
}

/// Value of `taken_at`: RFC 3339, UTC, whole seconds.
fn now() -> String {
    OffsetDateTime::now_utc()
        .replace_nanosecond(0)
        .expect("zero is a nanosecond")
        .format(&Rfc3339)
        .expect("the present has four digits of years")
}
