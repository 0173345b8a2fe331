//! Functions that wait for slices, and plain actions beside them.

use crate::bench::{Bench, action, message};
use crate::probe::{Probe, Reply, ok};
use ffs_invoker::gpu::GpuInventory;
use ffs_invoker::gpu::simulated::{Host, Scaling, Simulated};
use proto::unit::Bytes;
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::sync::Notify;

fn slices() -> Arc<dyn GpuInventory> {
    Arc::new(Simulated {
        topology: "[7g.80gb]@A100-80GB".parse().unwrap(),
        scaling: Scaling::new(Some(1.0), Some(Bytes::mib(512)), &Host::read()).unwrap(),
    })
}

fn function(name: &str) -> Value {
    let annotations = json!([{"key": "ffs", "value": true}, {"key": "provide-api-key", "value": false}]);
    action(name, json!({ "annotations": annotations }))
}

/// K-24, K-25: functions that wait take none of the room that plain actions need, known or not when they come; and
/// plain actions that wait, none of theirs.
#[tokio::test]
async fn functions_that_wait_keep_no_plain_action_waiting() {
    // What the function consists of is not known before the end.
    let held = Arc::new(Notify::new());
    let gate = Arc::clone(&held);
    let mut bench = Bench::on(
        slices(),
        Probe::new(move |seen| match &*seen.path {
            "/ffs/build" => Reply::Held(Arc::clone(&gate), 500, "{\"error\":\"no DAG\"}".to_owned()),
            _ => ok("{}"),
        }),
        // Room for eight.
        |settings| settings.user_memory = Bytes::mib(1024),
    )
    .await;
    let (waits, plain) = (function("waits"), action("plain", json!({})));
    bench.put(&waits).await;
    bench.put(&plain).await;
    let mut waiting = Vec::new();
    for _ in 0..3 {
        for _ in 0..30 {
            let one = message(&waits, json!({"blocking": false}));
            bench.send(&one).await;
            waiting.push(one["activationId"].as_str().unwrap().to_owned());
        }
        // Answered, while none of the others is.
        let answered = bench.call(&message(&plain, json!({}))).await;
        assert_eq!(answered["response"]["statusCode"], 0, "{answered}");
    }

    held.notify_one();
    let mut ended = Vec::new();
    for _ in 0..waiting.len() {
        let ack = bench.ack().await;
        let id = ack["activationId"].as_str().or(ack["response"].as_str());
        ended.push(id.unwrap().to_owned());
        held.notify_one();
    }
    waiting.sort();
    ended.sort();
    assert_eq!(ended, waiting, "each has its ack");
    bench.stop().await;
}
