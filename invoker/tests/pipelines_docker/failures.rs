//! What goes wrong in one lane ends its instance, and nothing else: whoever waits is told which lane it was and why, the
//! slices are free again, and a neighbour on the same GPU goes on being answered.

use crate::world::{Action, CHAIN, World, docker, error, in_world, instance, result};
use serde_json::{Value, json};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// A small function on the smallest slice.
const NEIGHBOUR: &str = include_str!("neighbour.py");

/// What the second lane does, and which lane and what the sentence names.
const FAILURES: [(&str, &str, &str); 5] = [
    ("exit", "lane s1l0", "exit code 3"),
    ("crash", "lane s1l0", "signal 11"),
    ("memory", "lane s1l0", "exceeded its memory"),
    // Whoever reads it first says so.
    ("ring", "lane s", "corrupt"),
    ("hang", "", "exceeded its time limits"),
];

#[test]
fn a_lane_that_fails_ends_its_instance_and_disturbs_nobody() {
    in_world(async |world| {
        let neighbour = world
            .action("neighbour", NEIGHBOUR, Some(json!(true)), 60_000)
            .await;
        let before = world.run(&neighbour, json!({ "x": 1 })).await;
        assert_eq!(result(&before), &json!({ "y": 2.0 }), "{before}");

        let action = world.action("failing", CHAIN, Some(json!(true)), 6_000).await;
        let expected = world.run(&action, json!({})).await;
        for (told, lane, why) in FAILURES {
            let first = world.run(&action, json!({})).await;
            assert_eq!(world.lanes_of(instance(&first)).len(), 3, "{told}: {first}");
            let failing = world.run(&action, json!({ "told": told }));
            let (failed, times) = beside(world, &neighbour, failing).await;

            let sentence = error(&failed);
            let slowest = times.iter().max();
            println!(
                "{told}: {sentence}
    the neighbour answered {} times, at most {slowest:?}",
                times.len()
            );
            assert!(
                sentence.contains(lane) && sentence.contains(why),
                "{told}: {sentence}"
            );
            world.until_gone(instance(&first)).await;
            assert!(told != "exit" || world.log().contains(&died(instance(&first))));
        }
        let last = world.run(&action, json!({})).await;
        assert_eq!(result(&last), result(&expected));
        let after = world.run(&neighbour, json!({ "x": 1 })).await;
        // It may have been moved to better slices that came free, but none of its lanes died.
        for instance in [instance(&before), instance(&after)] {
            assert!(!world.log().contains(&died(instance)), "{}", world.log());
        }
        world.end(instance(&last)).await;
        world.end(instance(&after)).await;
    });
}

/// What the log says of an instance whose lane died.
fn died(instance: &str) -> String {
    format!("a lane died instance={instance} ")
}

/// The outcome of `work`, and how long the neighbour took for each answer meanwhile: it is asked all the time, and
/// answers rightly, also while a lane is failing.
async fn beside(
    world: &World,
    neighbour: &Action,
    work: impl Future<Output = Value>,
) -> (Value, Vec<Duration>) {
    let ended = AtomicBool::new(false);
    let asking = async {
        let mut times = Vec::new();
        while !ended.load(Ordering::Relaxed) {
            let begun = Instant::now();
            let answer = world.run(neighbour, json!({ "x": 3 })).await;
            assert_eq!(result(&answer), &json!({ "y": 4.0 }), "{answer}");
            times.push(begun.elapsed());
        }
        times
    };
    let working = async {
        let outcome = work.await;
        ended.store(true, Ordering::Relaxed);
        outcome
    };
    tokio::join!(working, asking)
}

/// `docker kill`, with two requests in flight. They are run again if the author allows it; if not they end with the lane's
/// name.
#[test]
fn requests_of_a_killed_lane_are_run_again_if_the_author_allows_it() {
    in_world(async |world| {
        for (name, annotation) in [("never", json!(true)), ("again", json!({ "retry": true }))] {
            let action = world.action(name, CHAIN, Some(annotation), 60_000).await;
            let first = world.run(&action, json!({})).await;
            let lanes = world.lanes_of(instance(&first));
            assert_eq!(lanes.len(), 3, "{first}");
            // The first one takes ten seconds, and the second one waits behind it.
            let one = world.send(&action, json!({ "told": "wait" })).await;
            world.until_in_flight(instance(&first), 1).await;
            let two = world.send(&action, json!({})).await;
            world.until_in_flight(instance(&first), 2).await;
            let begun = Instant::now();
            docker(&["kill", &lanes[1]]);
            let (one, two) = tokio::join!(one.activation(), two.activation());
            println!("{name}: answered {:?} after the kill", begun.elapsed());
            for activation in [&one, &two] {
                if name == "again" {
                    assert_eq!(result(activation), result(&first), "{activation}");
                } else {
                    let sentence = error(activation);
                    assert!(
                        sentence.contains("lane s1l0") && sentence.contains("signal 9"),
                        "{sentence}"
                    );
                }
            }
            world.until_gone(instance(&first)).await;
            if name == "again" {
                world.end(instance(&two)).await;
            }
        }
    });
}

/// A component that fills the tmpfs is told so and hurts nobody, for rings have their memory; nothing of the config layer
/// can be written.
#[test]
fn a_full_tmpfs_and_the_config_layer_are_no_way_to_others() {
    in_world(async |world| {
        let action = world.action("filled", CHAIN, Some(json!(true)), 60_000).await;
        let expected = world.run(&action, json!({})).await;
        let full = world.run(&action, json!({ "told": "fill" })).await;
        assert!(error(&full).contains("No space left on device"), "{full}");
        let refused = world.run(&action, json!({ "told": "config" })).await;
        assert!(error(&refused).contains("Read-only file system"), "{refused}");
        let again = world.run(&action, json!({})).await;
        assert_eq!(result(&again), result(&expected));
        assert_eq!(instance(&again), instance(&expected), "it goes on");
        world.end(instance(&again)).await;
    });
}
