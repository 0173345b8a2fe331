//! `FluidFaaS._native`: what the Python package does with shared memory, and the documents it checks.

mod documents;

use pyo3::prelude::*;

#[pymodule]
mod _native {
    #[pymodule_export]
    use super::documents::check_document;
}
