//! What every container is started with, and how long Docker may take.

use super::DeviceAccess;
use proto::unit::Bytes;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// `whisk.container-factory`, `whisk.docker` and `whisk.runc` (P-53, P-60 … P-70, P-111).
#[derive(Clone, Debug, PartialEq)]
pub struct DockerSettings {
    /// The daemon's socket.
    pub socket: PathBuf,
    /// `wsk<uniqueName><id>_`: the names of all our containers begin with it (L-05).
    pub name_prefix: String,
    pub network: String,
    pub dns_servers: Vec<String>,
    pub dns_search: Vec<String>,
    pub dns_options: Vec<String>,
    /// `k=v`, or `k` with an empty value; they win over `__OW_API_HOST` (L-11).
    pub extra_env: Vec<String>,
    /// `--key value` for each value, as `docker run` takes them; a key that is built in is replaced (L-13).
    pub extra_args: BTreeMap<String, Vec<String>>,
    /// Prefix of managed and native images without a registry of their own (L-14).
    pub runtimes_registry: String,
    /// The same for images of users.
    pub user_images_registry: String,
    /// Most creations at once; 0: no limit (L-02).
    pub parallel_runs: usize,
    /// Whether arguments of creations are kept out of the log.
    pub mask_run_args: bool,
    pub timeouts: Timeouts,
    /// Memory of all containers together; a container's share of it is its share of the CPUs (L-12).
    pub user_memory: Bytes,
    /// CPUs of all containers together.
    pub user_cpus: Option<f64>,
    /// Where Docker keeps its containers' logs, as this process sees it (C-62).
    pub containers: PathBuf,
    /// How slices of real GPUs come into containers.
    pub devices: DeviceAccess,
    /// Whether the log store reads the containers' json-file logs (C-60), or leaves them to a driver (C-76).
    pub collects_logs: bool,
}

/// None: no limit (`Inf`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    pub run: Option<Duration>,
    pub rm: Option<Duration>,
    pub pull: Option<Duration>,
    pub ps: Option<Duration>,
    pub inspect: Option<Duration>,
    pub pause: Option<Duration>,
    pub unpause: Option<Duration>,
    pub version: Option<Duration>,
}

impl Default for Timeouts {
    fn default() -> Self {
        let (short, long) = (Some(Duration::from_secs(10)), Some(Duration::from_secs(60)));
        Self {
            run: long,
            rm: long,
            pull: Some(Duration::from_secs(600)),
            ps: long,
            inspect: long,
            pause: short,
            unpause: short,
            version: short,
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// What an invoker without settings has.
    pub(in crate::container::docker) fn settings() -> DockerSettings {
        DockerSettings {
            socket: "/var/run/docker.sock".into(),
            name_prefix: "wsk00_".to_owned(),
            network: "bridge".to_owned(),
            dns_servers: Vec::new(),
            dns_search: Vec::new(),
            dns_options: Vec::new(),
            extra_env: Vec::new(),
            extra_args: BTreeMap::new(),
            runtimes_registry: String::new(),
            user_images_registry: String::new(),
            parallel_runs: 10,
            mask_run_args: false,
            timeouts: Timeouts::default(),
            user_memory: Bytes::mib(2048),
            user_cpus: None,
            containers: "/containers".into(),
            devices: DeviceAccess::Auto,
            collects_logs: true,
        }
    }
}
