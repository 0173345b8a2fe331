//! The edge to the GPUs: which slices there are. NVML, or a simulated topology, or none.

use proto::ffs::migs::MigsDocument;

#[derive(Debug, thiserror::Error)]
#[error("the GPU inventory could not be read: {reason}")]
pub struct Error {
    pub reason: String,
}

/// Where slices come from.
pub trait GpuInventory: Send + Sync + std::fmt::Debug {
    /// All GPUs and slices as they are now; every healthy slice is `free`, a sick one `fenced`.
    fn read(&self) -> Result<MigsDocument, Error>;
}
