//! What is ours alone: the settings below `ffs`.

use super::drift;
use super::reader::{CPUS, DURATION, FLAG, Kind, Reader, SIZE, TEXT};
use super::sharing::{self, SharingSettings};
use crate::container::docker::DeviceAccess;
use proto::unit::Bytes;
use scheduler::drift::DriftSettings;
use std::path::PathBuf;
use std::time::Duration;

/// What this node has, and where things lie on it.
#[derive(Clone, Debug)]
pub struct NodeSettings {
    pub engine: EngineKind,
    pub gpu: GpuSettings,
    pub policy: String,
    pub sharing: SharingSettings,
    pub drift: DriftSettings,
    pub keep_alive: Duration,
    /// Memory for weights that several lanes use, beside that of all containers.
    pub weights: Bytes,
    /// What must survive a restart.
    pub state_dir: PathBuf,
    /// What need not; none: by the invoker's name, where the system keeps such things.
    pub run_dir: Option<PathBuf>,
    /// How long running activations may go on after a stop signal.
    pub grace: Duration,
    /// `GET /metrics` is there whatever `whisk.metrics` says (H-30).
    pub metrics_always: bool,
    /// Interpreter of the process engine.
    pub python: PathBuf,
    /// The `ffs-runtime` program; none: beside this one.
    pub runtime: Option<PathBuf>,
    pub docker_socket: PathBuf,
    /// Docker's own folder `containers`, as this process sees it (P-111).
    pub docker_containers: PathBuf,
    /// Longest exchange with CouchDB.
    pub couchdb_timeout: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EngineKind {
    Docker,
    Process,
}

/// The inventory.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GpuSettings {
    pub inventory: InventoryKind,
    /// NVML's library; none: `libnvidia-ml.so.1`, wherever the system finds it.
    pub nvml_library: Option<PathBuf>,
    /// As the command `migs` takes it.
    pub topology: Option<String>,
    /// CPUs that stand for one whole GPU.
    pub cpus: Option<f64>,
    /// Memory that stands for one whole GPU.
    pub memory: Option<Bytes>,
    /// How slices come into containers.
    pub devices: DeviceAccess,
}

/// Where slices come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum InventoryKind {
    #[default]
    None,
    Simulated,
    Nvml,
    /// NVML, or none where it cannot be used.
    Auto,
}

const ENGINE: Kind<EngineKind> = Kind {
    expected: "docker or process",
    parse: |text| match text.trim() {
        "docker" => Some(EngineKind::Docker),
        "process" => Some(EngineKind::Process),
        _ => None,
    },
};
const INVENTORY: Kind<InventoryKind> = Kind {
    expected: "none, simulated, nvml or auto",
    parse: |text| match text.trim() {
        "none" => Some(InventoryKind::None),
        "simulated" => Some(InventoryKind::Simulated),
        "nvml" => Some(InventoryKind::Nvml),
        "auto" => Some(InventoryKind::Auto),
        _ => None,
    },
};
const DEVICES: Kind<DeviceAccess> = Kind {
    expected: "auto, nvidia or cdi",
    parse: |text| match text.trim() {
        "auto" => Some(DeviceAccess::Auto),
        "nvidia" => Some(DeviceAccess::Nvidia),
        "cdi" => Some(DeviceAccess::Cdi),
        _ => None,
    },
};
const ABSOLUTE: Kind<PathBuf> = Kind {
    expected: "an absolute path",
    parse: |text| Some(PathBuf::from(text)).filter(|path| path.is_absolute()),
};
const PATH: Kind<PathBuf> = Kind {
    expected: "a path",
    parse: |text| Some(PathBuf::from(text)).filter(|path| !path.as_os_str().is_empty()),
};

pub(super) fn read(reader: &mut Reader<'_>) -> NodeSettings {
    let inventory = reader.get("ffs.inventory", "none", &INVENTORY);
    let topology = reader.find("ffs.topology", &TEXT);
    if inventory == InventoryKind::Simulated && topology.is_none() {
        reader.problem(
            "ffs.topology is not set: expected the GPUs to simulate, such as [4g.40gb+3g.40gb]@A100-80GB"
                .to_owned(),
        );
    }
    NodeSettings {
        engine: reader.get("ffs.engine", "docker", &ENGINE),
        gpu: GpuSettings {
            inventory,
            nvml_library: reader.find("ffs.nvml-library", &PATH),
            topology,
            cpus: reader.find("ffs.gpu-cpus", &CPUS),
            memory: reader.find("ffs.gpu-memory", &SIZE),
            devices: reader.get("ffs.gpu-devices", "auto", &DEVICES),
        },
        policy: policy(reader),
        sharing: sharing::read(reader),
        drift: drift::read(reader),
        keep_alive: reader.get("ffs.keep-alive", "10 minutes", &DURATION),
        weights: reader.get("ffs.weights-memory", "1 g", &SIZE),
        state_dir: reader.get("ffs.state-dir", "/var/lib/ffs-invoker", &ABSOLUTE),
        run_dir: reader.find("ffs.run-dir", &ABSOLUTE),
        grace: reader.get("ffs.grace", "4 seconds", &DURATION),
        metrics_always: reader.get("ffs.metrics-always", "false", &FLAG),
        python: reader.get("ffs.python", "python3", &PATH),
        runtime: reader.find("ffs.runtime", &PATH),
        docker_socket: reader.get("ffs.docker-socket", "/var/run/docker.sock", &ABSOLUTE),
        docker_containers: reader.get("ffs.docker-containers", "/containers", &ABSOLUTE),
        couchdb_timeout: reader.get("ffs.couchdb-timeout", "60 seconds", &DURATION),
    }
}

fn policy(reader: &mut Reader<'_>) -> String {
    let policy = reader.get("ffs.policy", "fluidfaas", &TEXT);
    let known: Vec<&str> = scheduler::policy::policies()
        .iter()
        .map(|policy| policy.name())
        .collect();
    if !known.contains(&&*policy) {
        reader.refuse("ffs.policy", &known.join(" or "));
    }
    policy
}
