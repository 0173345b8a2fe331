"""What a tensor looks like: its dtype and its shape, some of whose sizes may vary.

>>> tensor("float32", (dim("N", max=64), 3, 48, 320))
tensor('float32', (dim('N', max=64), 3, 48, 320))
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from .errors import DefinitionError

if TYPE_CHECKING:
    import numpy as np

    Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]
else:
    Array = Any

__all__ = ["Array", "Dim", "TensorType", "dim", "tensor", "DTYPES", "itemsize"]

#: Bytes per element of every dtype that a ring carries. `bytes` is an opaque string of bytes,
#: which is also how values that are no tensors (text, numbers, lists, dicts) travel.
DTYPES = {
    "float16": 2, "bfloat16": 2, "float32": 4, "float64": 8,
    "int8": 1, "uint8": 1, "int16": 2, "int32": 4, "int64": 8,
    "bool": 1, "bytes": 1,
}  # fmt: skip


def itemsize(dtype: str) -> int:
    """Bytes per element."""
    return DTYPES[dtype]


@dataclass(frozen=True)
class Dim:
    """A size that varies from request to request, between 0 and `max`."""

    name: str
    max: int

    def __repr__(self) -> str:
        return f"dim({self.name!r}, max={self.max})"


@dataclass(frozen=True)
class TensorType:
    """dtype and shape of one tensor; a size is a number or a :class:`Dim`."""

    dtype: str
    shape: tuple[int | Dim, ...] = field(default=())

    def __repr__(self) -> str:
        return f"tensor({self.dtype!r}, {self.shape!r})"

    @functools.cached_property
    def varies(self) -> bool:
        """Whether one of its sizes does."""
        return any(isinstance(size, Dim) for size in self.shape)

    def largest(self) -> int:
        """Bytes of the largest such tensor."""
        size = itemsize(self.dtype)
        for item in self.shape:
            size *= item.max if isinstance(item, Dim) else item
        return size

    def mismatch(self, dtype: str, shape: tuple[int, ...]) -> str | None:
        """Why a tensor of this dtype and shape is not one of this type, if it is not."""
        if dtype != self.dtype:
            return f"its dtype is {dtype}, declared is {self.dtype}"
        if len(shape) != len(self.shape):
            return f"its shape is {list(shape)}, declared are {len(self.shape)} dimensions"
        for position, (have, want) in enumerate(zip(shape, self.shape)):
            if isinstance(want, Dim):
                if have > want.max:
                    return f"dimension {position} ({want.name}) is {have}, declared is at most {want.max}"
            elif have != want:
                return f"dimension {position} is {have}, declared is {want}"
        return None


def dim(name: str, max: int) -> Dim:
    """Declares a size that varies; `max` is what memory is set aside for."""
    if not re.fullmatch(r"[A-Z][A-Za-z0-9]*", name):
        raise DefinitionError(
            f"the dimension name {name!r} is not valid: expected a capital letter, then letters and digits"
        )
    if isinstance(max, bool) or not isinstance(max, int) or max < 1:
        raise DefinitionError(f"max of dimension {name} is {max!r}: expected a whole number of at least 1")
    return Dim(name, max)


def tensor(dtype: str, shape: Iterable[int | Dim] = ()) -> TensorType:
    """Declares a tensor, for `outputs=` of a component and `inputs` of a function."""
    if dtype not in DTYPES:
        raise DefinitionError(f"the dtype {dtype!r} is not known: expected one of {', '.join(DTYPES)}")
    items = tuple(shape)
    for item in items:
        if not isinstance(item, Dim) and (isinstance(item, bool) or not isinstance(item, int) or item < 1):
            raise DefinitionError(
                f"the size {item!r} in shape {items!r} is not valid: expected a whole number of at least 1 or dim(…)"
            )
    return TensorType(dtype, items)
