//! What holds while nothing goes wrong.

use crate::world::{CHAIN, in_world, instance, note, result};
use serde_json::json;
use std::collections::BTreeSet;

/// C-80, D-45: the function is built, profiled and split over three slices; ack and record have the result of the unsplit
/// function, the record says where the time went, and logs are the request's own.
#[test]
fn a_function_is_split_over_containers_and_answers_as_the_unsplit_one_does() {
    in_world(async |world| {
        let plain = world.action("plain", CHAIN, None, 60_000).await;
        let split = world.action("split", CHAIN, Some(json!(true)), 60_000).await;
        let mut served = BTreeSet::new();
        for x in [1, 2, 3] {
            let expected = world.run(&plain, json!({ "x": x })).await;
            assert_eq!(expected["response"]["statusCode"], 0, "{expected}");
            let activation = world.run(&split, json!({ "x": x })).await;
            assert_eq!(
                activation["response"]["statusCode"],
                0,
                "{activation}\n{}",
                world.log()
            );
            assert_eq!(result(&activation).to_string(), result(&expected).to_string());
            let record = world.record(&activation).await;
            assert_eq!(result(&record), result(&activation));
            served.insert(instance(&record).to_owned());
            let ffs = note(&record, "ffs");
            assert_eq!(ffs["lanes"].as_array().map(Vec::len), Some(3), "{ffs}");
            let plan = ffs["plan"].as_str().unwrap();
            assert_eq!(plan.split('|').count(), 3, "{plan}");
            let logs = record["logs"].as_array().unwrap();
            let says = format!("stdout: asked for {x}");
            assert!(
                logs.len() == 1 && logs[0].as_str().unwrap().ends_with(&says),
                "{logs:?}"
            );
        }
        let served: Vec<_> = served.into_iter().collect();
        assert_eq!(served.len(), 1, "one instance serves all: {served:?}");
        assert_eq!(world.containers("_profile"), Vec::<String>::new());
        world.end(&served[0]).await;
    });
}
