//! Every metric, in one table: OpenWhisk's names exactly (chapter 8.2), then ours.
//!
//! One registry serves the whole process, so that whoever counts needs one line and no handle.
//! Gauges of the pool are read from the scheduler when somebody asks for them; see `admin`.
//! Source: `Logging.scala`, `Prometheus.scala`.

mod family;
mod pipelines;
mod process;
mod timing;
mod weights;

pub use pipelines::{pipeline_run, pipelines};
pub use timing::{Timed, Timing, Transaction};
pub use weights::{weights_evicted, weights_given, weights_kept};

use crate::config::MetricsSettings;
use family::{Family, Naming};
use prometheus::{HistogramVec, IntCounterVec, IntGaugeVec, Registry, TextEncoder};
use proto::unit::Bytes;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Kamon's buckets for times, in seconds, and for everything else.
const TIMES: &[f64] = &[
    0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
];
const COUNTS: &[f64] = &[
    10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0, 10_000.0, 30_000.0, 100_000.0,
];

type Counter = Family<IntCounterVec>;
type Gauge = Family<IntGaugeVec>;
type Histogram = Family<HistogramVec>;

const fn counter(token: &'static str, help: &'static str) -> Counter {
    Family::new("counter_", token, "_total", help)
}
const fn gauge(token: &'static str, help: &'static str) -> Gauge {
    Family::new("gauge_", token, "", help)
}
const fn size(token: &'static str, help: &'static str) -> Gauge {
    Family::new("gauge_", token, "_bytes", help)
}
const fn times(token: &'static str, help: &'static str) -> Histogram {
    Family::new("histogram_", token, "_seconds", help).buckets(TIMES)
}
const fn counts(token: &'static str, help: &'static str) -> Histogram {
    Family::new("histogram_", token, "", help).buckets(COUNTS)
}
const fn our_counter(name: &'static str, help: &'static str) -> Counter {
    Family::new("", name, "", help)
}
const fn our_gauge(name: &'static str, help: &'static str) -> Gauge {
    Family::new("", name, "", help)
}

// ---- OpenWhisk's -------------------------------------------------------------------------------

// H-32a, H-32b, H-34
static ACTIVE_COUNT: Gauge = gauge(
    "containerPool_activeCount_counter",
    "Containers with at least one run",
);
static PREWARM_COUNT: Gauge = gauge(
    "containerPool_prewarmCount_counter",
    "Stem cells, starting ones included",
);
static IDLES_COUNT: Gauge = gauge(
    "containerPool_idlesCount_counter",
    "Initialised containers without a run",
);
static BUFFER_COUNT: Gauge = gauge(
    "containerPool_runBufferCount_counter",
    "Activations that no container has taken",
);
static ACTIVE_SIZE: Gauge = size("containerPool_activeSize_counter", "Their memory limits");
static PREWARM_SIZE: Gauge = size("containerPool_prewarmSize_counter", "Their memory limits");
static IDLES_SIZE: Gauge = size("containerPool_idlesSize_counter", "Their memory limits");
static BUFFER_SIZE: Gauge = size("containerPool_runBufferSize_counter", "Their memory limits");
// H-32c, H-32d
static PREWARM_COLD_START: Counter = counter(
    "containerPool_prewarmColdstart_counter",
    "Rounds that found cold starts a stem cell would have fitted",
)
.labelled(&["kind", "memory"]);
static PREWARM_EXPIRED: Counter = counter(
    "containerPool_prewarmExpired_counter",
    "Rounds that found expired stem cells",
)
.labelled(&["kind", "memory"]);
// H-32e
static CONTAINER_START: Counter = counter(
    "invoker_containerStart_counter",
    "Activations by how they came to their container",
)
.labelled(&["containerState", "initiator", "namespace", "action"])
.untagged(|values| format!("invoker_containerStart_{}_counter", values[0]));
// H-35
static RESCHEDULED: Counter = counter(
    "containerPool_rescheduledActivation_counter",
    "Activations that a container did not take",
);
static HEALTH_FAILED: Counter = counter(
    "invoker_containerHealthFailed_counter",
    "Containers found dead or unreachable while nothing ran in them",
)
.labelled(&["containerState"])
.untagged(|values| format!("invoker_containerHealthFailed_{}_counter", values[0]));
static ACTIVATION: Counter = counter("invoker_activation_start", "Activations taken in");
static CLIENT_RETRIES: Histogram = counts(
    "containerClient_retries_counter",
    "Connections tried in vain before a request was sent",
);
// H-36
static INIT: Timed = Timed::new(
    "invoker_activationInit",
    [
        counter("invoker_activationInit_start", "/init begun"),
        counter("invoker_activationInit_finish", "/init answered well"),
        counter("invoker_activationInit_error", "/init failed"),
    ],
    [
        times("invoker_activationInit_finish", "Time of /init"),
        times("invoker_activationInit_error", "Time until /init failed"),
    ],
);
static RUN: Timed = Timed::new(
    "invoker_activationRun",
    [
        counter("invoker_activationRun_start", "/run begun"),
        counter("invoker_activationRun_finish", "/run answered"),
        counter("invoker_activationRun_error", "/run failed"),
    ],
    [
        times("invoker_activationRun_finish", "Time of /run"),
        times("invoker_activationRun_error", "Time until /run failed"),
    ],
);
static COLLECT_LOGS: Timed = Timed::new(
    "invoker_collectLogs",
    [
        counter("invoker_collectLogs_start", "Collections of logs begun"),
        counter("invoker_collectLogs_finish", "Logs collected"),
        counter("invoker_collectLogs_error", "Logs incomplete"),
    ],
    [
        times("invoker_collectLogs_finish", "Time of collecting logs"),
        times("invoker_collectLogs_error", "Time until collecting logs failed"),
    ],
);
const COMMAND: &[&str] = &["cmd"];
static DOCKER: Timed = Timed::new(
    "invoker_docker",
    [
        counter("invoker_docker_start", "Requests to Docker")
            .labelled(COMMAND)
            .untagged(|v| format!("invoker_docker_{}_start", v[0])),
        counter("invoker_docker_finish", "Requests that Docker fulfilled")
            .labelled(COMMAND)
            .untagged(|v| format!("invoker_docker_{}_finish", v[0])),
        counter("invoker_docker_error", "Requests that failed")
            .labelled(COMMAND)
            .untagged(|v| format!("invoker_docker_{}_error", v[0])),
    ],
    [
        times("invoker_docker_finish", "Time of a request to Docker")
            .labelled(COMMAND)
            .untagged(|v| format!("invoker_docker_{}_finish", v[0])),
        times("invoker_docker_error", "Time until one failed")
            .labelled(COMMAND)
            .untagged(|v| format!("invoker_docker_{}_error", v[0])),
    ],
);
static RUNC: Timed = Timed::new(
    "invoker_runc",
    [
        counter("invoker_runc_start", "Commands of runc")
            .labelled(COMMAND)
            .untagged(|v| format!("invoker_runc_{}_start", v[0])),
        counter("invoker_runc_finish", "Commands that runc fulfilled")
            .labelled(COMMAND)
            .untagged(|v| format!("invoker_runc_{}_finish", v[0])),
        counter("invoker_runc_error", "Commands that failed")
            .labelled(COMMAND)
            .untagged(|v| format!("invoker_runc_{}_error", v[0])),
    ],
    [
        times("invoker_runc_finish", "Time of a command of runc")
            .labelled(COMMAND)
            .untagged(|v| format!("invoker_runc_{}_finish", v[0])),
        times("invoker_runc_error", "Time until one failed")
            .labelled(COMMAND)
            .untagged(|v| format!("invoker_runc_{}_error", v[0])),
    ],
);
static GET_DOCUMENT: Timed = Timed::new(
    "database_getDocument",
    [
        counter("database_getDocument_start", "Reads of documents"),
        counter("database_getDocument_finish", "Documents read, or found missing"),
        counter("database_getDocument_error", "Reads that failed"),
    ],
    [
        times("database_getDocument_finish", "Time of a read"),
        times("database_getDocument_error", "Time until one failed"),
    ],
);
static GET_ATTACHMENT: Timed = Timed::new(
    "database_getDocumentAttachment",
    [
        counter("database_getDocumentAttachment_start", "Reads of attachments"),
        counter(
            "database_getDocumentAttachment_finish",
            "Attachments read, or found missing",
        ),
        counter("database_getDocumentAttachment_error", "Reads that failed"),
    ],
    [
        times("database_getDocumentAttachment_finish", "Time of a read"),
        times("database_getDocumentAttachment_error", "Time until one failed"),
    ],
);
static SAVE_DOCUMENT: Timed = Timed::new(
    "database_saveDocument",
    [
        counter("database_saveDocument_start", "Writes of documents"),
        counter("database_saveDocument_finish", "Documents written"),
        counter("database_saveDocument_error", "Writes that failed"),
    ],
    [
        times("database_saveDocument_finish", "Time of a write"),
        times("database_saveDocument_error", "Time until one failed"),
    ],
);
static SAVE_BULK: Timed = Timed::new(
    "database_saveDocumentBulk",
    [
        counter(
            "database_saveDocumentBulk_start",
            "Writes of many documents at once",
        ),
        counter("database_saveDocumentBulk_finish", "Such writes that went well"),
        counter("database_saveDocumentBulk_error", "Such writes that failed"),
    ],
    [
        times("database_saveDocumentBulk_finish", "Time of such a write"),
        times("database_saveDocumentBulk_error", "Time until one failed"),
    ],
);
static QUERY_VIEW: Timed = Timed::new(
    "database_queryView",
    [
        counter("database_queryView_start", "Queries of views"),
        counter("database_queryView_finish", "Queries answered"),
        counter("database_queryView_error", "Queries that failed"),
    ],
    [
        times("database_queryView_finish", "Time of a query"),
        times("database_queryView_error", "Time until one failed"),
    ],
);
static CACHE_HIT: Counter = counter("database_cacheHit_counter", "Actions found in the cache");
static CACHE_MISS: Counter = counter("database_cacheMiss_counter", "Actions read from the database");
static BATCH_SIZE: Histogram = counts("database_batchSize_counter", "Documents of one bulk write");
// H-37
static LAG: Gauge = gauge("kafka_topic_counter", "Messages not yet read")
    .labelled(&["topic"])
    .untagged(|values| format!("kafka_{}_counter", values[0]));
static DELAY: Histogram = times(
    "kafka_topic_start",
    "Time between a message's arrival at the broker and its being read",
)
.labelled(&["topic"])
.untagged(|values| format!("kafka_{}_delay_start", values[0]));
// H-39
const STATUS_CODE: &[&str] = &["statusCode"];
static HTTP_GET: Counter = counter("http_get_counter", "GET requests to this server")
    .labelled(STATUS_CODE)
    .untagged(|v| format!("http_get_{}_counter", v[0]));
static HTTP_POST: Counter = counter("http_post_counter", "POST requests to this server")
    .labelled(STATUS_CODE)
    .untagged(|v| format!("http_post_{}_counter", v[0]));
static HTTP_OTHER: Counter = counter("http_other_counter", "Requests of other methods to this server")
    .labelled(STATUS_CODE)
    .untagged(|v| format!("http_other_{}_counter", v[0]));

// ---- Ours --------------------------------------------------------------------------------------

static REMOVALS: Counter =
    our_counter("ffs_invoker_removals_total", "Containers removed, by reason").labelled(&["reason"]);
static START_FAILURES: Counter = our_counter(
    "ffs_invoker_start_failures_total",
    "Containers that did not start, by whose fault it was",
)
.labelled(&["blame"]);
static POISONED: Counter = our_counter(
    "ffs_invoker_poisoned_messages_total",
    "Messages that cannot be read and were dropped",
);
static PINGS: Counter = our_counter(
    "ffs_invoker_pings_total",
    "Pings by what they said, and whether they were sent",
)
.labelled(&["enabled", "sent"]);
static MERGED: Counter = our_counter(
    "ffs_invoker_health_tests_merged_total",
    "Health tests answered with another one's result",
);
static READY: Gauge = our_gauge(
    "ffs_invoker_ready",
    "1 if containers can be started and answers leave",
);
static ENABLED: Gauge = our_gauge(
    "ffs_invoker_enabled",
    "1 unless an operator has disabled this invoker",
);
static MEMORY_BUDGET: Gauge = our_gauge(
    "ffs_invoker_memory_budget_bytes",
    "Memory of all containers together",
);
static MEMORY_USED: Gauge = our_gauge("ffs_invoker_memory_used_bytes", "Of it, what is in use");
static OLDEST_WAITING: Gauge = our_gauge(
    "ffs_invoker_oldest_waiting_milliseconds",
    "Age of the activation that waits longest for a container",
);
static JOURNAL_SIZE: Gauge = our_gauge("ffs_invoker_journal_bytes", "Size of the journal's files");
static OUTBOX: Gauge = our_gauge(
    "ffs_invoker_outbox_entries",
    "Answers that have not left yet, by kind",
)
.labelled(&["kind"]);

// ---- What is counted ---------------------------------------------------------------------------

static REGISTRY: LazyLock<Registry> = LazyLock::new(|| {
    let registry = Registry::new();
    registry
        .register(Box::new(process::Usage::new()))
        .expect("its names are its own");
    registry
});
static TAGS: AtomicBool = AtomicBool::new(true);
static MARKERS: AtomicBool = AtomicBool::new(false);

/// Says how metrics are named, and whether the log has markers. Before anything is counted.
pub fn configure(settings: &MetricsSettings) {
    TAGS.store(settings.tags, Ordering::Relaxed);
    MARKERS.store(settings.logs, Ordering::Relaxed);
}

fn at<K: family::Kind>(family: &Family<K>, values: &[&str]) -> K::One {
    let naming = match TAGS.load(Ordering::Relaxed) {
        true => Naming::Labels,
        false => Naming::Names,
    };
    family.at(&REGISTRY, naming, values)
}

fn set(family: &Gauge, values: &[&str], value: u64) {
    at(family, values).set(i64::try_from(value).unwrap_or(i64::MAX));
}

/// All metrics in Prometheus' text format 0.0.4 (H-30).
pub fn render() -> String {
    TextEncoder::new()
        .encode_to_string(&REGISTRY.gather())
        .unwrap_or_else(|error| format!("# {error}\n"))
}

/// `/init` is posted.
pub fn init() -> Timing {
    INIT.begin("")
}
/// `/run` is posted.
pub fn run() -> Timing {
    RUN.begin("")
}
pub fn collect_logs() -> Timing {
    COLLECT_LOGS.begin("")
}
/// A request to Docker: `run`, `rm`, `pull`, `ps`, `inspect`, `pause`, `unpause` (H-45).
pub fn docker(cmd: &'static str) -> Timing {
    DOCKER.begin(cmd)
}
/// A command of runc: `pause`, `resume` (H-45).
pub fn runc(cmd: &'static str) -> Timing {
    RUNC.begin(cmd)
}
pub fn get_document() -> Timing {
    GET_DOCUMENT.begin("")
}
pub fn get_attachment() -> Timing {
    GET_ATTACHMENT.begin("")
}
pub fn save_document() -> Timing {
    SAVE_DOCUMENT.begin("")
}
/// A bulk write of so many documents.
pub fn save_bulk(documents: usize) -> Timing {
    at(&BATCH_SIZE, &[]).observe(documents as f64);
    SAVE_BULK.begin("")
}
pub fn query_view() -> Timing {
    QUERY_VIEW.begin("")
}
/// An action was looked for in the cache.
pub fn cache(hit: bool) {
    at(if hit { &CACHE_HIT } else { &CACHE_MISS }, &[]).inc();
}

/// L-39. `initiator` is the invoking namespace, `namespace` and `action` are the action's own path.
pub fn container_start(state: &str, initiator: &str, namespace: &str, action: &str) {
    at(&CONTAINER_START, &[state, initiator, namespace, action]).inc();
}
pub fn rescheduled() {
    at(&RESCHEDULED, &[]).inc();
}
/// `state`: `prewarm` or `warm`.
pub fn container_health_failed(state: &str) {
    at(&HEALTH_FAILED, &[state]).inc();
}
pub fn activation_taken_in() {
    at(&ACTIVATION, &[]).inc();
}
pub fn client_retries(tries: u32) {
    at(&CLIENT_RETRIES, &[]).observe(f64::from(tries));
}
/// Looks at the stem cells of a kind and memory since the start that found cold starts, and expired ones.
pub fn stem_cell_rounds(kind: &str, memory: Bytes, cold_starts: u64, expired: u64) {
    let memory = format!("{} MB", memory.as_mib());
    for (family, rounds) in [(&PREWARM_COLD_START, cold_starts), (&PREWARM_EXPIRED, expired)] {
        if rounds > 0 {
            let counter = at(family, &[kind, &memory]);
            counter.inc_by(rounds.saturating_sub(counter.get()));
        }
    }
}

/// A message was read that the broker took at `timestamp_ms`.
pub fn message_read(topic: &str, timestamp_ms: Option<i64>) {
    let Some(taken) = timestamp_ms.and_then(|ms| u64::try_from(ms).ok()) else {
        return;
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let delay = now.saturating_sub(Duration::from_millis(taken));
    at(&DELAY, &[topic]).observe(delay.as_secs_f64());
}
/// So many messages of the topic are not read yet.
pub fn unread(topic: &str, messages: u64) {
    set(&LAG, &[topic], messages);
}
pub fn http(method: &str, status: u16) {
    let family = match method {
        "GET" => &HTTP_GET,
        "POST" => &HTTP_POST,
        _ => &HTTP_OTHER,
    };
    at(family, &[&status.to_string()]).inc();
}

/// How the pool stands: count and memory of each group.
#[derive(Clone, Copy, Debug)]
pub struct PoolGauges {
    pub active: (usize, Bytes),
    pub idle: (usize, Bytes),
    pub stem_cells: (usize, Bytes),
    pub waiting: (usize, Bytes),
    pub budget: Bytes,
    pub used: Bytes,
    /// Age of the activation that waits longest.
    pub oldest: Duration,
}

pub fn pool(gauges: &PoolGauges) {
    for ((count, memory), (number, size)) in [
        (gauges.active, (&ACTIVE_COUNT, &ACTIVE_SIZE)),
        (gauges.idle, (&IDLES_COUNT, &IDLES_SIZE)),
        (gauges.stem_cells, (&PREWARM_COUNT, &PREWARM_SIZE)),
        (gauges.waiting, (&BUFFER_COUNT, &BUFFER_SIZE)),
    ] {
        set(number, &[], count as u64);
        set(size, &[], memory.0);
    }
    set(&MEMORY_BUDGET, &[], gauges.budget.0);
    set(&MEMORY_USED, &[], gauges.used.0);
    let oldest = u64::try_from(gauges.oldest.as_millis()).unwrap_or(u64::MAX);
    set(&OLDEST_WAITING, &[], oldest);
}

pub fn removal(reason: &str) {
    at(&REMOVALS, &[reason]).inc();
}
/// `blame`: `application`, `developer` or `whisk`.
pub fn start_failed(blame: &str) {
    at(&START_FAILURES, &[blame]).inc();
}
pub fn poisoned_message() {
    at(&POISONED, &[]).inc();
}
pub fn ping(enabled: bool, sent: bool) {
    let word = |yes| if yes { "true" } else { "false" };
    at(&PINGS, &[word(enabled), word(sent)]).inc();
}
pub fn health_test_merged() {
    at(&MERGED, &[]).inc();
}
pub fn standing(ready: bool, enabled: bool) {
    set(&READY, &[], ready.into());
    set(&ENABLED, &[], enabled.into());
}
/// Bytes of all files of the journal.
pub fn journal_size(bytes: u64) {
    set(&JOURNAL_SIZE, &[], bytes);
}
/// Answers that wait to leave; `kind` such as `ack`, `record`, `event`.
pub fn outbox(kind: &str, entries: usize) {
    set(&OUTBOX, &[kind], entries as u64);
}

#[cfg(test)]
mod tests;
