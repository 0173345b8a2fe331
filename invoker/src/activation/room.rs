//! How much is in the hands of those who run activations (K-24, K-25). Functions that wait for slices have room of
//! their own, so that they keep no plain action waiting, and plain actions none of them.
//!
//! Which action is a function is known once it has been read; until then its activations count as plain ones.

use proto::whisk::activation_message::ActivationMessage;
use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How many functions are remembered; beyond that all are learnt anew.
const KNOWN: usize = 10_000;

/// What an activation needs room as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Plain,
    Function,
}

/// A unit of room; dropped, it is given back.
#[derive(Debug)]
pub struct Room {
    kind: Kind,
    permit: Option<OwnedSemaphorePermit>,
}

impl Room {
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// For what never was in anybody's hands.
    pub fn none() -> Self {
        Self {
            kind: Kind::Plain,
            permit: None,
        }
    }
}

/// K-24's maxPeek, once for plain actions and once for functions.
#[derive(Debug)]
pub struct Rooms {
    capacity: usize,
    plain: Arc<Semaphore>,
    functions: Arc<Semaphore>,
    /// Actions that are functions; none on a node without slices, where functions are plain actions.
    known: Option<Mutex<HashSet<String>>>,
}

impl Rooms {
    pub fn new(capacity: usize, has_slices: bool) -> Self {
        let capacity = capacity.clamp(1, Semaphore::MAX_PERMITS);
        Self {
            capacity,
            plain: Arc::new(Semaphore::new(capacity)),
            functions: Arc::new(Semaphore::new(capacity)),
            known: has_slices.then(Mutex::default),
        }
    }

    /// Most activations of one kind.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    pub fn kind_of(&self, message: &ActivationMessage) -> Kind {
        let Some(known) = &self.known else {
            return Kind::Plain;
        };
        let known = known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.is_empty() || !known.contains(&message.action.to_string()) {
            return Kind::Plain;
        }
        Kind::Function
    }

    /// Waits for a unit.
    pub async fn take(&self, kind: Kind) -> Room {
        let permit = Arc::clone(self.of(kind)).acquire_owned().await;
        Room {
            kind,
            permit: Some(permit.expect("the semaphore is never closed")),
        }
    }

    /// Told what an action is, now that it has been read. A unit of the other kind is given back: a function that
    /// was not known keeps no plain action waiting, also where there is no more room for functions.
    pub fn learn(&self, action: &str, kind: Kind, held: &mut Room) {
        let Some(known) = &self.known else { return };
        {
            let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
            match kind {
                Kind::Plain => drop(known.remove(action)),
                Kind::Function if known.contains(action) => {}
                Kind::Function => {
                    if known.len() >= KNOWN {
                        known.clear();
                    }
                    known.insert(action.to_owned());
                }
            }
        }
        if held.kind != kind && held.permit.is_some() {
            *held = Room {
                kind,
                permit: Arc::clone(self.of(kind)).try_acquire_owned().ok(),
            };
        }
    }

    fn of(&self, kind: Kind) -> &Arc<Semaphore> {
        match kind {
            Kind::Plain => &self.plain,
            Kind::Function => &self.functions,
        }
    }
}
