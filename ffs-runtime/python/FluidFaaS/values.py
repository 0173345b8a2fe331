"""What may go from one component to another, and how it lies in memory meanwhile.

Four kinds: NumPy arrays, PyTorch tensors, ``bytes``, and JSON (text, numbers, lists, dicts, None).
:func:`normalise` brings every value that a component returns into the form in which it would come
out of a ring. It is applied whether there is a ring or not: that is why a split function gives
the same bytes as the unsplit one.
"""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import torch_support
from .errors import ValueTypeError
from .tensors import DTYPES, Array, TensorType

__all__ = ["Wire", "normalise", "duplicate", "type_of", "to_wire", "from_wire", "shares_memory"]

# NumPy has no bfloat16: such a tensor is its bits, as uint16.
_NUMPY = {name: name for name in DTYPES if name not in ("bfloat16", "bytes")} | {
    "uint16": "bfloat16",
    "bfloat16": "bfloat16",
}
_ACCEPTED = "a NumPy array, a PyTorch tensor, bytes, or what JSON can hold"


@dataclass(frozen=True)
class Wire:
    """A value as it lies in a ring: `kind` says what it becomes again on the other side."""

    kind: str
    dtype: str
    data: Array

    @property
    def shape(self) -> tuple[int, ...]:
        return self.data.shape


def normalise(value: Any, what: str) -> Any:
    """`value` contiguous, writable and of a dtype that a ring carries; `what` names it in errors."""
    if isinstance(value, np.generic):
        value = np.asarray(value)
    if isinstance(value, np.ndarray):
        return _normalise_array(np.asarray(value), what)
    if torch_support.is_tensor(value):
        return torch_support.normalise(value, what)
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value)
    try:
        return json.loads(json.dumps(value, default=_plain))
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueTypeError(f"{what} is of type {_name(value)} ({error}): expected {_ACCEPTED}") from None


def duplicate(value: Any) -> Any:
    """A value of its own for a user who may write into it."""
    if isinstance(value, np.ndarray):
        return value.copy()
    if torch_support.is_tensor(value):
        return value.clone()
    return value if isinstance(value, (bytes, str, int, float, type(None))) else json.loads(json.dumps(value))


def shares_memory(one: Any, other: Any) -> bool:
    """Whether writing into one of two normalised values could change the other."""
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        return bool(np.may_share_memory(one, other))
    if torch_support.is_tensor(one) and torch_support.is_tensor(other):
        return torch_support.shares_memory(one, other)
    return False


def type_of(value: Any) -> TensorType:
    """dtype and shape of a normalised value, as `dag.json` has them.

    A size of 0 (nothing found in the example) is written as 1, the smallest that the schema knows.
    """
    if isinstance(value, np.ndarray):
        dtype, shape = _ring_dtype(value.dtype), value.shape
    elif torch_support.is_tensor(value):
        dtype, shape = torch_support.dtype_of(value), tuple(value.shape)
    else:
        dtype, shape = "bytes", (len(_text(value)),)
    return TensorType(dtype, tuple(max(1, int(size)) for size in shape))


def to_wire(value: Any) -> Wire:
    """A normalised value as a tensor. Shares memory with it where it can."""
    if isinstance(value, np.ndarray):
        return Wire("numpy", _ring_dtype(value.dtype), value)
    if torch_support.is_tensor(value):
        return Wire("torch", torch_support.dtype_of(value), torch_support.to_numpy(value))
    kind = "bytes" if isinstance(value, bytes) else "json"
    return Wire(kind, "bytes", np.frombuffer(_text(value), dtype=np.uint8))


def from_wire(kind: str, dtype: str, data: Array) -> Any:
    """The value again. Arrays and tensors keep `data` alive; bytes and JSON are copies."""
    if kind == "numpy":
        return data
    if kind == "torch":
        return torch_support.from_numpy(data, dtype)
    if kind == "bytes":
        return data.tobytes()
    if kind == "json":
        return json.loads(data.tobytes())
    raise ValueTypeError(
        f"the kind {kind!r} of a value in a frame is not known: expected numpy, torch, bytes or json"
    )


@functools.cache
def _ring_dtype(dtype: np.dtype[Any]) -> str:
    return _NUMPY[dtype.name]


def _normalise_array(array: Array, what: str) -> Array:
    try:
        dtype = _ring_dtype(array.dtype)
    except KeyError:
        raise ValueTypeError(
            f"{what} is an array of dtype {array.dtype.name}: expected one of {', '.join(_NUMPY)} "
            "(uint16 stands for bfloat16)"
        ) from None
    if dtype == "bfloat16":
        array = array.view(np.uint16)
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    if not array.flags.c_contiguous or not array.flags.writeable or not array.flags.aligned:
        array = array.copy(order="C")
    return array


def _text(value: Any) -> bytes:
    if isinstance(value, bytes):
        return value
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray) or torch_support.is_tensor(value):
        raise TypeError("a tensor inside a list or dict; return a tuple of tensors, or stack them into one")
    raise TypeError(f"{_name(value)} inside it")


def _name(value: Any) -> str:
    return type(value).__qualname__
