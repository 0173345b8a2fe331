//! The socket `weights` in the config layer: a lane hands over an open safetensors file, and gets memory with the
//! same content that is there once for all lanes of its namespace.
//!
//! One exchange a connection: a line of JSON each way. The descriptor of the file travels beside the request
//! (`SCM_RIGHTS`), that of the memory beside the answer. The memory is sealed: nobody can change it any more.

use super::schema_tag;
use crate::unit::Bytes;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Longest line that either side accepts.
pub const MAX_LINE: usize = 4096;

schema_tag!(WeightsSchema, "ffs.weights/1");

/// What a lane says, and one descriptor that it may read. Untrusted input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WeightsRequest {
    pub schema: WeightsSchema,
}

/// What the invoker says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum WeightsAnswer {
    /// The memory's descriptor is beside it.
    Shared {
        /// `sha256:` and 64 hexadecimal digits.
        digest: String,
        bytes: Bytes,
    },
    /// The lane uses its own file.
    Refused { because: String },
}
