//! Ending a ring from any thread, where its memory lies, and deadlines.

use crate::errors::raise;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use shm::Reason;
use std::time::{Duration, Instant};

/// A hold on a ring by which any thread can end it while another waits in it.
#[pyclass(frozen, module = "FluidFaaS._native")]
#[derive(Debug)]
pub(crate) struct Handle(pub(crate) shm::Handle);

#[pymethods]
impl Handle {
    /// Ends the ring for both ends at once. `reason` is `died`, `stopped` or `failed`.
    fn poison(&self, reason: &str, text: &str) -> PyResult<()> {
        let reason = match reason {
            "died" => Reason::PeerDied,
            "stopped" => Reason::Stopped,
            "failed" => Reason::Failed,
            other => {
                let sentence = format!("reason {other:?} is not known: expected died, stopped or failed");
                return Err(PyValueError::new_err(sentence));
            }
        };
        self.0.poison(reason, text);
        Ok(())
    }

    /// Closes this end in good order.
    fn close(&self) {
        self.0.close();
    }

    /// Raises if the ring is closed or poisoned.
    fn check(&self) -> PyResult<()> {
        self.0.check().map_err(raise)
    }

    /// Registers the ring's memory with CUDA, once for this end, until the end and all views of it are gone; says whether
    /// it is registered. It is not where this thread has no CUDA. Raises `RingError` where CUDA refuses.
    fn pin(&self, py: Python<'_>) -> PyResult<bool> {
        py.detach(|| self.0.pin()).map_err(raise)
    }

    /// The ring's name, the last part of its path.
    #[getter]
    fn name(&self) -> &str {
        self.0.name()
    }
}

/// Prefers memory of this NUMA node for what this thread is the first to touch, the rings that it makes among it; says
/// whether it does. It does not where there is no choice. Raises `OSError` where this process may not choose.
#[pyfunction]
pub(crate) fn prefer_node(node: u32) -> PyResult<bool> {
    Ok(shm::prefer_node(node)?)
}

/// The instant that many milliseconds from now; never for None and for what no clock can hold.
pub(crate) fn until(timeout_ms: Option<f64>) -> Option<Instant> {
    let wait = Duration::try_from_secs_f64(timeout_ms?.max(0.0) / 1000.0).ok()?;
    Instant::now().checked_add(wait)
}
