"""JSON to tensors and back: the default `pre` and `post` of a function.

A tensor in JSON is nested lists, or `{"dtype": …, "shape": […], "data": base64}`. Results come
back in the second form if an argument came in it. What is no tensor (text, dicts) stays as it is.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any

import numpy as np

from . import torch_support
from .errors import InputError
from .tensors import DTYPES, Array, TensorType
from .values import to_wire

__all__ = ["from_json", "to_json", "is_packed"]

_NUMPY = {"bfloat16": "uint16", "bytes": "uint8"}


def from_json(name: str, value: Any, declared: TensorType | None) -> Any:
    """The argument `name` as a value for components; `declared` gives the dtype if there is one."""
    if is_packed(value):
        array = _unpack(name, value)
        if value["dtype"] == "bytes":
            return array.tobytes()
    elif isinstance(value, (bool, int, float, list)):
        array = _from_lists(name, value)
    else:
        return value
    if declared is None or declared.dtype == "bytes":
        return array
    return array.astype(_NUMPY.get(declared.dtype, declared.dtype), copy=False)


def to_json(value: Any, packed: bool) -> Any:
    """A result as JSON."""
    if not isinstance(value, (np.ndarray, bytes)) and not torch_support.is_tensor(value):
        return value
    wire = to_wire(value)
    if packed or wire.kind == "bytes":
        data = base64.b64encode(wire.data.tobytes()).decode("ascii")
        return {"dtype": wire.dtype, "shape": list(wire.shape), "data": data}
    if wire.dtype == "bfloat16":
        return (wire.data.astype(np.uint32) << 16).view(np.float32).tolist()
    return wire.data.tolist()


def is_packed(value: Any) -> bool:
    return isinstance(value, Mapping) and {"dtype", "shape", "data"} <= value.keys()


def _unpack(name: str, value: Mapping[str, Any]) -> Array:
    dtype, shape, data = value["dtype"], value["shape"], value["data"]
    if dtype not in DTYPES:
        raise InputError(
            f"the argument {name!r} has the dtype {dtype!r}: expected one of {', '.join(DTYPES)}"
        )
    if not isinstance(shape, list) or not all(type(size) is int and size >= 0 for size in shape):
        raise InputError(f"the argument {name!r} has the shape {shape!r}: expected a list of whole numbers")
    try:
        raw = base64.b64decode(data, validate=True)
    except (binascii.Error, TypeError, ValueError) as error:
        raise InputError(f"the data of argument {name!r} is not base64: {error}") from None
    kind = np.dtype(_NUMPY.get(dtype, dtype))
    expected = kind.itemsize
    for size in shape:
        expected *= size
    if len(raw) != expected:
        raise InputError(
            f"the data of argument {name!r} has {len(raw)} bytes: expected {expected} for {dtype} {shape}"
        )
    return np.frombuffer(bytearray(raw), dtype=kind).reshape(shape)


def _from_lists(name: str, value: Any) -> Array:
    try:
        array = np.asarray(value)
    except (ValueError, OverflowError) as error:
        raise InputError(f"the argument {name!r} is no tensor: {error}") from None
    if array.dtype.kind == "f" or array.size == 0:
        return array.astype(np.float32)
    if array.dtype.kind not in "bi":
        raise InputError(f"the argument {name!r} holds more than numbers: expected nested lists of numbers")
    return array
