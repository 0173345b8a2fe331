//! Where the time of slices and of activations goes: metrics, and the record's annotation.

use crate::world::{CHAIN, World, in_world, instance, note};
use serde_json::{Value, json};

/// The sum of all values of a metric whose labels have these in them.
fn total(page: &str, name: &str, labels: &[&str]) -> f64 {
    let values = page.lines().filter_map(|line| {
        let rest = line.strip_prefix(name)?;
        let (found, value) = rest.rsplit_once(' ')?;
        let is_it = found.is_empty() || found.starts_with('{');
        let fits = labels.iter().all(|label| found.contains(label));
        (is_it && fits).then(|| value.parse::<f64>().unwrap())
    });
    values.sum()
}

/// Seconds held and busy, of GPUs and of slices.
fn times(page: &str) -> [f64; 4] {
    let of = |name: &str, how| total(page, &format!("ffs_invoker_{name}_seconds_total"), &[how]);
    [
        of("gpu", r#"use="held""#),
        of("gpu", r#"use="busy""#),
        of("mig", r#"use="held""#),
        of("mig", r#"use="busy""#),
    ]
}

async fn rise(world: &World, before: &str, name: &str, labels: &[&str]) -> f64 {
    total(&world.metrics().await, name, labels) - total(before, name, labels)
}

/// D-45: the parts of an activation's time are within what was measured around them, and the books of slices keep the
/// laws of GPU time and MIG time, as far as they are seen from outside.
#[test]
fn records_and_metrics_say_where_the_time_went() {
    in_world(async |world| {
        let before = world.metrics().await;
        let function = json!({ "slo_ms": 170_000 });
        let action = world.action("metered", CHAIN, Some(function), 60_000).await;
        let mut last = Value::Null;
        for x in [1, 2, 3] {
            last = world.run(&action, json!({ "x": x })).await;
            let ms = |value: &Value| value.as_f64().unwrap_or_else(|| panic!("{value} of {last}"));
            let ffs = note(&last, "ffs");
            let lanes = ffs["lanes"].as_array().unwrap();
            assert_eq!(lanes.len(), 3, "{ffs}");
            let parts = lanes
                .iter()
                .flat_map(|lane| [&lane["queue_ms"], &lane["exec_ms"]]);
            let explained: f64 = parts.map(ms).sum::<f64>() + ms(&ffs["transfer_ms"]);
            assert!(
                explained > 0.0 && explained < ms(&last["duration"]) + 1.0,
                "the lanes run one after the other: {last}"
            );
            assert!(
                ms(&ffs["queued_ms"]) <= ms(note(&last, "waitTime")) + 1.0,
                "{last}"
            );
            assert_eq!(ffs["slo_ms"], 170_000.0);
            assert_eq!(ffs["slo_met"], true, "{last}");
        }
        let record = world.record(&last).await;
        assert_eq!(note(&record, "ffs")["lanes"], note(&last, "ffs")["lanes"]);

        let page = world.metrics().await;
        let [gpu_held, gpu_busy, mig_held, mig_busy] = {
            let (now, before) = (times(&page), times(&before));
            [0, 1, 2, 3].map(|n| now[n] - before[n])
        };
        // Three slices are held together, after each kind was measured on alone; nothing ran most of the time.
        assert!(0.0 < gpu_busy && gpu_busy <= gpu_held + 1e-6, "{page}");
        assert!(gpu_busy <= mig_busy && gpu_held <= mig_held, "{page}");
        assert!(mig_busy <= mig_held && mig_held <= gpu_held * 8.0, "{page}");
        let hot = r#"state="hot""#;
        assert_eq!(total(&page, "ffs_invoker_slices", &[hot]), 3.0, "{page}");
        assert_eq!(total(&page, "ffs_invoker_instances", &[hot]), 1.0, "{page}");
        for (name, labels, expected) in [
            (
                "ffs_invoker_slo_total",
                &[r#"action="guest/metered""#, r#"met="true""#][..],
                3.0,
            ),
            ("ffs_invoker_pipeline_queued_seconds_count", &[][..], 3.0),
            (
                "ffs_invoker_lane_execution_seconds_count",
                &[r#"profile="2g.20gb""#][..],
                9.0,
            ),
            ("ffs_invoker_lane_queued_seconds_count", &[][..], 9.0),
            ("ffs_invoker_ring_transfer_seconds_count", &[][..], 3.0),
            (
                "ffs_invoker_instance_decisions_total",
                &[r#"what="start""#, r#"reason="free_slices""#][..],
                1.0,
            ),
            (
                "ffs_invoker_instance_transitions_total",
                &[r#"from="starting""#, r#"to="hot""#][..],
                1.0,
            ),
        ] {
            assert_eq!(
                total(&page, name, labels) - total(&before, name, labels),
                expected,
                "{name}\n{page}"
            );
        }

        world.end(instance(&last)).await;
        let died = [r#"what="stop""#, r#"reason="lane_died""#];
        assert_eq!(
            rise(world, &before, "ffs_invoker_instance_decisions_total", &died).await,
            1.0
        );
        let held = times(&world.metrics().await)[2];
        let again = times(&world.metrics().await)[2];
        assert_eq!(held, again, "nothing is held any more");
    });
}
