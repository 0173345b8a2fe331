//! The memory of a ring: made ready under a temporary name, mapped by both ends, addressed slot by slot.
//!
//! Every pointer into shared memory comes from here. That an end touches a slot only while the slot is its own is
//! the business of `ring.rs`; that nothing lies outside the mapping is this file's.

use crate::error::{Error, Fault};
use crate::header::{Geometry, HEADER_BYTES, Header};
use crate::name::Name;
use crate::sync::AtomicU64;
use nix::errno::Errno;
use shared_memory::{Shmem, ShmemConf, ShmemError};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::ptr::NonNull;

/// Smaller rings have no use for a huge page.
const HUGE_PAGE: usize = 2 << 20;

/// A mapped ring whose geometry has been checked.
pub(crate) struct Segment {
    base: NonNull<u8>,
    geometry: Geometry,
    /// Unmaps when dropped. It does not remove the name: a newer ring may have it by then.
    _mapping: Shmem,
}

// SAFETY: the mapping is memory that other processes change anyway. The control block is atomics, and slots are
// handed out as raw pointers; neither cares which thread it is used from. `Shmem` is only ever dropped.
unsafe impl Send for Segment {}
// SAFETY: as above.
unsafe impl Sync for Segment {}

/// Which file a name led to when the ring was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileId {
    device: u64,
    inode: u64,
}

impl FileId {
    fn of(file: &fs::Metadata) -> Self {
        Self {
            device: file.dev(),
            inode: file.ino(),
        }
    }
}

/// Makes the ring complete before it has its name, so that whoever finds the name finds a ring.
pub(crate) fn create(name: &Name, geometry: Geometry) -> Result<(Segment, FileId), Error> {
    let unfinished = name.unfinished(geometry.epoch);
    let os = |doing: &str, source| Error::Os {
        ring: name.as_str().to_owned(),
        doing: doing.to_owned(),
        source,
    };
    match fs::remove_file(unfinished.path()) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(os("remove what a killed producer left", error));
        }
        _ => {}
    }
    let bytes = usize::try_from(geometry.bytes).map_err(|_| {
        let source = Fault {
            field: "bytes",
            found: geometry.bytes,
            expected: "a size that fits into memory",
        };
        Error::Geometry {
            ring: name.as_str().to_owned(),
            source,
        }
    })?;
    // Until it is renamed, `shared_memory` owns the file and removes it if anything below fails.
    let mut mapping = ShmemConf::new()
        .os_id(unfinished.as_str())
        .size(bytes)
        .create()
        .map_err(|error| {
            os(
                &format!("map {bytes} bytes of new shared memory"),
                io_error(error),
            )
        })?;
    let file = File::options()
        .read(true)
        .write(true)
        .open(unfinished.path())
        .map_err(|error| os("open its own file", error))?;
    prefault(&mapping, &unfinished, 0);
    allocate(&file, geometry.bytes)
        .map_err(|error| os(&format!("set {bytes} bytes of shared memory aside"), error.into()))?;
    let id = FileId::of(
        &file
            .metadata()
            .map_err(|error| os("look at its own file", error))?,
    );

    let base = base_of(&mapping, name)?;
    // SAFETY: a fresh mapping of at least HEADER_BYTES zeros, page aligned; `Header` is atomics alone.
    unsafe { base.cast::<Header>().as_ref() }.write(&geometry);
    fs::rename(unfinished.path(), name.path()).map_err(|error| os("take its name", error))?;
    mapping.set_owner(false);
    Ok((
        Segment {
            base,
            geometry,
            _mapping: mapping,
        },
        id,
    ))
}

/// Maps the ring of that name, or says that there is none yet.
pub(crate) fn open(name: &Name) -> Result<Option<Segment>, Error> {
    let ring = || name.as_str().to_owned();
    let os = |doing: &str, source| Error::Os {
        ring: ring(),
        doing: doing.to_owned(),
        source,
    };
    // Whoever else may write into /dev/shm (it is sticky) can take a free name, but cannot replace a file of ours.
    let file = match fs::symlink_metadata(name.path()) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        found => found.map_err(|error| os("look at its file", error))?,
    };
    let expected = nix::unistd::geteuid().as_raw();
    if file.uid() != expected {
        return Err(Error::Foreign {
            ring: ring(),
            found: file.uid(),
            expected,
        });
    }
    let corrupt = |source| Error::Corrupt { ring: ring(), source };
    let too_small = |found| {
        corrupt(Fault {
            field: "bytes",
            found,
            expected: "at least the 4096 of a header",
        })
    };
    if file.len() < HEADER_BYTES {
        return Err(too_small(file.len()));
    }
    let mapping = match ShmemConf::new().os_id(name.as_str()).open() {
        Err(ShmemError::MapOpenFailed(errno)) if errno == Errno::ENOENT as u32 => return Ok(None),
        mapped => mapped.map_err(|error| os("map its shared memory", io_error(error)))?,
    };
    if (mapping.len() as u64) < HEADER_BYTES {
        return Err(too_small(mapping.len() as u64));
    }
    prefault(&mapping, name, file.blocks() * 512);
    let base = base_of(&mapping, name)?;
    // SAFETY: the mapping is page aligned and holds HEADER_BYTES; any bytes make a valid `Header`, it is atomics.
    let geometry = unsafe { base.cast::<Header>().as_ref() }
        .read(mapping.len() as u64)
        .map_err(corrupt)?;
    Ok(Some(Segment {
        base,
        geometry,
        _mapping: mapping,
    }))
}

/// Removes the name, if it still leads to the file it was given to.
pub(crate) fn remove(name: &Name, id: FileId) {
    if fs::symlink_metadata(name.path()).is_ok_and(|file| FileId::of(&file) == id) {
        // Nothing to do if this fails: the instance's tmpfs goes as a whole, and the next start sweeps the rest.
        let _ = fs::remove_file(name.path());
    }
}

impl Segment {
    pub(crate) fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    /// The whole mapping.
    pub(crate) fn memory(&self) -> (NonNull<u8>, usize) {
        (self.base, self.geometry.bytes as usize)
    }

    pub(crate) fn header(&self) -> &Header {
        // SAFETY: page aligned, mapped for as long as `self`, and atomics alone.
        unsafe { self.base.cast().as_ref() }
    }

    /// First byte of the slot that frame number `sequence` uses; `slot_bytes` bytes from there are mapped.
    pub(crate) fn slot(&self, sequence: u64) -> NonNull<u8> {
        let index = sequence % u64::from(self.geometry.slots);
        let at = self.geometry.slots_at + index * self.geometry.slot_stride;
        // SAFETY: `Geometry::check` has seen that all slots lie inside the mapping, whose size is below isize::MAX.
        unsafe { self.base.add(at as usize) }
    }

    /// The turn of the slot that frame number `sequence` uses: its first word, on a cache line with the frame's header.
    pub(crate) fn turn(&self, sequence: u64) -> &AtomicU64 {
        // SAFETY: a slot is mapped for as long as `self`, aligned to 64 bytes and longer than a word; its first word
        // is used as an atomic only.
        unsafe { self.slot(sequence).cast().as_ref() }
    }

    /// Asks for the cache lines of `slot` at `at`, if the processor can be asked.
    #[inline]
    pub(crate) fn prefetch(&self, sequence: u64, at: usize) {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: a hint; it touches no memory as far as the language is concerned.
        unsafe {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            _mm_prefetch::<_MM_HINT_T0>(self.slot(sequence).as_ptr().wrapping_add(at).cast());
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = (sequence, at);
    }

    /// Asks for the cache line of `slot` at `at` to be this processor's own, if the processor can be asked.
    #[inline]
    pub(crate) fn prefetch_to_write(&self, sequence: u64, at: usize) {
        prefetch_to_write(self.slot(sequence).as_ptr().wrapping_add(at));
    }

    /// Asks for the cache line of the tail to be this processor's own.
    #[inline]
    pub(crate) fn prefetch_tail_to_write(&self) {
        prefetch_to_write(self.header().tail.0.as_ptr().cast());
    }

    /// Tells the model that the slot is written; in real memory nothing needs to be told.
    #[inline]
    pub(crate) fn writes(&self, _sequence: u64) {}

    /// Tells the model that the slot is read.
    #[inline]
    pub(crate) fn reads(&self, _sequence: u64) {}
}

#[inline]
fn prefetch_to_write(line: *const u8) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    // SAFETY: a hint, and on processors that do not know it nothing at all.
    unsafe {
        std::arch::asm!("prefetchw [{0}]", in(reg) line, options(nostack, preserves_flags, readonly));
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    let _ = line;
}

fn base_of(mapping: &Shmem, name: &Name) -> Result<NonNull<u8>, Error> {
    NonNull::new(mapping.as_ptr()).ok_or_else(|| Error::Os {
        ring: name.as_str().to_owned(),
        doing: "map its shared memory".to_owned(),
        source: io::Error::other("the mapping has no address"),
    })
}

/// Maps every page before the first frame needs it, in huge pages where the system allows those in shared memory
/// (`shmem_enabled` is `advise` or more). A hint: where it fails, pages come one by one.
fn prefault(mapping: &Shmem, name: &Name, taken: u64) {
    let bytes = mapping.len();
    // A tmpfs without room is not filled up to learn so.
    let path = name.path();
    let free =
        nix::sys::statvfs::statvfs(path.as_str()).map_or(0, |fs| fs.blocks_available() * fs.fragment_size());
    if taken.saturating_add(free) < bytes as u64 {
        return;
    }
    let start = mapping.as_ptr().cast();
    // SAFETY: the mapping is ours and whole pages; neither call changes what stands in it.
    unsafe {
        if bytes >= HUGE_PAGE {
            libc::madvise(start, bytes, libc::MADV_HUGEPAGE);
        }
        libc::madvise(start, bytes, libc::MADV_POPULATE_WRITE);
    }
}

/// Takes the memory now: a tmpfs that is full later would kill this process with SIGBUS in the middle of a frame.
fn allocate(file: &File, bytes: u64) -> nix::Result<()> {
    loop {
        match nix::fcntl::posix_fallocate(file, 0, bytes as libc::off_t) {
            Err(Errno::EINTR) => {}
            done => return done,
        }
    }
}

fn io_error(error: ShmemError) -> io::Error {
    match error {
        ShmemError::MappingIdExists => io::Error::from_raw_os_error(Errno::EEXIST as i32),
        ShmemError::MapCreateFailed(errno)
        | ShmemError::MapOpenFailed(errno)
        | ShmemError::UnknownOsError(errno) => io::Error::from_raw_os_error(errno as i32),
        other => io::Error::other(other.to_string()),
    }
}
