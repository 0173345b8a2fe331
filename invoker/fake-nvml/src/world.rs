//! The machine of this moment, and the handles that were given out.

use crate::{Happening, Machine};
use proto::ffs::migs::{Gpu, Slice};
use proto::id::{GpuUuid, ProfileName};
use std::ffi::{CStr, OsStr, c_void};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// `nvmlReturn_t`, without success.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Failure {
    Uninitialized = 1,
    InvalidArgument = 2,
    NotSupported = 3,
    NoPermission = 4,
    NotFound = 6,
    InsufficientSize = 7,
    DriverNotLoaded = 9,
    Timeout = 10,
    GpuLost = 15,
    ArgumentVersionMismatch = 25,
    Unknown = 999,
}

/// What a handle stands for. A MIG device is named by its place, as NVML gives its handles out again.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Object {
    Gpu(GpuUuid),
    Mig { gpu: GpuUuid, index: usize },
    GpuInstance { gpu: GpuUuid, id: u32 },
    Events(Events),
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Events {
    pub(crate) wanted: Vec<(GpuUuid, u64)>,
    /// Happenings of the file that are told or not wanted.
    pub(crate) seen: usize,
}

pub(crate) const XID: u64 = 0x8;
pub(crate) const MIG_CONFIG: u64 = 0x100;

#[derive(Debug)]
pub(crate) struct World {
    initialized: u32,
    read: Option<(Stamp, Machine)>,
    objects: Vec<Object>,
}

type Stamp = (u64, i64, i64, u64);

static WORLD: Mutex<World> = Mutex::new(World {
    initialized: 0,
    read: None,
    objects: Vec::new(),
});

fn world() -> MutexGuard<'static, World> {
    WORLD.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Answers a call with the machine as it is now, no faster than it may.
pub(crate) fn answer(call: impl FnOnce(&mut World) -> Result<(), Failure>) -> u32 {
    let (slow, ready) = {
        let mut world = world();
        match world.initialized {
            0 => return Failure::Uninitialized as u32,
            _ => {
                let read = world.look();
                (world.slow(), read)
            }
        }
    };
    std::thread::sleep(slow);
    status(ready.and_then(|()| call(&mut world())))
}

fn status(result: Result<(), Failure>) -> u32 {
    result.map_or_else(|failure| failure as u32, |()| 0)
}

pub(crate) fn initialize() -> u32 {
    let mut world = world();
    let read = world.look();
    if read.is_err() || world.machine().is_ok_and(|machine| machine.faults.unloaded) {
        return Failure::DriverNotLoaded as u32;
    }
    world.initialized += 1;
    0
}

pub(crate) fn shut_down() -> u32 {
    let mut world = world();
    match world.initialized.checked_sub(1) {
        None => Failure::Uninitialized as u32,
        Some(left) => {
            world.initialized = left;
            0
        }
    }
}

impl World {
    /// Reads the file again if it has changed.
    fn look(&mut self) -> Result<(), Failure> {
        let looked = file().and_then(|path| {
            let named = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
            let stamp = stamp(&path).map_err(|error| named(&error))?;
            if self.read.as_ref().is_none_or(|(known, _)| *known != stamp) {
                let text = std::fs::read(&path).map_err(|error| named(&error))?;
                let machine = Machine::read(&text).map_err(|error| named(&error))?;
                self.read = Some((stamp, machine));
            }
            Ok(())
        });
        looked.map_err(|sentence| {
            eprintln!("fake-nvml: {sentence}");
            Failure::Unknown
        })
    }

    fn slow(&self) -> Duration {
        let slow = self
            .read
            .as_ref()
            .map_or(0, |(_, machine)| machine.faults.slow_ms);
        Duration::from_millis(slow)
    }

    pub(crate) fn machine(&self) -> Result<&Machine, Failure> {
        self.read
            .as_ref()
            .map(|(_, machine)| machine)
            .ok_or(Failure::Unknown)
    }

    /// The handle that stands for an object; never zero, and never a place in memory.
    pub(crate) fn handle(&mut self, object: Object) -> usize {
        let known = match &object {
            Object::Events(_) => None,
            _ => self.objects.iter().position(|other| *other == object),
        };
        let index = known.unwrap_or_else(|| {
            self.objects.push(object);
            self.objects.len() - 1
        });
        index + 1
    }

    pub(crate) fn object(&mut self, handle: usize) -> Result<&mut Object, Failure> {
        let index = handle.checked_sub(1).ok_or(Failure::InvalidArgument)?;
        self.objects.get_mut(index).ok_or(Failure::InvalidArgument)
    }

    /// The GPU behind a handle of its own.
    pub(crate) fn gpu(&mut self, handle: usize) -> Result<&Gpu, Failure> {
        match self.object(handle)?.clone() {
            Object::Gpu(uuid) => self.gpu_called(&uuid),
            _ => Err(Failure::InvalidArgument),
        }
    }

    pub(crate) fn gpu_called(&self, uuid: &GpuUuid) -> Result<&Gpu, Failure> {
        let machine = self.machine()?;
        if machine.faults.lost.contains(uuid) {
            return Err(Failure::GpuLost);
        }
        let found = machine.migs.gpus.iter().find(|gpu| gpu.uuid == *uuid);
        found.ok_or(Failure::InvalidArgument)
    }

    /// The MIG device behind a handle; destroyed ones are an invalid argument.
    pub(crate) fn mig(&mut self, handle: usize) -> Result<(&Gpu, &Slice), Failure> {
        match self.object(handle)?.clone() {
            Object::Mig { gpu, index } => {
                let found = self.mig_at(&gpu, index).map_err(|failure| match failure {
                    Failure::NotFound => Failure::InvalidArgument,
                    other => other,
                })?;
                Ok((self.gpu_called(&gpu)?, found))
            }
            Object::Gpu(_) => Err(Failure::NotSupported),
            _ => Err(Failure::InvalidArgument),
        }
    }

    pub(crate) fn mig_at(&self, gpu: &GpuUuid, index: usize) -> Result<&Slice, Failure> {
        self.gpu_called(gpu)?;
        let slice = self.migs_of(gpu)?.nth(index).ok_or(Failure::NotFound)?;
        match self.machine()?.faults.vanished.contains(&slice.uuid) {
            true => Err(Failure::NotFound),
            false => Ok(slice),
        }
    }

    pub(crate) fn migs_of(&self, gpu: &GpuUuid) -> Result<impl Iterator<Item = &Slice>, Failure> {
        let slices = self.machine()?.migs.slices.iter();
        Ok(slices.filter(|slice| slice.gpu_uuid == *gpu && slice.uuid.as_str().starts_with("MIG-")))
    }

    /// The next happening that an event set wants.
    pub(crate) fn next_event(&mut self, set: usize) -> Result<(Happening, u64), Failure> {
        let happenings = self.machine()?.faults.events.clone();
        let Object::Events(events) = self.object(set)? else {
            return Err(Failure::InvalidArgument);
        };
        while let Some(happening) = happenings.get(events.seen) {
            events.seen += 1;
            let kind = if happening.xid.is_some() { XID } else { MIG_CONFIG };
            let wanted = |(gpu, kinds): &(GpuUuid, u64)| *gpu == happening.gpu && kinds & kind != 0;
            if events.wanted.iter().any(wanted) {
                return Ok((happening.clone(), kind));
            }
        }
        Err(Failure::Timeout)
    }
}

/// `3` of `3g.40gb`, `1c.3g.40gb` and `3g.40gb+me`; the first number is the compute instance's, if both are there.
pub(crate) fn slices_of(profile: &ProfileName) -> (u32, u32) {
    let number = |unit: char| {
        let part = profile.as_str().split('.').find(|part| part.ends_with(unit));
        part.and_then(|part| part.trim_end_matches(unit).parse().ok())
    };
    let gpu_instance = number('g').unwrap_or(0);
    (gpu_instance, number('c').unwrap_or(gpu_instance))
}

/// The name that a driver gives to a model.
pub(crate) fn driver_name(model: &str) -> String {
    let name = match model {
        "A30-24GB" => "A30",
        "A100-40GB" => "A100-SXM4-40GB",
        "A100-80GB" => "A100-SXM4-80GB",
        "H100-80GB" => "H100 80GB HBM3",
        "H100-94GB" => "H100 NVL",
        "H200-141GB" => "H200",
        "B200-180GB" => "B200",
        other => other,
    };
    format!("NVIDIA {name}")
}

fn stamp(path: &Path) -> std::io::Result<Stamp> {
    let data = std::fs::metadata(path)?;
    Ok((data.ino(), data.mtime(), data.mtime_nsec(), data.size()))
}

/// Where the machine is described.
fn file() -> Result<PathBuf, String> {
    if let Some(path) = std::env::var_os("FFS_FAKE_NVML") {
        return Ok(PathBuf::from(path));
    }
    let mut name = own_path()
        .ok_or("FFS_FAKE_NVML is not set: expected the path of a file such as migs.json")?
        .into_os_string();
    name.push(".json");
    Ok(PathBuf::from(name))
}

/// The file that this library was loaded from.
fn own_path() -> Option<PathBuf> {
    // SAFETY: integers and pointers: zero is a value of each.
    let mut found: libc::Dl_info = unsafe { std::mem::zeroed() };
    // SAFETY: the address is one of this library's, and `found` outlives the call.
    let known = unsafe { libc::dladdr(std::ptr::from_ref(&WORLD).cast::<c_void>(), &mut found) };
    if known == 0 || found.dli_fname.is_null() {
        return None;
    }
    // SAFETY: dladdr answers with a text that lives as long as the library is loaded.
    let name = unsafe { CStr::from_ptr(found.dli_fname) };
    Some(PathBuf::from(OsStr::from_bytes(name.to_bytes())))
}
