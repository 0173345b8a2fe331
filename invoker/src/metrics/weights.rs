//! Weights that are kept for lanes.

use super::{Counter, Gauge, at, our_counter, our_gauge, set};

static BYTES: Gauge = our_gauge(
    "ffs_invoker_weights_bytes",
    "Memory of weights, by whether an instance holds them",
)
.labelled(&["held"]);
static ENTRIES: Gauge = our_gauge("ffs_invoker_weights_entries", "Contents of weights that are kept");
static GIVEN: Counter = our_counter(
    "ffs_invoker_weights_requests_total",
    "Files of weights that lanes handed over: there already, read, or refused",
)
.labelled(&["outcome"]);
static EVICTED: Counter = our_counter(
    "ffs_invoker_weights_evicted_total",
    "Contents of weights that went for others",
);

/// A lane asked; `outcome` is `there`, `read` or `refused`.
pub fn weights_given(outcome: &'static str) {
    at(&GIVEN, &[outcome]).inc();
}

pub fn weights_evicted(count: usize) {
    at(&EVICTED, &[]).inc_by(count as u64);
}

/// What is kept now; sizes in bytes.
pub fn weights_kept(entries: usize, held: u64, idle: u64) {
    set(&ENTRIES, &[], entries as u64);
    set(&BYTES, &["true"], held);
    set(&BYTES, &["false"], idle);
}
