//! How a slice of a real GPU comes into a container: by NVIDIA's own hook, or by CDI where Docker has that.
//!
//! Source: Docker's `--gpus` and `--device`; `nvidia-ctk cdi generate`, which names devices by their UUIDs, too.

use super::describe::set_env;
use bollard::models::{DeviceRequest, SystemInfo};
use proto::id::SliceUuid;

/// The kind under which NVIDIA's devices are listed.
const NVIDIA: &str = "nvidia.com/gpu";

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeviceAccess {
    /// CDI if Docker lists NVIDIA's devices so, or has CDI and not NVIDIA's runtime.
    #[default]
    Auto,
    /// The hook of NVIDIA's container toolkit, as `docker run --gpus`.
    Nvidia,
    /// The Container Device Interface, as `docker run --device nvidia.com/gpu=…`.
    Cdi,
}

impl DeviceAccess {
    /// What it comes to with a Docker that says this of itself; never [`Self::Auto`].
    pub(super) fn with(self, about: &SystemInfo) -> Self {
        if self != Self::Auto {
            return self;
        }
        let mut discovered = about.discovered_devices.iter().flatten();
        let listed = discovered.any(|device| {
            let is_cdi = device.source.as_deref() == Some("cdi");
            is_cdi && device.id.as_deref().is_some_and(|id| id.starts_with(NVIDIA))
        });
        let has_cdi = about
            .cdi_spec_dirs
            .as_ref()
            .is_some_and(|directories| !directories.is_empty());
        let has_runtime = about
            .runtimes
            .as_ref()
            .is_some_and(|runtimes| runtimes.contains_key("nvidia"));
        if listed || (has_cdi && !has_runtime) {
            Self::Cdi
        } else {
            Self::Nvidia
        }
    }

    /// What Docker is asked for.
    pub(super) fn request(self, slice: &SliceUuid) -> DeviceRequest {
        match self {
            Self::Cdi => DeviceRequest {
                driver: Some("cdi".to_owned()),
                device_ids: Some(vec![format!("{NVIDIA}={slice}")]),
                ..DeviceRequest::default()
            },
            Self::Auto | Self::Nvidia => DeviceRequest {
                device_ids: Some(vec![slice.to_string()]),
                capabilities: Some(vec![vec![
                    "gpu".to_owned(),
                    "compute".to_owned(),
                    "utility".to_owned(),
                ]]),
                ..DeviceRequest::default()
            },
        }
    }

    /// CUDA sees the slice alone, whatever an image says of itself: those of NVIDIA ask for all devices.
    pub(super) fn set_variables(self, env: &mut Vec<String>, slice: &SliceUuid) {
        set_env(env, &format!("CUDA_VISIBLE_DEVICES={slice}"));
        match self {
            // NVIDIA's runtime must not add what CDI does already.
            Self::Cdi => set_env(env, NO_DEVICES),
            Self::Auto | Self::Nvidia => set_env(env, &format!("NVIDIA_VISIBLE_DEVICES={slice}")),
        }
    }
}

/// Tells NVIDIA's runtime to add none.
pub(super) const NO_DEVICES: &str = "NVIDIA_VISIBLE_DEVICES=void";

#[cfg(test)]
mod tests {
    use super::*;
    use bollard::models::{DeviceInfo, Runtime};
    use std::collections::HashMap;

    #[test]
    fn cdi_is_taken_where_docker_lists_devices_or_has_nothing_else() {
        let nvidia = Some(HashMap::from([("nvidia".to_owned(), Runtime::default())]));
        let spec_dirs = Some(vec!["/etc/cdi".to_owned()]);
        let device = DeviceInfo {
            source: Some("cdi".to_owned()),
            id: Some("nvidia.com/gpu=MIG-11111111-1111-5111-8111-111111111111".to_owned()),
        };
        let other = DeviceInfo {
            id: Some("vendor.com/net=0".to_owned()),
            ..device.clone()
        };
        let docker =
            |spec_dirs: &Option<Vec<String>>, runtimes: &Option<_>, devices: &[&DeviceInfo]| SystemInfo {
                cdi_spec_dirs: spec_dirs.clone(),
                runtimes: runtimes.clone(),
                discovered_devices: Some(devices.iter().map(|device| (*device).clone()).collect()),
                ..SystemInfo::default()
            };
        let cases = [
            (SystemInfo::default(), DeviceAccess::Nvidia),
            (docker(&spec_dirs, &None, &[]), DeviceAccess::Cdi),
            (docker(&spec_dirs, &nvidia, &[]), DeviceAccess::Nvidia),
            (docker(&spec_dirs, &nvidia, &[&other]), DeviceAccess::Nvidia),
            (docker(&spec_dirs, &nvidia, &[&other, &device]), DeviceAccess::Cdi),
            (docker(&Some(Vec::new()), &nvidia, &[]), DeviceAccess::Nvidia),
        ];
        for (about, expected) in cases {
            assert_eq!(DeviceAccess::Auto.with(&about), expected, "{about:?}");
            assert_eq!(DeviceAccess::Nvidia.with(&about), DeviceAccess::Nvidia);
            assert_eq!(DeviceAccess::Cdi.with(&about), DeviceAccess::Cdi);
        }
    }
}
