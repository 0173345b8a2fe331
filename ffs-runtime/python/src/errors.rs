//! Errors of rings as Python exceptions.

use pyo3::create_exception;
use pyo3::exceptions::PyException;
use pyo3::prelude::*;
use std::error::Error as _;

create_exception!(_native, RingError, PyException, "An operation on a ring failed.");
create_exception!(
    _native,
    RingClosed,
    RingError,
    "One end has closed the ring, and nothing is left to read."
);
create_exception!(
    _native,
    RingPoisoned,
    RingError,
    "One end has given the ring up; `args[1]` is the sentence it left, perhaps empty."
);
create_exception!(_native, RingTimedOut, RingError, "The time was over first.");
create_exception!(
    _native,
    RingTooSmall,
    RingError,
    "A tensor or the JSON does not fit a slot; `args[1]` are the bytes that are left for it, `args[2]` is the index of \
     the tensor or None."
);

/// The exception for an error, with its causes in one sentence.
pub(crate) fn raise(error: shm::Error) -> PyErr {
    let mut sentence = error.to_string();
    let mut cause = error.source();
    while let Some(source) = cause {
        sentence = format!("{sentence}: {source}");
        cause = source.source();
    }
    match error {
        shm::Error::Poisoned { poison, .. } => RingPoisoned::new_err((sentence, poison.text)),
        shm::Error::Closed { .. } => RingClosed::new_err((sentence,)),
        shm::Error::TimedOut { .. } => RingTimedOut::new_err((sentence,)),
        shm::Error::TooLarge { room, tensor, .. } => RingTooSmall::new_err((sentence, room, Some(tensor))),
        shm::Error::JsonTooLarge { room, .. } => RingTooSmall::new_err((sentence, room, None::<usize>)),
        _ => RingError::new_err((sentence,)),
    }
}
