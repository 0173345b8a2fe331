//! What is to be done: each with the reason for it, which prints as one sentence.

use crate::decision::Decision;
use crate::fault::Blame;
use crate::reason::{
    Assigned, EvictReason, Refusal, RemovalReason, ShareReason, StartReason, StopReason, WakeReason,
};
use crate::work::{ActionRevision, ContainerNumber, FunctionKey, Saved};
use proto::ffs::assignment::AssignmentDocument;
use proto::ffs::dag::DagDocument;
use proto::ffs::migs::MigsDocument;
use proto::ffs::profile::ProfileDocument;
use proto::ffs::ranking::RankingDocument;
use proto::id::{ActivationId, InstanceId, LaneId, ProfileName, SliceUuid};
use proto::unit::Bytes;
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

/// Something to carry out. What comes of it returns as an event; the scheduler does not wait.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Find out the DAG (BUILDDAG): one container of the action, without a slice. → `Built`
    Build {
        function: ActionRevision,
        /// Its code, and its arguments as the example unless the annotation has one. The dispatcher
        /// keeps these arguments for later `Profile`s of this revision.
        example: ActivationId,
        /// Memory limit of the container.
        memory: Bytes,
    },
    /// Measure every component on one slice, which is leased until the end. → `Profiled`
    Profile {
        function: ActionRevision,
        slice: SliceUuid,
        kind: ProfileName,
        dag: Arc<DagDocument>,
        /// An activation of this revision that this process has seen; it may have ended.
        example: ActivationId,
        memory: Bytes,
    },
    /// Keep this over restarts; replaces what was saved for the revision.
    Save(Box<Saved>),

    /// Start one instance: all lanes or none. Its slices are leased. → `Ready` or `StartFailed`
    Start(Box<Start>),
    /// Run the activation in the instance, which is ready. → `Finished`
    Route {
        activation: ActivationId,
        instance: InstanceId,
    },
    /// Start one more lane of a running instance, and let requests go through it. → `Joined` or `JoinFailed`
    Join(Box<Rewrite>),
    /// Let no more requests go through this lane, a replica, and take it down. → `Left`
    Leave(Box<Rewrite>),
    /// Move the weights of all lanes to host memory; nothing is in flight. The containers stay.
    /// → `SwappedOut`, or `LaneDied` of a lane that cannot
    Evict {
        instance: InstanceId,
        because: EvictReason,
    },
    /// Move the weights back; the instance has its old slices again. → `Ready`, or `LaneDied`
    Wake {
        instance: InstanceId,
        because: WakeReason,
    },
    /// The lanes of a running instance compute in turns from now on (`shared`), or cease to. → `Sharing`
    Share {
        instance: InstanceId,
        shared: bool,
        because: ShareReason,
    },
    /// It is the lane's turn. → `TurnReturned`
    GrantTurn {
        instance: InstanceId,
        lane: LaneId,
        turn: u64,
    },
    /// Take the instance down; it has no work, or has lost a lane. Of one that is starting, the
    /// start is broken off. Activations in flight still report `Finished`. → `Stopped`
    Stop {
        instance: InstanceId,
        because: StopReason,
    },

    /// Start an ordinary container. → `ContainerStarted` or `ContainerFailed`
    StartContainer {
        container: ContainerNumber,
        purpose: Purpose,
        memory: Bytes,
        because: StartReason,
    },
    /// Run the activation in the container, which is started and not paused. → `Finished`
    Run {
        activation: ActivationId,
        container: ContainerNumber,
        /// `/init` first, and report `Initialized` between the two.
        initialize: bool,
        /// Whether a refused connection is `Returned` instead of answered: the container was idle
        /// before (contract C-43). A 503 always is (C-45).
        may_return: bool,
        because: Assigned,
    },
    /// → `Paused` or `PauseFailed`
    Pause { container: ContainerNumber },
    /// → `Resumed` or `ResumeFailed`
    Resume { container: ContainerNumber },
    /// → `ContainerRemoved`
    RemoveContainer {
        container: ContainerNumber,
        /// Resume it first (contract L-26).
        paused: bool,
        because: RemovalReason,
    },

    /// End the activation without running it (again).
    Refuse {
        activation: ActivationId,
        because: Refusal,
    },
}

/// One instance to be started.
#[derive(Clone, Debug, PartialEq)]
pub struct Start {
    pub instance: InstanceId,
    pub function: FunctionKey,
    /// Memory limit of each lane's container.
    pub memory: Bytes,
    /// The files of the config layer.
    pub assignment: AssignmentDocument,
    pub dag: Arc<DagDocument>,
    pub profile: Arc<ProfileDocument>,
    pub ranking: Arc<RankingDocument>,
    /// The slices as they were when this was decided.
    pub migs: MigsDocument,
    pub because: Arc<Decision>,
}

/// Another assignment for a running instance: with one more replica, or one less.
#[derive(Clone, Debug, PartialEq)]
pub struct Rewrite {
    pub instance: InstanceId,
    pub function: FunctionKey,
    /// The replica.
    pub lane: LaneId,
    /// Memory limit of its container.
    pub memory: Bytes,
    /// With it, or without it. Its epoch is for whoever writes it down.
    pub assignment: AssignmentDocument,
    pub dag: Arc<DagDocument>,
    pub ranking: Arc<RankingDocument>,
    /// The slices as they were when this was decided.
    pub migs: MigsDocument,
    pub because: Arc<Decision>,
}

/// What an ordinary container is started for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// The action of this activation, whose `Run` follows.
    Action { activation: ActivationId },
    /// No action yet: a stem cell of this kind, with the image of the manifest.
    StemCell { kind: String },
}

impl fmt::Display for Command {
    /// One line for logs and tests: what, about which, and why.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Build {
                function,
                example,
                memory,
            } => {
                write!(
                    f,
                    "build the DAG of {function} with the arguments of {example} in {memory}"
                )
            }
            Self::Profile {
                function,
                slice,
                kind,
                example,
                memory,
                ..
            } => write!(
                f,
                "measure {function} on {kind} {slice} with the arguments of {example} in {memory}"
            ),
            Self::Save(saved) => {
                let kinds = saved
                    .profile
                    .iter()
                    .flat_map(|profile| profile.components.values());
                let kinds: BTreeSet<&str> = kinds
                    .flat_map(|component| component.by_mig.keys())
                    .map(ProfileName::as_str)
                    .collect();
                let kinds: Vec<&str> = kinds.into_iter().collect();
                write!(
                    f,
                    "save {}: its DAG and times on [{}]",
                    saved.function,
                    kinds.join(", ")
                )
            }
            Self::Start(start) => {
                let Start {
                    instance,
                    function,
                    memory,
                    because,
                    ..
                } = start.as_ref();
                write!(
                    f,
                    "start {instance} of {function} with {memory} a lane: {because}"
                )
            }
            Self::Route { activation, instance } => write!(f, "route {activation} to {instance}"),
            Self::Join(rewrite) => {
                let Rewrite {
                    instance,
                    memory,
                    because,
                    ..
                } = rewrite.as_ref();
                write!(f, "join {instance} with {memory}: {because}")
            }
            Self::Leave(rewrite) => {
                let Rewrite {
                    instance, because, ..
                } = rewrite.as_ref();
                write!(f, "leave {instance}: {because}")
            }
            Self::Evict { instance, because } => write!(f, "evict {instance}: {because}"),
            Self::Wake { instance, because } => write!(f, "wake {instance}: {because}"),
            Self::Share {
                instance,
                shared,
                because,
            } => match shared {
                true => write!(f, "open the slices of {instance}: {because}"),
                false => write!(f, "close the slices of {instance}: {because}"),
            },
            Self::GrantTurn { instance, lane, turn } => write!(f, "turn {turn} of {lane} of {instance}"),
            Self::Stop { instance, because } => write!(f, "stop {instance}: {because}"),
            Self::StartContainer {
                container,
                purpose,
                memory,
                because,
            } => write!(f, "start {container} with {memory} {purpose}: {because}"),
            Self::Run {
                activation,
                container,
                initialize,
                may_return,
                because,
            } => {
                let how = if *initialize { "initialize and run" } else { "run" };
                let back = if *may_return { ", or have it back" } else { "" };
                write!(f, "{how} {activation} in {container}{back}: {because}")
            }
            Self::Pause { container } => write!(f, "pause {container}"),
            Self::Resume { container } => write!(f, "resume {container}"),
            Self::RemoveContainer {
                container,
                paused,
                because,
            } => {
                let paused = if *paused { "paused " } else { "" };
                write!(f, "remove {paused}{container}: {because}")
            }
            Self::Refuse { activation, because } => {
                let blame = match because.fault().blame {
                    Blame::Application => "application error",
                    Blame::Developer => "developer error",
                    Blame::Whisk => "whisk error",
                };
                write!(f, "refuse {activation}, {blame}: {because}")
            }
        }
    }
}

impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Action { activation } => write!(f, "for {activation}"),
            Self::StemCell { kind } => write!(f, "as a stem cell of {kind}"),
        }
    }
}
