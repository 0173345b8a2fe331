//! Load for an invoker: activations made from a template, so many at once, and what became of them.
//!
//! Latency is taken from just before the message is handed to Kafka's client until its ack was read. A place
//! among those in flight is taken again when the ack that frees the slot has come, as the balancer does.

use crate::process::{Cpu, memory_kib};
use proto::whisk::activation::Status;
use proto::whisk::activation_message::ActivationMessage;
use serde_json::{Value, json};
use stand_in_controller::controller::{Call, Controller, fresh};
use stand_in_controller::health::Outcome;
use stand_in_controller::ledger::Finished;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// One run.
#[derive(Clone, Debug)]
pub struct Load {
    pub template: ActivationMessage,
    pub invoker: u32,
    pub in_flight: usize,
    pub amount: Amount,
    /// Activations before the measured ones.
    pub warmup: u64,
    /// The invoker's process, for CPU and memory.
    pub process: Option<u32>,
}

#[derive(Clone, Copy, Debug)]
pub enum Amount {
    Count(u64),
    Time(Duration),
}

/// What came of it.
#[derive(Clone, Debug, Default)]
pub struct Report {
    pub in_flight: usize,
    pub done: u64,
    pub elapsed: Duration,
    /// Sorted.
    pub results: Vec<Duration>,
    /// Sorted.
    pub completions: Vec<Duration>,
    pub non_success: u64,
    pub system_errors: u64,
    pub forced: u64,
    pub cpu: Option<Cpu>,
    pub rss_kib: Option<u64>,
}

/// Runs it.
///
/// # Errors
/// When Kafka cannot be written to.
pub async fn run(
    controller: &Arc<Controller>,
    load: &Load,
) -> Result<Report, stand_in_controller::controller::Error> {
    if load.warmup > 0 {
        drive(controller, load, Amount::Count(load.warmup)).await?;
    }
    let before = load.process.and_then(Cpu::of);
    let mut report = drive(controller, load, load.amount).await?;
    if let (Some(process), Some(before)) = (load.process, before) {
        // What trails the answers belongs to them.
        tokio::time::sleep(Duration::from_millis(500)).await;
        report.cpu = Cpu::of(process).map(|after| Cpu {
            own: after.own.saturating_sub(before.own),
            children: after.children.saturating_sub(before.children),
        });
        report.rss_kib = memory_kib(process, "VmRSS");
    }
    Ok(report)
}

async fn drive(
    controller: &Arc<Controller>,
    load: &Load,
    amount: Amount,
) -> Result<Report, stand_in_controller::controller::Error> {
    let begun = Instant::now();
    let sent = Arc::new(AtomicU64::new(0));
    let lanes: Vec<_> = (0..load.in_flight)
        .map(|_| {
            let (controller, sent) = (Arc::clone(controller), Arc::clone(&sent));
            let (template, invoker) = (load.template.clone(), load.invoker);
            tokio::spawn(async move {
                let mut all = Vec::new();
                loop {
                    let nth = sent.fetch_add(1, Ordering::Relaxed);
                    let more = match amount {
                        Amount::Count(count) => nth < count,
                        Amount::Time(time) => begun.elapsed() < time,
                    };
                    if !more {
                        return Ok::<_, stand_in_controller::controller::Error>(all);
                    }
                    let mut running = controller.send_to(invoker, Call::new(fresh(&template))).await?;
                    all.extend(running.finished().await);
                }
            })
        })
        .collect();
    let mut all: Vec<Finished> = Vec::new();
    for lane in lanes {
        all.extend(lane.await.expect("a lane does not panic")?);
    }
    let count = |wanted: &dyn Fn(&Finished) -> bool| all.iter().filter(|one| wanted(one)).count() as u64;
    let sorted = |mut times: Vec<Duration>| {
        times.sort_unstable();
        times
    };
    Ok(Report {
        in_flight: load.in_flight,
        done: all.len() as u64,
        elapsed: begun.elapsed(),
        results: sorted(all.iter().filter_map(|one| one.result_after).collect()),
        completions: sorted(all.iter().map(|one| one.completion_after).collect()),
        non_success: count(&|one| one.status.is_some_and(|status| status != Status::Success)),
        system_errors: count(&|one| one.outcome == Outcome::SystemError),
        forced: count(&|one| one.outcome == Outcome::Forced),
        ..Report::default()
    })
}

impl Report {
    pub fn per_second(&self) -> f64 {
        self.done as f64 / self.elapsed.as_secs_f64()
    }

    /// CPU seconds of the invoker for 1,000 activations.
    pub fn cpu_per_1000(&self) -> Option<f64> {
        Some(self.cpu?.own.as_secs_f64() / self.done.max(1) as f64 * 1000.0)
    }

    pub fn json(&self) -> Value {
        let mut json = json!({
            "inflight": self.in_flight,
            "done": self.done,
            "seconds": round(self.elapsed.as_secs_f64(), 3),
            "per_second": round(self.per_second(), 1),
            "result_ms": summary(&self.results),
            "completion_ms": summary(&self.completions),
            "non_success": self.non_success,
            "system_errors": self.system_errors,
            "forced": self.forced,
        });
        if let (Some(cpu), Some(per_1000)) = (self.cpu, self.cpu_per_1000()) {
            json["invoker_cpu_s"] = round(cpu.own.as_secs_f64(), 3).into();
            json["invoker_reaped_children_cpu_s"] = round(cpu.children.as_secs_f64(), 3).into();
            json["invoker_cpu_s_per_1000"] = round(per_1000, 3).into();
        }
        if let Some(rss) = self.rss_kib {
            json["invoker_rss_mib"] = round(rss as f64 / 1024.0, 1).into();
        }
        json
    }
}

/// The value below which that share of all lies, in milliseconds; of sorted times.
pub fn percentile(sorted: &[Duration], share: f64) -> Option<f64> {
    let at = (sorted.len() as f64 * share / 100.0) as usize;
    let time = sorted.get(at.min(sorted.len().checked_sub(1)?))?;
    Some(time.as_secs_f64() * 1000.0)
}

fn summary(sorted: &[Duration]) -> Value {
    let Some(median) = percentile(sorted, 50.0) else {
        return json!({});
    };
    let at = |share| round(percentile(sorted, share).unwrap_or(median), 3);
    let mean = sorted.iter().sum::<Duration>().as_secs_f64() * 1000.0 / sorted.len() as f64;
    json!({
        "n": sorted.len(), "mean": round(mean, 3), "p50": at(50.0), "p95": at(95.0), "p99": at(99.0),
        "min": at(0.0), "max": at(100.0),
    })
}

fn round(value: f64, digits: i32) -> f64 {
    let scale = 10_f64.powi(digits);
    (value * scale).round() / scale
}
