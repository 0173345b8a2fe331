//! Ledger of the memory of all containers, ordinary ones and lanes alike: `user-memory`.
//!
//! What is taken is never more than the budget. Whoever takes gives back when the container is gone.

use proto::unit::Bytes;

#[derive(Clone, Debug)]
pub struct Memory {
    budget: Bytes,
    used: Bytes,
    /// Part of `used` whose removal is under way.
    leaving: Bytes,
}

impl Memory {
    pub fn new(budget: Bytes) -> Self {
        Self {
            budget,
            used: Bytes(0),
            leaving: Bytes(0),
        }
    }

    pub fn budget(&self) -> Bytes {
        self.budget
    }

    pub fn used(&self) -> Bytes {
        self.used
    }

    /// Part of it whose removal is under way.
    pub fn leaving(&self) -> Bytes {
        self.leaving
    }

    pub fn free(&self) -> Bytes {
        Bytes(self.budget.0 - self.used.0)
    }

    /// Takes `bytes` if they are free, and says whether.
    #[must_use]
    pub fn take(&mut self, bytes: Bytes) -> bool {
        let enough = bytes <= self.free();
        if enough {
            self.used.0 += bytes.0;
        }
        enough
    }

    /// What was taken will be given back soon: a removal is under way.
    pub fn leave(&mut self, bytes: Bytes) {
        self.leaving.0 += bytes.0;
    }

    /// Gives back what was taken.
    pub fn give(&mut self, bytes: Bytes) {
        self.used.0 -= bytes.0;
    }

    /// Gives back what was leaving.
    pub fn left(&mut self, bytes: Bytes) {
        self.leaving.0 -= bytes.0;
        self.give(bytes);
    }

    /// What would still be missing for `bytes` when all that leaves is gone.
    pub fn missing(&self, bytes: Bytes) -> Bytes {
        Bytes(bytes.0.saturating_sub(self.free().0 + self.leaving.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_taken_than_there_is() {
        let mut memory = Memory::new(Bytes::mib(512));
        assert!(memory.take(Bytes::mib(256)));
        assert!(!memory.take(Bytes::mib(257)));
        assert!(memory.take(Bytes::mib(256)));
        assert_eq!(memory.free(), Bytes(0));
    }

    #[test]
    fn what_leaves_is_expected_but_not_free() {
        let mut memory = Memory::new(Bytes::mib(512));
        assert!(memory.take(Bytes::mib(512)));
        memory.leave(Bytes::mib(256));

        assert_eq!(memory.free(), Bytes(0));
        assert_eq!(memory.missing(Bytes::mib(300)), Bytes::mib(44));

        memory.left(Bytes::mib(256));
        assert_eq!(memory.free(), Bytes::mib(256));
    }
}
