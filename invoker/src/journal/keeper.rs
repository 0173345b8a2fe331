//! The thread behind the journal: has the disk catch up, and deletes what nobody needs.

use super::log::Log;
use super::segment::{self, Place};
use crate::config::JournalSync;
use crate::metrics;
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::watch;

/// How long after an append the disk may lack it, with [`JournalSync::Later`].
const DELAY: Duration = Duration::from_millis(10);
/// Between two tries at a disk that fails.
const PAUSE: Duration = Duration::from_millis(100);
/// How long an activation is remembered after its offset was committed.
const REMEMBERED_MS: i64 = 600_000;
/// How much of an old file is moved at once, so that nobody waits long for the log.
const STEP: usize = 64;
const STEP_BYTES: usize = 256 << 10;

/// What the journal and its thread share.
#[derive(Debug)]
pub(super) struct Shared {
    log: Mutex<Log>,
    sync: JournalSync,
    /// Whether the thread has something to do.
    dirty: AtomicBool,
    state: Mutex<State>,
    changed: Condvar,
    synced: watch::Sender<u64>,
    /// What arrived before will not come again.
    pub(super) committed_ms: AtomicI64,
}

#[derive(Debug, Default)]
struct State {
    woken: bool,
    closed: bool,
}

impl Shared {
    pub(super) fn new(log: Log, sync: JournalSync) -> Self {
        Self {
            log: Mutex::new(log),
            sync,
            dirty: AtomicBool::new(false),
            state: Mutex::default(),
            changed: Condvar::new(),
            synced: watch::Sender::new(0),
            committed_ms: AtomicI64::new(0),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Log> {
        self.log.lock().expect("no holder panics")
    }

    /// To be called after each append and mark; costs next to nothing if the thread is awake.
    pub(super) fn wake(&self) {
        if !self.dirty.swap(true, Ordering::AcqRel) {
            self.state.lock().expect("no holder panics").woken = true;
            self.changed.notify_one();
        }
    }

    /// Waits until the disk has that append.
    pub(super) async fn synced(&self, append: u64) {
        let mut synced = self.synced.subscribe();
        // The sender lives as long as we do.
        let _ = synced.wait_for(|last| *last >= append).await;
    }

    fn horizon_ms(&self) -> i64 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now = i64::try_from(now.as_millis()).unwrap_or(i64::MAX);
        self.committed_ms.load(Ordering::Relaxed).min(now) - REMEMBERED_MS
    }
}

#[derive(Debug)]
pub(super) struct Keeper {
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Keeper {
    pub(super) fn start(shared: Arc<Shared>, path: &Path) -> io::Result<Self> {
        let folder = File::open(path)?;
        let thread = std::thread::Builder::new()
            .name("journal".into())
            .spawn(move || keep(&shared, &folder))?;
        Ok(Self {
            thread: Mutex::new(Some(thread)),
        })
    }

    /// Returns when everything is on the disk.
    pub(super) fn stop(&self, shared: &Shared) {
        shared.state.lock().expect("no holder panics").closed = true;
        shared.changed.notify_one();
        let thread = self.thread.lock().expect("no holder panics").take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the journal's thread has panicked");
        }
    }
}

fn keep(shared: &Shared, folder: &File) {
    loop {
        let closed = {
            let waiting = shared.state.lock().expect("no holder panics");
            let mut state = shared
                .changed
                .wait_while(waiting, |state| !state.woken && !state.closed)
                .expect("no holder panics");
            state.woken = false;
            state.closed
        };
        if !closed && shared.sync == JournalSync::Later {
            std::thread::sleep(DELAY);
        }
        // From here on an append wakes us again.
        shared.dirty.store(false, Ordering::Release);
        while let Err(error) = sync(shared, folder) {
            tracing::error!(%error, "the journal cannot be written");
            if closed {
                break;
            }
            std::thread::sleep(PAUSE);
        }
        if closed {
            return shared.lock().close();
        }
        if let Err(error) = clean(shared, folder) {
            tracing::error!(%error, "the journal cannot be shortened");
        }
    }
}

fn sync(shared: &Shared, folder: &File) -> io::Result<()> {
    let (files, append) = {
        let mut log = shared.lock();
        if log.has_marks() {
            log.append(&[])?;
        }
        metrics::journal_size(log.bytes());
        log.take_unsynced()
    };
    if files.len() > 1 {
        folder.sync_all()?;
    }
    for file in files {
        file.sync_data()?;
    }
    shared.synced.send_replace(append);
    Ok(())
}

/// Frames of an old file that are moved at once.
#[derive(Default)]
struct Step {
    frames: Vec<(Place, Vec<u8>)>,
    bytes: usize,
}

fn clean(shared: &Shared, folder: &File) -> io::Result<()> {
    loop {
        let horizon = shared.horizon_ms();
        let Some((number, file)) = shared.lock().worth_cleaning(horizon) else {
            return Ok(());
        };
        let mut step = Step::default();
        segment::frames(&file, number, &mut |place, payload| {
            step.bytes += payload.len();
            step.frames.push((place, payload.to_owned()));
            if step.frames.len() < STEP && step.bytes < STEP_BYTES {
                return Ok(());
            }
            let step = std::mem::take(&mut step);
            shared.lock().append_again(&step.frames, horizon)
        })?;
        shared.lock().append_again(&step.frames, horizon)?;
        // What was moved is on the disk before the original goes.
        sync(shared, folder)?;
        if !shared.lock().remove_oldest(number)? {
            return Ok(()); // somebody has appended for its sake; another time
        }
    }
}
