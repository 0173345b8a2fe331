"""Several requests in one execution of a component: stacked along the first dimension, and split again."""

from __future__ import annotations

from typing import Any

import numpy as np

from . import torch_support
from .errors import ValueTypeError

__all__ = ["split", "stack"]


def stack(requests: list[list[Any]]) -> tuple[list[Any], list[int]] | None:
    """The inputs of all requests as those of one, in memory of their own, and how many rows each request has.

    `requests` are lists of normalised inputs. None if they cannot be stacked: not all are arrays or tensors,
    a request's differ in their first dimension, or requests differ in another one, in dtype or in device.
    """
    rows = [_rows(inputs) for inputs in requests]
    if any(count is None for count in rows):
        return None
    stacked = []
    for column in zip(*requests):
        if any(_form(value) != _form(column[0]) for value in column):
            return None
        if isinstance(column[0], np.ndarray):
            stacked.append(np.concatenate(column))
        else:
            torch = torch_support.imported()
            assert torch is not None, "there is a tensor, so there is torch"
            stacked.append(torch.cat(column))
    return stacked, [count for count in rows if count is not None]


def split(outputs: list[Any], rows: list[int], component: str) -> list[list[Any]]:
    """Each request's part of the outputs: views that do not overlap.

    Raises :class:`ValueTypeError` if an output has not one row for each of the inputs'.
    """
    for port, value in enumerate(outputs):
        shape = tuple(value.shape) if _is_array(value) else None
        if not shape or shape[0] != sum(rows):
            found = f"has the shape {list(shape)}" if shape is not None else f"is a {type(value).__name__}"
            raise ValueTypeError(
                f"output {port} of component {component} {found} for {len(rows)} requests at once: "
                f"expected {sum(rows)} rows, as many as its inputs have"
            )
    parts = []
    start = 0
    for count in rows:
        parts.append([value[start : start + count] for value in outputs])
        start += count
    return parts


def _rows(inputs: list[Any]) -> int | None:
    """The first dimension that all inputs of a request have; None if they have none in common."""
    found: int | None = None
    for value in inputs:
        if not _is_array(value) or not value.shape or found not in (None, int(value.shape[0])):
            return None
        found = int(value.shape[0])
    return found


def _form(value: Any) -> tuple[Any, ...]:
    """What has to be equal."""
    return (
        isinstance(value, np.ndarray),
        value.dtype,
        tuple(value.shape[1:]),
        getattr(value, "device", None),
    )


def _is_array(value: Any) -> bool:
    return isinstance(value, np.ndarray) or torch_support.is_tensor(value)
