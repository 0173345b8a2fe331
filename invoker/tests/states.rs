//! Two functions on one slice, with real lanes: their weights leave it for host memory and come back
//! without a start, and where both fit they compute in turns.
#![allow(clippy::unwrap_used)]

mod support;

use serde_json::{Value, json};
use std::process::{Command, Output};
use std::time::{Duration, Instant};
use support::daemon::Daemon;

/// A function of one component that counts what is done to it. Its weights are as large as it is told.
fn counting(mib: u32) -> String {
    format!(
        r#"
import numpy
import FluidFaaS as FFS

class Count(FFS.Module):
    def load(self):
        self.weights = numpy.ones(({mib}, 1 << 17))
        self.loads, self.evictions, self.returns, self.kept = 1, 0, 0, None

    def evict(self):
        self.kept, self.weights = self.weights, None
        self.evictions += 1

    def resume(self):
        self.weights, self.kept = self.kept, None
        self.returns += 1

    def forward(self, x):
        counts = [self.loads, self.evictions, self.returns]
        return numpy.array(counts, dtype=numpy.int64) + 0 * int(self.weights[0, 0] * x[0])

class Counting(FFS.FFaaS):
    def pre(self, event):
        return {{"x": numpy.zeros(1)}}

    def defDAG(self, x):
        return {{"counts": Count.reg(self, x)}}

    def post(self, outputs, event):
        return dict(zip(("loads", "evictions", "returns"), map(int, outputs["counts"])))

main = FFS.entry(Counting)
"#
    )
}

async fn counts(daemon: &Daemon, name: &str) -> Value {
    let activation = daemon.invoke(name, &json!({})).await;
    assert_eq!(activation["response"]["status"], "success", "{activation}");
    activation["response"]["result"].clone()
}

/// Waits until the instances are in these states, by function.
async fn instances_are(daemon: &Daemon, expected: &[(&str, &str)]) -> Value {
    let begun = Instant::now();
    loop {
        let status = daemon.status().await;
        let instances = status["instances"].as_array().expect("there is a list");
        let is = |(function, state): &(&str, &str)| {
            instances.iter().any(|instance| {
                let named = instance["function"]
                    .as_str()
                    .is_some_and(|name| name.contains(function));
                named && instance["state"] == *state
            })
        };
        if expected.iter().all(is) {
            return status;
        }
        assert!(
            begun.elapsed() < Duration::from_secs(60),
            "not {expected:?}: {status:#}"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn weights_leave_a_slice_for_another_function_and_come_back_without_a_start() {
    let daemon = Daemon::start(&[
        "--topology",
        "[7g.80gb]@A100-80GB",
        "--gpu-memory",
        "300MiB",
        "--gpu-cpus",
        "2",
    ]);
    for name in ["first", "second"] {
        // Together they do not fit.
        daemon
            .put_python(name, &counting(120), 256, &json!({ "ffs": true }))
            .await;
    }
    let fresh = counts(&daemon, "first").await;
    assert_eq!((&fresh["loads"], &fresh["evictions"]), (&json!(1), &json!(0)));
    tokio::time::sleep(Duration::from_millis(1100)).await; // it may go after a second
    let other = counts(&daemon, "second").await;
    assert_eq!((&other["loads"], &other["evictions"]), (&json!(1), &json!(0)));
    instances_are(&daemon, &[("first", "warm"), ("second", "hot")]).await;

    tokio::time::sleep(Duration::from_millis(1100)).await;
    let back = counts(&daemon, "first").await;
    assert_eq!(
        (&back["loads"], &back["evictions"], &back["returns"]),
        (&json!(1), &json!(1), &json!(1))
    );
    let status = instances_are(&daemon, &[("first", "hot"), ("second", "warm")]).await;
    let decided: Vec<&str> = status["decisions"]
        .as_array()
        .expect("there is a list")
        .iter()
        .filter_map(|decision| decision["what"].as_str())
        .collect();
    assert!(
        decided.contains(&"evict") && decided.contains(&"wake"),
        "{decided:?}"
    );

    let shown = plan_live(&format!("http://{}", daemon.address));
    assert!(shown.status.success(), "{shown:?}");
    let shown = String::from_utf8(shown.stdout).expect("it is text");
    for expected in [
        "warm",
        "hot",
        "evict i-1",
        "the coldest makes room for guest/second",
        "wake i-1",
    ] {
        assert!(shown.contains(expected), "no {expected:?} in\n{shown}");
    }
}

fn plan_live(address: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ffs-invoker"));
    command
        .args(["plan", "--live", address])
        .output()
        .expect("it runs")
}

#[test]
fn a_daemon_that_is_not_there_is_named() {
    let nowhere = "http://127.0.0.1:1";
    let shown = plan_live(nowhere);
    assert_eq!(shown.status.code(), Some(1), "{shown:?}");
    let said = String::from_utf8(shown.stderr).expect("it is text");
    assert!(
        said.contains(nowhere) && said.contains("cannot be reached"),
        "{said}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn two_functions_that_need_little_share_a_slice_in_turns() {
    let daemon = Daemon::start(&[
        "--topology",
        "[7g.80gb]@A100-80GB",
        "--gpu-memory",
        "600MiB",
        "--gpu-cpus",
        "2",
    ]);
    for name in ["first", "second"] {
        daemon
            .put_python(name, &counting(20), 256, &json!({ "ffs": true }))
            .await;
    }
    // The second one is measured on the emptied slice and then has it.
    counts(&daemon, "first").await;
    tokio::time::sleep(Duration::from_millis(1100)).await;
    counts(&daemon, "second").await;
    instances_are(&daemon, &[("first", "warm"), ("second", "hot")]).await;
    // It has to need little of it for ten seconds before the first one may sit beside it.
    tokio::time::sleep(Duration::from_secs(11)).await;
    counts(&daemon, "first").await;
    let status = instances_are(&daemon, &[("first", "shared"), ("second", "shared")]).await;
    let slice = &status["migs"]["slices"][0];
    assert_eq!(slice["state"], "shared", "{slice}");
    assert_eq!(slice["owners"].as_array().map(Vec::len), Some(2), "{slice}");

    // Both answer while they alternate.
    let both = |name: &'static str| {
        let daemon = &daemon;
        async move {
            for _ in 0..10 {
                assert_eq!(counts(daemon, name).await["loads"], 1);
            }
        }
    };
    tokio::join!(both("first"), both("second"));
    instances_are(&daemon, &[("first", "shared"), ("second", "shared")]).await;
}

/// Takes as many milliseconds as it is told, and says of how many requests its batch was.
const SLEEPING: &str = r#"
import time

import numpy
import FluidFaaS as FFS

class Sleep(FFS.Module):
    batch = 4

    def forward(self, ms):
        time.sleep(float(ms.max()) / 1000)
        return numpy.full((len(ms), 1), len(ms))

class Sleeping(FFS.FFaaS):
    def pre(self, event):
        return {"ms": numpy.full((1, 1), event.get("ms", 5))}

    def defDAG(self, ms):
        return {"batch": Sleep.reg(self, ms)}

    def post(self, outputs, event):
        return {"batch": int(outputs["batch"][0, 0])}

main = FFS.entry(Sleeping)
"#;

const ONE_SLICE: [&str; 2] = ["--topology", "[7g.80gb]@A100-80GB"];

#[tokio::test(flavor = "multi_thread")]
async fn a_component_that_becomes_slower_is_reckoned_with_anew() {
    let daemon = Daemon::start(&ONE_SLICE);
    daemon
        .put_python("sleeping", SLEEPING, 256, &json!({ "ffs": true }))
        .await;
    let first = daemon.invoke("sleeping", &json!({})).await;
    assert_eq!(first["response"]["status"], "success", "{first}");
    let begun = Instant::now();
    let drift = loop {
        let slow = daemon.invoke("sleeping", &json!({ "ms": 40 })).await;
        assert_eq!(slow["response"]["status"], "success", "{slow}");
        let status = daemon.status().await;
        let mut decisions = status["decisions"].as_array().expect("there is a list").iter();
        if let Some(drift) = decisions.find(|decision| decision["what"] == "drift") {
            break drift.clone();
        }
        assert!(begun.elapsed() < Duration::from_secs(90), "never: {status:#}");
    };
    let because = drift["because"].as_str().expect("it has a reason");
    assert!(
        because.contains("Sleep") && because.contains("7g.80gb"),
        "{because}"
    );
    let metrics = daemon.page("/metrics").await;
    let counted = metrics
        .lines()
        .find(|line| line.starts_with("ffs_invoker_profile_drift_total{"));
    assert!(
        counted.is_some_and(|line| line.contains("slower") && line.ends_with(" 1")),
        "{counted:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_wait_are_run_at_once_where_the_author_allows_it() {
    let daemon = Daemon::start(&ONE_SLICE);
    let annotation = json!({ "ffs": { "slo_ms": 5000 } });
    daemon.put_python("sleeping", SLEEPING, 256, &annotation).await;
    let alone = daemon.invoke("sleeping", &json!({ "ms": 50 })).await;
    assert_eq!(alone["response"]["result"], json!({ "batch": 1 }), "{alone}");
    let arguments = json!({ "ms": 50 });
    let together = futures::future::join_all((0..12).map(|_| daemon.invoke("sleeping", &arguments))).await;
    let sizes: Vec<u64> = together
        .iter()
        .map(|activation| {
            activation["response"]["result"]["batch"]
                .as_u64()
                .unwrap_or_else(|| panic!("{activation}"))
        })
        .collect();
    assert!(
        sizes.iter().all(|size| (1..=4).contains(size)) && sizes.iter().any(|size| *size > 1),
        "{sizes:?}"
    );
}
