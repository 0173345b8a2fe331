//! Weights lie once in the node's memory, with real lanes of real functions.
#![allow(clippy::unwrap_used)]

mod support;

use serde_json::{Value, json};
use std::time::{Duration, Instant};
use support::daemon::Daemon;

const MIB: u64 = 1 << 20;
/// Two components of 24 MiB.
const MAPPED: &str = include_str!("support/mapped.py");

fn daemon(keep_alive: &str) -> Daemon {
    Daemon::start(&[
        "--topology",
        "[3g.40gb+3g.40gb]@A100-80GB",
        "--gpu-memory",
        "800MiB",
        "--gpu-cpus",
        "2",
        "--keep-alive",
        keep_alive,
    ])
}

/// What both components of a function say.
async fn found(daemon: &Daemon, name: &str) -> [Value; 2] {
    let activation = daemon.invoke(name, &json!({})).await;
    assert_eq!(activation["response"]["status"], "success", "{activation}");
    let result = &activation["response"]["result"];
    ["left", "right"].map(|component| result[component].clone())
}

/// The value of a metric, 0 while it is not there.
async fn metric(daemon: &Daemon, name: &str) -> u64 {
    let page = daemon.page("/metrics").await;
    let value = page.lines().find_map(|line| line.strip_prefix(name));
    value.map_or(0, |value| value.trim().parse().expect("a number"))
}

async fn asked(daemon: &Daemon, outcome: &str) -> u64 {
    metric(
        daemon,
        &format!("ffs_invoker_weights_requests_total{{outcome=\"{outcome}\"}}"),
    )
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn functions_with_the_same_weights_map_one_copy() {
    let daemon = daemon("600");
    for name in ["first", "second"] {
        daemon
            .put_python(
                name,
                MAPPED,
                256,
                &json!({ "ffs": { "slo_ms": 60_000, "max_instances": 1 } }),
            )
            .await;
    }
    let first = found(&daemon, "first").await;
    let second = found(&daemon, "second").await;

    let digest = &first[0]["digest"];
    assert!(
        digest
            .as_str()
            .is_some_and(|digest| digest.starts_with("sha256:")),
        "{first:?}"
    );
    for component in first.iter().chain(&second) {
        assert_eq!(&component["digest"], digest);
        assert_eq!(component["sum"], 6_291_456.0);
    }
    for component in &second {
        assert!(component["Rss"].as_u64() >= Some(24 * MIB), "{component}");
        assert!(
            component["Pss"].as_u64() <= Some(7 * MIB),
            "four map the same pages: {component}"
        );
        assert_eq!(component["Private_Dirty"], 0, "{component}");
    }
    assert_eq!(
        (asked(&daemon, "read").await, asked(&daemon, "there").await),
        (1, 3)
    );
    assert_eq!(metric(&daemon, "ffs_invoker_weights_entries").await, 1);
    let held = metric(&daemon, "ffs_invoker_weights_bytes{held=\"true\"}").await;
    assert!((24 * MIB..25 * MIB).contains(&held), "{held}");
}

#[tokio::test(flavor = "multi_thread")]
async fn weights_wait_for_the_next_instance_when_nobody_holds_them() {
    let daemon = daemon("1");
    daemon
        .put_python(
            "first",
            MAPPED,
            256,
            &json!({ "ffs": { "slo_ms": 60_000, "max_instances": 1 } }),
        )
        .await;
    let before = found(&daemon, "first").await;
    let begun = Instant::now();
    while metric(&daemon, "ffs_invoker_weights_bytes{held=\"false\"}").await < 24 * MIB {
        assert!(
            begun.elapsed() < Duration::from_secs(180),
            "the instance does not go cold"
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let again = found(&daemon, "first").await;
    assert_eq!(again[0]["digest"], before[0]["digest"]);
    assert_eq!(asked(&daemon, "read").await, 1, "it was not read again");
    assert_eq!(asked(&daemon, "there").await, 3);
}
