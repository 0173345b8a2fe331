//! What a round trip through rings is measured against: two processes that hand a number to and fro, by a bare futex
//! or by watching a word. Nothing that carries data between processes is faster.

use crate::error::Error;
use crate::futex;
use crate::header::{Geometry, Lines};
use crate::name::Name;
use crate::segment::{self, FileId, Segment};
use crate::sync::{AtomicU32, Ordering};
use std::path::Path;

/// Looks without a break; about 200 µs.
const LOOKS: u32 = 10_000;

/// Two words in shared memory, each written by one of two processes.
pub struct PingPong {
    segment: Segment,
    /// The name to take away at the end, for the process that made it.
    name: Option<(Name, FileId)>,
}

/// How a process waits for the other's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// One system call to wake, one to sleep.
    Futex,
    /// One system call to wake, in case the other sleeps; it spins first, and is mostly found awake.
    SpinningFutex,
    /// No system call, both CPUs busy.
    Watch,
}

impl PingPong {
    /// Makes the words at `path`, `/dev/shm/<name>`.
    ///
    /// # Errors
    /// As [`crate::Producer::create`].
    pub fn create(path: impl AsRef<Path>) -> Result<Self, Error> {
        let name = Name::of(path.as_ref())?;
        let geometry = Geometry::new(1, 4096, 1).map_err(|source| Error::Geometry {
            ring: name.as_str().to_owned(),
            source,
        })?;
        let (segment, file) = segment::create(&name, geometry)?;
        Ok(Self {
            segment,
            name: Some((name, file)),
        })
    }

    /// Finds the words that the other process has made; `None` if there are none yet.
    ///
    /// # Errors
    /// As [`crate::Consumer::try_open`].
    pub fn open(path: impl AsRef<Path>) -> Result<Option<Self>, Error> {
        Ok(segment::open(&Name::of(path.as_ref())?)?.map(|segment| Self { segment, name: None }))
    }

    /// Sends `number` and waits until it comes back. It differs from the one before; the first is not 0.
    pub fn ping(&self, number: u32, wait: Wait) {
        let [ping, pong] = self.words();
        say(ping, number, wait);
        hear(pong, wait, |found| found == number);
    }

    /// Waits for another number than `last` (at first 0), sends it back and returns it.
    pub fn pong(&self, last: u32, wait: Wait) -> u32 {
        let [ping, pong] = self.words();
        let number = hear(ping, wait, |found| found != last);
        say(pong, number, wait);
        number
    }

    fn words(&self) -> &[Lines<AtomicU32>; 2] {
        // SAFETY: the slot is mapped for as long as `self`, aligned to 128 bytes (it begins at 4096), larger than the
        // two words, and used for nothing else.
        unsafe { self.segment.slot(0).cast().as_ref() }
    }
}

impl Drop for PingPong {
    fn drop(&mut self) {
        if let Some((name, file)) = &self.name {
            segment::remove(name, *file);
        }
    }
}

impl std::fmt::Debug for PingPong {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PingPong")
    }
}

fn say(word: &Lines<AtomicU32>, number: u32, wait: Wait) {
    word.0.store(number, Ordering::Release); // pairs with the Acquire in `hear`
    if wait != Wait::Watch {
        futex::wake(&word.0);
    }
}

fn hear(word: &Lines<AtomicU32>, wait: Wait, heard: impl Fn(u32) -> bool) -> u32 {
    let mut look = 0_u32;
    loop {
        look = look.wrapping_add(1);
        let found = word.0.load(Ordering::Acquire); // pairs with the Release in `say`
        if heard(found) {
            return found;
        }
        match wait {
            Wait::Futex => futex::wait(&word.0, found, None),
            Wait::SpinningFutex | Wait::Watch if !look.is_multiple_of(LOOKS) => std::hint::spin_loop(),
            // The other has no CPU, and will not get one from us like this.
            Wait::SpinningFutex => futex::wait(&word.0, found, None),
            Wait::Watch => std::thread::yield_now(),
        }
    }
}
