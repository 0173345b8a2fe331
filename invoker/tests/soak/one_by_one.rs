//! Single failures of a function that runs on two slices, with what is said of each.

use super::engine::EngineKind;
use super::load::{Tenant, invoke};
use super::world::World;
use super::{PATIENCE, TURN, trouble};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// Three components of 60 MiB; the second one does what the arguments say.
const CHAIN: &str = include_str!("../pipelines_docker/chain.py");

/// What it does, and how the activation ends.
const FAILURES: [(&str, &str); 4] = [
    ("exit", "exit code 3"),
    ("crash", "signal 11"),
    ("ring", "corrupt"),
    ("hang", "exceeded its time limits"),
];

#[tokio::test(flavor = "multi_thread")]
async fn lanes_that_are_processes_fail_and_a_slice_is_fenced_under_them() {
    let _turn = TURN.lock().await;
    let world = World::start(EngineKind::Process).await;
    let tenant = divided(&world, Duration::from_secs(6)).await;
    for (told, why) in FAILURES {
        let instance = instance(&run(&world, &tenant, json!({})).await);
        let failed = run(&world, &tenant, json!({ "told": told })).await;
        let sentence = failed["response"]["result"]["error"].as_str().unwrap_or_default();
        println!("{told}: {sentence}");
        assert_ne!(failed["response"]["statusCode"], 0, "{told}: {failed}");
        assert!(sentence.contains(why), "{told}: {sentence}");
        if told == "hang" {
            // What the caller is told of a limit is OpenWhisk's; which lane it was, the log says.
            until_logged(
                &world,
                &["a lane died", &instance, "lane s", "after the deadline"],
            )
            .await;
        } else {
            assert!(sentence.contains("lane s"), "{told}: {sentence}");
        }
        until_gone(&world, &instance).await;
    }
    fenced(&world, &tenant).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slice_is_fenced_under_containers_and_docker_dies() {
    let _turn = TURN.lock().await;
    let world = World::start(EngineKind::Docker).await;
    let tenant = divided(&world, Duration::from_secs(60)).await;
    let before = instance(&run(&world, &tenant, json!({})).await);
    let mut running = invoke(&world, &tenant, true, json!({ "told": "hang" })).await;
    until_in_flight(&world, &before).await;
    tokio::task::block_in_place(|| world.engine.restart());
    let interrupted = activation(&mut running).await;
    let sentence = interrupted["response"]["result"]["error"]
        .as_str()
        .unwrap_or_default();
    println!("Docker died: {sentence}");
    assert!(
        sentence.contains("lane s") && sentence.contains("on slice"),
        "{interrupted}"
    );
    let after = instance(&run(&world, &tenant, json!({})).await);
    assert_ne!(before, after);
    fenced(&world, &tenant).await;
}

/// A function that runs on the two small slices, for the large one has an error.
async fn divided(world: &World, limit: Duration) -> std::sync::Arc<Tenant> {
    let tenant = Tenant::new(world, "diana", CHAIN, Some(json!({})), 1.0, limit).await;
    let slices = world.gpus.lock().unwrap().machine.migs.slices.clone();
    let large = slices.iter().max_by_key(|slice| slice.memory_bytes).unwrap();
    trouble::fail(world, large).await;
    tenant
}

/// One of its slices is fenced with an activation in flight: that one ends well, and the instance goes. The next
/// activation waits until the GPU is reset.
async fn fenced(world: &World, tenant: &Tenant) {
    let first = run(world, tenant, json!({})).await;
    let lanes = note(&first, "ffs")["lanes"].as_array().unwrap().clone();
    assert_eq!(lanes.len(), 2, "{first}");
    let slice = {
        let gpus = world.gpus.lock().unwrap();
        let mut slices = gpus.machine.migs.slices.iter();
        let of_last = slices.find(|slice| lanes[1]["slice"] == slice.uuid.as_str());
        of_last.unwrap().clone()
    };
    let mut running = invoke(world, tenant, true, json!({ "told": "pause" })).await;
    until_in_flight(world, &instance(&first)).await;
    trouble::fail(world, &slice).await;
    let ended = activation(&mut running).await;
    assert_eq!(ended["response"]["statusCode"], 0, "{ended}");
    until_logged(
        world,
        &[
            &instance(&first),
            slice.uuid.as_str(),
            "is gone or reports errors",
        ],
    )
    .await;
    until_gone(world, &instance(&first)).await;

    let mut waiting = invoke(world, tenant, true, json!({})).await;
    world
        .until("it waits", |status| {
            status["waiting"].as_array().is_some_and(|all| !all.is_empty())
        })
        .await;
    trouble::lose(world).await;
    let served = activation(&mut waiting).await;
    assert_eq!(
        served["response"]["result"], first["response"]["result"],
        "{served}"
    );
    world.until_quiet().await;
    world.stop().await;
}

/// A blocking activation to its end.
async fn run(world: &World, tenant: &Tenant, arguments: Value) -> Value {
    activation(&mut invoke(world, tenant, true, arguments).await).await
}

async fn activation(running: &mut stand_in_controller::controller::Running) -> Value {
    let finished = tokio::time::timeout(PATIENCE, running.finished()).await;
    let acks = finished.unwrap().unwrap().acks;
    let acks = acks
        .iter()
        .map(|ack| serde_json::from_slice::<Value>(ack).unwrap());
    let mut answers = acks.map(|ack| ack["response"].clone());
    answers.find(Value::is_object).unwrap()
}

fn note(activation: &Value, key: &str) -> Value {
    let mut notes = activation["annotations"].as_array().unwrap().iter();
    let found = notes.find(|note| note["key"] == key);
    found.unwrap_or_else(|| panic!("no {key}: {activation}"))["value"].clone()
}

fn instance(activation: &Value) -> String {
    note(activation, "ffs")["instance"].as_str().unwrap().to_owned()
}

fn found<'a>(status: &'a Value, instance: &str) -> Option<&'a Value> {
    let mut all = status["instances"].as_array()?.iter();
    all.find(|other| other["instance"] == instance)
}

async fn until_in_flight(world: &World, instance: &str) {
    world
        .until("it is in flight", |status| {
            found(status, instance).is_some_and(|instance| instance["in_flight"] != 0)
        })
        .await;
}

async fn until_gone(world: &World, instance: &str) {
    world
        .until("the instance is gone", |status| found(status, instance).is_none())
        .await;
}

/// Until one line of the invoker's log says all of this.
async fn until_logged(world: &World, parts: &[&str]) {
    let begun = Instant::now();
    while !world
        .log()
        .lines()
        .any(|line| parts.iter().all(|part| line.contains(part)))
    {
        assert!(begun.elapsed() < PATIENCE, "no line says {parts:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
