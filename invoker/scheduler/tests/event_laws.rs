//! What holds whatever happens: laws over arbitrary sequences of events and outcomes.

mod documents;
mod world;

use proptest::prelude::*;
use world::{Choices, World};

fn numbers() -> impl Strategy<Value = Vec<u32>> {
    prop::collection::vec(0_u32..64, 0..1200)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// On the way: no slice leased twice, memory never over-committed, `/init` once and first, no
    /// container or instance shared between namespaces, no more at once than allowed. At the end the books of GPU
    /// time and MIG time say what was seen.
    #[test]
    fn every_activation_ends_once_and_a_drain_leaves_nothing(numbers in numbers()) {
        let mut world = World::new(Choices::new(numbers));
        world.run();
        world.drain();
        world.assert_all_ended();
        world.assert_empty();
        world.assert_times();
    }

    #[test]
    fn nobody_waits_for_ever_once_all_goes_well(numbers in numbers()) {
        let mut world = World::new(Choices::new(numbers));
        world.run();
        world.settle();
        world.assert_all_ended();
        world.drain();
        world.assert_empty();
        world.assert_times();
    }

    #[test]
    fn equal_events_give_equal_commands(numbers in numbers()) {
        let play = |numbers: Vec<u32>| {
            let mut world = World::new(Choices::new(numbers));
            world.run();
            world.drain();
            world.said
        };
        prop_assert_eq!(play(numbers.clone()), play(numbers));
    }
}

/// The laws above are worth something only for what happens in their world.
#[test]
fn the_world_sees_every_kind_of_command() {
    let mut seen = std::collections::BTreeMap::<String, usize>::new();
    let mut drifts = 0;
    for seed in 0..240_u32 {
        let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(1);
        let numbers = (0..1200).map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 16) % 64
        });
        let mut world = World::new(Choices::new(numbers.collect()));
        world.run();
        drifts += world.drifts();
        for said in world.said.iter().filter_map(|said| said.strip_prefix("    ")) {
            let kind = said.split([' ', '(']).next().unwrap_or_default();
            *seen.entry(kind.to_owned()).or_default() += 1;
        }
    }
    assert!(drifts >= 10, "{drifts} times were corrected");
    assert!(seen.get("Leave").is_some_and(|times| *times >= 1), "{seen:?}");
    for kind in [
        "Build",
        "Profile",
        "Save",
        "Start",
        "Route",
        "Evict",
        "Wake",
        "Join",
        "Share",
        "GrantTurn",
        "Stop",
        "StartContainer",
        "Run",
        "Pause",
        "Resume",
        "RemoveContainer",
        "Refuse",
    ] {
        assert!(
            seen.get(kind).is_some_and(|times| *times >= 10),
            "{kind}: {seen:?}"
        );
    }
}
