//! The functions that a program finds in the library.
//!
//! Every pointer of a caller is checked for null and written once; handles are numbers, and looked up.
#![expect(unreachable_pub, reason = "they are found by name, in the library")]

use crate::layout::{
    Attributes, EventData, GpuInstanceInfo, MEMORY_VERSION, Memory, Pci, Placement, Utilization,
};
use crate::world::{
    Events, Failure, MIG_CONFIG, Object, World, XID, answer, driver_name, initialize, shut_down, slices_of,
};
use proto::ffs::migs::Slice;
use proto::id::GpuUuid;
use std::ffi::{CStr, c_char};
use std::time::{Duration, Instant};

/// Newest interface that is copied here.
const DRIVER: &str = "570.86.15";
const NVML: &str = "12.570.86.15";
const CUDA: i32 = 12080;
/// How often the file is looked at while somebody waits for events.
const LOOK: Duration = Duration::from_millis(10);

/// Writes what a call answers.
///
/// # Safety
/// `to` is null, or the caller's room for one `T`.
unsafe fn put<T>(to: *mut T, value: T) -> Result<(), Failure> {
    if to.is_null() {
        return Err(Failure::InvalidArgument);
    }
    // SAFETY: the caller's promise.
    unsafe { to.write(value) };
    Ok(())
}

/// Writes a text with its zero.
///
/// # Safety
/// `to` is null, or the caller's room for `length` characters.
unsafe fn put_text(to: *mut c_char, length: u32, text: &str) -> Result<(), Failure> {
    if to.is_null() {
        return Err(Failure::InvalidArgument);
    }
    if text.len() >= length as usize {
        return Err(Failure::InsufficientSize);
    }
    // SAFETY: the text and its zero are within the caller's room, which is not ours.
    unsafe {
        std::ptr::copy_nonoverlapping(text.as_ptr().cast(), to, text.len());
        to.add(text.len()).write(0);
    }
    Ok(())
}

/// A function of NVML's interface: its body answers with what it could not do.
macro_rules! nvml {
    ($($(#[$doc:meta])* fn $name:ident($world:ident, $($argument:ident: $type:ty),* $(,)?) $body:block)*) => {$(
        $(#[$doc])*
        /// # Safety
        /// As NVML's function of this name has it: pointers are null or the caller's own.
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $name($($argument: $type),*) -> u32 {
            answer(|$world| $body)
        }
    )*};
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlInit_v2() -> u32 {
    initialize()
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlInitWithFlags(_flags: u32) -> u32 {
    initialize()
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlShutdown() -> u32 {
    shut_down()
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlErrorString(status: u32) -> *const c_char {
    let text: &CStr = match status {
        0 => c"Success",
        1 => c"Uninitialized",
        2 => c"Invalid Argument",
        3 => c"Not Supported",
        4 => c"Insufficient Permissions",
        6 => c"Not Found",
        7 => c"Insufficient Size",
        9 => c"Driver Not Loaded",
        10 => c"Timeout",
        15 => c"GPU is lost",
        25 => c"Argument version mismatch",
        _ => c"Unknown Error",
    };
    text.as_ptr()
}

nvml! {
    fn nvmlSystemGetDriverVersion(world, version: *mut c_char, length: u32) {
        let driver = world.machine()?.migs.driver.clone();
        // SAFETY: the caller's promise.
        unsafe { put_text(version, length, driver.as_deref().unwrap_or(DRIVER)) }
    }
    fn nvmlSystemGetNVMLVersion(_world, version: *mut c_char, length: u32) {
        // SAFETY: the caller's promise.
        unsafe { put_text(version, length, NVML) }
    }
    fn nvmlSystemGetCudaDriverVersion_v2(_world, version: *mut i32) {
        // SAFETY: the caller's promise.
        unsafe { put(version, CUDA) }
    }
    fn nvmlDeviceGetCount_v2(world, count: *mut u32) {
        let gpus = world.machine()?.migs.gpus.len();
        // SAFETY: the caller's promise.
        unsafe { put(count, gpus as u32) }
    }
    fn nvmlDeviceGetHandleByIndex_v2(world, index: u32, device: *mut usize) {
        let gpu = world.machine()?.migs.gpus.get(index as usize);
        let uuid = gpu.ok_or(Failure::InvalidArgument)?.uuid.clone();
        world.gpu_called(&uuid)?;
        // SAFETY: the caller's promise.
        unsafe { put(device, world.handle(Object::Gpu(uuid))) }
    }
    fn nvmlDeviceGetHandleByUUID(world, uuid: *const c_char, device: *mut usize) {
        if uuid.is_null() {
            return Err(Failure::InvalidArgument);
        }
        // SAFETY: the caller's text, which ends with a zero.
        let uuid = unsafe { CStr::from_ptr(uuid) }.to_str().map_err(|_| Failure::InvalidArgument)?;
        let object = find(world, uuid)?;
        // SAFETY: the caller's promise.
        unsafe { put(device, world.handle(object)) }
    }
    fn nvmlDeviceGetUUID(world, device: usize, uuid: *mut c_char, length: u32) {
        let text = match world.mig(device) {
            Ok((_, slice)) => slice.uuid.to_string(),
            Err(Failure::NotSupported) => world.gpu(device)?.uuid.to_string(),
            Err(failure) => return Err(failure),
        };
        // SAFETY: the caller's promise.
        unsafe { put_text(uuid, length, &text) }
    }
    fn nvmlDeviceGetName(world, device: usize, name: *mut c_char, length: u32) {
        let text = match world.mig(device) {
            Ok((gpu, slice)) => format!("{} MIG {}", driver_name(&gpu.model), slice.profile),
            Err(Failure::NotSupported) => driver_name(&world.gpu(device)?.model),
            Err(failure) => return Err(failure),
        };
        // SAFETY: the caller's promise.
        unsafe { put_text(name, length, &text) }
    }
    fn nvmlDeviceGetIndex(world, device: usize, index: *mut u32) {
        let number = world.gpu(device)?.index;
        // SAFETY: the caller's promise.
        unsafe { put(index, number) }
    }
    fn nvmlDeviceGetMinorNumber(world, device: usize, minor: *mut u32) {
        let number = world.gpu(device)?.index;
        // SAFETY: the caller's promise.
        unsafe { put(minor, number) }
    }
    fn nvmlDeviceGetPciInfo_v3(world, device: usize, pci: *mut Pci) {
        let id = world.gpu(device)?.pci.clone().ok_or(Failure::NotSupported)?;
        // SAFETY: the caller's promise.
        unsafe { put(pci, pci_of(&id).ok_or(Failure::Unknown)?) }
    }
    fn nvmlDeviceGetCudaComputeCapability(world, device: usize, major: *mut i32, minor: *mut i32) {
        let capability = capability(&world.gpu(device)?.model);
        // SAFETY: the caller's promise.
        unsafe { put(major, capability.0).and_then(|()| put(minor, capability.1)) }
    }
    fn nvmlDeviceGetNumGpuCores(world, device: usize, cores: *mut u32) {
        let gpu = world.gpu(device)?.clone();
        let whole = |slice: &&Slice| slice.uuid.as_str() == gpu.uuid.as_str();
        let sms = world.machine()?.migs.slices.iter().find(whole).and_then(|slice| slice.sms);
        let each = if capability(&gpu.model) == (8, 0) { 64 } else { 128 };
        // SAFETY: the caller's promise.
        unsafe { put(cores, sms.ok_or(Failure::NotSupported)? * each) }
    }
    fn nvmlDeviceGetUtilizationRates(world, device: usize, utilization: *mut Utilization) {
        if world.gpu(device)?.mig {
            return Err(Failure::NotSupported);
        }
        // SAFETY: the caller's promise.
        unsafe { put(utilization, Utilization { gpu: 0, memory: 0 }) }
    }
    fn nvmlDeviceGetMigMode(world, device: usize, current: *mut u32, pending: *mut u32) {
        let gpu = world.gpu(device)?;
        let can = gpu.mig || is_divisible(&gpu.model);
        let mode = u32::from(gpu.mig);
        if !can {
            return Err(Failure::NotSupported);
        }
        // SAFETY: the caller's promise.
        unsafe { put(current, mode).and_then(|()| put(pending, mode)) }
    }
    fn nvmlDeviceGetMaxMigDeviceCount(world, device: usize, count: *mut u32) {
        let gpu = world.gpu(device)?;
        let most = match (gpu.mig, gpu.model.starts_with("A30")) {
            (false, _) => 0,
            (true, true) => 4,
            (true, false) => 7,
        };
        // SAFETY: the caller's promise.
        unsafe { put(count, most) }
    }
    fn nvmlDeviceGetMigDeviceHandleByIndex(world, device: usize, index: u32, mig: *mut usize) {
        let gpu = world.gpu(device)?.uuid.clone();
        let index = index as usize;
        world.mig_at(&gpu, index)?;
        // SAFETY: the caller's promise.
        unsafe { put(mig, world.handle(Object::Mig { gpu, index })) }
    }
    fn nvmlDeviceIsMigDeviceHandle(world, device: usize, is_mig: *mut u32) {
        let answer = match world.object(device)? {
            Object::Gpu(_) => 0,
            Object::Mig { .. } => 1,
            Object::GpuInstance { .. } | Object::Events(_) => return Err(Failure::InvalidArgument),
        };
        // SAFETY: the caller's promise.
        unsafe { put(is_mig, answer) }
    }
    fn nvmlDeviceGetDeviceHandleFromMigDeviceHandle(world, mig: usize, device: *mut usize) {
        let gpu = world.mig(mig)?.0.uuid.clone();
        // SAFETY: the caller's promise.
        unsafe { put(device, world.handle(Object::Gpu(gpu))) }
    }
    fn nvmlDeviceGetGpuInstanceId(world, device: usize, id: *mut u32) {
        let number = world.mig(device)?.1.gi.ok_or(Failure::NotSupported)?;
        // SAFETY: the caller's promise.
        unsafe { put(id, number) }
    }
    fn nvmlDeviceGetComputeInstanceId(world, device: usize, id: *mut u32) {
        let number = world.mig(device)?.1.ci.ok_or(Failure::NotSupported)?;
        // SAFETY: the caller's promise.
        unsafe { put(id, number) }
    }
    fn nvmlDeviceGetAttributes_v2(world, device: usize, attributes: *mut Attributes) {
        let slice = world.mig(device)?.1;
        let (gpu_instance_slices, compute_instance_slices) = slices_of(&slice.profile);
        let found = Attributes {
            multiprocessors: slice.sms.unwrap_or(0),
            engines: [gpu_instance_slices, 0, 0, 0, 0],
            gpu_instance_slices,
            compute_instance_slices,
            memory_mb: slice.memory_bytes.as_mib(),
        };
        // SAFETY: the caller's promise.
        unsafe { put(attributes, found) }
    }
    fn nvmlDeviceGetMemoryInfo_v2(world, device: usize, memory: *mut Memory) {
        let total = match world.mig(device) {
            Ok((_, slice)) => slice.memory_bytes.0,
            Err(Failure::NotSupported) => world.gpu(device)?.memory_bytes.0,
            Err(failure) => return Err(failure),
        };
        if memory.is_null() {
            return Err(Failure::InvalidArgument);
        }
        // SAFETY: the caller's structure, of which NVML demands that its first field says which it is.
        let version = unsafe { (&raw const (*memory).version).read() };
        if version != MEMORY_VERSION {
            return Err(Failure::ArgumentVersionMismatch);
        }
        // SAFETY: the caller's promise.
        unsafe { put(memory, Memory { version, total, reserved: 0, free: total, used: 0 }) }
    }
    fn nvmlDeviceGetComputeRunningProcesses_v3(world, device: usize, count: *mut u32, _processes: *mut u8) {
        if !matches!(world.mig(device), Ok(_) | Err(Failure::NotSupported)) {
            return Err(Failure::InvalidArgument);
        }
        // SAFETY: the caller's promise.
        unsafe { put(count, 0) }
    }
    fn nvmlDeviceGetGpuInstanceById(world, device: usize, id: u32, instance: *mut usize) {
        let gpu = world.gpu(device)?.uuid.clone();
        if world.machine()?.faults.unprivileged {
            return Err(Failure::NoPermission);
        }
        gpu_instance(world, &gpu, id)?;
        // SAFETY: the caller's promise.
        unsafe { put(instance, world.handle(Object::GpuInstance { gpu, id })) }
    }
    fn nvmlGpuInstanceGetInfo(world, instance: usize, info: *mut GpuInstanceInfo) {
        let Object::GpuInstance { gpu, id } = world.object(instance)?.clone() else {
            return Err(Failure::InvalidArgument);
        };
        let placement = gpu_instance(world, &gpu, id)?.placement.ok_or(Failure::NotSupported)?;
        let found = GpuInstanceInfo {
            device: world.handle(Object::Gpu(gpu)),
            id,
            profile_id: 0,
            placement: Placement { start: placement.start, size: placement.size },
        };
        // SAFETY: the caller's promise.
        unsafe { put(info, found) }
    }
    fn nvmlEventSetCreate(world, set: *mut usize) {
        let seen = world.machine()?.faults.events.len();
        // SAFETY: the caller's promise.
        unsafe { put(set, world.handle(Object::Events(Events { wanted: Vec::new(), seen }))) }
    }
    fn nvmlDeviceGetSupportedEventTypes(world, device: usize, types: *mut u64) {
        world.gpu(device)?;
        // SAFETY: the caller's promise.
        unsafe { put(types, XID | MIG_CONFIG) }
    }
    fn nvmlDeviceRegisterEvents(world, device: usize, types: u64, set: usize) {
        let gpu = world.gpu(device)?.uuid.clone();
        match world.object(set)? {
            Object::Events(events) => events.wanted.push((gpu, types)),
            _ => return Err(Failure::InvalidArgument),
        }
        Ok(())
    }
    fn nvmlEventSetFree(world, set: usize) {
        match world.object(set)? {
            Object::Events(events) => events.wanted.clear(),
            _ => return Err(Failure::InvalidArgument),
        }
        Ok(())
    }
}

/// # Safety
/// As NVML's function of this name has it: `data` is null or the caller's room.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlEventSetWait_v2(set: usize, data: *mut EventData, timeout_ms: u32) -> u32 {
    let end = Instant::now() + Duration::from_millis(u64::from(timeout_ms));
    loop {
        let status = answer(|world| {
            let (happening, kind) = world.next_event(set)?;
            let (gpu_instance, compute_instance) = happening.instance.unwrap_or((u32::MAX, u32::MAX));
            let event = EventData {
                device: world.handle(Object::Gpu(happening.gpu)),
                types: kind,
                data: happening.xid.unwrap_or(0),
                gpu_instance,
                compute_instance,
            };
            // SAFETY: the caller's promise.
            unsafe { put(data, event) }
        });
        if status != Failure::Timeout as u32 || Instant::now() >= end {
            return status;
        }
        std::thread::sleep(LOOK);
    }
}

fn find(world: &World, uuid: &str) -> Result<Object, Failure> {
    let machine = world.machine()?;
    if let Some(gpu) = machine.migs.gpus.iter().find(|gpu| gpu.uuid.as_str() == uuid) {
        world.gpu_called(&gpu.uuid)?;
        return Ok(Object::Gpu(gpu.uuid.clone()));
    }
    let slice = machine
        .migs
        .slices
        .iter()
        .find(|slice| slice.uuid.as_str() == uuid);
    let gpu = slice.ok_or(Failure::NotFound)?.gpu_uuid.clone();
    let index = world.migs_of(&gpu)?.position(|slice| slice.uuid.as_str() == uuid);
    let index = index.ok_or(Failure::NotFound)?;
    world.mig_at(&gpu, index)?;
    Ok(Object::Mig { gpu, index })
}

fn gpu_instance<'a>(world: &'a World, gpu: &'a GpuUuid, id: u32) -> Result<&'a Slice, Failure> {
    world.gpu_called(gpu)?;
    let vanished = &world.machine()?.faults.vanished;
    let found = world
        .migs_of(gpu)?
        .find(|slice| slice.gi == Some(id) && !vanished.contains(&slice.uuid));
    found.ok_or(Failure::NotFound)
}

/// CUDA's major and minor number.
fn capability(model: &str) -> (i32, i32) {
    match model {
        model if model.starts_with("B200") => (10, 0),
        model if model.starts_with('H') => (9, 0),
        model if model.starts_with("L40") => (8, 9),
        _ => (8, 0),
    }
}

fn is_divisible(model: &str) -> bool {
    ["A30-", "A100-", "H100-", "H200-", "B200-"]
        .iter()
        .any(|board| model.starts_with(board))
}

/// `0000:3b:00.0` as NVML spells it.
fn pci_of(id: &str) -> Option<Pci> {
    let (domain, rest) = id.split_once(':')?;
    let (bus, rest) = rest.split_once(':')?;
    let (device, _function) = rest.split_once('.')?;
    let number = |digits| u32::from_str_radix(digits, 16).ok();
    let (domain, bus, device) = (number(domain)?, number(bus)?, number(device)?);
    let mut pci = Pci {
        bus_id_legacy: [0; 16],
        domain,
        bus,
        device,
        device_id: 0,
        subsystem_id: 0,
        bus_id: [0; 32],
    };
    copy(
        &mut pci.bus_id_legacy,
        &format!("{domain:04X}:{bus:02X}:{device:02X}.0"),
    );
    copy(&mut pci.bus_id, &format!("{domain:08X}:{bus:02X}:{device:02X}.0"));
    Some(pci)
}

/// All but the last character are text, so that a zero ends it.
fn copy(to: &mut [c_char], text: &str) {
    let room = to.len() - 1;
    for (to, byte) in to[..room].iter_mut().zip(text.bytes()) {
        *to = byte as c_char;
    }
}
