//! No GPUs: pipelines then run unsplit, as plain actions.

use super::{Error, GpuInventory};
use proto::ffs::migs::{InventorySource, MigsDocument, MigsSchema};

#[derive(Clone, Copy, Debug, Default)]
pub struct None;

impl GpuInventory for None {
    fn read(&self) -> Result<MigsDocument, Error> {
        Ok(MigsDocument {
            schema: MigsSchema::V1,
            taken_at: super::now(),
            source: InventorySource::None,
            driver: Option::None,
            gpus: Vec::new(),
            slices: Vec::new(),
        })
    }
}
