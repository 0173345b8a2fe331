//! Why: the reasons that commands carry. Log, dashboard, `plan` and tests print the same sentence.

use crate::fault::{Blame, Fault};
use proto::id::{ComponentId, InstanceId, LaneId, ProfileName};
use proto::unit::{Bytes, Millis};
use std::fmt;
use std::time::Duration;

/// How an activation came to its container: the word of the log line `containerStart` and the
/// label of its counter (contract L-39).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Assigned {
    /// An initialised container was there.
    Warmed,
    /// A stem cell that is being initialised takes it too.
    Warming,
    /// A new container that is starting or being initialised takes it too.
    WarmingCold,
    /// A stem cell was taken.
    Prewarmed,
    /// A new container was started.
    Cold,
    /// As `Prewarmed`, after idle containers were evicted.
    RecreatedPrewarm,
    /// As `Cold`, after idle containers were evicted.
    Recreated,
}

impl Assigned {
    /// The label that OpenWhisk's log lines and counters use.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Warmed => "warmed",
            Self::Warming => "warming",
            Self::WarmingCold => "warmingCold",
            Self::Prewarmed => "prewarmed",
            Self::Cold => "cold",
            Self::RecreatedPrewarm => "recreatedPrewarm",
            Self::Recreated => "recreated",
        }
    }
}

impl fmt::Display for Assigned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

/// Why an ordinary container is started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartReason {
    /// No warm container and no stem cell fitted the activation.
    Cold,
    /// As `Cold`, and idle containers had to go first.
    Recreated,
    /// The stem cells of the manifest, at start.
    InitialStemCell,
    /// A stem cell was taken, failed or expired.
    StemCellReplaced,
    /// Cold starts since the last look ask for more stem cells.
    StemCellDemand { cold_starts: u32 },
}

impl fmt::Display for StartReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cold => f.write_str("no warm container and no stem cell fits"),
            Self::Recreated => {
                f.write_str("no warm container and no stem cell fits, and idle ones made room")
            }
            Self::InitialStemCell => f.write_str("the manifest asks for this stem cell at start"),
            Self::StemCellReplaced => f.write_str("fewer stem cells are left than the manifest asks for"),
            Self::StemCellDemand { cold_starts } => {
                write!(f, "{cold_starts} cold starts of its kind since the last look")
            }
        }
    }
}

/// Why an ordinary container is removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RemovalReason {
    /// Idle for longer than its time (contract L-23).
    Idle {
        since: Duration,
    },
    /// The longest idle made room for something else (L-34).
    Evicted {
        needed: Bytes,
        free: Bytes,
    },
    /// A run ended in a developer or whisk error, or its logs are incomplete (S-04).
    Spoiled,
    InitFailed,
    /// It could not be connected to, or said 503 (C-43, C-45).
    Unreachable {
        because: String,
    },
    PauseFailed,
    ResumeFailed,
    Died,
    /// A stem cell older than its `ttl` (L-48).
    Expired {
        age: Duration,
    },
    /// Nobody is left who waited for it to start.
    NotNeeded,
    ShuttingDown,
}

impl RemovalReason {
    /// One word for counters.
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Idle { .. } => "idle",
            Self::Evicted { .. } => "evicted",
            Self::Spoiled => "spoiled",
            Self::InitFailed => "init_failed",
            Self::Unreachable { .. } => "unreachable",
            Self::PauseFailed => "pause_failed",
            Self::ResumeFailed => "resume_failed",
            Self::Died => "died",
            Self::Expired { .. } => "expired",
            Self::NotNeeded => "not_needed",
            Self::ShuttingDown => "shutting_down",
        }
    }
}

impl fmt::Display for RemovalReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Idle { since } => write!(f, "idle for {}", Seconds(*since)),
            Self::Evicted { needed, free } => {
                write!(f, "the longest idle makes room: {needed} needed, {free} free")
            }
            Self::Spoiled => f.write_str("its last run ended in an error that may have broken it"),
            Self::InitFailed => f.write_str("the action did not initialize in it"),
            Self::Unreachable { because } => write!(f, "it does not take work: {because}"),
            Self::PauseFailed => f.write_str("it could not be paused"),
            Self::ResumeFailed => f.write_str("it could not be resumed"),
            Self::Died => f.write_str("it ended by itself"),
            Self::Expired { age } => write!(f, "a stem cell of {}, older than its time", Seconds(*age)),
            Self::NotNeeded => f.write_str("nobody waits for it any more"),
            Self::ShuttingDown => f.write_str("the invoker is shutting down"),
        }
    }
}

/// Why an instance's weights leave their slices for host memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EvictReason {
    /// The coldest makes room for a function that has no instance.
    ForFunction { function: String },
}

impl EvictReason {
    /// One word for counters.
    pub const fn label(&self) -> &'static str {
        match self {
            Self::ForFunction { .. } => "for_function",
        }
    }
}

impl fmt::Display for EvictReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ForFunction { function } => write!(f, "the coldest makes room for {function}"),
        }
    }
}

/// Why a warm instance's weights return to their slices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WakeReason {
    /// Its slices are free again.
    Free,
    /// Its slices are in use by functions that need little of them.
    Shared,
}

impl WakeReason {
    /// One word for counters.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Free => "free",
            Self::Shared => "shared",
        }
    }
}

impl fmt::Display for WakeReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Free => f.write_str("an activation waits and its slices are free"),
            Self::Shared => f.write_str("an activation waits and its slices can be shared"),
        }
    }
}

/// Why a running instance's slices are opened to others, or closed again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ShareReason {
    /// It needs little of them, and a function waits that could share them.
    ForFunction { function: String },
    /// Nobody else is left there.
    Alone,
}

impl ShareReason {
    /// One word for counters.
    pub const fn label(&self) -> &'static str {
        match self {
            Self::ForFunction { .. } => "for_function",
            Self::Alone => "alone",
        }
    }
}

impl fmt::Display for ShareReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ForFunction { function } => {
                write!(f, "it needs little of them, and {function} can share them")
            }
            Self::Alone => f.write_str("nobody else is left there"),
        }
    }
}

/// Why a lane loses a replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LeaveReason {
    /// The others keep up without it, and a function waits for its slice.
    ForFunction { function: String },
}

impl LeaveReason {
    /// One word for counters.
    pub const fn label(&self) -> &'static str {
        match self {
            Self::ForFunction { .. } => "for_function",
        }
    }
}

impl fmt::Display for LeaveReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ForFunction { function } => {
                write!(
                    f,
                    "the others keep up without it, and {function} waits for its slice"
                )
            }
        }
    }
}

/// Why another time than the profile's is reckoned with from now on.
#[derive(Clone, Debug, PartialEq)]
pub struct Drifted {
    pub component: ComponentId,
    pub kind: ProfileName,
    /// What the profile said.
    pub profiled: Millis,
    /// What was reckoned with until now, if something else was seen before.
    pub reckoned: Option<Millis>,
    pub seen: Millis,
    pub runs: u32,
}

impl Drifted {
    /// One word for counters.
    pub fn label(&self) -> &'static str {
        if self.seen > self.reckoned.unwrap_or(self.profiled) {
            "slower"
        } else {
            "faster"
        }
    }
}

impl fmt::Display for Drifted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            component,
            kind,
            runs,
            ..
        } = self;
        let (profiled, seen) = (self.profiled.0, self.seen.0);
        write!(f, "{component} on {kind}: profile said {profiled:.1} ms, ")?;
        if let Some(Millis(reckoned)) = self.reckoned {
            write!(f, "{reckoned:.1} ms seen before, now ")?;
        }
        write!(f, "{seen:.1} ms seen over {runs} runs")
    }
}

/// Why an instance is stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StopReason {
    /// Idle for longer than its keep-alive.
    Idle {
        since: Duration,
    },
    /// Its weights lay in host memory for longer than its keep-alive.
    Warm {
        since: Duration,
    },
    /// The coldest of the warm ones goes: containers hold more memory than warm instances may.
    HostMemory {
        used: Bytes,
        most: Bytes,
    },
    /// A newer revision of the action has been invoked.
    Superseded {
        by: String,
    },
    /// An instance on better slices does its work.
    Replaced {
        by: String,
    },
    /// The longest idle makes room for a function that has no instance.
    Evicted {
        for_function: String,
    },
    /// The longest idle makes room for ordinary containers or other lanes.
    EvictedForMemory {
        needed: Bytes,
        free: Bytes,
    },
    /// A slice of it has vanished or reports errors.
    SliceFenced {
        slice: String,
    },
    LaneDied {
        lane: LaneId,
        because: String,
    },
    /// An activation outlived its deadline in it, or broke it otherwise.
    Spoiled,
    /// It does not take activations, or loses them.
    Unreachable {
        because: String,
    },
    ShuttingDown,
}

impl StopReason {
    /// One word for counters.
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Idle { .. } => "idle",
            Self::Warm { .. } => "warm",
            Self::HostMemory { .. } => "host_memory",
            Self::Superseded { .. } => "superseded",
            Self::Replaced { .. } => "replaced",
            Self::Evicted { .. } => "evicted",
            Self::EvictedForMemory { .. } => "evicted_for_memory",
            Self::SliceFenced { .. } => "slice_fenced",
            Self::LaneDied { .. } => "lane_died",
            Self::Spoiled => "spoiled",
            Self::Unreachable { .. } => "unreachable",
            Self::ShuttingDown => "shutting_down",
        }
    }
}

impl fmt::Display for StopReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Idle { since } => write!(f, "idle for {}", Seconds(*since)),
            Self::Warm { since } => write!(f, "not needed for {}", Seconds(*since)),
            Self::HostMemory { used, most } => {
                write!(
                    f,
                    "containers hold {used}, and warm instances are kept up to {most}"
                )
            }
            Self::Superseded { by } => write!(f, "revision {by} of the action replaces it"),
            Self::Replaced { by } => write!(f, "{by} on better slices does its work"),
            Self::Evicted { for_function } => {
                write!(f, "the longest idle makes room for {for_function}")
            }
            Self::EvictedForMemory { needed, free } => {
                write!(f, "the longest idle makes room: {needed} needed, {free} free")
            }
            Self::SliceFenced { slice } => write!(f, "slice {slice} is gone or reports errors"),
            Self::LaneDied { lane, because } => write!(f, "lane {lane} died: {because}"),
            Self::Spoiled => f.write_str("an activation left it unusable"),
            Self::Unreachable { because } => write!(f, "it does not take or loses work: {because}"),
            Self::ShuttingDown => f.write_str("the invoker is shutting down"),
        }
    }
}

/// Why an activation ends without an answer of its action.
#[derive(Clone, Debug, PartialEq)]
pub enum Refusal {
    /// The action's memory limit is above the whole budget (contract L-37, E-32).
    MemoryAboveBudget {
        memory: Bytes,
        budget: Bytes,
    },
    /// Its container, or the one that it waited for, could not be started (L-19, L-41).
    ContainerFailed {
        fault: Fault,
    },
    /// The `/init` that it waited for failed (L-41).
    InitFailed {
        fault: Fault,
    },
    /// Container after container did not take it (C-45, E-02).
    Unreachable {
        containers: u32,
    },
    /// BUILDDAG failed, or its DAG or profile is not valid.
    NotBuilt {
        fault: Fault,
    },
    /// No slice could be measured on.
    NotProfiled {
        kind: ProfileName,
        fault: Fault,
    },
    /// A component fits no slice of this machine, not even an empty one.
    ComponentTooLarge {
        component: ComponentId,
        needed: Bytes,
        largest: Option<(ProfileName, Bytes)>,
    },
    /// No partition fits the slices of this machine, even if all were free.
    NeverFits {
        because: String,
    },
    /// The lanes need more memory than the whole budget.
    LanesAboveBudget {
        lanes: usize,
        each: Bytes,
        budget: Bytes,
    },
    /// It has waited for as long as the platform lets an activation wait.
    Waited {
        waited: Duration,
        for_what: Waiting,
    },
    StartFailed {
        instance: InstanceId,
        fault: Fault,
    },
    /// The instance went away while it ran.
    LaneDied {
        instance: InstanceId,
        lane: LaneId,
        because: String,
    },
    InstanceLost {
        instance: InstanceId,
        fault: Fault,
    },
    Cancelled,
    ShuttingDown,
}

/// What an activation of a function may be waiting for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Waiting {
    Build,
    /// For a slice to measure on, or for the measurement.
    Profile {
        because: String,
    },
    Slices {
        because: String,
    },
    Memory {
        needed: Bytes,
        missing: Bytes,
    },
    /// An instance is starting.
    Start {
        instance: InstanceId,
    },
    /// All instances are full.
    Turn {
        instances: usize,
    },
}

impl Refusal {
    /// What the activation ends with.
    pub fn fault(&self) -> Fault {
        match self {
            Self::ContainerFailed { fault } | Self::InitFailed { fault } | Self::NotBuilt { fault } => {
                fault.clone()
            }
            Self::MemoryAboveBudget { .. } => Fault::new(Blame::Application, self.to_string()),
            Self::NotProfiled { fault, .. }
            | Self::StartFailed { fault, .. }
            | Self::InstanceLost { fault, .. } => Fault::new(fault.blame, self.to_string()),
            Self::Unreachable { .. }
            | Self::ComponentTooLarge { .. }
            | Self::NeverFits { .. }
            | Self::LanesAboveBudget { .. }
            | Self::LaneDied { .. } => Fault::developer(self.to_string()),
            Self::Waited { for_what, .. } => match for_what {
                Waiting::Build | Waiting::Profile { .. } => Fault::developer(self.to_string()),
                Waiting::Slices { .. }
                | Waiting::Memory { .. }
                | Waiting::Start { .. }
                | Waiting::Turn { .. } => Fault::whisk(self.to_string()),
            },
            Self::Cancelled | Self::ShuttingDown => Fault::whisk(self.to_string()),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MemoryAboveBudget { memory, budget } => write!(
                f,
                "requirement failed: memory size {} MB exceeds allowed threshold of {} MB",
                memory.as_mib(),
                budget.as_mib()
            ),
            Self::ContainerFailed { fault } | Self::InitFailed { fault } | Self::NotBuilt { fault } => {
                write!(f, "{fault}")
            }
            Self::Unreachable { .. } => {
                f.write_str("The action did not produce a valid response and exited unexpectedly.")
            }
            Self::NotProfiled { kind, fault } => {
                write!(f, "The function could not be measured on a {kind} slice: {fault}")
            }
            Self::ComponentTooLarge {
                component,
                needed,
                largest: Some((kind, usable)),
            } => write!(
                f,
                "Component {component} needs {needed}, and the largest slice of this machine, a {kind}, has {usable}."
            ),
            Self::ComponentTooLarge {
                component,
                needed,
                largest: None,
            } => write!(
                f,
                "Component {component} needs {needed}, and no slice of this machine is in order."
            ),
            Self::NeverFits { because } => {
                write!(
                    f,
                    "No partition of the function fits the slices of this machine; {because}"
                )
            }
            Self::LanesAboveBudget { lanes, each, budget } => write!(
                f,
                "The function needs {lanes} containers of {each}, and all containers together may use {budget}."
            ),
            Self::Waited { waited, for_what } => {
                write!(f, "The activation waited {} {for_what}.", Seconds(*waited))
            }
            Self::StartFailed { instance, fault } => {
                write!(f, "Instance {instance} of the function did not start: {fault}")
            }
            Self::LaneDied {
                instance,
                lane,
                because,
            } => write!(
                f,
                "Lane {lane} of instance {instance} died while the activation ran: {because}"
            ),
            Self::InstanceLost { instance, fault } => {
                write!(
                    f,
                    "Instance {instance} was lost while the activation ran: {fault}"
                )
            }
            Self::Cancelled => f.write_str("The activation was cancelled before it ran."),
            Self::ShuttingDown => f.write_str("The invoker is shutting down and has not run the activation."),
        }
    }
}

impl fmt::Display for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Build => f.write_str("for the function's DAG to be built"),
            Self::Profile { because } => write!(f, "for the function to be measured: {because}"),
            Self::Slices { because } => write!(f, "for free slices: {because}"),
            Self::Memory { needed, missing } => write!(
                f,
                "for memory: {needed} needed, {} MB missing",
                missing.0.div_ceil(1 << 20)
            ),
            Self::Start { instance } => write!(f, "for instance {instance} to start"),
            Self::Turn { instances: 1 } => f.write_str("for the one instance, which is full"),
            Self::Turn { instances } => write!(f, "for one of {instances} instances, which are all full"),
        }
    }
}

/// Seconds for people: `10 s`, `0.25 s`.
pub(crate) struct Seconds(pub(crate) Duration);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} s", (self.0.as_secs_f64() * 1000.0).round() / 1000.0)
    }
}
