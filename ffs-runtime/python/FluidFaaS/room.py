"""`empty`: memory for what a component returns, inside the ring that will carry it away."""

from __future__ import annotations

from collections.abc import Iterable
from contextvars import ContextVar
from typing import Any, Protocol

import numpy as np

from . import _native, torch_support, values
from .errors import ValueTypeError
from .tensors import DTYPES

__all__ = ["Room", "current", "empty"]


class Room(Protocol):
    """What a lane can lend to the component that runs."""

    def lend(self, dtype: str, shape: tuple[int, ...]) -> _native.Tensor | None:
        """Memory in a ring for one output of that component, if there is any left."""


#: That of the running lane; a thread that the author's code starts has none.
current: ContextVar[Room | None] = ContextVar("room", default=None)


def empty(shape: int | Iterable[int], dtype: Any = "float32") -> Any:
    """An uninitialised array or tensor for an output of the component that runs.

    In a lane it lies in the ring to the next one: what is written there and returned from `forward`
    is not copied any more. `dtype` is a name (`"float32"`, `"bfloat16"`), a NumPy dtype, or a
    PyTorch dtype, which gives a tensor::

        def forward(self, x):
            return torch.mm(x, self.weights, out=fluidfaas.empty((len(x), 10), torch.float32))

    It is ordinary memory, which works as well, outside of a lane (unsplit, in `pre` and `post`, in a
    thread of your own), if no ring leads from this component to another lane, if each of its outputs
    there has its memory already, and if the frame has no room left, as for a tensor that is larger
    than the example's. If all slots of the ring are in use it waits for one. Ask for it in each
    request: once the request has left the lane, the memory belongs to who reads it. Return it whole:
    a part of it is copied.
    """
    sizes = (shape,) if isinstance(shape, int) else tuple(int(size) for size in shape)
    if any(size < 0 for size in sizes):
        raise ValueTypeError(f"the shape {sizes!r} of empty is not valid: expected sizes of at least 0")
    torch_name = torch_support.torch_dtype(dtype)
    name = torch_name or (dtype if isinstance(dtype, str) and dtype in DTYPES else _numpy_name(dtype))
    if name not in DTYPES:
        expected = ", ".join(item for item in DTYPES if item != "bytes")
        raise ValueTypeError(f"the dtype {dtype!r} of empty is not known: expected one of {expected}")
    room = current.get()
    tensor = room.lend(name, sizes) if room is not None else None
    if torch_name is not None:
        return torch_support.from_ring(tensor) if tensor is not None else torch_support.empty(sizes, dtype)
    return np.asarray(tensor) if tensor is not None else np.empty(sizes, values.numpy_dtype(name))


def _numpy_name(dtype: Any) -> str:
    try:
        return values.ring_dtype(np.dtype(dtype))
    except (KeyError, TypeError):
        return ""
