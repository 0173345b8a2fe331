//! NVML's structures as C lays them out on x86-64 and aarch64. Source: `nvml.h`.

use std::ffi::c_char;
use std::mem::{offset_of, size_of};

#[repr(C)]
pub(crate) struct Attributes {
    pub(crate) multiprocessors: u32,
    pub(crate) engines: [u32; 5],
    pub(crate) gpu_instance_slices: u32,
    pub(crate) compute_instance_slices: u32,
    pub(crate) memory_mb: u64,
}

#[repr(C)]
pub(crate) struct Memory {
    pub(crate) version: u32,
    pub(crate) total: u64,
    pub(crate) reserved: u64,
    pub(crate) free: u64,
    pub(crate) used: u64,
}
/// What the caller has to write into `version`.
pub(crate) const MEMORY_VERSION: u32 = size_of::<Memory>() as u32 | 2 << 24;

#[repr(C)]
pub(crate) struct Placement {
    pub(crate) start: u32,
    pub(crate) size: u32,
}

#[repr(C)]
pub(crate) struct GpuInstanceInfo {
    pub(crate) device: usize,
    pub(crate) id: u32,
    pub(crate) profile_id: u32,
    pub(crate) placement: Placement,
}

#[repr(C)]
pub(crate) struct Pci {
    pub(crate) bus_id_legacy: [c_char; 16],
    pub(crate) domain: u32,
    pub(crate) bus: u32,
    pub(crate) device: u32,
    pub(crate) device_id: u32,
    pub(crate) subsystem_id: u32,
    pub(crate) bus_id: [c_char; 32],
}

#[repr(C)]
pub(crate) struct Utilization {
    pub(crate) gpu: u32,
    pub(crate) memory: u32,
}

#[repr(C)]
pub(crate) struct EventData {
    pub(crate) device: usize,
    pub(crate) types: u64,
    pub(crate) data: u64,
    pub(crate) gpu_instance: u32,
    pub(crate) compute_instance: u32,
}

const _: () = {
    assert!(size_of::<Attributes>() == 40 && offset_of!(Attributes, memory_mb) == 32);
    assert!(offset_of!(Attributes, gpu_instance_slices) == 24);
    assert!(size_of::<Memory>() == 40 && offset_of!(Memory, total) == 8);
    assert!(offset_of!(Memory, reserved) == 16 && offset_of!(Memory, free) == 24);
    assert!(offset_of!(Memory, used) == 32 && MEMORY_VERSION == 0x0200_0028);
    assert!(size_of::<Placement>() == 8);
    assert!(size_of::<GpuInstanceInfo>() == 24 && offset_of!(GpuInstanceInfo, placement) == 16);
    assert!(offset_of!(GpuInstanceInfo, id) == 8 && offset_of!(GpuInstanceInfo, profile_id) == 12);
    assert!(size_of::<Pci>() == 68 && offset_of!(Pci, bus_id) == 36 && offset_of!(Pci, domain) == 16);
    assert!(size_of::<Utilization>() == 8);
    assert!(size_of::<EventData>() == 32 && offset_of!(EventData, gpu_instance) == 24);
};
