//! `FluidFaaS._native`: what the Python package does with shared memory, and the documents it checks.
//!
//! No decisions are taken here: which rings there are, what goes into a frame and what a frame means is said in
//! Python. This side holds the memory, waits without the interpreter's lock, and turns errors into exceptions.

mod documents;
mod errors;
mod producer;
mod consumer;
mod handle;
mod tensor;
mod dlpack;

use pyo3::prelude::*;

#[pymodule]
mod _native {
    #[pymodule_export]
    use super::consumer::{Consumer, Frame};
    #[pymodule_export]
    use super::documents::check_document;
    #[pymodule_export]
    use super::errors::{RingClosed, RingError, RingPoisoned, RingTimedOut, RingTooSmall};
    #[pymodule_export]
    use super::handle::{Handle, prefer_node};
    #[pymodule_export]
    use super::producer::{Producer, Reservation};
    #[pymodule_export]
    use super::tensor::Tensor;
}
