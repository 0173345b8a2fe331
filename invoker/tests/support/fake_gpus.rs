//! A machine with NVIDIA's driver: a library of a test's own whose GPUs are those of a file.

use fake_nvml::{Faults, Machine};
use ffs_invoker::gpu::nvml::Nvml;
use ffs_invoker::gpu::simulated::{Scaling, simulate};
use proto::ffs::migs::{InventorySource, MigsDocument};
use proto::unit::Bytes;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// A library of its own, with the machine behind it.
pub(crate) struct Fake {
    _folder: TempDir,
    pub(crate) library: PathBuf,
    pub(crate) machine: Machine,
}

impl Fake {
    pub(crate) fn new(topology: &str) -> Self {
        Self::with(cut(topology))
    }

    pub(crate) fn with(migs: MigsDocument) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let library = folder.path().join("libnvidia-ml.so.1");
        let built = std::env::current_exe()
            .expect("a path")
            .with_file_name("libfake_nvml.so");
        std::fs::copy(built, &library).expect("built beside this test");
        let machine = Machine {
            migs,
            faults: Faults::default(),
        };
        let fake = Self {
            _folder: folder,
            library,
            machine,
        };
        fake.write();
        fake
    }

    /// Makes what the machine is now the truth.
    pub(crate) fn write(&self) {
        let mut file = self.library.as_os_str().to_owned();
        file.push(".json");
        self.machine.write(Path::new(&file)).expect("writable");
    }

    pub(crate) fn break_down(&mut self, faults: Faults) {
        self.machine.faults = faults;
        self.write();
    }

    pub(crate) fn open(&self) -> Nvml {
        Nvml::open(Some(&self.library)).expect("it loads")
    }
}

/// The topology as a machine that has such GPUs.
pub(crate) fn cut(topology: &str) -> MigsDocument {
    cut_small(topology, None)
}

/// The same with GPUs of so much memory.
pub(crate) fn cut_small(topology: &str, memory: Option<Bytes>) -> MigsDocument {
    let scaling = Scaling { cpus: 1.0, memory };
    let mut migs = simulate(&topology.parse().expect("legal"), &scaling);
    migs.source = InventorySource::Nvml;
    migs.driver = Some("570.86.15".to_owned());
    for gpu in &mut migs.gpus {
        gpu.pci = Some(format!("00000000:{:02X}:00.0", 0x3b + gpu.index));
    }
    for slice in &mut migs.slices {
        slice.cpu_quota = None;
        slice.mem_limit = None;
    }
    migs
}
