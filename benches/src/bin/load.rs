//! Drives an invoker without a controller: `load --template FILE --inflight 16 --duration 20 --pid PID`.
//!
//! Prints one JSON object: throughput, p50, p95, p99 of result and completion, CPU seconds for 1,000
//! activations, resident memory, and everything that was wrong with the answers.
#![forbid(unsafe_code)]

use benches::load::{Amount, Load, run};
use clap::Parser;
use stand_in_controller::controller::{Controller, Settings};
use std::path::PathBuf;
use std::time::Duration;

#[derive(Debug, Parser)]
#[command(about = "Drives an invoker without a controller")]
struct Arguments {
    #[arg(long, default_value = "127.0.0.1:9092")]
    brokers: String,
    /// The N of topic invokerN
    #[arg(long, default_value_t = 0)]
    invoker: u32,
    /// The C of topic completedC
    #[arg(long, default_value = "0")]
    controller: String,
    /// An activation message; ids are made anew
    #[arg(long)]
    template: PathBuf,
    #[arg(long, default_value_t = 500)]
    n: u64,
    /// Seconds, in place of a number
    #[arg(long)]
    duration: Option<f64>,
    #[arg(long, default_value_t = 1)]
    inflight: usize,
    #[arg(long, default_value_t = 20)]
    warmup: u64,
    /// The invoker's process
    #[arg(long)]
    pid: Option<u32>,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments = Arguments::parse();
    let template = std::fs::read(&arguments.template)?;
    let settings = Settings {
        name: arguments.controller,
        keep_acks: false,
        ..Settings::new(arguments.brokers)
    };
    let controller = Controller::start(settings).await?;
    let load = Load {
        template: proto::decode::decode(&template)?,
        invoker: arguments.invoker,
        in_flight: arguments.inflight,
        amount: arguments.duration.map_or(Amount::Count(arguments.n), |seconds| {
            Amount::Time(Duration::from_secs_f64(seconds))
        }),
        warmup: arguments.warmup,
        process: arguments.pid,
    };
    let report = run(&controller, &load).await?;
    let mut json = report.json();
    json["template"] = arguments
        .template
        .file_name()
        .map(|name| name.to_string_lossy())
        .into();
    let problems: Vec<String> = controller
        .audit()
        .iter()
        .take(20)
        .map(|problem| format!("{problem:?}"))
        .collect();
    json["problems"] = problems.into();
    println!("{json}");
    Ok(())
}
