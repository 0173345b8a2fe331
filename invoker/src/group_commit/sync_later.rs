//! A file whose `fdatasync` follows a little later, one for all commits of that time.

use super::SYNC_DELAY;
use redb::backends::FileBackend;
use redb::{BackendError, StorageBackend};
use std::fs::File;
use std::io;
use std::ops::Bound;
use std::sync::{Arc, Condvar, Mutex};

/// `write` hands the bytes to the kernel, so the death of the process loses nothing.
#[derive(Debug)]
pub(super) struct SyncLater {
    file: FileBackend,
    state: Arc<(Mutex<State>, Condvar)>,
}

#[derive(Debug, Default)]
struct State {
    dirty: bool,
    closed: bool,
    /// Met by the background sync, told to the next commit.
    error: Option<io::Error>,
}

impl SyncLater {
    pub(super) fn new(file: File) -> Result<Self, redb::DatabaseError> {
        let state = Arc::new((Mutex::new(State::default()), Condvar::new()));
        let io = |e| redb::DatabaseError::Storage(redb::StorageError::Io(e));
        let handle = file.try_clone().map_err(io)?;
        std::thread::Builder::new()
            .name("sync-later".into())
            .spawn({
                let state = state.clone();
                move || sync_while_open(&handle, &state)
            })
            .map_err(io)?;
        Ok(Self {
            file: FileBackend::new(file)?,
            state,
        })
    }
}

fn sync_while_open(file: &File, state: &(Mutex<State>, Condvar)) {
    let (state, changed) = state;
    loop {
        {
            let waiting = state.lock().expect("no holder panics");
            let mut ready = changed
                .wait_while(waiting, |s| !s.dirty && !s.closed)
                .expect("no holder panics");
            if ready.closed {
                return;
            }
            ready.dirty = false;
        }
        std::thread::sleep(SYNC_DELAY);
        if let Err(error) = file.sync_data() {
            state.lock().expect("no holder panics").error = Some(error);
        }
    }
}

impl StorageBackend for SyncLater {
    fn sync_data(&self) -> Result<(), io::Error> {
        let (state, changed) = &*self.state;
        let mut state = state.lock().expect("no holder panics");
        state.dirty = true;
        changed.notify_one();
        match state.error.take() {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    fn close(&self) -> Result<(), io::Error> {
        let (state, changed) = &*self.state;
        state.lock().expect("no holder panics").closed = true;
        changed.notify_one();
        self.file.sync_data()?;
        self.file.close()
    }

    fn len(&self) -> Result<u64, io::Error> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), io::Error> {
        self.file.read(offset, out)
    }

    fn set_len(&self, len: u64) -> Result<(), io::Error> {
        self.file.set_len(len)
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), io::Error> {
        self.file.write(offset, data)
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.try_lock_range(start, end)
    }

    fn try_lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.query_lock_range(start, end)
    }
}
