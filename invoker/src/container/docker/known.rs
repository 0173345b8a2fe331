//! The containers that this process has made and not yet removed.

use super::log_file::LogFile;
use crate::container::{ContainerId, Exit};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// One of them.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) name: String,
    pub(super) is_paused: AtomicBool,
    /// Whether anything in it was killed for want of memory.
    was_out_of_memory: AtomicBool,
    exit: watch::Sender<Option<Exit>>,
    pub(super) log: Mutex<LogFile>,
}

impl Known {
    pub(super) fn new(name: &str, log: LogFile) -> Self {
        Self {
            name: name.to_owned(),
            is_paused: AtomicBool::new(false),
            was_out_of_memory: AtomicBool::new(false),
            exit: watch::Sender::new(None),
            log: Mutex::new(log),
        }
    }

    pub(super) fn has_log_on_host(&self, path: PathBuf) {
        self.log
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .has_path_on_host(path);
    }

    pub(super) fn note_out_of_memory(&self) {
        self.was_out_of_memory.store(true, Ordering::Relaxed);
    }

    pub(super) fn was_out_of_memory(&self) -> bool {
        self.was_out_of_memory.load(Ordering::Relaxed)
    }

    pub(super) fn has_ended(&self) -> bool {
        self.exit.borrow().is_some()
    }

    /// Says how it ended; the first word counts.
    pub(super) fn end(&self, mut exit: Exit) {
        exit.out_of_memory |= self.was_out_of_memory();
        self.exit.send_if_modified(|known| {
            let is_news = known.is_none();
            if is_news {
                *known = Some(exit);
            }
            is_news
        });
    }

    pub(super) async fn ended(&self) -> Exit {
        let mut exit = self.exit.subscribe();
        let ended = exit.wait_for(Option::is_some).await;
        ended.ok().and_then(|exit| exit.clone()).unwrap_or_default()
    }
}

/// By their ids.
#[derive(Debug, Default)]
pub(super) struct Containers(Mutex<BTreeMap<ContainerId, Arc<Known>>>);

impl Containers {
    pub(super) fn add(&self, id: ContainerId, known: Arc<Known>) {
        self.lock().insert(id, known);
    }

    pub(super) fn find(&self, id: &ContainerId) -> Option<Arc<Known>> {
        self.lock().get(id).cloned()
    }

    /// Nothing more can be asked of it; who waits for its end is told.
    pub(super) fn forget(&self, id: &ContainerId) {
        if let Some(known) = self.lock().remove(id) {
            known.end(Exit::default());
        }
    }

    pub(super) fn forget_named(&self, name: &str) {
        let ids: Vec<_> = self
            .all()
            .into_iter()
            .filter(|(_, known)| known.name == name)
            .collect();
        for (id, _) in ids {
            self.forget(&id);
        }
    }

    pub(super) fn all(&self) -> Vec<(ContainerId, Arc<Known>)> {
        self.lock()
            .iter()
            .map(|(id, known)| (id.clone(), Arc::clone(known)))
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<ContainerId, Arc<Known>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
