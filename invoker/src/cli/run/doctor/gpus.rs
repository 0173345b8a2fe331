//! Slices, and whether Docker can bring each into a container.

use super::super::edges;
use super::Finding;
use crate::config::load::Configuration;
use crate::config::node::{EngineKind, InventoryKind};
use crate::container::docker::{About, DeviceAccess};
use crate::gpu::simulated::{Host, overcommitment};
use proto::ffs::migs::{InventorySource, MigsDocument, SliceState};

pub(super) fn slices(configuration: &Configuration, docker: Option<&About>) -> Vec<Finding> {
    let inventory = edges::inventory(configuration).and_then(|inventory| Ok(inventory.read()?));
    let migs = match inventory {
        Ok(migs) => migs,
        Err(error) => {
            let advice = "install NVIDIA's driver, in a container with its utilities mounted; check ffs.inventory and \
                          ffs.nvml-library";
            return vec![Finding::failed("slices", format!("{error:#}"), advice)];
        }
    };
    let mut findings = vec![summary(configuration, &migs)];
    findings.extend(fenced(&migs));
    if let Some(sentence) = overcommitment(&migs, &Host::read()) {
        findings.push(Finding::warning(
            "slices",
            sentence,
            "set ffs.gpu-cpus and ffs.gpu-memory lower",
        ));
    }
    if migs.source == InventorySource::Nvml {
        match (configuration.node.engine, docker) {
            (EngineKind::Docker, Some(docker)) => findings.extend(reachable(&migs, docker)),
            (EngineKind::Docker, None) | (EngineKind::Process, _) => {}
        }
    }
    findings
}

fn summary(configuration: &Configuration, migs: &MigsDocument) -> Finding {
    let count = format!("{} slices on {} GPUs", migs.slices.len(), migs.gpus.len());
    match (migs.slices.is_empty(), configuration.node.gpu.inventory) {
        (false, _) => Finding::ok("slices", count),
        (true, InventoryKind::None) => {
            let advice =
                "set ffs.inventory to nvml, or to simulated with ffs.topology, if functions are to be split";
            Finding::ok(
                "slices",
                format!("none are asked for: functions run unsplit; {advice}"),
            )
        }
        (true, InventoryKind::Auto | InventoryKind::Nvml | InventoryKind::Simulated) => {
            let advice = "cut the GPUs with nvidia-smi mig -cgi … -C: functions run unsplit until then";
            Finding::warning("slices", count, advice)
        }
    }
}

fn fenced(migs: &MigsDocument) -> impl Iterator<Item = Finding> {
    let fenced = migs
        .slices
        .iter()
        .filter(|slice| slice.state == SliceState::Fenced);
    fenced.map(|slice| {
        let value = format!("{} {} reports errors", slice.profile, slice.uuid);
        let advice =
            "nothing is placed there until its GPU is reset: nvidia-smi -q -d ECC,PAGE_RETIREMENT says more";
        Finding::warning("slice", value, advice)
    })
}

/// Whether the way that slices take into containers is there. A list of devices by CDI is a file that is made once, and
/// does not know what MIG was cut into later.
fn reachable(migs: &MigsDocument, docker: &About) -> Vec<Finding> {
    let what = "slices in containers";
    match docker.devices {
        DeviceAccess::Auto | DeviceAccess::Nvidia if docker.has_nvidia_runtime => {
            vec![Finding::ok(
                what,
                "by NVIDIA's runtime, which looks each up when a container starts",
            )]
        }
        DeviceAccess::Auto | DeviceAccess::Nvidia => {
            let advice = "nvidia-ctk runtime configure --runtime=docker, and restart Docker; its hook alone is enough for \
                          older ones";
            let value = "Docker does not list NVIDIA's runtime";
            vec![Finding::warning(what, value, advice)]
        }
        DeviceAccess::Cdi => {
            let missing: Vec<Finding> = migs
                .slices
                .iter()
                .filter(|slice| !is_listed(&slice.uuid.to_string(), docker))
                .map(|slice| {
                    let value = format!("CDI lists no {} {}", slice.profile, slice.uuid);
                    let advice =
                        "nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml, each time that MIG is cut";
                    Finding::failed(what, value, advice)
                })
                .collect();
            if missing.is_empty() {
                return vec![Finding::ok(what, "by CDI, which lists each of them")];
            }
            missing
        }
    }
}

/// By Docker itself, or in the files that it reads.
fn is_listed(uuid: &str, docker: &About) -> bool {
    let device = format!("nvidia.com/gpu={uuid}");
    docker.listed_devices.contains(&device)
        || docker.cdi_directories.iter().any(|directory| {
            let files = std::fs::read_dir(directory).into_iter().flatten().flatten();
            files
                .filter_map(|file| std::fs::read_to_string(file.path()).ok())
                .any(|text| text.contains(uuid))
        })
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::*;

    /// Three slices; the last one is fenced.
    fn migs() -> MigsDocument {
        let slice = |at: u32, state: &str| {
            serde_json::json!({
                "uuid": format!("MIG-{at}"), "gpu_uuid": "GPU-0", "profile": "2g.20gb", "compute_slices": 2,
                "memory_bytes": 19_968_u64 << 20, "state": state,
            })
        };
        serde_json::from_value(serde_json::json!({
            "schema": "ffs.migs/1", "taken_at": "2026-01-02T03:04:05Z", "source": "nvml",
            "gpus": [{"uuid": "GPU-0", "index": 0, "model": "A100-80GB", "memory_bytes": 81920_u64 << 20, "mig": true}],
            "slices": [slice(0, "free"), slice(1, "free"), slice(2, "fenced")],
        }))
        .expect("a document")
    }

    fn docker(devices: DeviceAccess) -> About {
        About {
            version: "29.1.3".to_owned(),
            cgroups: "2".to_owned(),
            limits_slices: true,
            has_network: true,
            log_driver: "json-file".to_owned(),
            devices,
            has_nvidia_runtime: false,
            listed_devices: Vec::new(),
            cdi_directories: Vec::new(),
        }
    }

    fn levels(findings: &[Finding]) -> Vec<Level> {
        findings.iter().map(|finding| finding.level).collect()
    }

    #[test]
    fn each_slice_that_cdi_does_not_list_is_named() {
        let folder = tempfile::tempdir().expect("a directory");
        std::fs::write(folder.path().join("nvidia.yaml"), "devices:\n- name: MIG-1\n").expect("written");
        let docker = About {
            listed_devices: vec!["nvidia.com/gpu=MIG-0".to_owned()],
            cdi_directories: vec![folder.path().display().to_string()],
            ..docker(DeviceAccess::Cdi)
        };
        let missing = reachable(&migs(), &docker);
        assert_eq!(levels(&missing), [Level::Failed]);
        assert!(missing[0].value.contains("MIG-2"), "{missing:?}");
        std::fs::write(folder.path().join("more.yaml"), "- name: MIG-2\n").expect("written");
        assert_eq!(levels(&reachable(&migs(), &docker)), [Level::Ok]);
    }

    #[test]
    fn nvidias_runtime_has_to_be_there_where_it_is_used() {
        let without = docker(DeviceAccess::Nvidia);
        assert_eq!(levels(&reachable(&migs(), &without)), [Level::Warning]);
        let with = About {
            has_nvidia_runtime: true,
            ..without
        };
        assert_eq!(levels(&reachable(&migs(), &with)), [Level::Ok]);
    }

    #[test]
    fn a_fenced_slice_is_named() {
        let found: Vec<Finding> = fenced(&migs()).collect();
        assert_eq!(levels(&found), [Level::Warning]);
        assert!(found[0].value.contains("MIG-2"), "{found:?}");
    }
}
