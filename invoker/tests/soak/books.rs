//! What became of each activation, and whether that is right.

use super::PATIENCE;
use super::load::{Sent, Tenant};
use super::trouble::Kill;
use super::world::World;
use serde_json::Value;
use stand_in_controller::ledger::Problem;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Longest time from a lane's end until the invoker knows of it, on a busy machine.
const NOTICE: Duration = Duration::from_secs(5);

pub(crate) struct Outcome {
    tenant: Arc<Tenant>,
    x: usize,
    began: Instant,
    ended: Instant,
    told: Option<u8>,
    record: Value,
}

/// Waits for the record of each.
pub(crate) async fn outcomes(world: &World, sent: Vec<Sent>) -> Vec<Outcome> {
    let begun = Instant::now();
    let mut outcomes = Vec::new();
    for one in sent {
        let finished = one.finished;
        let (id, name) = (one.running.id, one.tenant.name);
        let record = loop {
            if let Some(record) = world.database.record(name, id).await.unwrap() {
                break record;
            }
            assert!(begun.elapsed() < PATIENCE, "{id} of {name} has no record");
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        outcomes.push(Outcome {
            tenant: one.tenant,
            x: one.x,
            began: one.running.at,
            ended: one.running.at + finished.completion_after,
            told: finished.status.map(u8::from),
            record,
        });
    }
    outcomes
}

/// Each has the right result, or was in flight in an instance that lost a lane; then it says which and why.
pub(crate) fn balance(world: &World, outcomes: &[Outcome], kills: &[Kill]) {
    assert_eq!(world.controller.audit(), Vec::<Problem>::new());
    let mut failures: BTreeMap<usize, u64> = BTreeMap::new();
    let mut counts: BTreeMap<&str, (usize, usize, Duration)> = BTreeMap::new();
    for outcome in outcomes {
        let record = &outcome.record;
        let revision = record["_rev"].as_str().unwrap();
        assert!(revision.starts_with("1-"), "written once: {record}");
        let status = record["response"]["statusCode"].as_u64().unwrap();
        let told = outcome.told.map(u64::from);
        assert!(told.is_none_or(|told| told == status), "{told:?}: {record}");
        let (count, failed, longest) = counts.entry(outcome.tenant.name).or_default();
        *count += 1;
        *longest = (*longest).max(outcome.ended - outcome.began);
        if status == 0 {
            succeeded(outcome);
        } else {
            *failed += 1;
            *failures.entry(to_blame(outcome, kills)).or_default() += 1;
        }
    }
    for (kill, failures) in failures {
        let kill = &kills[kill];
        assert!(failures <= kill.limit, "{failures} failures by one of {kill:?}");
    }
    for (tenant, (count, failed, longest)) in counts {
        println!("{tenant}: {count} activations, {failed} ended with a lane, {longest:.1?} the longest");
    }
    println!("{} lanes were killed", kills.len());
}

fn succeeded(outcome: &Outcome) {
    let record = &outcome.record;
    let expected = outcome.x as f64 * outcome.tenant.factor;
    for end in ["least", "most"] {
        assert_eq!(
            record["response"]["result"][end].as_f64(),
            Some(expected),
            "{record}"
        );
    }
    let logs = record["logs"].as_array().unwrap();
    let line = format!("stdout: asked for {}", outcome.x);
    assert!(
        logs.len() == 1 && logs[0].as_str().unwrap().ends_with(&line),
        "{record}"
    );
}

/// The kill that an activation ended with.
fn to_blame(outcome: &Outcome, kills: &[Kill]) -> usize {
    let (tenant, record) = (&outcome.tenant, &outcome.record);
    assert!(tenant.has_lanes, "{} has no lanes: {record}", tenant.name);
    let sentence = record["response"]["result"]["error"].as_str().unwrap_or_default();
    // Until the invoker knows of it, the instance is still given activations.
    let during = |(_, kill): &&(usize, &Kill)| {
        let known = kill.done + NOTICE;
        kill.tenant == tenant.name && outcome.began <= known && kill.at <= outcome.ended
    };
    let near: Vec<(usize, &Kill)> = kills.iter().enumerate().collect();
    let near: Vec<&(usize, &Kill)> = near.iter().filter(during).collect();
    // The last one: an activation may have lived through others, waiting.
    let named = near.iter().rfind(|(_, kill)| {
        let slice = kill.slice.as_deref().unwrap_or("MIG-");
        sentence.contains(&format!("lane {} ", kill.lane)) && sentence.contains(slice)
    });
    let Some((number, _)) = named else {
        panic!("no lane of {near:#?} is named: {record}");
    };
    assert!(sentence.contains("signal 9"), "it does not say why: {record}");
    if tenant.retries {
        assert!(near.len() > 1, "it was not run again: {record}");
    }
    *number
}
