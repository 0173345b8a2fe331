//! What the fuzzer runs, without it: its seeds, any bytes, and each byte that means something changed in turn.
#![cfg(not(loom))]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

#[path = "../fuzz/hostile.rs"]
mod hostile;

use proptest::prelude::*;
use std::os::unix::fs::FileExt;
use std::path::Path;

fn seeds(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz/seeds")
        .join(target);
    let files = std::fs::read_dir(folder).unwrap();
    files
        .map(|file| std::fs::read(file.unwrap().path()).unwrap())
        .collect()
}

#[test]
fn every_seed_is_survived() {
    for (target, run) in [
        ("header", hostile::header as fn(&[u8])),
        ("frames", hostile::frames),
    ] {
        let seeds = seeds(target);
        assert!(seeds.len() > 3, "{} seeds for {target}", seeds.len());
        seeds.iter().for_each(|seed| run(seed));
    }
}

/// Where the parts lie that mean something: control block, and the header, descriptors and data of both frames.
const PLACES: [std::ops::Range<u64>; 3] = [0..912, 4096..4096 + 2600, 8192..8192 + 2600];

#[test]
fn every_byte_of_header_and_frames_may_be_changed_to_anything() {
    let mut dice = 1_u8;
    for at in PLACES.into_iter().flatten() {
        dice = dice.wrapping_mul(5).wrapping_add(3);
        for change in [0x81, dice | 2] {
            let mut ring = hostile::Ring::new();
            ring.send();
            ring.send();
            let mut byte = [0];
            ring.file.read_exact_at(&mut byte, at).unwrap();
            ring.file.write_all_at(&[byte[0] ^ change], at).unwrap();
            ring.open();
            ring.receive();
            ring.receive();
            ring.send();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_input_is_survived(input in prop::collection::vec(any::<u8>(), 0..200)) {
        hostile::header(&input);
        hostile::frames(&input);
    }
}
