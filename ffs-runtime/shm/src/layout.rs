//! What a frame will be, before there is one: what to reserve.

use crate::frame::{ALIGN, DATA_AT, Kind};
use crate::tensor::TensorLayout;

/// Everything about a frame that is known before its data: what to reserve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrameLayout {
    pub(crate) kind: Kind,
    pub(crate) request: u128,
    pub(crate) deadline_ms: u64,
    pub(crate) flags: u32,
    pub(crate) tensors: Vec<TensorLayout>,
}

impl FrameLayout {
    /// A frame for `request`, the activation id as a number (first hexadecimal digit highest), without tensors.
    pub fn new(kind: Kind, request: u128) -> Self {
        Self {
            kind,
            request,
            deadline_ms: 0,
            flags: 0,
            tensors: Vec::new(),
        }
    }

    /// The deadline of the whole pipeline, in milliseconds since 1970; 0 for none.
    #[must_use]
    pub fn deadline_ms(mut self, deadline_ms: u64) -> Self {
        self.deadline_ms = deadline_ms;
        self
    }

    /// Bits that mean something to the two ends and nothing to the ring.
    #[must_use]
    pub fn flags(mut self, flags: u32) -> Self {
        self.flags = flags;
        self
    }

    /// Adds a tensor; its index is the number of those before it.
    #[must_use]
    pub fn tensor(mut self, tensor: TensorLayout) -> Self {
        self.tensors.push(tensor);
        self
    }

    /// The tensors added so far.
    pub fn tensors(&self) -> &[TensorLayout] {
        &self.tensors
    }

    /// The smallest slot that takes this frame with `json_bytes` of JSON, in bytes.
    pub fn slot_bytes(&self, json_bytes: u64) -> u64 {
        self.tensors.iter().fold(DATA_AT, |end, tensor| {
            end.saturating_add(tensor.bytes().saturating_add(ALIGN - 1) / ALIGN * ALIGN)
        }) + json_bytes.next_multiple_of(ALIGN)
    }
}
