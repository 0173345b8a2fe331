//! The writing end of a ring.

use crate::errors::raise;
use crate::handle::{Handle, until};
use crate::tensor::{Keep, Tensor};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use shm::{Dtype, FrameLayout, FrameMut, Kind, RingSpec, TensorLayout};

/// The writing end. It makes the ring, and removes its name when it is dropped.
#[pyclass(module = "FluidFaaS._native")]
#[derive(Debug)]
pub(crate) struct Producer(shm::Producer);

#[pymethods]
impl Producer {
    /// Makes the ring at `path`, `/dev/shm/<name>`.
    #[new]
    fn new(py: Python<'_>, path: &str, slots: u32, slot_bytes: u64, epoch: u64) -> PyResult<Self> {
        let spec = RingSpec {
            slots,
            slot_bytes,
            epoch,
        };
        py.detach(|| shm::Producer::create(path, &spec))
            .map(Self)
            .map_err(raise)
    }

    /// Reserves a slot for `tensors`, pairs of dtype and shape, waiting for room without the interpreter's lock.
    /// `kind` is `tensors`, `json`, `error` or `control`.
    #[pyo3(signature = (kind, request, tensors, *, deadline_ms = 0, flags = 0, timeout_ms = None))]
    #[expect(clippy::too_many_arguments, reason = "they are named in Python")]
    fn reserve(
        &mut self,
        py: Python<'_>,
        kind: &str,
        request: u128,
        tensors: Vec<(String, Vec<u64>)>,
        deadline_ms: u64,
        flags: u32,
        timeout_ms: Option<f64>,
    ) -> PyResult<Reservation> {
        let mut layout = FrameLayout::new(frame_kind(kind)?, request)
            .deadline_ms(deadline_ms)
            .flags(flags);
        for (dtype, shape) in &tensors {
            layout = layout.tensor(tensor_layout(dtype, shape)?);
        }
        let ring = &mut self.0;
        let frame = py
            .detach(|| ring.reserve(&layout, until(timeout_ms)))
            .map_err(raise)?;
        Ok(Reservation {
            frame: Some(frame),
            mapping: self.0.handle(),
        })
    }

    /// A hold by which other threads can end the ring.
    fn handle(&self) -> Handle {
        Handle(self.0.handle())
    }

    #[getter]
    fn slots(&self) -> u32 {
        self.0.slots()
    }

    #[getter]
    fn slot_bytes(&self) -> u64 {
        self.0.slot_bytes()
    }

    /// Bytes of JSON that a frame without tensors can carry.
    #[getter]
    fn json_room(&self) -> u64 {
        self.0.slot_bytes() - FrameLayout::new(Kind::Json, 0).slot_bytes(0)
    }
}

/// A reserved slot. Dropped without a commit, nothing is sent.
#[pyclass(module = "FluidFaaS._native")]
#[derive(Debug)]
pub(crate) struct Reservation {
    frame: Option<FrameMut>,
    mapping: shm::Handle,
}

#[pymethods]
impl Reservation {
    /// The memory of the tensors, to be filled before the commit; after it, it is the reader's.
    #[getter]
    fn tensors(&self) -> PyResult<Vec<Tensor>> {
        let frame = self.frame.as_ref().ok_or_else(gone)?;
        let tensor = |index| {
            let (data, layout) = (frame.tensor_ptr(index)?, frame.layout(index)?);
            Some(Tensor::new(
                Keep::Reserved {
                    _mapping: self.mapping.clone(),
                },
                data,
                layout,
            ))
        };
        Ok((0..frame.tensor_count()).filter_map(tensor).collect())
    }

    /// Sends the frame with these JSON extras. Raises `RingTooSmall` if they do not fit; the slot is then still ours.
    fn commit(&mut self, json: &[u8]) -> PyResult<()> {
        self.frame
            .as_mut()
            .ok_or_else(gone)?
            .set_json(json)
            .map_err(raise)?;
        self.frame.take().ok_or_else(gone)?.commit().map_err(raise)
    }

    /// Gives the slot back without sending anything.
    fn abort(&mut self) {
        self.frame = None;
    }
}

fn gone() -> PyErr {
    PyValueError::new_err("the reservation is committed or aborted")
}

fn frame_kind(name: &str) -> PyResult<Kind> {
    match name {
        "tensors" => Ok(Kind::Tensors),
        "json" => Ok(Kind::Json),
        "error" => Ok(Kind::Error),
        "control" => Ok(Kind::Control),
        other => {
            let sentence = format!("kind {other:?} is not known: expected tensors, json, error or control");
            Err(PyValueError::new_err(sentence))
        }
    }
}

fn tensor_layout(dtype: &str, shape: &[u64]) -> PyResult<TensorLayout> {
    let known = Dtype::from_name(dtype)
        .ok_or_else(|| PyValueError::new_err(format!("dtype {dtype:?} is not one that a ring carries")))?;
    TensorLayout::new(known, shape).map_err(|error| PyValueError::new_err(error.to_string()))
}
