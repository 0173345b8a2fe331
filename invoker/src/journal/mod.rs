//! What was accepted, started, answered and delivered, on disk: so that an activation gets its answer and
//! its record once, and its code runs once, also if this process is killed.
//!
//! An append-only log in numbered files. An append is one `write` by whoever has something to say, which
//! survives the death of the process; a thread has the disk catch up a little later, one `fdatasync` for all
//! appends of that time, and deletes what nobody needs (decisions 69, 70). What the contents mean is the
//! business of `activation::feed` (messages) and `completion::outbox` (debts). Contract K-28, D-46.

mod debt;
mod entry;
mod frame;
mod keeper;
mod log;
mod seen;
mod segment;
#[cfg(test)]
mod tests;

pub use self::debt::{Debt, Debts, Part, Parts};

use crate::config::{JournalSettings, JournalSync};

use self::entry::Entry;
use self::keeper::{Keeper, Shared};
use self::log::Log;
use proto::id::ActivationId;
use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the journal in {} could not be opened", path.display())]
    Open {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the journal in {} is in use: another invoker of the same id is running", path.display())]
    InUse { path: PathBuf },
    #[error("the journal in {} could not be written", path.display())]
    Write {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the journal in {} has {bytes} bytes of unpaid debts, which is as much as it may hold", path.display())]
    Full { path: PathBuf, bytes: u64 },
    #[error("activation {id} is not under way: it was never accepted, or is answered")]
    NotUnderWay { id: ActivationId },
}

/// One message to be accepted.
#[derive(Clone, Copy, Debug)]
pub struct Arrival<'a> {
    pub id: ActivationId,
    /// Milliseconds since the epoch.
    pub at_ms: i64,
    pub message: &'a [u8],
}

/// What an earlier process left undone, each in the order of arrival.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unfinished {
    /// Accepted, and no code has run.
    pub waiting: Vec<ActivationId>,
    /// Code may have run, and nothing was answered.
    pub interrupted: Vec<Interrupted>,
    /// Answered, but not everything was delivered as far as is known.
    pub owing: Vec<(ActivationId, Parts)>,
}

/// An activation whose end nobody has seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interrupted {
    pub id: ActivationId,
    pub at_ms: i64,
    /// The result that it ended with, if it did: the caller may have it.
    pub result: Option<Debts>,
}

/// How large it is, for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Size {
    /// Activations that are not finished.
    pub activations: usize,
    /// Activations that are remembered so that they are not accepted twice.
    pub remembered: usize,
    pub files: usize,
    pub bytes: u64,
}

/// The journal of one invoker.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    settings: JournalSettings,
    shared: Arc<Shared>,
    keeper: Keeper,
    /// None once closed.
    lock: Mutex<Option<File>>,
}

impl Journal {
    /// Opens the journal in the directory `path`, or makes it. Held by a lock, so that a second process of
    /// the same id starts no work (N-33).
    ///
    /// # Errors
    /// `InUse` while another process has it open.
    pub fn open(path: &Path, settings: JournalSettings) -> Result<Self, Error> {
        let failed = |source| Error::Open {
            path: path.to_owned(),
            source,
        };
        std::fs::create_dir_all(path).map_err(failed)?;
        let lock = File::create(path.join("lock")).map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(Error::InUse {
                    path: path.to_owned(),
                });
            }
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        }
        let log = Log::open(path).map_err(failed)?;
        let shared = Arc::new(Shared::new(log, settings.sync));
        let keeper = Keeper::start(Arc::clone(&shared), path).map_err(failed)?;
        Ok(Self {
            path: path.to_owned(),
            settings,
            shared,
            keeper,
            lock: Mutex::new(Some(lock)),
        })
    }

    pub fn settings(&self) -> JournalSettings {
        self.settings
    }

    /// What is left to do of what an earlier process began.
    ///
    /// # Errors
    /// If contents cannot be read back.
    pub fn unfinished(&self) -> Result<Unfinished, Error> {
        let mut live: Vec<_> = {
            let log = self.shared.lock();
            log.live().iter().map(|(id, live)| (*id, *live)).collect()
        };
        live.sort_unstable_by_key(|(id, live)| (live.at_ms, live.accepted, *id));
        let mut unfinished = Unfinished::default();
        for (id, live) in live {
            match (live.answered, live.started) {
                (Some(_), _) => unfinished.owing.push((id, live.owed)),
                (None, false) => unfinished.waiting.push(id),
                (None, true) => unfinished.interrupted.push(Interrupted {
                    id,
                    at_ms: live.at_ms,
                    result: match live.ended {
                        Some(_) => self.debts(id)?,
                        None => None,
                    },
                }),
            }
        }
        Ok(unfinished)
    }

    /// Writes down that these messages will be answered, all in one append; says of each whether it is
    /// new. One that is not was accepted before, and is to be passed over.
    ///
    /// # Errors
    /// None of them is accepted then.
    pub async fn accept(&self, arrivals: &[Arrival<'_>]) -> Result<Vec<bool>, Error> {
        let mut new = Vec::with_capacity(arrivals.len());
        let written = {
            let mut log = self.shared.lock();
            let bytes = log.bytes();
            if bytes > self.settings.most_bytes {
                let path = self.path.clone();
                return Err(Error::Full { path, bytes });
            }
            let mut entries: Vec<Entry<'_>> = Vec::with_capacity(arrivals.len());
            for &Arrival { id, at_ms, message } in arrivals {
                let twice = entries
                    .iter()
                    .any(|entry| matches!(entry, Entry::Accepted { id: other, .. } if *other == id));
                let is_new = !twice && !log.knows(id);
                if is_new {
                    entries.push(Entry::Accepted { id, at_ms, message });
                }
                new.push(is_new);
            }
            log.append(&entries)
        };
        self.settled(written).await?;
        Ok(new)
    }

    /// Writes down that user code may run from now on.
    ///
    /// # Errors
    /// It must not run then. `NotUnderWay`, here and below, if it was never accepted or is answered.
    pub async fn start(&self, id: ActivationId) -> Result<(), Error> {
        let written = self.go_on(id, Entry::Started { id })?;
        self.settled(Ok(written)).await
    }

    /// Writes down the result that is about to be sent.
    pub async fn end(&self, id: ActivationId, debts: &Debts) -> Result<(), Error> {
        let written = self.go_on(id, Entry::Ended { id, debts })?;
        self.settled(Ok(written)).await
    }

    /// Writes down all that is owed; only its delivery is left.
    pub async fn answer(&self, id: ActivationId, debts: &Debts) -> Result<(), Error> {
        let written = self.go_on(id, Entry::Answered { id, debts })?;
        self.settled(Ok(written)).await
    }

    /// [`Self::answer`] without waiting for the disk, whatever the settings say.
    pub fn answer_unsynced(&self, id: ActivationId, debts: &Debts) -> Result<(), Error> {
        self.go_on(id, Entry::Answered { id, debts }).map(drop)
    }

    /// The next step of an activation that is accepted and not answered: there is no second answer, and no end
    /// after one.
    fn go_on(&self, id: ActivationId, step: Entry<'_>) -> Result<u64, Error> {
        let mut log = self.shared.lock();
        let under_way = log.live().get(&id).is_some_and(|live| live.answered.is_none());
        if !under_way {
            return Err(Error::NotUnderWay { id });
        }
        log.append(&[step]).map_err(|source| self.failed(source))
    }

    /// Takes note that these debts are paid. It is in the file a little later: what is killed before pays
    /// once more, or finds that it has paid.
    pub fn delivered(&self, id: ActivationId, parts: Parts) {
        self.shared.lock().mark(id, parts);
        self.shared.wake();
    }

    /// The message of an activation that is not answered.
    ///
    /// # Errors
    /// If it cannot be read back.
    pub fn message(&self, id: ActivationId) -> Result<Option<Vec<u8>>, Error> {
        let payload = self.read(|log| log.live().get(&id)?.accepted)?;
        Ok(payload.and_then(|payload| entry::message(&payload).map(<[u8]>::to_vec)))
    }

    /// What an activation owed when it ended or was answered, and what of it is still owed: nothing is
    /// left of one whose debts are paid.
    ///
    /// # Errors
    /// If it cannot be read back.
    pub fn debts(&self, id: ActivationId) -> Result<Option<Debts>, Error> {
        Ok(self.all_debts(id)?.map(|(mut debts, owed)| {
            debts.all.retain(|debt| owed.contains(debt.part));
            debts
        }))
    }

    /// As [`Self::debts`], with what was delivered already, and what is owed still.
    ///
    /// # Errors
    /// If it cannot be read back.
    pub fn all_debts(&self, id: ActivationId) -> Result<Option<(Debts, Parts)>, Error> {
        let mut owed = None;
        let payload = self.read(|log| {
            let live = log.live().get(&id)?;
            owed = live.answered.map(|_| live.owed);
            live.answered.or(live.ended)
        })?;
        let debts = payload.and_then(|payload| entry::debts(&payload));
        Ok(debts.map(|debts| {
            let owed = owed.unwrap_or_else(|| debts.parts());
            (debts, owed)
        }))
    }

    fn read(&self, place: impl FnOnce(&Log) -> Option<segment::Place>) -> Result<Option<Vec<u8>>, Error> {
        let found = {
            let log = self.shared.lock();
            place(&log).and_then(|place| Some((log.file(place)?, place)))
        };
        let Some((file, place)) = found else {
            return Ok(None);
        };
        let payload = segment::read(&file, place).map_err(|source| Error::Open {
            path: self.path.clone(),
            source,
        })?;
        Ok(Some(payload))
    }

    /// Takes note that the bus will not give out again what arrived before `at_ms` (milliseconds since the
    /// epoch). Ids are kept until then, and 10 minutes more.
    pub fn committed(&self, at_ms: i64) {
        self.shared.committed_ms.fetch_max(at_ms, Ordering::Relaxed);
    }

    pub fn size(&self) -> Size {
        let log = self.shared.lock();
        Size {
            activations: log.live().len(),
            remembered: log.seen(),
            files: log.files(),
            bytes: log.bytes(),
        }
    }

    /// Takes nothing more, and returns when everything is on the disk and another process may have it.
    pub fn close(&self) {
        self.keeper.stop(&self.shared);
        self.lock.lock().expect("no holder panics").take();
    }

    async fn settled(&self, written: io::Result<u64>) -> Result<(), Error> {
        let number = written.map_err(|source| self.failed(source))?;
        self.shared.wake();
        match self.settings.sync {
            JournalSync::Later => {}
            JournalSync::Always => self.shared.synced(number).await,
        }
        Ok(())
    }

    fn failed(&self, source: io::Error) -> Error {
        Error::Write {
            path: self.path.clone(),
            source,
        }
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.close();
    }
}
