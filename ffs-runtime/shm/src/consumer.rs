//! The end that reads: receive a frame, look at it in place, release it.

use crate::delivery::Frame;
use crate::error::{Error, Side};
use crate::header::{CONSUMER_CLOSED, PRODUCER_CLOSED};
use crate::name::Name;
use crate::ring::{End, Handle, Segment};
use crate::spin::{Spin, Spinner};
use crate::sync::Arc;
#[cfg(not(loom))]
use std::time::Duration;
use std::time::Instant;

/// The reading end.
pub struct Consumer {
    end: Arc<End>,
    spinner: Spinner,
    /// Number of the next frame.
    next: u64,
}

impl Consumer {
    /// Waits until the ring of this epoch is at `path`, `/dev/shm/<name>`, and takes its reading end. A ring that an
    /// earlier epoch has left behind is passed over.
    ///
    /// # Errors
    /// [`Error::Path`], [`Error::TimedOut`], [`Error::Foreign`], [`Error::Epoch`], [`Error::Taken`],
    /// [`Error::Corrupt`], [`Error::Os`].
    #[cfg(not(loom))]
    pub fn open(
        path: impl AsRef<std::path::Path>,
        epoch: u64,
        until: Option<Instant>,
    ) -> Result<Self, Error> {
        let name = Name::of(path.as_ref())?;
        let mut pause = Duration::from_millis(1);
        loop {
            if let Some(consumer) = Self::find(&name, epoch)? {
                return Ok(consumer);
            }
            if until.is_some_and(|until| Instant::now() >= until) {
                return Err(Error::TimedOut {
                    ring: name.as_str().to_owned(),
                    what: "its producer to make it",
                });
            }
            // Rings are made while models are loaded, which takes far longer; no need to watch the directory.
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(10));
        }
    }

    /// As [`Consumer::open`], but `None` instead of waiting.
    ///
    /// # Errors
    /// As [`Consumer::open`], but for the deadline.
    #[cfg(not(loom))]
    pub fn try_open(path: impl AsRef<std::path::Path>, epoch: u64) -> Result<Option<Self>, Error> {
        Self::find(&Name::of(path.as_ref())?, epoch)
    }

    #[cfg(not(loom))]
    fn find(name: &Name, epoch: u64) -> Result<Option<Self>, Error> {
        let Some(segment) = crate::segment::open(name)? else {
            return Ok(None);
        };
        let found = segment.geometry().epoch;
        if found < epoch {
            return Ok(None);
        }
        let ring = || name.as_str().to_owned();
        if found > epoch {
            return Err(Error::Epoch {
                ring: ring(),
                found,
                expected: epoch,
            });
        }
        if !segment.header().claim_for_consumer() {
            return Err(Error::Taken { ring: ring() });
        }
        Ok(Some(Self::of(segment, name.clone())))
    }

    pub(crate) fn of(segment: Segment, name: Name) -> Self {
        Self {
            end: End::new(segment, name, Side::Consumer),
            spinner: Spinner::new(),
            next: 0,
        }
    }

    /// The next frame, waiting until the deadline (`None`: for as long as the ring lives). What was sent before the
    /// producer closed the ring is still delivered; what was sent before it was poisoned is not.
    ///
    /// # Errors
    /// [`Error::TimedOut`], [`Error::Closed`], [`Error::Poisoned`], [`Error::Corrupt`].
    pub fn recv(&mut self, until: Option<Instant>) -> Result<Frame, Error> {
        loop {
            if let Some(frame) = self.try_recv()? {
                return Ok(frame);
            }
            let (end, next) = (&self.end, self.next);
            end.wait(&mut self.spinner, until, "a frame", || end.awaits_nothing(next))?;
        }
    }

    /// The next frame, if there is one.
    ///
    /// # Errors
    /// As [`Consumer::recv`], but for the deadline.
    pub fn try_recv(&mut self) -> Result<Option<Frame>, Error> {
        let state = self.end.state(); // before the turn: of a closed ring's last frames none is missed
        self.end.check(state, CONSUMER_CLOSED)?;
        while self
            .end
            .published(self.next)
            .map_err(|fault| self.end.corrupt(fault))?
        {
            let sequence = self.next;
            let frame = Frame::read(&self.end, sequence).map_err(|fault| self.end.corrupt(fault))?;
            self.next += 1;
            match frame {
                Some(frame) => return Ok(Some(frame)),
                None => self.end.release(sequence), // given up by the producer
            }
        }
        self.end.check(state, PRODUCER_CLOSED)?;
        Ok(None)
    }

    /// Whether [`Consumer::recv`] would return at once, with a frame or with the ring's end.
    pub fn ready(&self) -> bool {
        self.end.awaits_nothing(self.next)
    }

    /// How this end waits for frames.
    pub fn set_spin(&mut self, spin: Spin) {
        self.spinner.set(spin);
    }

    /// Number of slots.
    pub fn slots(&self) -> u32 {
        self.end.segment.geometry().slots
    }

    /// Size of a slot in bytes.
    pub fn slot_bytes(&self) -> u64 {
        self.end.segment.geometry().slot_bytes
    }

    /// A hold by which other threads can end the ring.
    pub fn handle(&self) -> Handle {
        Handle {
            end: self.end.clone(),
        }
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        self.end.close();
    }
}

impl std::fmt::Debug for Consumer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Consumer({}, {:?})",
            self.end.name.as_str(),
            self.end.segment.geometry()
        )
    }
}
