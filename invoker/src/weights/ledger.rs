//! Which contents are kept, who holds them, and which one goes for another: books only, without memory or files.
//!
//! What an instance was given it may keep mapped until its lanes are gone, so it counts until then. Only what nobody
//! holds is given up, the longest unused first; with that, all that is kept never exceeds the budget.

use proto::id::InstanceId;
use std::collections::{BTreeMap, BTreeSet};

/// SHA-256 of a file.
pub(super) type Digest = [u8; 32];

/// A namespace's content. The same content of another namespace is another entry: what others have or use cannot be
/// found out, neither by asking nor by the time that reading takes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    pub(super) namespace: String,
    pub(super) digest: Digest,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Full {
    #[error("its {bytes} bytes are more than the {budget} that are set aside for weights")]
    Larger { bytes: u64, budget: u64 },
    #[error(
        "instances hold {held} of the {budget} bytes that are set aside for weights, and {bytes} more do not fit"
    )]
    InUse { bytes: u64, held: u64, budget: u64 },
    #[error(
        "the instance holds {held} bytes of weights, and with {bytes} more it would exceed the {limit} that its lanes may use"
    )]
    Share { bytes: u64, held: u64, limit: u64 },
}

/// What is kept; `M` is its memory.
#[derive(Debug)]
pub(super) struct Ledger<M> {
    budget: u64,
    /// For what is being read.
    reserved: u64,
    uses: u64,
    entries: BTreeMap<Key, Entry<M>>,
}

#[derive(Debug)]
struct Entry<M> {
    memory: M,
    bytes: u64,
    /// The highest is the newest use.
    used: u64,
    holders: BTreeSet<InstanceId>,
}

impl<M: Clone> Ledger<M> {
    pub(super) fn new(budget: u64) -> Self {
        Self {
            budget,
            reserved: 0,
            uses: 0,
            entries: BTreeMap::new(),
        }
    }

    /// Contents of a namespace with this size.
    pub(super) fn of_size(&self, namespace: &str, bytes: u64) -> Vec<(Key, M)> {
        let alike = |(key, entry): &(&Key, &Entry<M>)| key.namespace == namespace && entry.bytes == bytes;
        let found = self.entries.iter().filter(alike);
        found
            .map(|(key, entry)| (key.clone(), entry.memory.clone()))
            .collect()
    }

    /// Makes room for so many bytes, and keeps it free until [`Self::add`] or [`Self::give_back`]. Returns how many
    /// entries went for it.
    ///
    /// # Errors
    /// There is none to be had; then nothing has gone.
    pub(super) fn reserve(&mut self, bytes: u64) -> Result<usize, Full> {
        let budget = self.budget;
        if bytes > budget {
            return Err(Full::Larger { bytes, budget });
        }
        let held = self.reserved + self.held();
        if held.saturating_add(bytes) > budget {
            return Err(Full::InUse { bytes, held, budget });
        }
        let mut gone = 0;
        while self.reserved + self.bytes() + bytes > budget {
            let idle = self.entries.iter().filter(|(_, entry)| entry.holders.is_empty());
            let oldest = idle
                .min_by_key(|(_, entry)| entry.used)
                .map(|(key, _)| key.clone());
            let oldest = oldest.expect("what is held fits beside it, so something idle is in the way");
            self.entries.remove(&oldest);
            gone += 1;
        }
        self.reserved += bytes;
        Ok(gone)
    }

    /// What was reserved is not needed.
    pub(super) fn give_back(&mut self, bytes: u64) {
        self.reserved -= bytes;
    }

    /// Keeps what room was reserved for.
    pub(super) fn add(&mut self, key: Key, bytes: u64, memory: M) {
        self.reserved -= bytes;
        self.uses += 1;
        let entry = Entry {
            memory,
            bytes,
            used: self.uses,
            holders: BTreeSet::new(),
        };
        let before = self.entries.insert(key, entry);
        debug_assert!(before.is_none(), "one content is read by one at a time");
    }

    /// Gives an entry to an instance that may hold `limit` bytes in all; none if it has gone meanwhile.
    ///
    /// # Errors
    /// [`Full::Share`].
    pub(super) fn hold(&mut self, key: &Key, holder: &InstanceId, limit: u64) -> Result<Option<M>, Full> {
        let held = self.held_by(holder);
        let Some(entry) = self.entries.get_mut(key) else {
            return Ok(None);
        };
        let bytes = entry.bytes;
        if !entry.holders.contains(holder) && held.saturating_add(bytes) > limit {
            return Err(Full::Share { bytes, held, limit });
        }
        self.uses += 1;
        entry.used = self.uses;
        entry.holders.insert(holder.clone());
        Ok(Some(entry.memory.clone()))
    }

    /// The instance's lanes are gone.
    pub(super) fn let_go(&mut self, holder: &InstanceId) {
        for entry in self.entries.values_mut() {
            entry.holders.remove(holder);
        }
    }

    pub(super) fn contains(&self, key: &Key) -> bool {
        self.entries.contains_key(key)
    }

    pub(super) fn count(&self) -> usize {
        self.entries.len()
    }

    /// Of all entries.
    pub(super) fn bytes(&self) -> u64 {
        self.entries.values().map(|entry| entry.bytes).sum()
    }

    /// Of those that instances hold.
    pub(super) fn held(&self) -> u64 {
        let held = self.entries.values().filter(|entry| !entry.holders.is_empty());
        held.map(|entry| entry.bytes).sum()
    }

    pub(super) fn held_by(&self, holder: &InstanceId) -> u64 {
        let held = self
            .entries
            .values()
            .filter(|entry| entry.holders.contains(holder));
        held.map(|entry| entry.bytes).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(namespace: &str, content: u8) -> Key {
        Key {
            namespace: namespace.to_owned(),
            digest: [content; 32],
        }
    }

    fn instance(name: &str) -> InstanceId {
        name.parse().expect("an id")
    }

    /// As the store does it.
    fn store(ledger: &mut Ledger<u8>, content: u8, bytes: u64, holder: &str) -> Result<usize, Full> {
        let gone = ledger.reserve(bytes)?;
        ledger.add(key("guest", content), bytes, content);
        ledger.hold(&key("guest", content), &instance(holder), u64::MAX)?;
        Ok(gone)
    }

    fn kept(ledger: &Ledger<u8>) -> Vec<u8> {
        ledger.entries.values().map(|entry| entry.memory).collect()
    }

    #[test]
    fn the_longest_unused_that_nobody_holds_goes_first() {
        let mut ledger = Ledger::new(100);
        for (content, holder) in [(1, "i-1"), (2, "i-2"), (3, "i-3")] {
            assert_eq!(store(&mut ledger, content, 30, holder), Ok(0));
        }
        for holder in ["i-1", "i-2"] {
            ledger.let_go(&instance(holder));
        }
        let again = ledger.hold(&key("guest", 1), &instance("i-4"), u64::MAX);
        assert_eq!(again, Ok(Some(1)), "it was still there");
        ledger.let_go(&instance("i-4"));

        assert_eq!(store(&mut ledger, 4, 40, "i-5"), Ok(1));
        assert_eq!(
            kept(&ledger),
            [1, 3, 4],
            "2 was used least of those that nobody holds"
        );
        assert_eq!(ledger.bytes(), 100);
    }

    #[test]
    fn what_is_held_stays_and_what_does_not_fit_beside_it_is_refused() {
        let mut ledger = Ledger::new(100);
        assert_eq!(store(&mut ledger, 1, 60, "i-1"), Ok(0));
        assert_eq!(store(&mut ledger, 2, 30, "i-2"), Ok(0));
        ledger.let_go(&instance("i-2"));
        let (bytes, budget) = (50, 100);
        let refused = store(&mut ledger, 3, bytes, "i-3");
        assert_eq!(
            refused,
            Err(Full::InUse {
                bytes,
                held: 60,
                budget
            })
        );
        assert_eq!(kept(&ledger), [1, 2], "nothing has gone for nothing");
        let bytes = 101;
        assert_eq!(
            store(&mut ledger, 3, bytes, "i-3"),
            Err(Full::Larger { bytes, budget })
        );
        assert_eq!(store(&mut ledger, 3, 40, "i-3"), Ok(1));
    }

    #[test]
    fn what_is_being_read_counts() {
        let mut ledger: Ledger<u8> = Ledger::new(100);
        assert_eq!(ledger.reserve(60), Ok(0));
        assert!(matches!(ledger.reserve(50), Err(Full::InUse { held: 60, .. })));
        ledger.give_back(60);
        assert_eq!(ledger.reserve(50), Ok(0));
    }

    #[test]
    fn an_instance_holds_no_more_than_its_share_and_nothing_twice() {
        let mut ledger = Ledger::new(100);
        assert_eq!(store(&mut ledger, 1, 30, "i-1"), Ok(0));
        assert_eq!(store(&mut ledger, 2, 30, "i-2"), Ok(0));
        let limit = 50;
        assert_eq!(
            ledger.hold(&key("guest", 1), &instance("i-1"), limit),
            Ok(Some(1)),
            "it has it already"
        );
        let refused = ledger.hold(&key("guest", 2), &instance("i-1"), limit);
        let (bytes, held) = (30, 30);
        assert_eq!(refused, Err(Full::Share { bytes, held, limit }));
    }

    #[test]
    fn namespaces_do_not_see_each_other() {
        let mut ledger = Ledger::new(100);
        assert_eq!(store(&mut ledger, 1, 30, "i-1"), Ok(0));
        assert_eq!(ledger.of_size("guest", 30), [(key("guest", 1), 1)]);
        assert_eq!(ledger.of_size("guest", 31), []);
        assert_eq!(ledger.of_size("other", 30), []);
        assert_eq!(
            ledger.hold(&key("other", 1), &instance("i-2"), u64::MAX),
            Ok(None)
        );
    }

    #[test]
    fn one_holder_of_two_leaves_it_held() {
        let mut ledger = Ledger::new(40);
        assert_eq!(store(&mut ledger, 1, 30, "i-1"), Ok(0));
        let second = ledger.hold(&key("guest", 1), &instance("i-2"), 30);
        assert_eq!((second, ledger.bytes()), (Ok(Some(1)), 30), "there once");
        ledger.let_go(&instance("i-1"));
        assert_eq!(ledger.held(), 30);
        ledger.let_go(&instance("i-2"));
        assert_eq!((ledger.held(), ledger.bytes(), ledger.count()), (0, 30, 1));
    }
}
