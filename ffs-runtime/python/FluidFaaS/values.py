"""What may go from one component to another, and how it lies in memory meanwhile.

Four kinds: NumPy arrays, PyTorch tensors, ``bytes``, and JSON (text, numbers, lists, dicts, None).
:func:`normalise` brings every value that a component returns into the form in which it would come
out of a ring. It is applied whether there is a ring or not: that is why a split function gives
the same bytes as the unsplit one.
"""

from __future__ import annotations

import functools
import json
from typing import Any

import numpy as np

from . import _native, torch_support
from .errors import ValueTypeError
from .tensors import DTYPES, Array, TensorType

__all__ = [
    "Wire",
    "normalise",
    "duplicate",
    "type_of",
    "to_wire",
    "from_ring",
    "to_host",
    "ring_dtype",
    "numpy_dtype",
    "shares_memory",
]

# NumPy has no bfloat16: such a tensor is its bits, as uint16.
_NUMPY = {name: name for name in DTYPES if name not in ("bfloat16", "bytes")} | {
    "uint16": "bfloat16",
    "bfloat16": "bfloat16",
}
_ACCEPTED = "a NumPy array, a PyTorch tensor, bytes, or what JSON can hold"


class Wire:
    """A value as it lies in a ring: `kind` says what it becomes again on the other side."""

    __slots__ = ("dtype", "kind", "on_device", "shape", "value")

    def __init__(self, kind: str, dtype: str, shape: tuple[int, ...], value: Any) -> None:
        self.kind = kind
        self.dtype = dtype
        self.shape = shape
        #: An array, or a PyTorch tensor.
        self.value = value
        #: Whether the tensor lies in a device's memory.
        self.on_device = kind == "torch" and not torch_support.in_host_memory(value)

    @property
    def data(self) -> Array:
        """Its elements in host memory; copied only if they lie on a device."""
        return torch_support.to_numpy(self.value) if self.kind == "torch" else self.value

    @property
    def address(self) -> int:
        """Where its elements begin."""
        if self.kind == "torch":
            return int(self.value.data_ptr())
        return int(self.value.__array_interface__["data"][0])

    def wanted(self) -> tuple[str, tuple[int, ...], Array | None]:
        """What a ring needs to carry it: without data where :meth:`copy_into` is to follow."""
        if self.on_device:
            return self.dtype, self.shape, None
        return self.dtype, self.shape, self.data if self.shape else self.data.reshape(1)

    def copy_into(self, tensor: Any) -> None:
        """Fills memory of a ring from a device, by the one copy that this takes; `torch_support.settle` says when it is done."""
        torch_support.from_ring(tensor).copy_(self.value, non_blocking=True)

    def duplicate(self) -> Wire:
        """The same in memory of its own."""
        return Wire(self.kind, self.dtype, self.shape, duplicate(self.value))


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


def to_host(value: Any) -> Any:
    """A normalised value in host memory, as it would come out of a ring."""
    return torch_support.to_host(value)


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
        dtype, shape = ring_dtype(value.dtype), value.shape
    elif torch_support.is_tensor(value):
        dtype, shape = torch_support.dtype_of(value), tuple(value.shape)
    else:
        dtype, shape = "bytes", (len(_text(value)),)
    return TensorType(dtype, tuple(max(1, int(size)) for size in shape))


def to_wire(value: Any) -> Wire:
    """A normalised value as a tensor. Shares memory with it where it can."""
    if isinstance(value, np.ndarray):
        return Wire("numpy", ring_dtype(value.dtype), value.shape, value)
    if torch_support.is_tensor(value):
        return Wire("torch", torch_support.dtype_of(value), tuple(value.shape), value)
    kind = "bytes" if isinstance(value, bytes) else "json"
    data = np.frombuffer(_text(value), dtype=np.uint8)
    return Wire(kind, "bytes", data.shape, data)


def from_ring(kind: str, dtype: str, data: _native.Tensor | Array) -> Any:
    """The value again. Arrays and tensors are views that keep `data` alive; bytes and JSON are copies."""
    if kind == "numpy":
        return np.asarray(data)
    if kind == "torch":
        return (
            torch_support.from_numpy(data, dtype)
            if isinstance(data, np.ndarray)
            else torch_support.from_ring(data)
        )
    if kind == "bytes":
        return data.tobytes()
    if kind == "json":
        return json.loads(data.tobytes())
    raise ValueTypeError(
        f"the kind {kind!r} of a value in a frame is not known: expected numpy, torch, bytes or json"
    )


@functools.cache
def ring_dtype(dtype: np.dtype[Any]) -> str:
    """What a ring calls a dtype of NumPy. Raises `KeyError` for what it does not carry."""
    return _NUMPY[dtype.name]


def numpy_dtype(name: str) -> np.dtype[Any]:
    """What NumPy has for a ring's dtype."""
    return np.dtype({"bfloat16": "uint16", "bytes": "uint8"}.get(name, name))


def _normalise_array(array: Array, what: str) -> Array:
    try:
        dtype = ring_dtype(array.dtype)
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
