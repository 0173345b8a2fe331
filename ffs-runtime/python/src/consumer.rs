//! The reading end of a ring.

use crate::errors::raise;
use crate::handle::{Handle, until};
use crate::tensor::{Keep, Tensor};
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use shm::Kind;
use std::sync::Arc;

/// The reading end.
#[pyclass(module = "FluidFaaS._native")]
#[derive(Debug)]
pub(crate) struct Consumer(shm::Consumer);

#[pymethods]
impl Consumer {
    /// Waits until the ring of this epoch is at `path`, without the interpreter's lock, and takes its reading end.
    #[new]
    #[pyo3(signature = (path, epoch, *, timeout_ms = None))]
    fn new(py: Python<'_>, path: &str, epoch: u64, timeout_ms: Option<f64>) -> PyResult<Self> {
        py.detach(|| shm::Consumer::open(path, epoch, until(timeout_ms)))
            .map(Self)
            .map_err(raise)
    }

    /// The next frame, waited for without the interpreter's lock.
    #[pyo3(signature = (*, timeout_ms = None))]
    fn recv(&mut self, py: Python<'_>, timeout_ms: Option<f64>) -> PyResult<Frame> {
        let ring = &mut self.0;
        let frame = match ring.try_recv().map_err(raise)? {
            Some(frame) => frame,
            None => py.detach(|| ring.recv(until(timeout_ms))).map_err(raise)?,
        };
        Ok(Frame(Arc::new(frame)))
    }

    /// Whether :meth:`recv` would return at once, with a frame or with the ring's end.
    #[getter]
    fn ready(&self) -> bool {
        self.0.ready()
    }

    /// A hold by which other threads can end the ring.
    fn handle(&self) -> Handle {
        Handle(self.0.handle())
    }
}

/// A frame. Its slot goes back to the writer when the frame and the last view of its tensors are gone.
#[pyclass(frozen, module = "FluidFaaS._native")]
#[derive(Debug)]
pub(crate) struct Frame(Arc<shm::Frame>);

#[pymethods]
impl Frame {
    /// `tensors`, `json`, `error` or `control`.
    #[getter]
    fn kind(&self) -> &'static str {
        match self.0.kind() {
            Kind::Tensors => "tensors",
            Kind::Json => "json",
            Kind::Error => "error",
            Kind::Control => "control",
        }
    }

    /// The request that it belongs to.
    #[getter]
    fn request(&self) -> u128 {
        self.0.request()
    }

    /// Milliseconds since 1970, 0 for none.
    #[getter]
    fn deadline_ms(&self) -> u64 {
        self.0.deadline_ms().unwrap_or(0)
    }

    #[getter]
    fn flags(&self) -> u32 {
        self.0.flags()
    }

    /// Milliseconds since it was sent.
    #[getter]
    fn age_ms(&self) -> f64 {
        self.0.age().as_secs_f64() * 1000.0
    }

    /// The tensors' memory, not copied.
    #[getter]
    fn tensors(&self) -> Vec<Tensor> {
        let tensor = |index| {
            let (data, layout) = (self.0.tensor_ptr(index)?, self.0.layout(index)?);
            Some(Tensor::new(
                Keep::Received {
                    _frame: self.0.clone(),
                },
                data,
                layout,
            ))
        };
        (0..self.0.tensor_count()).filter_map(tensor).collect()
    }

    /// A copy of the JSON extras.
    #[getter]
    fn json<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.0.json())
    }
}
