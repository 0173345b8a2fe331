//! A slow lane gets a replica where no further instance fits, with real lanes; and gives it up again.
#![allow(clippy::unwrap_used)]

mod support;

use futures::future::join_all;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};
use support::daemon::Daemon;

/// Two components that do not fit one slice; the second one takes its time. Says which replica did.
fn lopsided(load: &str) -> String {
    format!(
        r#"
import os
import time

import numpy
import FluidFaaS as FFS

class Quick(FFS.Module):
    def load(self):
        self.weights = numpy.ones((120, 1 << 17))

    def forward(self, x):
        return x + self.weights[0, 0]

class Slow(FFS.Module):
    def load(self):
        {load}
        self.weights = numpy.ones((130, 1 << 17))

    def forward(self, x):
        time.sleep(0.1)
        return numpy.array([x[0] * 2, int(os.environ.get("FFS_LANE", "0")[-1])])

class Lopsided(FFS.FFaaS):
    def pre(self, event):
        return {{"x": numpy.full(1, float(event.get("x", 0)))}}

    def defDAG(self, x):
        return {{"y": Slow.reg(self, Quick.reg(self, x))}}

    def post(self, outputs, event):
        y, replica = outputs["y"].tolist()
        return {{"y": y, "replica": replica}}

main = FFS.entry(Lopsided)
"#
    )
}

/// Of one component, which fits one slice.
const OTHER: &str = r"
import numpy
import FluidFaaS as FFS

class Other(FFS.Module):
    def forward(self, x):
        return x

class OtherFunction(FFS.FFaaS):
    def pre(self, event):
        return {'x': numpy.zeros(1)}

    def defDAG(self, x):
        return {'x': Other.reg(self, x)}

    def post(self, outputs, event):
        return {'x': outputs['x'].tolist()}

main = FFS.entry(OtherFunction)
";

fn three_slices() -> Daemon {
    Daemon::start(&[
        "--topology",
        "[1g.10gb+1g.10gb+1g.10gb]@A100-80GB",
        "--gpu-memory",
        "2400MiB",
        "--gpu-cpus",
        "7",
    ])
}

/// Slices of the function's instance.
fn slices(status: &Value, function: &str) -> usize {
    let instances = status["instances"].as_array().expect("there is a list");
    let of = |instance: &&Value| {
        instance["function"]
            .as_str()
            .is_some_and(|name| name.contains(function))
    };
    let found: Vec<&Value> = instances.iter().filter(of).collect();
    assert!(found.len() <= 1, "no further instance fits: {status:#}");
    found
        .first()
        .map_or(0, |instance| instance["slices"].as_array().map_or(0, Vec::len))
}

/// Invokes the function so many times at once; all answers are right. Which replicas gave them?
async fn burst(daemon: &Daemon, requests: u32) -> BTreeSet<u64> {
    let invoked = join_all(
        (0..requests).map(|x| async move { (x, daemon.invoke("lopsided", &json!({"x": x})).await) }),
    );
    let replicas = invoked.await.into_iter().map(|(x, activation)| {
        let result = &activation["response"]["result"];
        assert_eq!(result["y"], json!(f64::from(x + 1) * 2.0), "{activation}");
        result["replica"].as_f64().expect("a number") as u64
    });
    replicas.collect()
}

fn decisions(status: &Value, what: &str) -> Vec<String> {
    let all = status["decisions"].as_array().expect("there is a list").iter();
    let of = all.filter(|decision| decision["what"] == what);
    of.map(|decision| decision["because"].as_str().unwrap_or_default().to_owned())
        .collect()
}

/// Keeps the function busy until its instance has so many slices.
async fn busy_until(daemon: &Daemon, wanted: usize) {
    let begun = Instant::now();
    while slices(&daemon.status().await, "lopsided") != wanted {
        let status = daemon.status().await;
        assert!(
            begun.elapsed() < Duration::from_secs(90),
            "never {wanted} slices: {status:#}"
        );
        burst(daemon, 6).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_lane_gets_a_replica_and_gives_it_up_for_another_function() {
    let daemon = three_slices();
    let annotation = json!({ "ffs": true });
    daemon
        .put_python("lopsided", &lopsided("pass"), 256, &annotation)
        .await;
    daemon.put_python("other", OTHER, 256, &annotation).await;
    assert_eq!(burst(&daemon, 1).await.len(), 1);
    assert_eq!(slices(&daemon.status().await, "lopsided"), 2);

    busy_until(&daemon, 3).await;
    // It is counted when it is asked for, and serves once it is loaded.
    let begun = Instant::now();
    while burst(&daemon, 8).await.len() < 2 {
        assert!(
            begun.elapsed() < Duration::from_secs(60),
            "{:#}",
            daemon.status().await
        );
    }
    let joined = daemon.status().await;
    assert_eq!(joined["instances"][0]["plan"], "Quick|Slow*2");
    let because = decisions(&joined, "join");
    assert!(because[0].starts_with("requests wait for s1l0: "), "{because:?}");
    let explained = daemon.page("/status").await;
    assert!(explained.contains("s1l1"), "{explained}");

    // One that waits for its slice gets it, once the others keep up without it.
    let nothing = json!({});
    let (other, ()) = tokio::join!(daemon.invoke("other", &nothing), async {
        for _ in 0..20 {
            burst(&daemon, 1).await;
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    });
    assert_eq!(other["response"]["result"], json!({ "x": [0.0] }), "{other}");
    let left = daemon.status().await;
    assert_eq!(decisions(&left, "leave").len(), 1, "{left:#}");
    assert_eq!(
        (slices(&left, "lopsided"), slices(&left, "other")),
        (2, 1),
        "{left:#}"
    );
    assert_eq!(burst(&daemon, 6).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_does_not_come_up_is_nobody_elses_loss() {
    let daemon = three_slices();
    let load = "assert os.environ.get('FFS_LANE') != 's1l1', 'no such weights'";
    daemon
        .put_python("lopsided", &lopsided(load), 256, &json!({ "ffs": true }))
        .await;
    burst(&daemon, 1).await;
    let begun = Instant::now();
    let failed = loop {
        burst(&daemon, 6).await;
        let status = daemon.status().await;
        if let Some(because) = decisions(&status, "leave").first() {
            break because.clone();
        }
        assert!(begun.elapsed() < Duration::from_secs(90), "never: {status:#}");
    };
    assert!(
        failed.starts_with("the replica did not come up: ") && failed.contains("no such weights"),
        "{failed}"
    );
    assert!(
        failed.contains("lane s1l1 (components Slow) on slice MIG-"),
        "{failed}"
    );
    assert_eq!(burst(&daemon, 6).await.len(), 1);
    assert_eq!(slices(&daemon.status().await, "lopsided"), 2);
}
