//! The writing end of a ring.

use crate::errors::raise;
use crate::handle::{Handle, until};
use crate::tensor::{Keep, Place, Tensor};
use pyo3::buffer::PyUntypedBuffer;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PySequence, PyString, PyTuple};
use shm::{Dtype, FrameLayout, FrameMut, Kind, MAX_DIMS, RingSpec, TensorLayout};
use std::ptr::NonNull;

/// Copies of fewer bytes are over before another thread could use the interpreter's lock.
const WORTH_DETACHING: usize = 16 * 1024;

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

    /// Reserves a slot for `tensors`, waiting for room without the interpreter's lock. Each is `(dtype, shape)`,
    /// `(dtype, shape, data)` with a contiguous buffer that is copied in, or `(dtype, shape, None, strides)` in
    /// elements. `kind` is `tensors`, `json`, `error` or `control`.
    #[pyo3(signature = (kind, request, tensors, *, deadline_ms = 0, flags = 0, timeout_ms = None))]
    #[expect(clippy::too_many_arguments, reason = "they are named in Python")]
    fn reserve(
        &mut self,
        py: Python<'_>,
        kind: &str,
        request: u128,
        tensors: Vec<Bound<'_, PyTuple>>,
        deadline_ms: u64,
        flags: u32,
        timeout_ms: Option<f64>,
    ) -> PyResult<Reservation> {
        let mut layout = FrameLayout::new(frame_kind(kind)?, request)
            .deadline_ms(deadline_ms)
            .flags(flags);
        let wanted = tensors.iter().map(Wanted::read).collect::<PyResult<Vec<_>>>()?;
        for tensor in &wanted {
            layout = layout.tensor(tensor.layout);
        }
        let ring = &mut self.0;
        let frame = match ring.try_reserve(&layout).map_err(raise)? {
            Some(frame) => frame,
            None => py
                .detach(|| ring.reserve(&layout, until(timeout_ms)))
                .map_err(raise)?,
        };
        for (index, tensor) in wanted.iter().enumerate() {
            tensor.fill(py, &frame, index)?;
        }
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
        Ok((0..frame.tensor_count())
            .filter_map(|index| self.tensor(frame, index))
            .collect())
    }

    /// Adds a tensor behind those already there, given as to `Producer.reserve`, and returns its memory. Raises
    /// `RingTooSmall` if it does not fit, and leaves the others as they are.
    fn push(&mut self, py: Python<'_>, tensor: &Bound<'_, PyTuple>) -> PyResult<Tensor> {
        let wanted = Wanted::read(tensor)?;
        let frame = self.frame.as_mut().ok_or_else(gone)?;
        let index = frame.push(wanted.layout).map_err(raise)?;
        wanted.fill(py, frame, index)?;
        self.frame
            .as_ref()
            .and_then(|frame| self.tensor(frame, index))
            .ok_or_else(gone)
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

impl Reservation {
    fn tensor(&self, frame: &FrameMut, index: usize) -> Option<Tensor> {
        let keep = Keep::Reserved {
            _mapping: self.mapping.clone(),
        };
        Some(Tensor::new(keep, frame.tensor_ptr(index)?, frame.layout(index)?))
    }
}

/// A tensor to be sent.
struct Wanted {
    layout: TensorLayout,
    data: Option<PyUntypedBuffer>,
}

impl Wanted {
    fn read(tuple: &Bound<'_, PyTuple>) -> PyResult<Self> {
        let dtype = tuple.get_item(0)?;
        let dtype = dtype.cast::<PyString>()?.to_str()?;
        let shape: Dims<u64> = Dims::read(&tuple.get_item(1)?)?;
        let strides = (tuple.len() > 3).then(|| tuple.get_item(3)).transpose()?;
        let strides: Option<Dims<i64>> = strides.map(|item| Dims::read(&item)).transpose()?;
        let layout = tensor_layout(dtype, shape.get(), strides.as_ref().map(Dims::get))?;
        let data = (tuple.len() > 2).then(|| tuple.get_item(2)).transpose()?;
        let data = data
            .filter(|item| !item.is_none())
            .map(|item| PyUntypedBuffer::get(&item))
            .transpose()?;
        if let Some(data) = &data
            && (!data.is_c_contiguous() || data.len_bytes() as u64 != layout.bytes())
        {
            return Err(PyValueError::new_err(format!(
                "the data has {} bytes{}: expected {} contiguous ones for {dtype} {:?}",
                data.len_bytes(),
                if data.is_c_contiguous() { "" } else { " with gaps" },
                layout.bytes(),
                layout.shape(),
            )));
        }
        Ok(Self { layout, data })
    }

    /// Copies the data into tensor `index` of `frame`, which has this layout.
    fn fill(&self, py: Python<'_>, frame: &FrameMut, index: usize) -> PyResult<()> {
        let Some(data) = &self.data else {
            return Ok(());
        };
        let bytes = data.len_bytes();
        let (Some(to), Some(from)) = (frame.tensor_ptr(index), NonNull::new(data.buf_ptr().cast())) else {
            return Ok(()); // without elements there may be no address
        };
        let (to, from) = (Place(to), Place(from));
        // SAFETY: `read` has seen that the buffer, which is held, spans as many bytes as the tensor, which lies in a
        // slot that is ours until the commit.
        let copy = move || unsafe { to.fill_from(from, bytes) };
        if bytes < WORTH_DETACHING {
            copy();
        } else {
            py.detach(copy);
        }
        Ok(())
    }
}

/// Sizes or strides, one for each dimension.
struct Dims<T> {
    values: [T; MAX_DIMS],
    count: usize,
}

impl<T: Copy + Default + for<'a, 'py> FromPyObject<'a, 'py>> Dims<T> {
    fn read(items: &Bound<'_, PyAny>) -> PyResult<Self> {
        let items = match items.cast::<PyTuple>() {
            Ok(items) => items.clone(),
            Err(_) => items.cast::<PySequence>()?.to_tuple()?,
        };
        let mut dims = Self {
            values: [T::default(); MAX_DIMS],
            count: items.len(),
        };
        if items.len() > MAX_DIMS {
            let sentence = format!(
                "the tensor has {} dimensions: expected at most {MAX_DIMS}",
                items.len()
            );
            return Err(PyValueError::new_err(sentence));
        }
        for (value, item) in dims.values.iter_mut().zip(items.iter()) {
            *value = item.extract().map_err(Into::into)?;
        }
        Ok(dims)
    }

    fn get(&self) -> &[T] {
        &self.values[..self.count]
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

fn tensor_layout(dtype: &str, shape: &[u64], strides: Option<&[i64]>) -> PyResult<TensorLayout> {
    let known = Dtype::from_name(dtype)
        .ok_or_else(|| PyValueError::new_err(format!("dtype {dtype:?} is not one that a ring carries")))?;
    match strides {
        None => TensorLayout::new(known, shape),
        Some(strides) => TensorLayout::strided(known, shape, strides),
    }
    .map_err(|error| PyValueError::new_err(error.to_string()))
}
