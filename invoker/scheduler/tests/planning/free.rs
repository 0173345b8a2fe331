//! Which slices are free, and which of equal ones is picked.

use crate::given::{free, gpus, id};
use proto::ffs::migs::SliceState;
use proto::id::SliceUuid;
use scheduler::free::{FreeSlices, Kind};

fn uuids(free: &FreeSlices) -> Vec<String> {
    free.iter().map(|slice| slice.uuid.to_string()).collect()
}

#[test]
fn kinds_are_ordered_by_memory_then_compute_slices() {
    let migs = gpus(&[
        &["7g.80gb"],
        &["4g.40gb", "3g.40gb"],
        &["2g.20gb", "1g.10gb", "1g.10gb"],
    ]);

    let kinds: Vec<String> = Kind::all(&migs)
        .iter()
        .map(|kind| kind.profile.to_string())
        .collect();

    assert_eq!(kinds, ["1g.10gb", "2g.20gb", "3g.40gb", "4g.40gb", "7g.80gb"]);
}

#[test]
fn only_free_slices_are_free() {
    let mut migs = gpus(&[&["1g.10gb", "1g.10gb", "1g.10gb", "1g.10gb"]]);
    migs.slices[0].state = SliceState::Hot;
    migs.slices[1].state = SliceState::Shared;
    migs.slices[2].state = SliceState::Fenced;

    assert_eq!(uuids(&free(&migs)), ["MIG-0000-3"]);
}

#[test]
fn the_fullest_gpu_is_preferred_and_taking_slices_makes_a_gpu_fuller() {
    let mut free = free(&gpus(&[&["1g.10gb"; 3], &["1g.10gb"; 3], &["1g.10gb"; 2]]));
    let first_gpu = |free: &FreeSlices| uuids(free)[0][..8].to_owned();
    assert_eq!(first_gpu(&free), "MIG-0002");

    assert!(free.take(&id("MIG-0001-0")));
    assert!(free.take(&id("MIG-0001-2")));

    assert_eq!(uuids(&free)[0], "MIG-0001-1");
    assert!(free.give_back(&id("MIG-0001-0")));
    assert!(free.give_back(&id("MIG-0001-2")));
    assert_eq!(first_gpu(&free), "MIG-0002");
}

#[test]
fn a_slice_is_taken_and_given_back_once() {
    let mut free = free(&gpus(&[&["1g.10gb"]]));
    let slice: SliceUuid = id("MIG-0000-0");

    assert!(free.take(&slice));
    assert!(!free.take(&slice));
    assert!(free.is_empty());
    assert!(!free.is_free(&slice));
    assert!(free.give_back(&slice));
    assert!(!free.give_back(&slice));
    assert!(free.is_free(&slice));
    assert!(!free.take(&id("MIG-unknown")));
}

#[test]
fn an_inventory_that_contradicts_itself_is_refused() {
    let mut twice = gpus(&[&["1g.10gb", "2g.20gb"]]);
    twice.slices[1].uuid = twice.slices[0].uuid.clone();
    let mut lost = gpus(&[&["1g.10gb"]]);
    lost.gpus.clear();

    assert_eq!(
        FreeSlices::new(&twice).unwrap_err().to_string(),
        "slice MIG-0000-0 appears twice in the inventory"
    );
    assert_eq!(
        FreeSlices::new(&lost).unwrap_err().to_string(),
        "slice MIG-0000-0 lies on GPU GPU-0000, which the inventory does not list"
    );
}

#[test]
fn more_kinds_than_a_machine_word_has_bits_are_refused() {
    let mut migs = gpus(&[&["1g.10gb"; 65]]);
    for (n, slice) in migs.slices.iter_mut().enumerate() {
        slice.memory_bytes.0 += n as u64;
    }

    let refused = FreeSlices::new(&migs).unwrap_err();

    assert_eq!(
        refused.to_string(),
        "the inventory has 65 kinds of slices; at most 64 are supported"
    );
    migs.slices.pop();
    assert_eq!(FreeSlices::new(&migs).unwrap().len(), 64);
}
