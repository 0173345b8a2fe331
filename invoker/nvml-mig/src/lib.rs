//! The NVML calls about MIG devices that `nvml-wrapper` has in its table, but does not wrap.
//!
//! A crate of its own, so that the invoker has no `unsafe`.

use nvml_wrapper::bitmasks::event::EventTypes;
use nvml_wrapper::error::{NvmlError, nvml_sym, nvml_try};
use nvml_wrapper::{Device, EventSet, Nvml};
use std::ffi::OsStr;
use std::mem::ManuallyDrop;
use std::ops::Deref;

/// NVML, once its library is known to have what is called without asking when it is dropped.
#[derive(Debug)]
pub struct Library(Nvml);

impl Library {
    /// Loads and initialises NVML; none: `libnvidia-ml.so.1`, wherever the system finds it.
    ///
    /// # Errors
    /// As `nvmlInit_v2`, or if the library lacks a function that is needed to let go of it.
    pub fn open(path: Option<&OsStr>) -> Result<Self, NvmlError> {
        let mut builder = Nvml::builder();
        if let Some(path) = path {
            builder.lib_path(path);
        }
        // `Nvml` and `EventSet` panic in `drop` where these are missing.
        let nvml = ManuallyDrop::new(builder.init()?);
        nvml_sym(nvml.lib().nvmlShutdown.as_ref())?;
        nvml_sym(nvml.lib().nvmlEventSetFree.as_ref())?;
        Ok(Self(ManuallyDrop::into_inner(nvml)))
    }
}

impl Deref for Library {
    type Target = Nvml;
    fn deref(&self) -> &Nvml {
        &self.0
    }
}

/// Id of the GPU instance that a MIG device lies in (`nvmlDeviceGetGpuInstanceId`).
///
/// # Errors
/// As NVML has them.
pub fn gpu_instance_id(mig: &Device<'_>) -> Result<u32, NvmlError> {
    let call = nvml_sym(mig.nvml().lib().nvmlDeviceGetGpuInstanceId.as_ref())?;
    let mut id = 0;
    // SAFETY: the handle is NVML's own, and `id` outlives the call.
    nvml_try(unsafe { call(mig.handle(), &mut id) })?;
    Ok(id)
}

/// Id of a MIG device's compute instance, in its GPU instance (`nvmlDeviceGetComputeInstanceId`).
///
/// # Errors
/// As NVML has them.
pub fn compute_instance_id(mig: &Device<'_>) -> Result<u32, NvmlError> {
    let call = nvml_sym(mig.nvml().lib().nvmlDeviceGetComputeInstanceId.as_ref())?;
    let mut id = 0;
    // SAFETY: the handle is NVML's own, and `id` outlives the call.
    nvml_try(unsafe { call(mig.handle(), &mut id) })?;
    Ok(id)
}

/// First memory slot and number of slots of a GPU instance (`nvmlGpuInstanceGetInfo`).
///
/// # Errors
/// As NVML has them: `NoPermission` for all but root.
pub fn placement(gpu: &Device<'_>, gpu_instance: u32) -> Result<(u32, u32), NvmlError> {
    let lib = gpu.nvml().lib();
    let by_id = nvml_sym(lib.nvmlDeviceGetGpuInstanceById.as_ref())?;
    let info_of = nvml_sym(lib.nvmlGpuInstanceGetInfo.as_ref())?;
    let mut instance = std::ptr::null_mut();
    // SAFETY: the handle is NVML's own, and `instance` outlives the call.
    nvml_try(unsafe { by_id(gpu.handle(), gpu_instance, &mut instance) })?;
    // SAFETY: integers and a pointer that nothing follows: zero is a value of each.
    let mut info = unsafe { std::mem::zeroed() };
    // SAFETY: `instance` comes from the call before, and `info` outlives this one.
    nvml_try(unsafe { info_of(instance, &mut info) })?;
    Ok((info.placement.start, info.placement.size))
}

/// Something that NVML tells.
#[derive(Debug)]
pub struct Event<'nvml> {
    pub gpu: Device<'nvml>,
    pub types: EventTypes,
    /// The XID, for a critical error.
    pub data: u64,
    /// GPU instance and compute instance, where it is about one.
    pub instance: Option<(u32, u32)>,
}

/// Waits for an event; none if none came in so many milliseconds (`nvmlEventSetWait_v2`).
///
/// # Errors
/// As NVML has them: `GpuLost` if a GPU has fallen off the bus.
pub fn wait<'nvml>(set: &EventSet<'nvml>, timeout_ms: u32) -> Result<Option<Event<'nvml>>, NvmlError> {
    let call = nvml_sym(set.nvml.lib().nvmlEventSetWait_v2.as_ref())?;
    // SAFETY: integers and a pointer that nothing follows: zero is a value of each.
    let mut data = unsafe { std::mem::zeroed() };
    // SAFETY: the set is alive, and `data` outlives the call.
    match nvml_try(unsafe { call(set.handle(), &mut data, timeout_ms) }) {
        Ok(()) => {}
        Err(NvmlError::Timeout) => return Ok(None),
        Err(error) => return Err(error),
    }
    let instance = (data.gpuInstanceId, data.computeInstanceId);
    Ok(Some(Event {
        // SAFETY: NVML has filled in the GPU's handle.
        gpu: unsafe { Device::new(data.device, set.nvml) },
        types: EventTypes::from_bits_truncate(data.eventType),
        data: data.eventData,
        instance: (instance.0 != u32::MAX).then_some(instance),
    }))
}
