//! `ffs-invoker plan`: how a function would be split over the free slices, and why so.

use super::{GpuArguments, live};
use crate::gpu::simulated::Host;
use crate::plan::{Options, Plan};
use anyhow::Context;
use clap::ValueEnum;
use proto::decode::decode;
use proto::ffs::migs::MigsDocument;
use proto::ffs::ranking::{Deviation, Mode};
use scheduler::ranking::RankBy;
use serde::de::DeserializeOwned;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

/// Show how a function would be split over free slices, and why
///
/// Reads the documents of the config layer (dag.json, profile.json, migs.json) and runs the
/// scheduler's own functions; nothing is started. Exit code 0: there is a plan. 3: nothing fits the
/// free slices, the output says why. 1: a document is missing or wrong.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("machine").required(true).multiple(true).args(["migs", "topology", "inventory", "live"]))]
pub(super) struct Arguments {
    /// Show what a running daemon has placed, with its last decisions and what it did not choose
    #[arg(long, value_name = "URL", num_args = 0..=1, default_missing_value = super::live::ADDRESS,
          conflicts_with_all = ["dag", "profile", "migs", "topology", "inventory"])]
    live: Option<String>,
    /// For --live, the credentials of the admin API of `ffs-invoker run`
    #[arg(
        long,
        value_name = "USER:PASSWORD",
        env = "FFS_ADMIN_AUTH",
        hide_env_values = true
    )]
    auth: Option<String>,
    /// The function's components and edges, dag.json
    #[arg(long, value_name = "FILE", required_unless_present = "live")]
    dag: Option<PathBuf>,
    /// Times and memory of the components, profile.json
    #[arg(long, value_name = "FILE", required_unless_present = "live")]
    profile: Option<PathBuf>,
    /// The slices and which of them are free, migs.json
    #[arg(long, value_name = "FILE", conflicts_with_all = ["topology", "inventory", "gpu_cpus", "gpu_memory"])]
    migs: Option<PathBuf>,
    #[command(flatten)]
    gpus: GpuArguments,
    /// Which partitions there are: cuts in the chain of atoms; parallel branches as lanes of their own;
    /// every acyclic one, up to 8 components
    #[arg(long, value_enum, default_value = "lanes")]
    mode: ModeArgument,
    /// What is best: balance (the paper's), the shortest bottleneck, or the SLO with the fewest slices
    #[arg(long, value_enum, default_value = "cv")]
    rank: RankArgument,
    /// Which standard deviation CV is made of
    #[arg(long, value_enum, default_value = "population")]
    std: StdArgument,
    /// Target latency [default: three times the time alone on the smallest slice that holds the function]
    #[arg(long, value_name = "N", value_parser = parse_slo, allow_negative_numbers = true)]
    slo_ms: Option<Duration>,
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum ModeArgument {
    Serial,
    Lanes,
    Convex,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum RankArgument {
    Cv,
    Throughput,
    Slo,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum StdArgument {
    Population,
    Sample,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    Table,
    Json,
    Svg,
}

/// No partition fits the free slices.
const NO_PLAN: u8 = 3;

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    if let Some(address) = &arguments.live {
        return show_live(address, arguments);
    }
    let given = arguments.dag.as_deref().zip(arguments.profile.as_deref());
    let (dag, profile) = given.context("--dag and --profile are needed")?;
    let plan = Plan::make(
        read(dag)?,
        read(profile)?,
        machine(arguments)?,
        options(arguments),
    )?;
    if let Some(sentence) = plan.mismatch() {
        eprintln!("ffs-invoker: {sentence}");
    }
    let output = match arguments.format {
        Format::Table => plan.text(),
        Format::Json => serde_json::to_string_pretty(&plan.document())? + "\n",
        Format::Svg => plan.picture(),
    };
    write(&output)?;
    if plan.chosen().is_none() {
        eprintln!("ffs-invoker: {}", plan.because());
        return Ok(ExitCode::from(NO_PLAN));
    }
    Ok(ExitCode::SUCCESS)
}

fn show_live(address: &str, arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let status = live::fetch(address, arguments.auth.as_deref())?;
    let output = match arguments.format {
        Format::Table => live::text(&status)?,
        Format::Json => {
            let status: serde_json::Value = decode(&status)?;
            serde_json::to_string_pretty(&status)? + "\n"
        }
        Format::Svg => anyhow::bail!("--format svg is for a plan: expected table or json with --live"),
    };
    write(&output)?;
    Ok(ExitCode::SUCCESS)
}

fn write(output: &str) -> io::Result<()> {
    match io::stdout().lock().write_all(output.as_bytes()) {
        // The reader has seen enough: `ffs-invoker plan … | head`.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}

fn options(arguments: &Arguments) -> Options {
    Options {
        mode: match arguments.mode {
            ModeArgument::Serial => Mode::Serial,
            ModeArgument::Lanes => Mode::Lanes,
            ModeArgument::Convex => Mode::Convex,
        },
        by: match arguments.rank {
            RankArgument::Cv => RankBy::Cv,
            RankArgument::Throughput => RankBy::Throughput,
            RankArgument::Slo => RankBy::Slo,
        },
        std: match arguments.std {
            StdArgument::Population => Deviation::Population,
            StdArgument::Sample => Deviation::Sample,
        },
        slo: arguments.slo_ms,
    }
}

fn machine(arguments: &Arguments) -> anyhow::Result<MigsDocument> {
    match &arguments.migs {
        Some(path) => read(path),
        None => Ok(arguments.gpus.inventory(&Host::read())?.read()?),
    }
}

fn read<T: DeserializeOwned>(path: &Path) -> anyhow::Result<T> {
    let bytes = std::fs::read(path).with_context(|| format!("{} cannot be read", path.display()))?;
    decode(&bytes).with_context(|| format!("{} cannot be decoded", path.display()))
}

/// Milliseconds, more than 0 and at most a day.
fn parse_slo(text: &str) -> Result<Duration, String> {
    let expected = || format!("{text:?}: expected milliseconds, more than 0 and at most a day (86400000)");
    let ms: f64 = text.parse().map_err(|_| expected())?;
    if ms > 0.0 && ms <= 86_400_000.0 {
        Ok(Duration::from_secs_f64(ms / 1e3))
    } else {
        Err(expected())
    }
}
