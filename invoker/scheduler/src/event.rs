//! What can happen: each cause of a change is one variant.

use crate::fault::Fault;
use crate::work::{ActionRevision, ContainerNumber, Request, Saved};
use proto::ffs::build::ProfileRows;
use proto::ffs::dag::DagDocument;
use proto::ffs::migs::MigsDocument;
use proto::id::{ActivationId, ComponentId, InstanceId, LaneId, SliceUuid};
use proto::unit::Millis;
use std::collections::BTreeMap;

/// Something that has happened. What is unknown to the scheduler (a late answer about something
/// that is gone) changes nothing.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The slices that there are now: once before the first request, and again when they change.
    /// Slices that are missing or fenced are drained; source `none` makes every request plain.
    Inventory(MigsDocument),

    /// An activation wants to run. It gets exactly one end: `Refuse`, or `Finished` after its
    /// last `Run` or `Route`.
    Request(Box<Request>),
    /// The activation is not wanted any more. One that waits is refused; one that runs goes on.
    Cancelled {
        activation: ActivationId,
    },
    /// The run that a `Run` or `Route` asked for is over: the answer is given (or not: see
    /// [`Outcome`]), the logs are collected, the container is free again.
    Finished {
        activation: ActivationId,
        outcome: Outcome,
    },

    /// What an earlier process had saved; before the first request of that revision.
    Restored(Box<Saved>),
    /// End of a `Build`. The container that did it is gone.
    Built {
        function: ActionRevision,
        result: Result<Box<DagDocument>, Fault>,
    },
    /// End of a `Profile`. The container that did it is gone, and the slice is free again.
    Profiled {
        function: ActionRevision,
        slice: SliceUuid,
        result: Result<Box<ProfileRows>, Fault>,
    },

    /// End of an `Evict`: the weights of all lanes are in host memory, and the slices are empty.
    SwappedOut {
        instance: InstanceId,
    },
    /// All lanes of the instance are loaded, or their weights are back (end of a `Wake`).
    Ready {
        instance: InstanceId,
    },
    /// The instance did not come up, and nothing of it is left.
    StartFailed {
        instance: InstanceId,
        fault: Fault,
    },
    /// End of a `Join`: the replica serves.
    Joined {
        instance: InstanceId,
    },
    /// The replica did not come up, and nothing of it is left; the instance goes on without it.
    JoinFailed {
        instance: InstanceId,
        fault: Fault,
    },
    /// End of a `Leave`: nothing of the replica is left. Not reported if the whole instance goes instead.
    Left {
        instance: InstanceId,
    },
    /// End of a `Share`: all lanes of the instance do as it said.
    Sharing {
        instance: InstanceId,
    },
    /// A lane on a shared slice asks for its turn, the how-manieth of its own count.
    TurnWanted {
        instance: InstanceId,
        lane: LaneId,
        turn: u64,
    },
    /// It has computed, and gives the turn back.
    TurnReturned {
        instance: InstanceId,
        lane: LaneId,
        turn: u64,
    },
    /// How long components of an instance took in one activation, which it has just answered: one execution
    /// each, without transfers and waiting.
    Observed {
        instance: InstanceId,
        times: BTreeMap<ComponentId, Millis>,
    },
    /// A lane ended by itself. The scheduler answers with `Stop`.
    LaneDied {
        instance: InstanceId,
        lane: LaneId,
        /// Sentence: exit code, signal, out of memory.
        because: String,
    },
    /// Nothing of the instance is left: its slices and its memory are free.
    Stopped {
        instance: InstanceId,
    },

    /// The container listens.
    ContainerStarted {
        container: ContainerNumber,
    },
    /// It does not, and nothing of it is left.
    ContainerFailed {
        container: ContainerNumber,
        fault: Fault,
    },
    /// `/init` was answered well, `/run` follows: others may run beside it.
    Initialized {
        container: ContainerNumber,
    },
    Paused {
        container: ContainerNumber,
    },
    PauseFailed {
        container: ContainerNumber,
    },
    Resumed {
        container: ContainerNumber,
    },
    ResumeFailed {
        container: ContainerNumber,
    },
    /// The container ended by itself, or failed its health check. Its runs still report `Finished`.
    ContainerDied {
        container: ContainerNumber,
    },
    /// End of a `RemoveContainer`.
    ContainerRemoved {
        container: ContainerNumber,
    },

    /// Leave: whatever waits is refused, whatever is idle goes, whatever runs may end.
    Drain,
    /// The instant of `Scheduler::deadline` has come.
    Tick,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// Answered (status 0 or 1, logs complete): the container or instance is good for the next one.
    Answered,
    /// Answered, and the container or instance must not be used again: developer or whisk error,
    /// logs incomplete, or a lane that outlived its deadline (contract S-04).
    Spoiled,
    /// Answered with what `/init` said; those that wait for this `/init` end the same way (L-41).
    InitFailed { fault: Fault },
    /// Not answered, and no user code has run: the container could not be connected to although
    /// `Run { may_return: true }`, or said 503 (C-43, C-45). The activation goes elsewhere.
    Returned { because: String },
    /// Not answered: the instance went away while it ran. It is run again if the author allows
    /// it, else refused. Only after `Route`.
    Lost { fault: Fault },
}
