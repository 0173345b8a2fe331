//! Where the time of an activation in a pipeline went: the annotation `ffs` on its record, and metrics.
//!
//! Source: FluidFaaS §10 (queueing, execution, transfer; SLO from arrival at the platform to the result).

use super::Job;
use crate::completion::record;
use crate::metrics;
use crate::pipeline::Instance;
use proto::ffs::timing::{RecordAnnotation, Timing};
use proto::unit::Millis;
use proto::whisk::activation::{Activation, Status};
use std::time::SystemTime;
use tracing::warn;

/// Counts an activation that has just been answered by an instance, and says on it where its time went.
/// `began` is when the head was asked; `timing` is the head's header, absent if the head gave no answer.
pub(super) fn of(
    activation: &mut Activation,
    instance: &Instance,
    timing: Option<&str>,
    job: &Job,
    began: SystemTime,
) {
    let ended = record::millis(SystemTime::now());
    let queued = Millis((record::millis(began) - job.owed.since_ms()).max(0) as f64);
    let slo = instance.slo_ms();
    let ran = matches!(
        activation.response.status_code,
        Status::Success | Status::ApplicationError
    );
    let latency = ended - job.message.transid.start;
    let met = slo.map(|Millis(slo)| ran && latency as f64 <= slo);
    let timing = timing.and_then(|text| {
        let read = serde_json::from_str::<Timing>(text);
        read.inspect_err(|error| warn!(%error, text, "the head's timing cannot be read"))
            .ok()
    });
    let lanes = timing.iter().flat_map(|timing| &timing.lanes);
    let annotation = RecordAnnotation {
        instance: instance.id().to_string(),
        plan: instance.plan().to_owned(),
        queued_ms: queued,
        lanes: lanes.filter_map(|lane| instance.record_lane(lane)).collect(),
        transfer_ms: timing.map(|timing| timing.transfer_ms),
        slo_ms: slo,
        slo_met: met,
    };
    metrics::pipeline_run(&job.executable.qualified_name, &annotation);
    activation.annotations.set(
        "ffs",
        serde_json::to_value(annotation).expect("a document of ours is JSON"),
    );
}
