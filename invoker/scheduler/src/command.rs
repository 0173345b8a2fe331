//! What is to be done: each with the reason for it, which prints as one sentence.

use crate::decision::Decision;
use crate::reason::{Assigned, Refusal, RemovalReason, StartReason, StopReason};
use crate::work::{ActionRevision, ContainerNumber, FunctionKey, Saved};
use proto::ffs::assignment::AssignmentDocument;
use proto::ffs::dag::DagDocument;
use proto::ffs::migs::MigsDocument;
use proto::ffs::profile::ProfileDocument;
use proto::ffs::ranking::RankingDocument;
use proto::id::{ActivationId, InstanceId, ProfileName, SliceUuid};
use proto::unit::Bytes;
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

/// What an ordinary container is started for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// The action of this activation, whose `Run` follows.
    Action { activation: ActivationId },
    /// No action yet: a stem cell of this kind, with the image of the manifest.
    StemCell { kind: String },
}
