//! Where the time of an activation in a pipeline went: the annotation `ffs` on its record, and metrics.
//!
//! Source: FluidFaaS §10 (queueing, execution, transfer; SLO from arrival at the platform to the result).

use super::Job;
use crate::completion::record;
use crate::metrics;
use crate::pipeline::Instance;
use proto::ffs::timing::{RecordAnnotation, Timing};
use proto::id::ComponentId;
use proto::unit::Millis;
use proto::whisk::activation::{Activation, Status};
use std::collections::BTreeMap;
use std::time::SystemTime;
use tracing::warn;

/// Counts an activation that has just been answered by an instance, and says on it where its time went.
/// `began` is when the head was asked; `timing` is the head's header, absent if the head gave no answer.
/// Returns how long one execution of each component took, as far as the head says so.
pub(super) fn of(
    activation: &mut Activation,
    instance: &Instance,
    timing: Option<&str>,
    job: &Job,
    began: SystemTime,
) -> BTreeMap<ComponentId, Millis> {
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
    let (lanes, transfer_ms) = match timing {
        Some(timing) => (timing.lanes, Some(timing.transfer_ms)),
        None => (Vec::new(), None),
    };
    let annotation = RecordAnnotation {
        instance: instance.id().to_string(),
        plan: instance.plan().to_owned(),
        queued_ms: queued,
        lanes: lanes
            .iter()
            .filter_map(|lane| instance.record_lane(lane))
            .collect(),
        transfer_ms,
        slo_ms: slo,
        slo_met: met,
    };
    metrics::pipeline_run(&job.executable.qualified_name, &annotation);
    activation.annotations.set(
        "ffs",
        serde_json::to_value(annotation).expect("a document of ours is JSON"),
    );
    lanes.into_iter().flat_map(|lane| lane.components).collect()
}
