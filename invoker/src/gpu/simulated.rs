//! Slices that do not exist: a topology, and what stands for the GPU behind it.
//!
//! Each slice has its share of a number of CPUs and of an amount of memory; the container engine
//! enforces them. So measurements, placement and limits all speak of the same scaled bytes.

use super::topology::{Cut, Group, Placed, Topology};
use super::{Error, GpuInventory};
use proto::ffs::migs::{Gpu, InventorySource, MigsDocument, MigsSchema, Placement, Slice, SliceState};
use proto::id::{GpuUuid, ProfileName, SliceUuid};
use proto::unit::Bytes;
use uuid::Uuid;

/// Less than this, and the smallest slice would round down to nothing that runs.
const LEAST_GPU_MEMORY: Bytes = Bytes::mib(8);
/// Limits are enforced in whole pages.
const PAGE: u64 = 4096;
/// Under this name space the UUIDs of simulated GPUs are made: equal topologies, equal UUIDs.
const NAMESPACE: Uuid = Uuid::from_u128(0x5f0f_7c5e_93f4_4d0e_8a55_61f4_a3c6_11d2);

/// What stands for one whole GPU.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scaling {
    pub cpus: f64,
    /// None: the model's own.
    pub memory: Option<Bytes>,
}

impl Scaling {
    /// # Errors
    /// A sentence, if nothing could run in a slice of such a GPU.
    pub fn new(cpus: Option<f64>, memory: Option<Bytes>, host: &Host) -> Result<Self, String> {
        let cpus = cpus.unwrap_or(0.6 * f64::from(host.cpus));
        if !(cpus.is_finite() && (0.01..=4096.0).contains(&cpus)) {
            return Err(format!(
                "{cpus} CPUs for a GPU: expected a number from 0.01 to 4096"
            ));
        }
        if let Some(memory) = memory.filter(|memory| *memory < LEAST_GPU_MEMORY) {
            return Err(format!(
                "{memory} of memory for a GPU: expected at least {LEAST_GPU_MEMORY}"
            ));
        }
        Ok(Self { cpus, memory })
    }
}

/// The machine under the simulation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Host {
    pub cpus: u32,
    pub memory: Bytes,
}

impl Host {
    /// CPUs that this process may use, and the machine's memory (`MemTotal`).
    pub fn read() -> Self {
        let cpus =
            std::thread::available_parallelism().map_or(1, |n| u32::try_from(n.get()).unwrap_or(u32::MAX));
        let memory = std::fs::read_to_string("/proc/meminfo")
            .ok()
            .and_then(|text| {
                let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
                line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()
            })
            .map_or(Bytes(0), |kib| Bytes(kib * 1024));
        Self { cpus, memory }
    }
}

/// The simulated machine as a document, with every slice free.
pub fn simulate(topology: &Topology, scaling: &Scaling) -> MigsDocument {
    let mut gpus = Vec::new();
    let mut slices = Vec::new();
    for group in topology.groups() {
        for _ in 0..group.gpus {
            let index = u32::try_from(gpus.len()).expect("a topology has at most 10000 GPUs");
            let gpu = Gpu {
                uuid: gpu_uuid(index, &group.model),
                index,
                model: group.model.clone(),
                memory_bytes: scaling.memory.unwrap_or(group.memory),
                mig: matches!(group.cut, Cut::Slices { .. }),
                numa: None,
                pci: None,
            };
            match &group.cut {
                Cut::Full { sms } => slices.push(whole(&gpu, *sms, scaling)),
                Cut::Slices {
                    compute_slices,
                    slices: placed,
                } => slices.extend(
                    placed
                        .iter()
                        .map(|placed| part(&gpu, group, *compute_slices, *placed, scaling)),
                ),
            }
            gpus.push(gpu);
        }
    }
    MigsDocument {
        schema: MigsSchema::V1,
        taken_at: super::now(),
        source: InventorySource::Simulated,
        driver: None,
        gpus,
        slices,
    }
}

fn whole(gpu: &Gpu, sms: Option<u32>, scaling: &Scaling) -> Slice {
    let memory = whole_pages(gpu.memory_bytes.0 as f64);
    Slice {
        uuid: gpu.uuid.as_str().parse().expect("a GPU's UUID is a slice UUID"),
        gpu_uuid: gpu.uuid.clone(),
        profile: "full".parse::<ProfileName>().expect("full is a profile"),
        gi: None,
        ci: None,
        placement: None,
        compute_slices: 7,
        sms,
        memory_bytes: memory,
        state: SliceState::Free,
        owners: Vec::new(),
        cpu_quota: Some(rounded(scaling.cpus)),
        mem_limit: Some(memory),
    }
}

fn part(gpu: &Gpu, group: &Group, compute_slices: u32, placed: Placed, scaling: &Scaling) -> Slice {
    let profile = placed.profile;
    let share = profile.memory.0 as f64 / group.memory.0 as f64;
    let memory = whole_pages(gpu.memory_bytes.0 as f64 * share);
    let cpus = scaling.cpus * f64::from(profile.compute_slices) / f64::from(compute_slices);
    Slice {
        uuid: slice_uuid(gpu, placed),
        gpu_uuid: gpu.uuid.clone(),
        profile: profile.name.parse().expect("the tables hold valid names"),
        gi: Some(instance_id(compute_slices, placed)),
        ci: Some(0),
        placement: Some(Placement {
            start: placed.start,
            size: profile.size,
        }),
        compute_slices: profile.compute_slices,
        sms: Some(profile.sms),
        memory_bytes: memory,
        state: SliceState::Free,
        owners: Vec::new(),
        cpu_quota: Some(rounded(cpus)),
        mem_limit: Some(memory),
    }
}

/// Where drivers are seen to number GPU instances: by size, then by start slot.
fn instance_id(compute_slices: u32, placed: Placed) -> u32 {
    let size = placed.profile.size;
    let first = match (compute_slices, size) {
        (7, 8) | (4, 4) => 0,
        (7, 4) | (4, 2) => 1,
        (7, 2) | (4, 1) => 3,
        _ => 7,
    };
    first + placed.start / size
}

fn gpu_uuid(index: u32, model: &str) -> GpuUuid {
    let name = format!("{index}/{model}");
    format!("GPU-{}", Uuid::new_v5(&NAMESPACE, name.as_bytes()))
        .parse()
        .expect("made in the right shape")
}

fn slice_uuid(gpu: &Gpu, placed: Placed) -> SliceUuid {
    let name = format!("{}/{}@{}", gpu.uuid, placed.profile.name, placed.start);
    format!("MIG-{}", Uuid::new_v5(&NAMESPACE, name.as_bytes()))
        .parse()
        .expect("made in the right shape")
}

fn whole_pages(bytes: f64) -> Bytes {
    Bytes((bytes as u64 / PAGE * PAGE).max(PAGE))
}

/// Four decimals: finer than any quota.
fn rounded(cpus: f64) -> f64 {
    (cpus * 1e4).round().max(1.0) / 1e4
}

/// A sentence, if the simulated GPUs promise more than the machine has.
pub fn overcommitment(document: &MigsDocument, host: &Host) -> Option<String> {
    let cpus: f64 = document.slices.iter().filter_map(|slice| slice.cpu_quota).sum();
    let memory: Bytes = document.slices.iter().filter_map(|slice| slice.mem_limit).sum();
    let mut promised = Vec::new();
    if cpus > f64::from(host.cpus) {
        promised.push(format!("{cpus:.1} CPUs of {}", host.cpus));
    }
    if memory > host.memory {
        promised.push(format!("{memory} of memory of {}", host.memory));
    }
    (!promised.is_empty()).then(|| {
        format!(
            "the slices together may use {}: times measured while many of them work are longer than alone",
            promised.join(" and ")
        )
    })
}

/// Reads `2GiB`, `512MiB`, `2G` or a number of bytes.
///
/// # Errors
/// A sentence that names the text and what was expected.
pub fn parse_memory(text: &str) -> Result<Bytes, String> {
    let invalid =
        || format!("{text:?} is not an amount of memory: expected a number such as 2GiB, 512MiB or 1.5GiB");
    let trimmed = text.trim();
    let unit_at = trimmed
        .find(|c: char| c.is_ascii_alphabetic())
        .unwrap_or(trimmed.len());
    let (number, unit) = trimmed.split_at(unit_at);
    let factor: u64 = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        "t" | "tib" => 1 << 40,
        _ => return Err(invalid()),
    };
    let number: f64 = number.trim().parse().map_err(|_| invalid())?;
    let bytes = number * factor as f64;
    if number.is_finite() && (0.0..=(1u64 << 52) as f64).contains(&bytes) {
        Ok(Bytes(bytes as u64))
    } else {
        Err(invalid())
    }
}

/// The inventory of a daemon that simulates its GPUs.
#[derive(Debug)]
pub struct Simulated {
    pub topology: Topology,
    pub scaling: Scaling,
}

impl GpuInventory for Simulated {
    fn read(&self) -> Result<MigsDocument, Error> {
        Ok(simulate(&self.topology, &self.scaling))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    const HOST: Host = Host {
        cpus: 10,
        memory: Bytes::mib(16384),
    };

    #[test]
    fn slices_get_their_share_of_cpus_and_memory() {
        let migs = migs(
            "[4g.40gb+2g.20gb+1g.10gb]@A100-80GB",
            Some(7.0),
            Some(Bytes::mib(8192)),
        );
        let shares: Vec<_> = migs
            .slices
            .iter()
            .map(|s| (s.profile.as_str(), s.cpu_quota, s.mem_limit.map(Bytes::as_mib)))
            .collect();
        assert_eq!(
            shares,
            [
                ("4g.40gb", Some(4.0), Some(4019)),
                ("2g.20gb", Some(2.0), Some(1996)),
                ("1g.10gb", Some(1.0), Some(985)),
            ]
        );
        assert!(migs.slices.iter().all(|s| Some(s.memory_bytes) == s.mem_limit));
        assert_eq!(migs.gpus[0].memory_bytes, Bytes::mib(8192));
    }

    #[test]
    fn unscaled_slices_have_what_the_driver_reports() {
        let migs = migs("[7x1g.10gb]@A100-80GB", None, None);
        assert!(
            migs.slices
                .iter()
                .all(|s| s.memory_bytes == Bytes(10_334_765_056))
        );
        assert_eq!(migs.slices[6].gi, Some(13));
        assert_eq!(migs.slices[0].cpu_quota, Some(0.8571));
    }

    #[test]
    fn a_gpu_without_mig_is_one_slice_with_the_gpus_uuid() {
        let migs = migs("[full]@L40S:46068", Some(2.0), None);
        let [slice] = migs.slices.as_slice() else {
            panic!("one slice")
        };
        assert_eq!(slice.uuid.as_str(), migs.gpus[0].uuid.as_str());
        assert_eq!((slice.profile.as_str(), slice.compute_slices), ("full", 7));
        assert_eq!(
            (slice.cpu_quota, slice.memory_bytes),
            (Some(2.0), Bytes::mib(46068))
        );
        assert!(!migs.gpus[0].mig);
    }

    #[test]
    fn uuids_are_all_different_and_the_same_next_time() {
        let text = "8x[4g.40gb+2g.20gb+1g.10gb]@A100-80GB,[full]@A30-24GB";
        let (one, two) = (migs(text, None, None), migs(text, None, None));
        let uuids: BTreeSet<_> = one.slices.iter().map(|s| s.uuid.clone()).collect();
        assert_eq!(uuids.len(), 25);
        assert_eq!(one.slices, two.slices);
        let parsed: Uuid = one.slices[0].uuid.as_str()[4..].parse().expect("a UUID");
        assert_eq!(parsed.get_version_num(), 5);
    }

    #[test]
    fn promising_more_than_the_machine_has_is_said() {
        let alone = migs("[7g.80gb]@A100-80GB", None, Some(Bytes::mib(4096)));
        assert_eq!(overcommitment(&alone, &HOST), None);
        let eight = migs("8x[7g.80gb]@A100-80GB", None, Some(Bytes::mib(4096)));
        assert_eq!(
            overcommitment(&eight, &HOST).expect("too much"),
            "the slices together may use 48.0 CPUs of 10 and 31 GiB of memory of 16 GiB: \
             times measured while many of them work are longer than alone"
        );
    }

    #[test]
    fn what_cannot_stand_for_a_gpu_is_refused() {
        for cpus in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(Scaling::new(Some(cpus), None, &HOST).is_err(), "{cpus}");
        }
        let error = Scaling::new(None, Some(Bytes::mib(1)), &HOST).expect_err("too small");
        assert_eq!(error, "1 MiB of memory for a GPU: expected at least 8 MiB");
    }

    #[test]
    fn memory_is_read_with_its_unit() {
        assert_eq!(parse_memory("2GiB"), Ok(Bytes::mib(2048)));
        assert_eq!(parse_memory(" 1.5 gib "), Ok(Bytes::mib(1536)));
        assert_eq!(parse_memory("512M"), Ok(Bytes::mib(512)));
        assert_eq!(parse_memory("4096"), Ok(Bytes(4096)));
        for text in ["", "GiB", "-1GiB", "2GB", "2 parsecs", "nan", "1e300G", "infG"] {
            let error = parse_memory(text).expect_err(text);
            assert!(
                error.starts_with(&format!("{text:?} is not an amount of memory")),
                "{error}"
            );
        }
    }

    fn migs(text: &str, cpus: Option<f64>, memory: Option<Bytes>) -> MigsDocument {
        let topology = text.parse().expect("legal");
        simulate(&topology, &Scaling::new(cpus, memory, &HOST).expect("sensible"))
    }
}
