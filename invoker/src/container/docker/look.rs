//! What Docker says of itself: before an engine is opened, and for an operator who wants to know whether one could be.

use super::call::{CallError, call};
use super::{DeviceAccess, DockerSettings, OpenError};
use bollard::models::SystemInfo;
use bollard::query_parameters::InspectNetworkOptions;
use bollard::{API_DEFAULT_VERSION, Docker};

/// The client library's own time-out: ours are shorter, and the stream of events has none.
const NO_TIME_OUT: u64 = 10 * 365 * 24 * 3600;

/// A Docker that answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct About {
    pub version: String,
    /// `1` or `2`.
    pub cgroups: String,
    /// Whether memory and CPU time of containers can be limited.
    pub limits_slices: bool,
    /// Whether there is the network of actions' containers.
    pub has_network: bool,
    /// Where containers' output goes by default; `json-file` can be read (C-60).
    pub log_driver: String,
    /// How slices of real GPUs come in.
    pub devices: DeviceAccess,
    pub has_nvidia_runtime: bool,
    /// Ids of devices that Docker lists, such as `nvidia.com/gpu=MIG-…`. Docker 28.3 and later.
    pub listed_devices: Vec<String>,
    /// Where descriptions of devices are.
    pub cdi_directories: Vec<String>,
}

/// Asks Docker; nothing is changed.
///
/// # Errors
/// It cannot be reached, or does not answer.
pub async fn look(settings: &DockerSettings) -> Result<About, OpenError> {
    let (docker, about) = connect(settings).await?;
    let network = docker.inspect_network(&settings.network, None::<InspectNetworkOptions>);
    let limit = settings.timeouts.inspect;
    let has_network = call("network inspect", &settings.network, limit, network)
        .await
        .is_ok();
    let devices = about.discovered_devices.iter().flatten();
    let listed = devices.filter_map(|device| device.id.clone());
    Ok(About {
        has_network,
        limits_slices: limits_slices(&about),
        devices: settings.devices.with(&about),
        has_nvidia_runtime: about
            .runtimes
            .as_ref()
            .is_some_and(|runtimes| runtimes.contains_key("nvidia")),
        listed_devices: listed.collect(),
        cgroups: about
            .cgroup_version
            .map_or_else(|| "unknown".to_owned(), |version| version.to_string()),
        version: about.server_version.unwrap_or_else(|| "unknown".to_owned()),
        log_driver: about.logging_driver.unwrap_or_else(|| "unknown".to_owned()),
        cdi_directories: about.cdi_spec_dirs.unwrap_or_default(),
    })
}

/// A client of the API version that both sides know, and what `docker info` says.
pub(super) async fn connect(settings: &DockerSettings) -> Result<(Docker, SystemInfo), OpenError> {
    let path = &settings.socket;
    let unusable = |source| OpenError::Socket {
        path: path.clone(),
        source,
    };
    tokio::net::UnixStream::connect(path).await.map_err(unusable)?;
    let silent = |source: CallError| OpenError::Version {
        path: path.clone(),
        source: source.into(),
    };
    let address = path.to_string_lossy();
    let docker = Docker::connect_with_unix(&address, NO_TIME_OUT, API_DEFAULT_VERSION)
        .map_err(|e| silent(e.into()))?;
    let limit = settings.timeouts.version;
    let docker = call("version", &address, limit, docker.negotiate_version())
        .await
        .map_err(silent)?;
    let about = call("info", &address, limit, docker.info())
        .await
        .map_err(silent)?;
    Ok((docker, about))
}

/// Whether a simulated slice really has no more than its share.
pub(super) fn limits_slices(about: &SystemInfo) -> bool {
    about.memory_limit == Some(true) && about.cpu_cfs_quota == Some(true)
}
