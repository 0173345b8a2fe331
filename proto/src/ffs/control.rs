//! Lines on the Unix socket `control` in the config layer: one JSON object a line, at most 64 KiB.
//!
//! Each lane keeps one connection. It says `hello` first; the invoker answers with `state` once the
//! slice's limits are in force, and only then does the lane load its components. When the
//! connection closes, the lane poisons its rings and exits.

use super::state::StateDocument;
use crate::id::LaneId;
use crate::unit::{Bytes, Millis};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Longest line that either side accepts.
pub const MAX_LINE: usize = 64 * 1024;

/// What a lane says. Untrusted input.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum LaneMessage {
    /// First line of a connection. A wrong token or lane id is refused by closing.
    Hello {
        lane: LaneId,
        epoch: u64,
        token: String,
    },
    /// All components of the lane are loaded.
    Loaded {
        load_ms: Millis,
        resident_bytes: Bytes,
    },
    /// The desired state of that epoch is reached.
    State {
        epoch: u64,
        reached: super::state::Desired,
    },
    /// A turn on a shared slice is wanted, or given back.
    Turn {
        want: bool,
        turn: u64,
    },
    Assignment(TakenUp),
    /// The lane cannot go on. `at` is the author's file and line.
    Failed {
        sentence: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        at: Option<String>,
    },
}

/// The rings of the assignment with that epoch are open (`switched`: requests take its ways, and none is left on the old
/// ones), or why they are not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TakenUp {
    pub epoch: u64,
    pub switched: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// What the invoker says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum InvokerMessage {
    /// The desired state; also in the file `state`.
    State(StateDocument),
    /// The turn that was wanted is granted.
    Turn { turn: u64 },
    /// `assignment.json` has that epoch now: open the rings that are new in it. With `switch`, which is said to the
    /// head alone once all lanes have done so: let new requests take its ways.
    Assignment { epoch: u64, switch: bool },
}
