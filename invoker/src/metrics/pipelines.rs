//! GPU and MIG time, slices and instances with the reasons for what is done with them, and where the time of
//! activations in pipelines goes.

use super::family::Family;
use super::{Counter, Gauge, Histogram, TIMES, at, our_counter, our_gauge, set};
use prometheus::CounterVec;
use proto::ffs::migs::SliceState;
use proto::ffs::timing::RecordAnnotation;
use proto::unit::Millis;
use scheduler::accounting::{Accounts, Times};
use scheduler::instance::State;
use scheduler::view::View;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

type Seconds = Family<CounterVec>;

const fn seconds(name: &'static str, help: &'static str) -> Seconds {
    Family::new("", name, "", help)
}
const fn our_times(name: &'static str, help: &'static str) -> Histogram {
    Family::new("", name, "", help).buckets(TIMES)
}

static GPU_TIME: Seconds = seconds(
    "ffs_invoker_gpu_seconds_total",
    "Time in which at least one slice of the GPU was held, or busy",
)
.labelled(&["gpu", "use"]);
static MIG_TIME: Seconds = seconds(
    "ffs_invoker_mig_seconds_total",
    "Time in which slices were held, or busy, summed over the slices",
)
.labelled(&["gpu", "profile", "use"]);
static SLICES: Gauge =
    our_gauge("ffs_invoker_slices", "Slices by what they are").labelled(&["gpu", "profile", "state"]);
static INSTANCES: Gauge =
    our_gauge("ffs_invoker_instances", "Instances by what they are").labelled(&["state"]);
static TRANSITIONS: Counter = our_counter(
    "ffs_invoker_instance_transitions_total",
    "Changes of instances' states",
)
.labelled(&["from", "to"]);
static DECISIONS: Counter = our_counter(
    "ffs_invoker_instance_decisions_total",
    "Instances started, stopped, evicted, woken, opened or closed to others, by reason",
)
.labelled(&["what", "reason"]);
static DRIFTS: Counter = our_counter(
    "ffs_invoker_profile_drift_total",
    "Times of components that were corrected by what was observed: slower or faster than reckoned with",
)
.labelled(&["profile", "direction"]);
static WAITING: Gauge = our_gauge(
    "ffs_invoker_pipeline_waiting_activations",
    "Activations that no instance has taken",
);
static QUEUED: Histogram = our_times(
    "ffs_invoker_pipeline_queued_seconds",
    "Time from an activation's arrival here until its instance was asked",
);
static LANE_QUEUED: Histogram = our_times(
    "ffs_invoker_lane_queued_seconds",
    "Time that requests waited in a lane until it computed",
)
.labelled(&["profile"]);
static LANE_EXECUTED: Histogram = our_times(
    "ffs_invoker_lane_execution_seconds",
    "Time that a lane computed for a request",
)
.labelled(&["profile"]);
static TRANSFERRED: Histogram = our_times(
    "ffs_invoker_ring_transfer_seconds",
    "Time of a request in rings: written, waited for and read, over all of them",
);
static SLO: Counter = our_counter(
    "ffs_invoker_slo_total",
    "Activations that instances answered, by whether their SLO was met",
)
.labelled(&["action", "met"]);

/// Most actions that have counters of their own; the others share one.
const MOST_ACTIONS: usize = 500;
const OTHER_ACTIONS: &str = "other";

static ACTIONS: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// An activation was answered by an instance. `action` is `namespace/[package/]name`.
pub fn pipeline_run(action: &str, ran: &RecordAnnotation) {
    let observe = |family: &Histogram, labels: &[&str], Millis(ms): Millis| {
        at(family, labels).observe(ms / 1000.0);
    };
    observe(&QUEUED, &[], ran.queued_ms);
    for lane in &ran.lanes {
        observe(&LANE_QUEUED, &[lane.profile.as_str()], lane.queue_ms);
        observe(&LANE_EXECUTED, &[lane.profile.as_str()], lane.exec_ms);
    }
    if let Some(transfer) = ran.transfer_ms {
        observe(&TRANSFERRED, &[], transfer);
    }
    if let Some(met) = ran.slo_met {
        let mut actions = ACTIONS.lock().unwrap_or_else(PoisonError::into_inner);
        let action = bounded(&mut actions, action, MOST_ACTIONS);
        at(&SLO, &[action, if met { "true" } else { "false" }]).inc();
    }
}

/// The name itself while there are few, so that labels stay bounded.
fn bounded<'a>(known: &mut BTreeSet<String>, name: &'a str, most: usize) -> &'a str {
    if known.contains(name) {
        return name;
    }
    if known.len() >= most {
        return OTHER_ACTIONS;
    }
    known.insert(name.to_owned());
    name
}

/// How slices and instances stand, and their books.
pub fn pipelines(view: &View, accounts: &Accounts) {
    for gpu in accounts.gpus() {
        for (how, total) in uses(gpu.times) {
            rise(&GPU_TIME, &[gpu.gpu.as_str(), how], total);
        }
    }
    for mig in accounts.migs() {
        for (how, total) in uses(mig.times) {
            rise(&MIG_TIME, &[mig.gpu.as_str(), mig.profile.as_str(), how], total);
        }
    }
    let counts = accounts.counts();
    for (family, counts) in [
        (&TRANSITIONS, &counts.transitions),
        (&DECISIONS, &counts.decisions),
    ] {
        for ((first, second), count) in counts {
            let counter = at(family, &[first, second]);
            counter.inc_by(count.saturating_sub(counter.get()));
        }
    }
    for ((profile, direction), count) in &counts.drifts {
        let counter = at(&DRIFTS, &[profile.as_str(), direction]);
        counter.inc_by(count.saturating_sub(counter.get()));
    }
    slices(view, accounts);
    for state in State::NAMES {
        let count = view.instances.iter().filter(|i| i.state == state).count();
        set(&INSTANCES, &[state], count as u64);
    }
    let waiting: usize = view.waiting.iter().map(|waiting| waiting.activations).sum();
    set(&WAITING, &[], waiting as u64);
}

fn uses(times: Times) -> [(&'static str, f64); 2] {
    [
        ("held", times.held.as_secs_f64()),
        ("busy", times.busy.as_secs_f64()),
    ]
}

fn rise(family: &Seconds, labels: &[&str], total: f64) {
    let counter = at(family, labels);
    counter.inc_by((total - counter.get()).max(0.0));
}

/// Also those kinds of which there are no slices any more.
fn slices(view: &View, accounts: &Accounts) {
    let states = [
        (SliceState::Free, "free"),
        (SliceState::Hot, "hot"),
        (SliceState::Shared, "shared"),
        (SliceState::Fenced, "fenced"),
    ];
    let mut counts: BTreeMap<(&str, &str, &str), u64> = BTreeMap::new();
    for mig in accounts.migs() {
        for (_, state) in states {
            counts.insert((mig.gpu.as_str(), mig.profile.as_str(), state), 0);
        }
    }
    for slice in view.migs.iter().flat_map(|migs| &migs.slices) {
        for (_, state) in states.iter().filter(|(state, _)| *state == slice.state) {
            let key = (slice.gpu_uuid.as_str(), slice.profile.as_str(), *state);
            *counts.entry(key).or_default() += 1;
        }
    }
    for ((gpu, profile, state), count) in counts {
        set(&SLICES, &[gpu, profile, state], count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_so_many_actions_have_counters_of_their_own() {
        let mut known = BTreeSet::new();
        let names = ["a", "b", "a", "c", "b"].map(|name| bounded(&mut known, name, 2));
        assert_eq!(names, ["a", "b", "a", OTHER_ACTIONS, "b"]);
    }
}
