"""The format safetensors: a header in JSON says where each tensor lies, then come their bytes.

The format's own package copies each tensor, or maps a file by its path. Here a tensor is to be a view of memory that
is mapped already. Source: the format's description, https://github.com/huggingface/safetensors.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

from .errors import DefinitionError

__all__ = ["Place", "read_header", "write"]

#: Largest header that the format allows, in bytes.
MOST_HEADER = 100_000_000
#: Name of a dtype in the format → bytes of an element, and what this package calls the dtype.
DTYPES = {
    "BOOL": (1, "bool"), "U8": (1, "uint8"), "I8": (1, "int8"), "U16": (2, "uint16"), "I16": (2, "int16"),
    "F16": (2, "float16"), "BF16": (2, "bfloat16"), "U32": (4, "uint32"), "I32": (4, "int32"), "F32": (4, "float32"),
    "U64": (8, "uint64"), "I64": (8, "int64"), "F64": (8, "float64"),
}  # fmt: skip
_NAMES = {ours: theirs for theirs, (_, ours) in DTYPES.items()}
_LENGTH = 8


@dataclass(frozen=True, slots=True)
class Place:
    """Where one tensor lies."""

    dtype: str
    shape: tuple[int, ...]
    #: Of its first byte, from the beginning of the file.
    offset: int
    #: Of all its elements.
    bytes: int


def read_header(data: memoryview, what: str) -> dict[str, Place]:
    """The tensors of the file that `data` holds, by name; `what` names it in errors.

    Raises :class:`DefinitionError` unless the header fits the rest of the file exactly.
    """

    def wrong(sentence: str) -> DefinitionError:
        return DefinitionError(f"{what} is not a whole safetensors file: {sentence}")

    if len(data) < _LENGTH:
        raise wrong(f"it has {len(data)} bytes, expected at least {_LENGTH}")
    length = int.from_bytes(data[:_LENGTH], "little")
    if length > min(MOST_HEADER, len(data) - _LENGTH):
        raise wrong(f"its header is said to have {length} bytes, and the file has {len(data)}")
    try:
        header = json.loads(bytes(data[_LENGTH : _LENGTH + length]), object_pairs_hook=_without_duplicates)
    except (ValueError, RecursionError) as error:
        raise wrong(f"its header is not JSON: {error}") from None
    if not isinstance(header, dict):
        raise wrong(f"its header is {type(header).__name__}, expected an object")
    header.pop("__metadata__", None)
    try:
        places = {name: _place(entry, _LENGTH + length) for name, entry in header.items()}
    except (KeyError, TypeError, ValueError) as error:
        raise wrong(f"a tensor's entry in its header cannot be read: {error!r}") from None
    end = _LENGTH + length
    for name, place in sorted(places.items(), key=lambda item: (item[1].offset, item[1].bytes)):
        if place.offset != end:
            raise wrong(f"the tensor {name} begins at byte {place.offset}, expected {end}")
        end += place.bytes
    if end != len(data):
        raise wrong(f"its tensors end at byte {end}, and the file has {len(data)}")
    return places


def write(file: BinaryIO, tensors: Mapping[str, Any]) -> None:
    """Writes C-contiguous arrays, each given as (dtype, shape, buffer of its bytes)."""
    header: dict[str, Any] = {}
    at = 0
    for name, (dtype, shape, data) in tensors.items():
        size = memoryview(data).nbytes
        header[name] = {"dtype": _NAMES[dtype], "shape": list(shape), "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 64 + 64 - _LENGTH)  # so that the first tensor begins at a multiple of 64
    file.write(len(text).to_bytes(_LENGTH, "little") + text)
    for _, _, data in tensors.values():
        file.write(memoryview(data))


def _place(entry: Any, start: int) -> Place:
    item, dtype = DTYPES[entry["dtype"]]
    shape = tuple(_whole(size) for size in entry["shape"])
    begin, end = (_whole(offset) for offset in entry["data_offsets"])
    if end - begin != math.prod(shape) * item:
        raise ValueError(
            f"{end - begin} bytes for the shape {list(shape)} of {dtype}: expected {math.prod(shape) * item}"
        )
    return Place(dtype, shape, start + begin, end - begin)


def _whole(number: Any) -> int:
    if type(number) is not int or number < 0:
        raise ValueError(f"{number!r}: expected a whole number of 0 or more")
    return number


def _without_duplicates(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"the name {name!r} is there twice")
        found[name] = value
    return found
