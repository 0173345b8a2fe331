//! Sets of kinds of slices, and lanes matched with them.

use crate::dag::MAX_COMPONENTS;
use crate::free::MAX_KINDS;

/// How many slices there are of each kind.
pub(super) type Counts = [u32; MAX_KINDS];

/// A set of kinds: bit k is the k-th of [`crate::free::FreeSlices::kinds`], the smallest first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct KindSet(u64);

impl KindSet {
    pub(super) fn insert(&mut self, kind: usize) {
        self.0 |= 1 << kind;
    }

    pub(super) fn remove(&mut self, kind: usize) {
        self.0 &= !(1 << kind);
    }

    pub(super) const fn minus(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    pub(super) const fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(super) const fn smallest(self) -> Option<usize> {
        if self.0 == 0 {
            None
        } else {
            Some(self.0.trailing_zeros() as usize)
        }
    }

    pub(super) const fn largest(self) -> Option<usize> {
        if self.0 == 0 {
            None
        } else {
            Some(MAX_KINDS - 1 - self.0.leading_zeros() as usize)
        }
    }

    pub(super) fn iter(mut self) -> impl Iterator<Item = usize> {
        std::iter::from_fn(move || {
            let kind = self.smallest()?;
            self.remove(kind);
            Some(kind)
        })
    }
}

impl FromIterator<usize> for KindSet {
    fn from_iter<I: IntoIterator<Item = usize>>(kinds: I) -> Self {
        let mut set = Self::default();
        kinds.into_iter().for_each(|kind| set.insert(kind));
        set
    }
}

/// Lanes that cannot all have a slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shortage {
    /// The lane that is left over.
    pub(super) lane: usize,
    /// What it competes for, with as many other lanes as there are slices of these kinds.
    pub(super) kinds: KindSet,
}

/// Most lanes of one partition: as many as components.
const MAX_LANES: usize = MAX_COMPONENTS;
/// In place of a kind.
const NO_KIND: u8 = u8::MAX;

/// A kind for each lane.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kinds {
    of: [u8; MAX_LANES],
    lanes: usize,
}

impl Kinds {
    pub(super) fn of_lanes(&self) -> &[u8] {
        &self.of[..self.lanes]
    }
}

/// A kind for each lane, within what each is allowed and how many there are of each kind.
///
/// In the given order, largest lane first, each takes the smallest kind that is left: where memory
/// is all that matters, this finds an assignment whenever there is one. Where times are missing
/// in the profile it may not; then a matching does, or shows which lanes are too many.
pub(super) fn assign(allowed: &[KindSet], order: &[u8], counts: &Counts) -> Result<Kinds, Shortage> {
    let mut left = *counts;
    let mut used_up = KindSet::default();
    let mut kinds = Kinds {
        of: [NO_KIND; MAX_LANES],
        lanes: allowed.len(),
    };
    for &lane in order {
        let lane = usize::from(lane);
        let Some(kind) = allowed[lane].minus(used_up).smallest() else {
            return Matching::new(allowed, counts).complete(order);
        };
        left[kind] -= 1;
        if left[kind] == 0 {
            used_up.insert(kind);
        }
        kinds.of[lane] = kind as u8;
    }
    Ok(kinds)
}

/// A bipartite matching that grows by augmenting paths.
struct Matching<'a> {
    allowed: &'a [KindSet],
    kinds: Kinds,
    left: Counts,
    /// Kinds that the present path has been to.
    seen: KindSet,
}

impl<'a> Matching<'a> {
    fn new(allowed: &'a [KindSet], counts: &Counts) -> Self {
        Self {
            allowed,
            kinds: Kinds {
                of: [NO_KIND; MAX_LANES],
                lanes: allowed.len(),
            },
            left: *counts,
            seen: KindSet::default(),
        }
    }

    fn complete(mut self, order: &[u8]) -> Result<Kinds, Shortage> {
        for &lane in order {
            let lane = usize::from(lane);
            self.seen = KindSet::default();
            if !self.augment(lane) {
                // Hall: the lanes that hold these kinds can use no other; this one is one too many.
                return Err(Shortage {
                    lane,
                    kinds: self.seen,
                });
            }
        }
        Ok(self.kinds)
    }

    fn augment(&mut self, lane: usize) -> bool {
        while let Some(kind) = self.allowed[lane].minus(self.seen).smallest() {
            self.seen.insert(kind);
            if self.left[kind] > 0 {
                self.left[kind] -= 1;
                self.kinds.of[lane] = kind as u8;
                return true;
            }
            for other in 0..self.allowed.len() {
                if self.kinds.of[other] == kind as u8 && self.augment(other) {
                    self.kinds.of[lane] = kind as u8;
                    return true;
                }
            }
        }
        false
    }
}
