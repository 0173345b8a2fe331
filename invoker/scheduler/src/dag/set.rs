//! Sets of components as machine words.

use std::fmt;

/// Components of one DAG; element `i` is the `i`-th in topological order.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ComponentSet(u64);

impl ComponentSet {
    pub const EMPTY: Self = Self(0);

    /// The set of one component.
    pub const fn of(component: usize) -> Self {
        Self(1 << component)
    }

    /// The first `n` components, `n` <= 64.
    pub const fn first_n(n: usize) -> Self {
        if n >= 64 {
            Self(u64::MAX)
        } else {
            Self((1 << n) - 1)
        }
    }

    pub const fn contains(self, component: usize) -> bool {
        self.0 >> component & 1 == 1
    }

    pub const fn insert(&mut self, component: usize) {
        self.0 |= 1 << component;
    }

    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    #[must_use]
    pub const fn minus(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    #[must_use]
    pub const fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub const fn len(self) -> usize {
        self.0.count_ones() as usize
    }

    /// The topologically first component, if there is any.
    pub const fn first(self) -> Option<usize> {
        if self.0 == 0 {
            None
        } else {
            Some(self.0.trailing_zeros() as usize)
        }
    }

    /// The topologically last component, if there is any.
    pub const fn last(self) -> Option<usize> {
        if self.0 == 0 {
            None
        } else {
            Some(63 - self.0.leading_zeros() as usize)
        }
    }

    /// The components in topological order.
    pub fn iter(self) -> impl Iterator<Item = usize> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            let next = Self(rest).first()?;
            rest &= rest - 1;
            Some(next)
        })
    }
}

impl FromIterator<usize> for ComponentSet {
    fn from_iter<I: IntoIterator<Item = usize>>(components: I) -> Self {
        components
            .into_iter()
            .fold(Self::EMPTY, |set, c| set.union(Self::of(c)))
    }
}

impl fmt::Debug for ComponentSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}
