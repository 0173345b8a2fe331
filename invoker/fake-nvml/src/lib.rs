//! A `libnvidia-ml.so.1` whose GPUs and MIG devices are those of a file, for machines without any.
//!
//! The file is `FFS_FAKE_NVML`, or else lies beside the library with `.json` behind its name. It has
//! the shape of `migs.json`, with [`Faults`] below the key `faults`, and is read again whenever it has
//! changed: whoever rewrites it (by renaming, so that nobody sees half of it) changes the machine under
//! a running process. Behaviour and layouts are those of NVIDIA's library as far as they show when
//! devices are enumerated and watched; nothing is created or destroyed by calls.

mod calls;
mod layout;
mod world;

use proto::ffs::migs::MigsDocument;
use proto::id::{GpuUuid, SliceUuid};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;

/// A machine, and what is wrong with it.
#[derive(Clone, Debug, PartialEq)]
pub struct Machine {
    pub migs: MigsDocument,
    pub faults: Faults,
}

/// What can go wrong.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Faults {
    /// GPUs that have fallen off the bus.
    pub lost: BTreeSet<GpuUuid>,
    /// MIG devices of the file that are not there; their index answers `NOT_FOUND`.
    pub vanished: BTreeSet<SliceUuid>,
    /// How long each call takes at least.
    pub slow_ms: u64,
    /// The caller may not ask for GPU instances, and so learns no placement.
    pub unprivileged: bool,
    /// The driver is not loaded.
    pub unloaded: bool,
    /// Whatever happens. Only added to: an event set tells what was added since it was made.
    pub events: Vec<Happening>,
}

/// Something that the driver tells.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Happening {
    pub gpu: GpuUuid,
    /// A critical error; none: the GPU's instances have changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub xid: Option<u64>,
    /// The GPU instance and compute instance it is about; none: the whole GPU.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<(u32, u32)>,
}

impl Machine {
    /// # Errors
    /// A sentence, if the text is not such a document.
    pub fn read(text: &[u8]) -> Result<Self, String> {
        let mut migs: Value = serde_json::from_slice(text).map_err(|error| error.to_string())?;
        let faults = migs.as_object_mut().and_then(|fields| fields.remove("faults"));
        let faults = faults.map_or(Ok(Faults::default()), serde_json::from_value);
        Ok(Self {
            migs: proto::ffs::read(migs.to_string().as_bytes()).map_err(|error| error.to_string())?,
            faults: faults.map_err(|error| format!("faults: {error}"))?,
        })
    }

    /// Puts the machine in place of what is at `path`, at once.
    ///
    /// # Errors
    /// As the file system has them.
    pub fn write(&self, path: &Path) -> std::io::Result<()> {
        let mut document = serde_json::to_value(&self.migs)?;
        document["faults"] = serde_json::to_value(&self.faults)?;
        let new = path.with_extension("new");
        std::fs::write(&new, document.to_string())?;
        std::fs::rename(&new, path)
    }
}
