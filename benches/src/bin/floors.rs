//! Starts a broker, a server of CouchDB's API and containers, and measures in one run: Kafka alone, Kafka and
//! containers, and the invoker, each at 1 and at 16 in flight. Prints one table with the ratios.
//!
//! `cargo run --release -p benches --bin floors`, with `ffs-invoker` built in the same profile. The images
//! are those of `scripts/images`.
#![forbid(unsafe_code)]

use benches::floor;
use benches::load::{Amount, Load, Report, percentile, run};
use benches::world::{Cause, World, action};
use clap::{Parser, Subcommand};
use proto::whisk::activation_message::ActivationMessage;
use serde_json::json;
use stand_in_controller::controller::Controller;
use stand_in_controller::couch::Couch;
use stand_in_controller::invoker::Invoker;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// In flight.
const LANES: [usize; 2] = [1, 16];
/// Activations that wait all at once.
const QUEUED: usize = 10_000;
/// The first of the floors, each of which has a topic of its own: none answers what another left uncommitted.
/// The invoker under test is 0.
const FLOOR: u32 = 7;
const LABEL: &str = "ffs.bench=floors";

#[derive(Debug, Parser)]
#[command(about = "Measures the invoker beside the least that is possible")]
struct Arguments {
    #[command(subcommand)]
    command: Option<Part>,
    /// Seconds of each measurement
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// Rounds of all measurements, one after the other; the table has the medians
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// The program ffs-invoker [default: beside this one]
    #[arg(long)]
    invoker: Option<PathBuf>,
    /// Leave out Node containers
    #[arg(long)]
    instant_only: bool,
    /// Measure nothing: start all of it for another driver, write messages for it here, and wait for the end of the input
    #[arg(long, value_name = "DIRECTORY")]
    hold: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Part {
    /// The floor's own process: answers what comes on a topic
    Answer {
        hosts: String,
        id: u32,
        containers: Vec<SocketAddr>,
    },
}

#[tokio::main]
async fn main() -> Result<(), Cause> {
    let arguments = Arguments::parse();
    if let Some(Part::Answer {
        hosts,
        id,
        containers,
    }) = arguments.command
    {
        return floor::serve(&hosts, id, containers).await;
    }
    let here = std::env::current_exe()?;
    let world = World::start(arguments.invoker, false).await?;
    let controller = &world.controller;
    let mut rows = Rows::default();

    let invoker = Invoker::start(world.invoker("8192 m"))?;
    let begun = Instant::now();
    while controller.pings().is_empty() {
        if begun.elapsed() > Duration::from_secs(60) {
            return Err(format!("no ping within a minute; the invoker says:\n{}", invoker.log()).into());
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    println!(
        "process start to first ping: {:.0} ms",
        begun.elapsed().as_secs_f64() * 1000.0
    );
    let healthy = controller.until_healthy(0, Duration::from_secs(120)).await?;
    println!("then to healthy: {:.0} ms", healthy.as_secs_f64() * 1000.0);
    println!("resident idle: {} KiB", rss(invoker.process()));

    let kinds: &[(&str, &str)] = if arguments.instant_only {
        &[("instant", "instant:1")]
    } else {
        &[("instant", "instant:1"), ("node", "nodejs:20")]
    };
    let mut templates = Vec::new();
    for (name, kind) in kinds {
        templates.push((*name, of_kind(&world.couch, name, kind).await?));
    }
    if let Some(directory) = &arguments.hold {
        return hold(
            &here,
            &world.broker.hosts(),
            directory,
            &templates,
            invoker.process(),
        )
        .await;
    }
    let mut ids = FLOOR..;
    let mut next = move || ids.next().expect("there are enough numbers");
    for round in 0..arguments.rounds {
        eprintln!("round {} of {}", round + 1, arguments.rounds);
        let measure = |template: &ActivationMessage, invoker, process| Measure {
            controller: Arc::clone(controller),
            template: template.clone(),
            invoker,
            process,
            time: Duration::from_secs_f64(arguments.seconds),
        };
        let id = next();
        let alone = answerer(&here, &world.broker.hosts(), id, &[])?;
        measure(&templates[0].1, id, alone.0.id())
            .all("Kafka alone", &mut rows)
            .await?;
        drop(alone);
        for (name, template) in &templates {
            let id = next();
            let containers = Containers::start(name, LANES[1]).await?;
            let floor = answerer(&here, &world.broker.hosts(), id, &containers.addresses)?;
            let what = format!("Kafka + {name} containers");
            measure(template, id, floor.0.id()).all(&what, &mut rows).await?;
            drop((floor, containers));
            let what = format!("ffs-invoker, {name} containers");
            measure(template, 0, invoker.process())
                .all(&what, &mut rows)
                .await?;
        }
    }
    rows.print();
    println!(
        "resident at the end: {} KiB, at most {} KiB",
        rss(invoker.process()),
        peak(invoker.process())
    );
    benches::process::forget_peak(invoker.process())?;
    let queued = Load {
        template: templates[0].1.clone(),
        invoker: 0,
        in_flight: QUEUED,
        amount: Amount::Count(QUEUED as u64),
        warmup: 0,
        process: Some(invoker.process()),
    };
    let report = run(controller, &queued).await?;
    println!(
        "{QUEUED} sent at once: done in {:.1} s, resident at most {} KiB",
        report.elapsed.as_secs_f64(),
        peak(invoker.process())
    );
    let problems = controller.audit();
    println!("problems: {}", problems.len());
    for problem in problems.iter().take(20) {
        println!("  {problem:?}");
    }
    Ok(())
}

/// Keeps the invoker and all floors up for a driver that knows topics and messages only.
async fn hold(
    program: &Path,
    hosts: &str,
    directory: &Path,
    templates: &[(&str, ActivationMessage)],
    process: u32,
) -> Result<(), Cause> {
    println!("brokers {hosts}");
    println!("invoker: topic invoker0, process {process}");
    let mut floors = vec![(answerer(program, hosts, FLOOR, &[])?, None)];
    println!(
        "Kafka alone: topic invoker{FLOOR}, process {}",
        floors[0].0.0.id()
    );
    for ((name, template), id) in templates.iter().zip(FLOOR + 1..) {
        let containers = Containers::start(name, LANES[1]).await?;
        let floor = answerer(program, hosts, id, &containers.addresses)?;
        println!(
            "Kafka + {name} containers: topic invoker{id}, process {}",
            floor.0.id()
        );
        floors.push((floor, Some(containers)));
        let path = directory.join(format!("{name}.json"));
        std::fs::write(&path, serde_json::to_vec(template)?)?;
        println!("message for {name} containers: {}", path.display());
    }
    println!("Ready.");
    tokio::task::spawn_blocking(|| std::io::copy(&mut std::io::stdin(), &mut std::io::sink())).await??;
    Ok(())
}

fn rss(process: u32) -> u64 {
    benches::process::memory_kib(process, "VmRSS").unwrap_or(0)
}

fn peak(process: u32) -> u64 {
    benches::process::memory_kib(process, "VmHWM").unwrap_or(0)
}

async fn of_kind(couch: &Couch, name: &str, kind: &str) -> Result<ActivationMessage, Cause> {
    let exec = json!({ "kind": kind, "code": "function main() { return { ok: true }; }", "binary": false });
    let annotations = json!([{ "key": "provide-api-key", "value": false }]);
    let limits = json!({ "concurrency": 1, "logs": 10, "memory": 256, "timeout": 60000 });
    action(couch, name, exec, annotations, limits).await
}

struct Measure {
    controller: Arc<Controller>,
    template: ActivationMessage,
    invoker: u32,
    process: u32,
    time: Duration,
}

impl Measure {
    async fn all(&self, what: &str, rows: &mut Rows) -> Result<(), Cause> {
        for in_flight in LANES {
            let load = Load {
                template: self.template.clone(),
                invoker: self.invoker,
                in_flight,
                amount: Amount::Time(self.time),
                warmup: 60 * in_flight as u64,
                process: Some(self.process),
            };
            let report = run(&self.controller, &load).await?;
            eprintln!("{what}: {}", report.json());
            rows.0.push((format!("{what}, {in_flight} in flight"), report));
        }
        Ok(())
    }
}

/// A process that answers; it ends with this value.
struct Answerer(Child);

impl std::ops::Drop for Answerer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn answerer(program: &Path, hosts: &str, id: u32, containers: &[SocketAddr]) -> Result<Answerer, Cause> {
    let mut command = Command::new(program);
    command
        .args(["answer", hosts, &id.to_string()])
        .args(containers.iter().map(ToString::to_string));
    Ok(Answerer(command.spawn()?))
}

/// Warm containers of one image; they go with this value.
struct Containers {
    ids: Vec<String>,
    addresses: Vec<SocketAddr>,
}

impl Containers {
    async fn start(name: &str, count: usize) -> Result<Self, Cause> {
        let image = if name == "node" {
            "ffs/node-action"
        } else {
            "ffs/instant"
        };
        let mut containers = Self {
            ids: Vec::new(),
            addresses: Vec::new(),
        };
        for _ in 0..count {
            let id = docker(&[
                "run",
                "-d",
                "--label",
                LABEL,
                "--memory",
                "256m",
                "--pids-limit",
                "1024",
                image,
            ])?;
            containers.ids.push(id.clone());
            let ip = docker(&[
                "inspect",
                "-f",
                "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}",
                &id,
            ])?;
            containers.addresses.push(SocketAddr::new(ip.parse()?, 8080));
        }
        let init = json!({ "value": { "name": name, "main": "main", "binary": false, "env": {},
            "code": "function main() { return { ok: true }; }" } });
        for address in &containers.addresses {
            let begun = Instant::now();
            while let Err(error) = floor::post(*address, "/init", init.to_string()).await {
                if begun.elapsed() > Duration::from_secs(30) {
                    return Err(error);
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        Ok(containers)
    }
}

impl Drop for Containers {
    fn drop(&mut self) {
        let ids = self.ids.iter().map(String::as_str);
        let _ = docker(&["rm", "-f"].into_iter().chain(ids).collect::<Vec<_>>());
    }
}

fn docker(arguments: &[&str]) -> Result<String, Cause> {
    let output = Command::new("docker").args(arguments).output()?;
    if output.status.success() {
        return Ok(String::from_utf8(output.stdout)?.trim().to_owned());
    }
    Err(format!(
        "docker {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    )
    .into())
}

/// What was measured, in order.
#[derive(Default)]
struct Rows(Vec<(String, Report)>);

impl Rows {
    /// Medians over the rounds.
    fn print(&self) {
        let mut names: Vec<&String> = Vec::new();
        for (name, _) in &self.0 {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        println!("| | p50 result ms | p99 result ms | per s | CPU s per 1,000 |");
        println!("| --- | --- | --- | --- | --- |");
        for name in names {
            let median = |value: &dyn Fn(&Report) -> Option<f64>| {
                let of = self.0.iter().filter(|(other, _)| other == name);
                let mut values: Vec<f64> = of.filter_map(|(_, report)| value(report)).collect();
                values.sort_by(f64::total_cmp);
                values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
            };
            println!(
                "| {name} | {:.2} | {:.2} | {:.0} | {:.2} |",
                median(&|report| percentile(&report.results, 50.0)),
                median(&|report| percentile(&report.results, 99.0)),
                median(&|report| Some(report.per_second())),
                median(&Report::cpu_per_1000),
            );
        }
    }
}
