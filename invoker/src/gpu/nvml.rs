//! The GPUs of this machine, over NVML.
//!
//! Everything is known by its UUID, as NVML gives handles and indices out again. What has answered
//! once and does so no more is fenced; a MIG device that is not there any more is gone.

use super::{Error, GpuInventory};
use nvml_mig::{Event, Library, compute_instance_id, gpu_instance_id, placement, wait};
use nvml_wrapper::bitmasks::event::EventTypes;
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::{Device, EventSet};
use proto::ffs::migs::{Gpu, InventorySource, MigsDocument, MigsSchema, Placement, Slice, SliceState};
use proto::id::SliceUuid;
use proto::unit::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// Where the system finds NVML's library.
const LIBRARY: &str = "libnvidia-ml.so.1";
/// Between two readings if nothing is told.
const INTERVAL: Duration = Duration::from_secs(1);
/// What a program on the GPU did wrong; the GPU goes on. Source: NVIDIA's device plugin for Kubernetes.
const ERRORS_OF_APPLICATIONS: [u64; 6] = [13, 31, 43, 45, 68, 109];

/// The inventory of a machine with NVIDIA's driver.
#[derive(Debug)]
pub struct Nvml {
    library: Library,
    memory: Mutex<Memory>,
}

/// What earlier readings and events have said.
#[derive(Debug, Default)]
struct Memory {
    /// By index.
    gpus: BTreeMap<u32, (Gpu, Vec<Slice>)>,
    /// Index → what it answered, instead of what was asked.
    failing: BTreeMap<u32, String>,
    /// With a critical error, until they or their GPU have been away.
    sick: BTreeSet<SliceUuid>,
}

/// What cannot be read of a GPU.
#[derive(Debug, thiserror::Error)]
enum Unreadable {
    #[error(transparent)]
    Nvml(#[from] NvmlError),
    /// Something that NVML says, and nothing in our documents can be.
    #[error("{0}")]
    Strange(String),
}

impl Nvml {
    /// None: `libnvidia-ml.so.1`, wherever the system finds it.
    ///
    /// # Errors
    /// If there is no such library, or it finds no driver.
    pub fn open(library: Option<&Path>) -> Result<Self, Error> {
        let name = library.unwrap_or(Path::new(LIBRARY));
        let library = Library::open(library.map(Path::as_os_str)).map_err(|error| Error {
            reason: format!("NVML's library {} cannot be used: {error}", name.display()),
        })?;
        Ok(Self {
            library,
            memory: Mutex::default(),
        })
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read_gpu(&self, index: u32) -> Result<(Gpu, Vec<Slice>), Unreadable> {
        let device = self.library.device_by_index(index)?;
        let gpu = Gpu {
            uuid: parsed(&device.uuid()?)?,
            index,
            model: device.name()?,
            memory_bytes: Bytes(device.memory_info()?.total),
            mig: is_divided(&device)?,
            numa: device.numa_node_id().ok(),
            pci: device.pci_info().ok().map(|pci| pci.bus_id),
        };
        if !gpu.mig {
            let whole = whole(&gpu, &device)?;
            return Ok((gpu, vec![whole]));
        }
        let mut slices = Vec::new();
        for place in 0..device.mig_device_count()? {
            match part(&gpu, &device, place) {
                Ok(slice) => slices.push(slice),
                // Nothing is there, or no more: it was destroyed while it was read.
                Err(Unreadable::Nvml(NvmlError::NotFound | NvmlError::InvalidArg)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok((gpu, slices))
    }

    /// An event set for all GPUs that answer; none if there are no events here.
    fn listen(&self) -> Option<EventSet<'_>> {
        let wanted = EventTypes::CRITICAL_XID_ERROR | EventTypes::MIG_CONFIG_CHANGE;
        let mut set = self.library.create_event_set().ok()?;
        for index in 0..self.library.device_count().ok()? {
            let Ok(device) = self.library.device_by_index(index) else {
                continue;
            };
            let types = device.supported_event_types().unwrap_or(EventTypes::empty()) & wanted;
            if types.is_empty() {
                continue;
            }
            match device.register_events(types, set) {
                Ok(registered) => set = registered,
                Err(error) => {
                    warn!(gpu = index, %error, "no events of GPUs: critical errors go unseen");
                    return None;
                }
            }
        }
        Some(set)
    }

    /// Indices of the GPUs that do not answer.
    fn failing(&self) -> BTreeSet<u32> {
        self.memory().failing.keys().copied().collect()
    }
}

impl GpuInventory for Nvml {
    fn read(&self) -> Result<MigsDocument, Error> {
        let failed = |what: &str, error: &dyn std::fmt::Display| Error {
            reason: format!("{what}: {error}"),
        };
        let count = self
            .library
            .device_count()
            .map_err(|error| failed("the number of GPUs", &error))?;
        let read: Vec<_> = (0..count).map(|index| (index, self.read_gpu(index))).collect();
        let mut memory = self.memory();
        memory.gpus.retain(|index, _| *index < count);
        memory.failing.retain(|index, _| *index < count);
        for (index, result) in read {
            match result {
                Ok(found) => memory.answers(index, found),
                Err(error) if memory.gpus.contains_key(&index) || is_lost(&error) => {
                    memory.fails(index, &error.to_string());
                }
                Err(error) => return Err(failed(&format!("GPU {index}"), &error)),
            }
        }
        let (gpus, slices) = memory.picture();
        Ok(MigsDocument {
            schema: MigsSchema::V1,
            taken_at: super::now(),
            source: InventorySource::Nvml,
            driver: self.library.sys_driver_version().ok(),
            gpus,
            slices,
        })
    }

    fn watch(&self, mut known: MigsDocument, stop: &CancellationToken, tell: &mut dyn FnMut(MigsDocument)) {
        let mut failed = None;
        while !stop.is_cancelled() {
            // A GPU that is back has to be listened to anew.
            let (set, failing) = (self.listen(), self.failing());
            while !stop.is_cancelled() && self.failing() == failing {
                let told = set.as_ref().map(|set| wait(set, INTERVAL.as_millis() as u32));
                match told {
                    Some(Ok(Some(event))) => self.memory().happens(&event),
                    Some(Ok(None)) => {}
                    None | Some(Err(_)) => std::thread::sleep(INTERVAL),
                }
                match self.read() {
                    Ok(now) => {
                        failed = None;
                        if (&now.gpus, &now.slices) != (&known.gpus, &known.slices) {
                            info!(slices = now.slices.len(), "the inventory has changed");
                            known = now.clone();
                            tell(now);
                        }
                    }
                    Err(error) => {
                        let error = error.to_string();
                        if failed.as_ref() != Some(&error) {
                            warn!(error, "the inventory stays as it was");
                        }
                        failed = Some(error);
                    }
                }
            }
        }
    }
}

impl Memory {
    fn answers(&mut self, index: u32, (gpu, slices): (Gpu, Vec<Slice>)) {
        if self.failing.remove(&index).is_some() {
            info!(gpu = %gpu.uuid, "the GPU answers again");
        }
        // Another place, after one before it has gone.
        self.gpus
            .retain(|other, (known, _)| *other == index || known.uuid != gpu.uuid);
        self.gpus.insert(index, (gpu, slices));
    }

    fn fails(&mut self, index: u32, reason: &str) {
        if self.failing.get(&index).is_none_or(|known| known != reason) {
            warn!(gpu = index, reason, "the GPU does not answer, and is fenced");
        }
        self.failing.insert(index, reason.to_owned());
    }

    fn happens(&mut self, event: &Event<'_>) {
        if !event.types.contains(EventTypes::CRITICAL_XID_ERROR)
            || ERRORS_OF_APPLICATIONS.contains(&event.data)
        {
            return;
        }
        let Ok(uuid) = event.gpu.uuid() else { return };
        let hit = |slice: &&Slice| match event.instance {
            None => true,
            Some((gi, ci)) => slice.gi == Some(gi) && (slice.ci == Some(ci) || ci == u32::MAX),
        };
        let slices = self
            .gpus
            .values()
            .filter(|(gpu, _)| gpu.uuid.as_str() == uuid)
            .flat_map(|(_, slices)| slices);
        for slice in slices.filter(hit) {
            warn!(slice = %slice.uuid, xid = event.data, "a critical error: the slice is fenced");
            self.sick.insert(slice.uuid.clone());
        }
    }

    /// What is there; what must not be used is fenced.
    fn picture(&mut self) -> (Vec<Gpu>, Vec<Slice>) {
        let answering = |index: &u32| !self.failing.contains_key(index);
        let there: BTreeSet<&SliceUuid> = self
            .gpus
            .iter()
            .filter(|(index, _)| answering(index))
            .flat_map(|(_, (_, slices))| slices.iter().map(|slice| &slice.uuid))
            .collect();
        self.sick.retain(|uuid| there.contains(uuid));
        let mut slices = Vec::new();
        for (index, (_, known)) in &self.gpus {
            for slice in known {
                let mut slice = slice.clone();
                if self.failing.contains_key(index) || self.sick.contains(&slice.uuid) {
                    slice.state = SliceState::Fenced;
                }
                slices.push(slice);
            }
        }
        let gpus = self.gpus.values().map(|(gpu, _)| gpu.clone()).collect();
        (gpus, slices)
    }
}

fn is_lost(error: &Unreadable) -> bool {
    matches!(
        error,
        Unreadable::Nvml(NvmlError::GpuLost | NvmlError::ResetRequired)
    )
}

/// Whether MIG is on; boards and drivers that know nothing of it have it off.
fn is_divided(device: &Device<'_>) -> Result<bool, NvmlError> {
    match device.mig_mode() {
        Ok(mode) => Ok(mode.current == 1),
        Err(NvmlError::NotSupported | NvmlError::FunctionNotFound | NvmlError::FailedToLoadSymbol(_)) => {
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

fn whole(gpu: &Gpu, device: &Device<'_>) -> Result<Slice, Unreadable> {
    Ok(Slice {
        uuid: parsed(gpu.uuid.as_str())?,
        gpu_uuid: gpu.uuid.clone(),
        profile: parsed("full")?,
        gi: None,
        ci: None,
        placement: None,
        compute_slices: 7,
        sms: multiprocessors(device),
        memory_bytes: gpu.memory_bytes,
        state: SliceState::Free,
        owners: Vec::new(),
        cpu_quota: None,
        mem_limit: None,
    })
}

/// The MIG device at a place of a GPU.
fn part(gpu: &Gpu, device: &Device<'_>, place: u32) -> Result<Slice, Unreadable> {
    let mig = device.mig_device_by_index(place)?;
    let name = mig.name()?;
    let profile = name.rsplit_once(" MIG ").map(|(_, profile)| profile);
    let profile = profile.ok_or_else(|| {
        Unreadable::Strange(format!(
            "MIG device {place} is called {name:?}: expected a profile behind MIG, such as MIG 3g.40gb"
        ))
    })?;
    let attributes = mig.attributes()?;
    let gi = gpu_instance_id(&mig)?;
    Ok(Slice {
        uuid: parsed(&mig.uuid()?)?,
        gpu_uuid: gpu.uuid.clone(),
        profile: parsed(profile)?,
        gi: Some(gi),
        ci: Some(compute_instance_id(&mig)?),
        // For root alone.
        placement: placement(device, gi)
            .ok()
            .map(|(start, size)| Placement { start, size }),
        compute_slices: attributes.compute_instance_slice_count,
        sms: Some(attributes.multiprocessor_count),
        memory_bytes: Bytes(mig.memory_info()?.total),
        state: SliceState::Free,
        owners: Vec::new(),
        cpu_quota: None,
        mem_limit: None,
    })
}

/// Of a whole GPU, of which NVML counts the cores. Source: CUDA's programming guide, compute capabilities.
fn multiprocessors(device: &Device<'_>) -> Option<u32> {
    let capability = device.cuda_compute_capability().ok()?;
    let cores = match (capability.major, capability.minor) {
        (7, _) | (6 | 8, 0) => 64,
        (6 | 8.., _) => 128,
        _ => return None,
    };
    Some(device.num_cores().ok()? / cores)
}

fn parsed<T>(text: &str) -> Result<T, Unreadable>
where
    T: std::str::FromStr<Err: std::fmt::Display>,
{
    text.parse()
        .map_err(|error: T::Err| Unreadable::Strange(error.to_string()))
}
