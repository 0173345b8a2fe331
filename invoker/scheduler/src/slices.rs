//! Ledger of the slices: each is free, leased or fenced, never two of them.
//!
//! A lease is taken for all lanes of a placement or for none, and giving it up is giving the
//! slices back.

use crate::free::{FreeSlices, InventoryError, Kind};
use crate::work::ActionRevision;
use proto::ffs::migs::{InventorySource, MigsDocument, SliceState};
use proto::id::{InstanceId, SliceUuid};
use std::collections::{BTreeMap, BTreeSet};

/// Who has leased a slice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holder {
    Instance(InstanceId),
    /// A measurement, until it ends.
    Profiling(ActionRevision),
}

/// The slices that one holder has to itself. Whoever has it holds them.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a lease that is dropped keeps its slices from everybody else"]
pub struct Lease(Vec<SliceUuid>);

impl Lease {
    pub fn slices(&self) -> &[SliceUuid] {
        &self.0
    }
}

#[derive(Clone, Debug)]
pub struct Ledger {
    inventory: MigsDocument,
    free: FreeSlices,
    /// As if nothing were leased: what an empty machine would have.
    empty: FreeSlices,
    /// As if nothing were leased or fenced.
    whole: FreeSlices,
    leased: BTreeMap<SliceUuid, Holder>,
    /// Slices of the inventory that must not be used.
    fenced: BTreeSet<SliceUuid>,
}

impl Ledger {
    /// # Errors
    /// An inventory that contradicts itself.
    pub fn new(inventory: MigsDocument) -> Result<Self, InventoryError> {
        let empty = FreeSlices::new(&as_if_empty(&inventory))?;
        Ok(Self {
            free: empty.clone(),
            empty,
            whole: FreeSlices::new(&as_if_whole(&inventory))?,
            leased: BTreeMap::new(),
            fenced: fenced(&inventory),
            inventory,
        })
    }

    /// Reads the inventory again. Leases go on, also those of slices that are gone.
    ///
    /// # Errors
    /// An inventory that contradicts itself; the old one stays in force.
    pub fn read(&mut self, inventory: MigsDocument) -> Result<(), InventoryError> {
        let empty = FreeSlices::new(&as_if_empty(&inventory))?;
        let whole = FreeSlices::new(&as_if_whole(&inventory))?;
        let mut free = empty.clone();
        for slice in self.leased.keys() {
            free.take(slice);
        }
        self.free = free;
        self.empty = empty;
        self.whole = whole;
        self.fenced = fenced(&inventory);
        self.inventory = inventory;
        Ok(())
    }

    /// Whether there is any slice, in order or not.
    pub fn has_slices(&self) -> bool {
        !self.inventory.slices.is_empty()
    }

    pub fn source(&self) -> InventorySource {
        self.inventory.source
    }

    pub fn free(&self) -> &FreeSlices {
        &self.free
    }

    /// All slices of the inventory, leased or fenced: what the machine has on its best day.
    pub fn whole(&self) -> &FreeSlices {
        &self.whole
    }

    /// Every kind of slice of the machine, smallest first.
    pub fn kinds(&self) -> &[Kind] {
        self.empty.kinds()
    }

    /// What GPU the slices are cut from; the first one's model.
    pub fn gpu_model(&self) -> &str {
        self.inventory.gpus.first().map_or("", |gpu| gpu.model.as_str())
    }

    /// Takes all slices for one holder, or none if one of them is not free.
    pub fn lease(&mut self, slices: &[SliceUuid], holder: &Holder) -> Option<Lease> {
        for (taken, slice) in slices.iter().enumerate() {
            if !self.free.take(slice) {
                for slice in &slices[..taken] {
                    self.free.give_back(slice);
                }
                return None;
            }
        }
        for slice in slices {
            self.leased.insert(slice.clone(), holder.clone());
        }
        Some(Lease(slices.to_vec()))
    }

    /// Gives the slices back. Those that are fenced or gone do not become free.
    pub fn release(&mut self, lease: Lease) {
        for slice in lease.0 {
            self.leased.remove(&slice);
            if self.is_in_order(&slice) {
                self.free.give_back(&slice);
            }
        }
    }

    /// What would be free if these leases were given up.
    pub fn free_without<'a>(&self, leases: impl IntoIterator<Item = &'a Lease>) -> FreeSlices {
        let mut free = self.free.clone();
        for slice in leases.into_iter().flat_map(Lease::slices) {
            if self.is_in_order(slice) {
                free.give_back(slice);
            }
        }
        free
    }

    /// Whether the slice is there and reports no errors.
    pub fn is_in_order(&self, slice: &SliceUuid) -> bool {
        self.empty.is_free(slice)
    }

    pub fn leased(&self) -> impl Iterator<Item = (&SliceUuid, &Holder)> {
        self.leased.iter()
    }

    /// `migs.json`: the inventory with the states and owners of this moment.
    pub fn document(&self) -> MigsDocument {
        let mut document = self.inventory.clone();
        for slice in &mut document.slices {
            slice.owners.clear();
            slice.state = match self.leased.get(&slice.uuid) {
                _ if self.fenced.contains(&slice.uuid) => SliceState::Fenced,
                None => SliceState::Free,
                Some(holder) => {
                    if let Holder::Instance(instance) = holder {
                        slice.owners.push(instance.clone());
                    }
                    SliceState::Hot
                }
            };
        }
        document
    }
}

/// The inventory with every slice that is in order free.
fn as_if_empty(inventory: &MigsDocument) -> MigsDocument {
    let mut inventory = inventory.clone();
    for slice in &mut inventory.slices {
        if slice.state != SliceState::Fenced {
            slice.state = SliceState::Free;
        }
    }
    inventory
}

/// The inventory with every slice free, in order or not.
fn as_if_whole(inventory: &MigsDocument) -> MigsDocument {
    let mut inventory = inventory.clone();
    for slice in &mut inventory.slices {
        slice.state = SliceState::Free;
    }
    inventory
}

fn fenced(inventory: &MigsDocument) -> BTreeSet<SliceUuid> {
    let fenced = inventory
        .slices
        .iter()
        .filter(|slice| slice.state == SliceState::Fenced);
    fenced.map(|slice| slice.uuid.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::ffs::migs::{Gpu, MigsSchema, Slice};
    use proto::unit::Bytes;

    #[test]
    fn a_lease_is_for_all_slices_or_for_none() {
        let mut ledger = Ledger::new(inventory(3)).unwrap();
        let first = ledger.lease(&[uuid(1)], &instance("i-1")).unwrap();

        assert_eq!(ledger.lease(&[uuid(0), uuid(1)], &instance("i-2")), None);
        assert_eq!(ledger.free().len(), 2, "what was taken half-way is free again");

        ledger.release(first);
        assert_eq!(ledger.free().len(), 3);
    }

    #[test]
    fn a_slice_that_is_fenced_while_leased_does_not_become_free() {
        let mut ledger = Ledger::new(inventory(2)).unwrap();
        let lease = ledger.lease(&[uuid(0)], &instance("i-1")).unwrap();
        let mut sick = inventory(2);
        sick.slices[0].state = SliceState::Fenced;
        ledger.read(sick).unwrap();

        assert!(!ledger.is_in_order(&uuid(0)));
        ledger.release(lease);
        assert!(!ledger.free().is_free(&uuid(0)));
        assert_eq!(ledger.document().slices[0].state, SliceState::Fenced);
    }

    #[test]
    fn a_lease_survives_a_new_inventory() {
        let mut ledger = Ledger::new(inventory(2)).unwrap();
        let lease = ledger.lease(&[uuid(0)], &instance("i-1")).unwrap();
        ledger.read(inventory(4)).unwrap();

        assert_eq!(ledger.free().len(), 3);
        assert_eq!(ledger.document().slices[0].owners, ["i-1".parse().unwrap()]);
        ledger.release(lease);
        assert_eq!(ledger.free().len(), 4);
    }

    #[test]
    fn an_inventory_that_contradicts_itself_changes_nothing() {
        let mut ledger = Ledger::new(inventory(2)).unwrap();
        let mut twice = inventory(2);
        twice.slices.push(twice.slices[0].clone());

        assert!(ledger.read(twice).is_err());
        assert_eq!(ledger.free().len(), 2);
    }

    fn inventory(slices: u32) -> MigsDocument {
        let gpu = "GPU-0";
        MigsDocument {
            schema: MigsSchema::V1,
            taken_at: "2026-01-02T03:04:05Z".to_owned(),
            source: InventorySource::Simulated,
            driver: None,
            gpus: vec![Gpu {
                uuid: gpu.parse().unwrap(),
                index: 0,
                model: "A100-80GB".to_owned(),
                memory_bytes: Bytes::mib(81920),
                mig: true,
                numa: None,
                pci: None,
            }],
            slices: (0..slices)
                .map(|n| Slice {
                    uuid: uuid(n),
                    gpu_uuid: gpu.parse().unwrap(),
                    profile: "1g.10gb".parse().unwrap(),
                    gi: None,
                    ci: None,
                    placement: None,
                    compute_slices: 1,
                    sms: None,
                    memory_bytes: Bytes::mib(9856),
                    state: SliceState::Free,
                    owners: Vec::new(),
                    cpu_quota: None,
                    mem_limit: None,
                })
                .collect(),
        }
    }

    fn uuid(n: u32) -> SliceUuid {
        format!("MIG-{n}").parse().unwrap()
    }

    fn instance(id: &str) -> Holder {
        Holder::Instance(id.parse().unwrap())
    }
}
