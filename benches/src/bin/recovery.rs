//! Measures what happens besides the usual: cold starts, time limits, sixteen activations at once in one
//! container, and a successor. Real Kafka, a server of CouchDB's API, Docker.
//!
//! `cargo run --release -p benches --bin recovery`, with `ffs-invoker` built in the same profile. The images
//! are those of `scripts/images`.
#![forbid(unsafe_code)]

use benches::engine::{SOCKET, request};
use benches::load::percentile;
use benches::world::{Cause, World, action};
use clap::Parser;
use futures::future::try_join_all;
use hyper::Method;
use proto::id::ActivationId;
use proto::whisk::activation::Status;
use proto::whisk::activation_message::ActivationMessage;
use serde_json::{Value, json};
use stand_in_controller::controller::{Call, fresh};
use stand_in_controller::invoker::Invoker;
use stand_in_controller::ledger::Finished;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tokio::net::TcpStream;

const PATIENCE: Duration = Duration::from_secs(120);
/// Of the action that takes longer.
const LIMIT: Duration = Duration::from_secs(1);
/// In one container.
const TOGETHER: usize = 16;
/// That each activation writes.
const LINES: usize = 3;

#[derive(Debug, Parser)]
#[command(about = "Measures cold starts, time limits, sixteen at once in one container, and a successor")]
struct Arguments {
    /// How often each is done
    #[arg(long, default_value_t = 20)]
    times: usize,
    /// The program ffs-invoker [default: beside this one]
    #[arg(long)]
    invoker: Option<PathBuf>,
}

struct Bench {
    invoker: Invoker,
    world: World,
    times: usize,
}

#[tokio::main]
async fn main() -> Result<(), Cause> {
    let arguments = Arguments::parse();
    let world = World::start(arguments.invoker, true).await?;
    let invoker = Invoker::start(
        world
            .invoker("16384 m")
            .with("CONFIG_whisk_concurrencyLimit_max", &TOGETHER.to_string()),
    )?;
    world.controller.until_healthy(0, PATIENCE).await?;
    let mut bench = Bench {
        invoker,
        world,
        times: arguments.times,
    };
    println!("| | p50 ms | p99 ms |\n| --- | --- | --- |");
    bench.cold_starts().await?;
    bench.time_limits().await?;
    bench.together().await?;
    bench.successors().await?;
    let problems = bench.world.controller.audit();
    println!("problems: {}", problems.len());
    for problem in problems.iter().take(20) {
        println!("  {problem:?}");
    }
    Ok(())
}

impl Bench {
    /// Beside each, the same container created and started by itself, until it listens.
    async fn cold_starts(&self) -> Result<(), Cause> {
        let (mut cold, mut bare) = (Vec::new(), Vec::new());
        for n in 0..=self.times {
            let name = format!("cold{n}");
            let limits = json!({ "concurrency": 1, "logs": 10, "memory": 128, "timeout": 60000 });
            let action = self.action(&name, "instant:1", &json!({}), limits).await?;
            let finished = self.run(&action, 1).await?;
            let alone = self.bare(&name).await?;
            if n > 0 {
                // The first ones read the action proxy's image from disk.
                cold.push(finished.result_after.ok_or("no result")?);
                bare.push(alone);
            }
        }
        let mut above: Vec<Duration> = cold
            .iter()
            .zip(&bare)
            .map(|(c, b)| c.saturating_sub(*b))
            .collect();
        row("cold start, to the result", &mut cold);
        row("the same container created and started by itself", &mut bare);
        row("the difference", &mut above);
        Ok(())
    }

    async fn bare(&self, action: &str) -> Result<Duration, Cause> {
        let filters = format!("{{\"name\":[\"_{action}$\"]}}");
        let filters: String = filters.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let listed = engine(
            Method::GET,
            &format!("/containers/json?filters={filters}"),
            &Value::Null,
        )
        .await?;
        let id = listed[0]["Id"]
            .as_str()
            .ok_or("its container is gone")?
            .to_owned();
        let model = engine(Method::GET, &format!("/containers/{id}/json"), &Value::Null).await?;
        let mut body = model["Config"].clone();
        body["HostConfig"] = model["HostConfig"].clone();
        body["Hostname"] = Value::Null;
        let began = Instant::now();
        let created = engine(Method::POST, "/containers/create", &body).await?;
        let id = created["Id"].as_str().ok_or("no id")?.to_owned();
        engine(Method::POST, &format!("/containers/{id}/start"), &Value::Null).await?;
        let started = engine(Method::GET, &format!("/containers/{id}/json"), &Value::Null).await?;
        let networks = started["NetworkSettings"]["Networks"].as_object();
        let address = networks.and_then(|networks| networks.values().next()?["IPAddress"].as_str());
        let address = format!("{}:8080", address.ok_or("it has no address")?);
        while TcpStream::connect(&address).await.is_err() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let took = began.elapsed();
        engine(
            Method::DELETE,
            &format!("/containers/{id}?force=true&v=true"),
            &Value::Null,
        )
        .await?;
        Ok(took)
    }

    async fn time_limits(&self) -> Result<(), Cause> {
        let script = json!({ "run": { "delay_ms": 60_000 } });
        let limit = u64::try_from(LIMIT.as_millis())?;
        let limits = json!({ "concurrency": 1, "logs": 10, "memory": 128, "timeout": limit });
        let action = self.action("late", "probe:1", &script, limits).await?;
        let mut late = Vec::new();
        for _ in 0..self.times.div_ceil(4) {
            let four = try_join_all((0..4).map(|_| self.run(&action, 1)));
            for finished in four.await? {
                // From when `/run` was begun.
                let record = last(&finished)?;
                let before: u64 = ["waitTime", "initTime"]
                    .iter()
                    .filter_map(|key| annotation(&record, key))
                    .sum();
                let result = finished.result_after.ok_or("no result")?;
                late.push(result.saturating_sub(Duration::from_millis(before) + LIMIT));
                if finished.status != Some(Status::DeveloperError) {
                    return Err(format!("it did not run into its limit: {record}").into());
                }
            }
        }
        row("answer after a time limit, late by", &mut late);
        Ok(())
    }

    async fn together(&self) -> Result<(), Cause> {
        let lines: Vec<String> = (0..LINES).map(|n| format!("line {n}")).collect();
        let script = json!({ "run": { "delay_ms": 50, "stdout": lines, "body": { "ok": true } } });
        let limits = json!({ "concurrency": TOGETHER, "logs": 10, "memory": 256, "timeout": 60000 });
        let action = self.action("together", "probe:1", &script, limits).await?;
        self.run(&action, TOGETHER).await?;
        let (mut results, mut written) = (Vec::new(), 0);
        let database = self.world.couch.database();
        for _ in 0..self.times {
            let all = try_join_all((0..TOGETHER).map(|_| self.run(&action, TOGETHER)));
            for finished in all.await? {
                results.push(finished.result_after.ok_or("no result")?);
                let activation: ActivationId = last(&finished)?["activationId"]
                    .as_str()
                    .ok_or("no id")?
                    .parse()?;
                let begun = Instant::now();
                let record = loop {
                    if let Some(record) = database.record("guest", activation).await? {
                        break record;
                    }
                    if begun.elapsed() > PATIENCE {
                        return Err(format!("{activation} has no record").into());
                    }
                    tokio::time::sleep(Duration::from_millis(10)).await;
                };
                let logs = record["logs"].as_array().ok_or("no logs")?;
                written += logs
                    .iter()
                    .filter(|line| line.as_str().is_some_and(|line| line.contains(" stdout: line ")))
                    .count();
            }
        }
        let log = self.invoker.log();
        let containers = log
            .lines()
            .filter(|line| line.contains("docker run ") && line.contains("_together "));
        let what = format!(
            "{TOGETHER} at once in {} container, {written} of {} log lines, an activation of 50 ms",
            containers.count(),
            results.len() * LINES
        );
        row(&what, &mut results);
        Ok(())
    }

    async fn successors(&mut self) -> Result<(), Cause> {
        let limits = json!({ "concurrency": 1, "logs": 10, "memory": 128, "timeout": 60000 });
        let action = self.action("next", "instant:1", &json!({}), limits).await?;
        self.run(&action, 1).await?;
        let mut first = Vec::new();
        for _ in 0..self.times.min(5) {
            self.invoker.stop()?;
            self.invoker.start_again()?;
            let begun = Instant::now();
            let finished = self.run(&action, 1).await?;
            finished.result_after.ok_or("no result")?;
            first.push(begun.elapsed());
        }
        row(
            "start of a successor to its first result, with a cold container",
            &mut first,
        );
        Ok(())
    }

    async fn run(&self, action: &ActivationMessage, concurrency: usize) -> Result<Finished, Cause> {
        let call = Call {
            concurrency: u32::try_from(concurrency)?,
            ..Call::new(fresh(action))
        };
        let mut running = self.world.controller.send_to(0, call).await?;
        let finished = tokio::time::timeout(PATIENCE, running.finished()).await;
        finished
            .map_err(|_| format!("{} was not answered\n{}", running.id, self.invoker.log()))?
            .ok_or_else(|| "the controller is gone".into())
    }

    /// Writes an action of that kind, and makes a message that invokes it.
    async fn action(
        &self,
        name: &str,
        kind: &str,
        script: &Value,
        limits: Value,
    ) -> Result<ActivationMessage, Cause> {
        let exec = json!({ "kind": kind, "code": script.to_string(), "binary": false });
        action(&self.world.couch, name, exec, json!([]), limits).await
    }
}

/// The activation, as the result has it.
fn last(finished: &Finished) -> Result<Value, Cause> {
    for ack in &finished.acks {
        let mut ack: Value = serde_json::from_slice(ack)?;
        if ack["response"].is_object() {
            return Ok(ack["response"].take());
        }
    }
    Err("no ack has the activation".into())
}

fn annotation(record: &Value, key: &str) -> Option<u64> {
    let all = record["annotations"].as_array()?;
    all.iter().find(|one| one["key"] == key)?["value"].as_u64()
}

fn row(what: &str, times: &mut [Duration]) {
    times.sort_unstable();
    let at = |share| percentile(times, share).unwrap_or(f64::NAN);
    println!("| {what} | {:.1} | {:.1} |", at(50.0), at(99.0));
}

async fn engine(method: Method, path: &str, body: &Value) -> Result<Value, Cause> {
    request(Path::new(SOCKET), method, path, body).await
}
