//! Documents made from a few words: inventories, chains of components, measurements.

use proto::ffs::build::{ComponentRow, ProfileRows};
use proto::ffs::dag::DagDocument;
use proto::ffs::migs::MigsDocument;
use proto::ffs::profile::{BatchTimes, ExecutionTimes};
use proto::id::ComponentId;
use proto::unit::{Bytes, Millis};
use scheduler::work::ActionRevision;
use std::collections::BTreeMap;

fn number(text: &str) -> u64 {
    text.parse().unwrap_or_else(|_| panic!("{text} is no number"))
}

/// One GPU with these slices: `4g.40gb=39936`, with `!` at the end if fenced.
pub(crate) fn inventory(slices: &[&str]) -> MigsDocument {
    let slices: Vec<serde_json::Value> = slices
        .iter()
        .enumerate()
        .map(|(at, text)| {
            let (profile, memory) = text.trim_end_matches('!').split_once('=').expect("profile=MiB");
            let compute = profile.chars().next().and_then(|c| c.to_digit(10)).unwrap_or(7);
            serde_json::json!({
                "uuid": format!("MIG-{at}"),
                "gpu_uuid": "GPU-0",
                "profile": profile,
                "compute_slices": compute,
                "memory_bytes": number(memory) << 20,
                "state": if text.ends_with('!') { "fenced" } else { "free" },
                "cpu_quota": 1.0,
            })
        })
        .collect();
    document(serde_json::json!({
        "schema": "ffs.migs/1",
        "taken_at": "2026-01-02T03:04:05Z",
        "source": "simulated",
        "gpus": [{"uuid": "GPU-0", "index": 0, "model": "A100-80GB", "memory_bytes": 81920_u64 << 20, "mig": true}],
        "slices": slices,
    }))
}

/// Stages one after the other; components of a stage (`a;b`) side by side, each reading all of
/// the stage before. `a*8` may run up to 8 requests at once.
pub(crate) fn chain(of: &ActionRevision, stages: &[&str]) -> DagDocument {
    let mut before: Vec<String> = Vec::new();
    let mut nodes = Vec::new();
    for stage in stages {
        let here: Vec<(&str, u64)> = stage
            .split(';')
            .map(|text| {
                text.split_once('*')
                    .map_or((text, 1), |(id, batch)| (id, number(batch)))
            })
            .collect();
        for (id, batch) in &here {
            let inputs: Vec<serde_json::Value> = if before.is_empty() {
                vec![serde_json::json!({"port": 0, "from": {"input": "x"}})]
            } else {
                let from = before.iter().enumerate();
                from.map(|(port, node)| serde_json::json!({"port": port, "from": {"node": node, "port": 0}}))
                    .collect()
            };
            nodes.push(serde_json::json!({
                "id": id,
                "module": format!("app:{id}"),
                "batch": batch,
                "inputs": inputs,
                "outputs": [{"port": 0, "dtype": "float32", "shape": [1, 16]}],
            }));
        }
        before = here.iter().map(|(id, _)| (*id).to_owned()).collect();
    }
    let outputs = before
        .iter()
        .map(|node| serde_json::json!({"name": node, "node": node, "port": 0}));
    document(serde_json::json!({
        "schema": "ffs.dag/1",
        "function": of.action,
        "revision": of.revision,
        "built_at": "2026-01-02T03:04:05Z",
        "inputs": [{"name": "x", "dtype": "float32", "shape": [1, 16]}],
        "nodes": nodes,
        "outputs": outputs.collect::<Vec<_>>(),
    }))
}

/// `det=300/20,4:50`: 300 MiB of weights, 20 ms, and 50 ms for 4 requests at once.
pub(crate) fn profile_rows(rows: &[&str]) -> ProfileRows {
    let row = |text: &&str| -> (ComponentId, ComponentRow) {
        let (id, costs) = text.split_once('=').expect("component=MiB/ms");
        let (mib, ms) = costs.split_once('/').expect("MiB/ms");
        let mut times = ms.split(',');
        let millis = |text: &str| Millis(text.parse().expect("milliseconds"));
        let ms = millis(times.next().expect("a time"));
        let batches = times.map(|text| {
            let (size, ms) = text.split_once(':').expect("requests:milliseconds");
            let times = BatchTimes {
                exec_ms_p50: millis(ms),
                exec_ms_p95: None,
                workspace_bytes: None,
            };
            (size.to_owned(), times)
        });
        let times = ExecutionTimes {
            exec_ms_p50: ms,
            exec_ms_p95: ms,
            samples: 3,
            batches: batches.collect(),
            observed: None,
        };
        let row = ComponentRow {
            weights_bytes: Bytes::mib(number(mib)),
            workspace_bytes: Bytes(0),
            load_ms: Millis(100.0),
            swap_in_ms: Millis(10.0),
            swap_out_ms: Millis(5.0),
            times,
        };
        (id.parse().expect("a component id"), row)
    };
    ProfileRows {
        // The scheduler knows on which kind of slice it asked for the measurement.
        kind: "full".parse().expect("a slice profile"),
        context_bytes: Bytes(0),
        components: rows.iter().map(row).collect(),
        edges: BTreeMap::new(),
    }
}

fn document<T: serde::de::DeserializeOwned>(json: serde_json::Value) -> T {
    serde_json::from_value(json).expect("the script makes valid documents")
}
