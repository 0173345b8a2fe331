//! Ledger of the slices: each is free, leased, shared or fenced, never two of them.
//!
//! A lease is taken for all lanes of a placement or for none, and giving it up is giving the
//! slices back. A slice has one holder, or several instances that share it.

use crate::free::{FreeSlices, InventoryError, Kind};
use crate::work::ActionRevision;
use proto::ffs::migs::{InventorySource, MigsDocument, SliceState};
use proto::id::{InstanceId, SliceUuid};
use proto::unit::Bytes;
use std::collections::{BTreeMap, BTreeSet};

/// Who has leased a slice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holder {
    Instance(InstanceId),
    /// A measurement, until it ends.
    Profiling(ActionRevision),
}

/// The slices of one holder: to itself, or shared with other instances. Whoever has it holds them.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a lease that is dropped keeps its slices from everybody else"]
pub struct Lease {
    slices: Vec<SliceUuid>,
    holder: Holder,
}

impl Lease {
    pub fn slices(&self) -> &[SliceUuid] {
        &self.slices
    }

    /// Takes over the slices of another lease of the same holder.
    pub fn absorb(&mut self, other: Self) {
        self.slices.extend(other.slices);
    }

    /// A lease of this slice alone, which is then no part of this one.
    pub fn split_off(&mut self, slice: &SliceUuid) -> Option<Self> {
        let at = self.slices.iter().position(|own| own == slice)?;
        Some(Self {
            slices: vec![self.slices.remove(at)],
            holder: self.holder.clone(),
        })
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
    /// Slices that are shared, with the instances that compute there in turns.
    shared: BTreeMap<SliceUuid, BTreeSet<InstanceId>>,
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
            shared: BTreeMap::new(),
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
        for slice in self.leased.keys().chain(self.shared.keys()) {
            free.take(slice);
        }
        self.free = free;
        self.empty = empty;
        self.whole = whole;
        self.fenced = fenced(&inventory);
        self.inventory = inventory;
        Ok(())
    }

    /// What was read last.
    pub fn inventory(&self) -> &MigsDocument {
        &self.inventory
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

    /// What a slice of the inventory holds.
    pub fn memory(&self, slice: &SliceUuid) -> Option<Bytes> {
        let slices = &self.inventory.slices;
        let known = slices.iter().find(|known| known.uuid == *slice)?;
        Some(known.memory_bytes)
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
        Some(Lease {
            slices: slices.to_vec(),
            holder: holder.clone(),
        })
    }

    /// Takes all slices for an instance that computes there in turns, or none if one of them is
    /// neither shared nor free.
    pub fn share(&mut self, slices: &[SliceUuid], instance: &InstanceId) -> Option<Lease> {
        let open = |slice: &SliceUuid| {
            (self.shared.contains_key(slice) && self.is_in_order(slice)) || self.free.is_free(slice)
        };
        if !slices.iter().all(open) {
            return None;
        }
        for slice in slices {
            self.free.take(slice);
            let owners = self.shared.entry(slice.clone()).or_default();
            owners.insert(instance.clone());
        }
        Some(Lease {
            slices: slices.to_vec(),
            holder: Holder::Instance(instance.clone()),
        })
    }

    /// Opens an instance's own slices to others.
    pub fn open(&mut self, lease: &Lease) {
        let Holder::Instance(instance) = &lease.holder else {
            return;
        };
        for slice in &lease.slices {
            if self.leased.remove(slice).is_some() {
                let owners = self.shared.entry(slice.clone()).or_default();
                owners.insert(instance.clone());
            }
        }
    }

    /// Closes shared slices to others, if nobody else is there; says whether it did.
    pub fn close(&mut self, lease: &Lease) -> bool {
        let alone = |slice: &SliceUuid| self.shared.get(slice).is_some_and(|owners| owners.len() == 1);
        let closed = lease.slices.iter().all(alone);
        if closed {
            for slice in &lease.slices {
                self.shared.remove(slice);
                self.leased.insert(slice.clone(), lease.holder.clone());
            }
        }
        closed
    }

    /// Gives the slices back. Those that are fenced, gone or still shared do not become free.
    pub fn release(&mut self, lease: Lease) {
        for slice in lease.slices {
            if let (Some(owners), Holder::Instance(instance)) = (self.shared.get_mut(&slice), &lease.holder) {
                owners.remove(instance);
                if !owners.is_empty() {
                    continue;
                }
                self.shared.remove(&slice);
            }
            self.leased.remove(&slice);
            if self.is_in_order(&slice) {
                self.free.give_back(&slice);
            }
        }
    }

    /// The instances on a shared slice; none if it is not shared.
    pub fn sharers(&self, slice: &SliceUuid) -> Option<&BTreeSet<InstanceId>> {
        self.shared.get(slice)
    }

    /// What would be free if these leases were given up; a shared slice, if all of its are.
    pub fn free_without<'a>(&self, leases: impl IntoIterator<Item = &'a Lease>) -> FreeSlices {
        let mut free = self.free.clone();
        let mut leaving: BTreeMap<&SliceUuid, usize> = BTreeMap::new();
        for slice in leases.into_iter().flat_map(Lease::slices) {
            let leaving = leaving.entry(slice).or_default();
            *leaving += 1;
            let owners = self.shared.get(slice).map_or(1, BTreeSet::len);
            if *leaving == owners && self.is_in_order(slice) {
                free.give_back(slice);
            }
        }
        free
    }

    /// What would be open to an instance that shares: the free slices, and these.
    pub fn free_with<'a>(&self, slices: impl IntoIterator<Item = &'a SliceUuid>) -> FreeSlices {
        let mut free = self.free.clone();
        for slice in slices {
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
            if let Some(owners) = self.shared.get(&slice.uuid) {
                slice.owners.extend(owners.iter().cloned());
            }
            slice.state = match self.leased.get(&slice.uuid) {
                _ if self.fenced.contains(&slice.uuid) => SliceState::Fenced,
                None if !slice.owners.is_empty() => SliceState::Shared,
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
    fn a_shared_slice_is_free_when_its_last_owner_has_left() {
        let mut ledger = Ledger::new(inventory(2)).unwrap();
        let first = ledger.lease(&[uuid(0)], &instance("i-1")).unwrap();
        let id = |id: &str| id.parse().unwrap();
        assert_eq!(ledger.share(&[uuid(0)], &id("i-2")), None, "it is not open");

        ledger.open(&first);
        let second = ledger.share(&[uuid(0), uuid(1)], &id("i-2")).unwrap();
        assert_eq!(ledger.free().len(), 0);
        let document = ledger.document();
        assert_eq!(document.slices[0].state, SliceState::Shared);
        assert_eq!(document.slices[0].owners, [id("i-1"), id("i-2")]);
        assert!(!ledger.close(&first), "somebody else is there");
        assert_eq!(ledger.free_without([&first]).len(), 0);
        assert_eq!(ledger.free_without([&second]).len(), 1);
        assert_eq!(ledger.free_without([&first, &second]).len(), 2);

        ledger.release(second);
        assert_eq!(ledger.free().len(), 1);
        assert!(ledger.close(&first));
        assert_eq!(ledger.document().slices[0].state, SliceState::Hot);
        ledger.release(first);
        assert_eq!(ledger.free().len(), 2);
    }

    #[test]
    fn a_fenced_slice_is_shared_with_nobody() {
        let mut ledger = Ledger::new(inventory(1)).unwrap();
        let first = ledger.share(&[uuid(0)], &"i-1".parse().unwrap()).unwrap();
        let mut sick = inventory(1);
        sick.slices[0].state = SliceState::Fenced;
        ledger.read(sick).unwrap();

        assert_eq!(ledger.share(&[uuid(0)], &"i-2".parse().unwrap()), None);
        ledger.release(first);
        assert!(!ledger.free().is_free(&uuid(0)));
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
