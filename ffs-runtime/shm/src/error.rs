//! What can go wrong with a ring. Every sentence names the ring.

use std::io;

/// Which end of a ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The end that writes frames, creates the ring and removes its name.
    Producer,
    /// The end that reads frames.
    Consumer,
}

impl std::fmt::Display for Side {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Side::Producer => "producer",
            Side::Consumer => "consumer",
        })
    }
}

/// Why a ring was poisoned; the numbers are part of the ABI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Reason {
    /// The lane at the other end is gone; its control connection said so.
    PeerDied = 1,
    /// The instance is stopped.
    Stopped = 2,
    /// The other end wrote something that is not a ring or not a frame.
    Corrupt = 3,
    /// The lane at this end failed.
    Failed = 4,
    /// A number that this version does not know.
    Unknown = u32::MAX,
}

impl Reason {
    pub(crate) fn from_number(number: u32) -> Self {
        [Reason::PeerDied, Reason::Stopped, Reason::Corrupt, Reason::Failed]
            .into_iter()
            .find(|reason| *reason as u32 == number)
            .unwrap_or(Reason::Unknown)
    }
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Reason::PeerDied => "the lane at the other end died",
            Reason::Stopped => "the instance is stopped",
            Reason::Corrupt => "corrupt",
            Reason::Failed => "the lane failed",
            Reason::Unknown => "for a reason this version does not know",
        })
    }
}

/// The note that whoever poisons a ring leaves for both ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Poison {
    /// Why.
    pub reason: Reason,
    /// A sentence, at most 240 bytes; empty if there is nothing to add.
    pub text: String,
}

impl std::fmt::Display for Poison {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.text.as_str() {
            "" => write!(f, "{}", self.reason),
            text => write!(f, "{}: {text}", self.reason),
        }
    }
}

/// A field in shared memory that holds what it may not.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field} is {found}, expected {expected}")]
pub struct Fault {
    /// The field, as the picture in the crate's documentation names it.
    pub field: &'static str,
    /// What it held when it was copied.
    pub found: u64,
    /// What may stand there.
    pub expected: &'static str,
}

/// A tensor that no frame can describe.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LayoutError {
    /// More than [`crate::MAX_TENSORS`].
    #[error("a frame holds at most 16 tensors")]
    TooManyTensors,
    /// More than [`crate::MAX_DIMS`].
    #[error("a tensor of {0} dimensions, expected at most 8")]
    TooManyDimensions(usize),
    /// As many strides as dimensions are expected.
    #[error("{strides} strides for {dimensions} dimensions")]
    StridesDiffer {
        /// Number of strides given.
        strides: usize,
        /// Number of dimensions given.
        dimensions: usize,
    },
    /// Frames hold tensors by their lowest address.
    #[error("stride {stride} of dimension {dimension} is negative; flip the tensor into a copy first")]
    NegativeStride {
        /// Which dimension.
        dimension: usize,
        /// Its stride in elements.
        stride: i64,
    },
    /// The size in bytes does not fit a pointer difference.
    #[error("a tensor of shape {0:?} is larger than any memory")]
    TooLarge(Vec<u64>),
}

/// An operation on a ring that failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The path is not the one of a ring.
    #[error("ring {path}: the path must be /dev/shm/ and a plain file name of at most 200 bytes")]
    Path {
        /// The path as given.
        path: String,
    },
    /// A ring of this geometry cannot be made.
    #[error("ring {ring} cannot be made")]
    Geometry {
        /// Name of the ring.
        ring: String,
        /// Which number is wrong.
        source: Fault,
    },
    /// The operating system refused.
    #[error("ring {ring}: cannot {doing}")]
    Os {
        /// Name of the ring.
        ring: String,
        /// What was tried.
        doing: String,
        /// What the system said.
        source: io::Error,
    },
    /// The file under the ring's name belongs to someone else.
    #[error("ring {ring} belongs to uid {found}, expected uid {expected}: another user has taken its name")]
    Foreign {
        /// Name of the ring.
        ring: String,
        /// Owner of the file.
        found: u32,
        /// Our effective uid.
        expected: u32,
    },
    /// The ring is newer than the assignment this end was started with.
    #[error("ring {ring} is of epoch {found}, expected {expected}: this lane's assignment is out of date")]
    Epoch {
        /// Name of the ring.
        ring: String,
        /// Epoch in the ring's header.
        found: u64,
        /// Epoch asked for.
        expected: u64,
    },
    /// A ring has one consumer in its life.
    #[error("ring {ring} already has a consumer")]
    Taken {
        /// Name of the ring.
        ring: String,
    },
    /// The deadline passed first.
    #[error("ring {ring}: the deadline passed while waiting for {what}")]
    TimedOut {
        /// Name of the ring.
        ring: String,
        /// The ring itself, a frame, or room for one.
        what: &'static str,
    },
    /// One end has closed the ring, and nothing is left to read.
    #[error("ring {ring} was closed by its {by}")]
    Closed {
        /// Name of the ring.
        ring: String,
        /// Who closed it.
        by: Side,
    },
    /// One end has given the ring up.
    #[error("ring {ring} is poisoned: {poison}")]
    Poisoned {
        /// Name of the ring.
        ring: String,
        /// The note it left.
        poison: Poison,
    },
    /// The other end wrote what it may not. This end has poisoned the ring.
    #[error("ring {ring} is corrupt")]
    Corrupt {
        /// Name of the ring.
        ring: String,
        /// The first field found wrong.
        source: Fault,
    },
    /// CUDA refused.
    #[error("ring {ring}: {call} failed with CUDA error {code}")]
    Cuda {
        /// Name of the ring.
        ring: String,
        /// The driver's function.
        call: &'static str,
        /// Its CUresult.
        code: i32,
    },
    /// A tensor that cannot be described.
    #[error("ring {ring}: tensor {tensor} cannot be sent")]
    Layout {
        /// Name of the ring.
        ring: String,
        /// Index of the tensor in the frame.
        tensor: usize,
        /// Why not.
        source: LayoutError,
    },
    /// The frame does not fit a slot; only this request is hurt.
    #[error(
        "ring {ring}: tensor {tensor} of {bytes} bytes does not fit; a slot of {slot_bytes} bytes has {room} left for it"
    )]
    TooLarge {
        /// Name of the ring.
        ring: String,
        /// Index of the tensor in the frame.
        tensor: usize,
        /// Its size in bytes.
        bytes: u64,
        /// Bytes of the slot that are left for this tensor.
        room: u64,
        /// Size of a slot in bytes.
        slot_bytes: u64,
    },
    /// The JSON extras do not fit behind the tensors.
    #[error(
        "ring {ring}: {bytes} bytes of JSON do not fit; a slot of {slot_bytes} bytes has {room} left for them"
    )]
    JsonTooLarge {
        /// Name of the ring.
        ring: String,
        /// Size of the JSON in bytes.
        bytes: u64,
        /// Bytes of the slot that are left for it.
        room: u64,
        /// Size of a slot in bytes.
        slot_bytes: u64,
    },
}
