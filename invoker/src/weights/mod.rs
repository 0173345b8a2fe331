//! Weights that lie once in this node's memory, however many lanes use them.
//!
//! A lane hands over its open safetensors file, and is given memory with the same content ([`door`], [`memory`]). That
//! it has the file proves that it may have the content: nothing can be asked for by name. The file is read here, so
//! what is kept under a name has that content, whatever a lane says. Each namespace has entries of its own.
//! What is kept stays within a budget ([`ledger`]). Sources: FaST-GShare's STORE and GET, MIGNificent's lukewarm
//! functions; that a file, and not a name, is what one gets them for is ours.

mod door;
mod header;
mod ledger;
mod memory;

pub use door::Door;

use crate::metrics;
use ledger::{Digest, Full, Key, Ledger};
use memory::Memory;
use proto::id::InstanceId;
use proto::unit::Bytes;
use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What is kept on this node. Clones are the same store.
#[derive(Clone, Debug)]
pub struct WeightStore(Arc<Store>);

/// Who is given weights.
#[derive(Clone, Debug)]
pub struct Holder {
    /// The invoking namespace.
    pub namespace: String,
    pub instance: InstanceId,
    /// All that the instance may hold: what its lanes may use together.
    pub limit: Bytes,
}

/// Why a lane uses its own file.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("a descriptor of a file is expected beside the request")]
    NoFile,
    #[error(transparent)]
    Full(#[from] Full),
    #[error(transparent)]
    Memory(#[from] memory::Error),
    #[error("the instance has ended")]
    Ended,
}

/// What a lane is given.
#[derive(Debug)]
struct Given {
    memory: Arc<Memory>,
    digest: Digest,
}

#[derive(Debug)]
struct Store {
    ledger: Mutex<Ledger<Arc<Memory>>>,
    /// By namespace: one file is read at a time, so that lanes that load the same at once find it read by the first.
    turns: Mutex<BTreeMap<String, Arc<Mutex<()>>>>,
}

impl WeightStore {
    /// Keeps up to so many bytes.
    pub fn new(budget: Bytes) -> Self {
        Self(Arc::new(Store {
            ledger: Mutex::new(Ledger::new(budget.0)),
            turns: Mutex::default(),
        }))
    }

    /// Listens at `path` for an instance's lanes, which run as `uid` unless it is the daemon's own user.
    ///
    /// # Errors
    /// If the socket cannot be made.
    pub fn open(&self, path: &Path, uid: Option<u32>, holder: Holder) -> std::io::Result<Door> {
        Door::open(Arc::clone(&self.0), path, uid, holder)
    }
}

impl Store {
    /// Memory with the content of `file`. Reads all of it, and may wait for others.
    fn exchange(&self, holder: &Holder, ended: &AtomicBool, file: &File) -> Result<Given, Refusal> {
        let metadata = file.metadata().map_err(memory::Error::Read)?;
        if !metadata.is_file() {
            return Err(Refusal::NoFile);
        }
        let bytes = metadata.len();
        let turn = self.turn(&holder.namespace);
        let _turn = turn.lock().unwrap_or_else(PoisonError::into_inner);
        let alike = self.ledger().of_size(&holder.namespace, bytes);
        for (key, memory) in alike {
            if memory.equals(file)?
                && let Some(given) = self.give(&key, holder, ended)?
            {
                metrics::weights_given("there");
                return Ok(given);
            }
        }
        let held = self.ledger().held_by(&holder.instance);
        let limit = holder.limit.0;
        if held.saturating_add(bytes) > limit {
            return Err(Full::Share { bytes, held, limit }.into());
        }
        let gone = self.ledger().reserve(bytes)?;
        metrics::weights_evicted(gone);
        let (memory, digest) = match Memory::read(file, bytes) {
            Ok(read) => read,
            Err(error) => {
                self.ledger().give_back(bytes);
                return Err(error.into());
            }
        };
        let key = Key {
            namespace: holder.namespace.clone(),
            digest,
        };
        let mut ledger = self.ledger();
        // A file that changed meanwhile may have become what is there.
        match ledger.contains(&key) {
            true => ledger.give_back(bytes),
            false => ledger.add(key.clone(), bytes, Arc::new(memory)),
        }
        drop(ledger);
        metrics::weights_given("read");
        self.give(&key, holder, ended)?.ok_or(Refusal::Ended)
    }

    fn give(&self, key: &Key, holder: &Holder, ended: &AtomicBool) -> Result<Option<Given>, Refusal> {
        let mut ledger = self.ledger();
        if ended.load(Ordering::Relaxed) {
            return Err(Refusal::Ended); // nobody would let go of it
        }
        let memory = ledger.hold(key, &holder.instance, holder.limit.0)?;
        tell(&ledger);
        Ok(memory.map(|memory| Given {
            memory,
            digest: key.digest,
        }))
    }

    /// The instance's lanes are gone.
    fn let_go(&self, holder: &Holder, ended: &AtomicBool) {
        let mut ledger = self.ledger();
        ended.store(true, Ordering::Relaxed); // the lock orders it
        ledger.let_go(&holder.instance);
        tell(&ledger);
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger<Arc<Memory>>> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn turn(&self, namespace: &str) -> Arc<Mutex<()>> {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        turns.retain(|_, turn| Arc::strong_count(turn) > 1);
        Arc::clone(turns.entry(namespace.to_owned()).or_default())
    }
}

fn tell(ledger: &Ledger<Arc<Memory>>) {
    let held = ledger.held();
    metrics::weights_kept(ledger.count(), held, ledger.bytes() - held);
}

#[cfg(test)]
mod tests;
