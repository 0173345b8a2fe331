//! The slices of one machine, and which of them are free, grouped by kind.
//!
//! Slices of a kind are interchangeable but for where they lie, so placement counts kinds first
//! and picks slices last. Who owns a slice is the business of the ledger, which keeps one
//! [`FreeSlices`] up to date; it is rebuilt only when the inventory changes.

use proto::ffs::migs::{MigsDocument, Slice, SliceState};
use proto::id::{GpuUuid, ProfileName, SliceUuid};
use proto::unit::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Most kinds of slices on one machine: a set of kinds is one machine word.
pub const MAX_KINDS: usize = 64;

/// What makes slices interchangeable. Ordered from small to large: memory, compute slices, name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Kind {
    /// Usable, as the driver reports it.
    pub memory: Bytes,
    pub compute_slices: u32,
    pub profile: ProfileName,
}

impl Kind {
    /// The kind that a slice is of.
    pub fn of(slice: &Slice) -> Self {
        Self {
            memory: slice.memory_bytes,
            compute_slices: slice.compute_slices,
            profile: slice.profile.clone(),
        }
    }

    /// Every kind in an inventory, smallest first, whatever state its slices are in.
    pub fn all(migs: &MigsDocument) -> Vec<Self> {
        migs.slices
            .iter()
            .map(Self::of)
            .collect::<BTreeSet<_>>()
            .into_iter()
            .collect()
    }
}

/// What is needed in whole mebibytes, rounded up; what there is is rounded down ([`Bytes::as_mib`]),
/// so that a sentence that compares the two never shows equal numbers for unequal sizes.
pub(crate) const fn needed_mib(needs: Bytes) -> u64 {
    needs.0.div_ceil(1 << 20)
}

/// Why an inventory makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InventoryError {
    #[error("slice {slice} appears twice in the inventory")]
    Duplicate { slice: SliceUuid },
    #[error("slice {slice} lies on GPU {gpu}, which the inventory does not list")]
    UnknownGpu { slice: SliceUuid, gpu: GpuUuid },
    #[error("the inventory has {count} kinds of slices; at most {MAX_KINDS} are supported")]
    TooManyKinds { count: usize },
}

/// The free slices of one machine.
#[derive(Clone, Debug)]
pub struct FreeSlices {
    kinds: Vec<Kind>,
    /// Every slice of the inventory, by UUID.
    slices: Vec<Known>,
    gpus: Vec<GpuSlices>,
    by_kind: Vec<BTreeSet<Candidate>>,
}

#[derive(Clone, Debug)]
struct Known {
    slice: Arc<Slice>,
    kind: usize,
    gpu: usize,
    free: bool,
}

#[derive(Clone, Debug, Default)]
struct GpuSlices {
    slices: Vec<usize>,
    free: u32,
}

/// A free slice in the order of preference: GPU with the fewest free slices first, then UUID.
type Candidate = (u32, usize);

impl FreeSlices {
    /// Reads an inventory; slices in state `free` are free.
    ///
    /// # Errors
    /// A UUID that appears twice, a slice on an unknown GPU, more than [`MAX_KINDS`] kinds.
    pub fn new(migs: &MigsDocument) -> Result<Self, InventoryError> {
        let kinds = Kind::all(migs);
        if kinds.len() > MAX_KINDS {
            return Err(InventoryError::TooManyKinds { count: kinds.len() });
        }
        let gpu_places: BTreeMap<&GpuUuid, usize> = migs
            .gpus
            .iter()
            .enumerate()
            .map(|(at, gpu)| (&gpu.uuid, at))
            .collect();
        let mut slices = Vec::with_capacity(migs.slices.len());
        for slice in &migs.slices {
            let gpu = *gpu_places
                .get(&slice.gpu_uuid)
                .ok_or_else(|| InventoryError::UnknownGpu {
                    slice: slice.uuid.clone(),
                    gpu: slice.gpu_uuid.clone(),
                })?;
            let kind = kinds
                .binary_search(&Kind::of(slice))
                .expect("kinds come from these slices");
            slices.push(Known {
                slice: Arc::new(slice.clone()),
                kind,
                gpu,
                free: false,
            });
        }
        slices.sort_by(|a, b| a.slice.uuid.cmp(&b.slice.uuid));
        if let Some(twice) = slices
            .windows(2)
            .find(|pair| pair[0].slice.uuid == pair[1].slice.uuid)
        {
            return Err(InventoryError::Duplicate {
                slice: twice[0].slice.uuid.clone(),
            });
        }
        let mut gpus = vec![GpuSlices::default(); migs.gpus.len()];
        for (at, known) in slices.iter().enumerate() {
            gpus[known.gpu].slices.push(at);
        }
        let by_kind = vec![BTreeSet::new(); kinds.len()];
        let mut free = Self {
            kinds,
            slices,
            gpus,
            by_kind,
        };
        for at in 0..free.slices.len() {
            if free.slices[at].slice.state == SliceState::Free {
                free.set(at, true);
            }
        }
        Ok(free)
    }

    /// Every kind of the inventory, smallest first, free or not.
    pub fn kinds(&self) -> &[Kind] {
        &self.kinds
    }

    /// How many slices of a kind (by its place in [`Self::kinds`]) are free.
    pub fn count(&self, kind: usize) -> usize {
        self.by_kind[kind].len()
    }

    /// How many slices are free.
    pub fn len(&self) -> usize {
        self.by_kind.iter().map(BTreeSet::len).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.by_kind.iter().all(BTreeSet::is_empty)
    }

    pub fn is_free(&self, slice: &SliceUuid) -> bool {
        self.find(slice).is_some_and(|at| self.slices[at].free)
    }

    /// The free slices: smallest kind first, then in the order of preference.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Slice>> {
        self.by_kind
            .iter()
            .flatten()
            .map(|(_, at)| &self.slices[*at].slice)
    }

    /// Takes a slice out; false if it was not free, or is not in the inventory.
    pub fn take(&mut self, slice: &SliceUuid) -> bool {
        self.find(slice).is_some_and(|at| self.set(at, false))
    }

    /// Puts a slice back; false if it was free already, or is not in the inventory.
    pub fn give_back(&mut self, slice: &SliceUuid) -> bool {
        self.find(slice).is_some_and(|at| self.set(at, true))
    }

    /// The best free slice of a kind that is not in `taken`, and its GPU: on one of `near`, in
    /// that order, else on the GPU with the fewest free slices; ties by UUID.
    pub(crate) fn pick(&self, kind: usize, near: &[usize], taken: &[usize]) -> Option<(usize, usize)> {
        let usable = |at: usize| {
            let known = &self.slices[at];
            known.free && known.kind == kind && !taken.contains(&at)
        };
        let on_near = near.iter().find_map(|gpu| {
            let at = self.gpus[*gpu].slices.iter().copied().find(|at| usable(*at))?;
            Some((at, *gpu))
        });
        on_near.or_else(|| {
            let (_, at) = self.by_kind[kind].iter().find(|(_, at)| usable(*at))?;
            Some((*at, self.slices[*at].gpu))
        })
    }

    pub(crate) fn slice(&self, at: usize) -> &Arc<Slice> {
        &self.slices[at].slice
    }

    fn find(&self, slice: &SliceUuid) -> Option<usize> {
        self.slices
            .binary_search_by(|known| known.slice.uuid.cmp(slice))
            .ok()
    }

    /// Changes one slice, and with it the preference of all free slices on its GPU.
    fn set(&mut self, at: usize, free: bool) -> bool {
        if self.slices[at].free == free {
            return false;
        }
        let gpu = &mut self.gpus[self.slices[at].gpu];
        let before = gpu.free;
        gpu.free = if free { before + 1 } else { before - 1 };
        self.slices[at].free = free;
        for &other in &gpu.slices {
            let known = &self.slices[other];
            let candidates = &mut self.by_kind[known.kind];
            candidates.remove(&(before, other));
            if known.free {
                candidates.insert((gpu.free, other));
            }
        }
        true
    }
}
