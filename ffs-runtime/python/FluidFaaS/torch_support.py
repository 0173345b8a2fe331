"""PyTorch, where the author uses it. This package never imports it by itself: that takes a second.

A lane sees one device: the slice that `CUDA_VISIBLE_DEVICES` names, else the CPU.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any

import numpy as np

from .errors import ValueTypeError
from .tensors import DTYPES, Array

__all__ = ["imported", "is_tensor", "is_module", "normalise", "empty", "shares_memory", "dtype_of", "to_numpy", "from_numpy", "from_ring", "in_host_memory",
           "device", "to_device", "torch_dtype"]  # fmt: skip


def imported() -> ModuleType | None:
    """PyTorch, if the author's code has imported it."""
    torch = sys.modules.get("torch")
    return torch if torch is not None and hasattr(torch, "nn") else None


def is_tensor(value: Any) -> bool:
    torch = imported()
    return torch is not None and isinstance(value, torch.Tensor)


def is_module(value: Any) -> bool:
    torch = imported()
    return torch is not None and isinstance(value, torch.nn.Module)


def normalise(value: Any, what: str) -> Any:
    """Contiguous, without gradient, of a dtype that a ring carries. Stays on its device."""
    if dtype_of(value) not in DTYPES or value.layout is not imported().strided:  # type: ignore[union-attr]
        raise ValueTypeError(
            f"{what} is a {value.layout} tensor of dtype {value.dtype}: expected a strided one of dtype "
            + ", ".join(name for name in DTYPES if name != "bytes")
        )
    return value.detach().resolve_conj().resolve_neg().contiguous()


def torch_dtype(value: Any) -> str | None:
    """The name of a dtype of PyTorch; None for anything else."""
    torch = imported()
    return str(value).removeprefix("torch.") if torch is not None and isinstance(value, torch.dtype) else None


def empty(shape: tuple[int, ...], dtype: Any) -> Any:
    """An ordinary tensor on the CPU."""
    torch = imported()
    assert torch is not None, "there is a dtype of torch, so there is torch"
    return torch.empty(shape, dtype=dtype)


def shares_memory(one: Any, other: Any) -> bool:
    return one.numel() > 0 and other.numel() > 0 and _storage(one) == _storage(other)


def dtype_of(value: Any) -> str:
    return str(value.dtype).removeprefix("torch.")


def to_numpy(value: Any) -> Array:
    """The tensor's memory; copied only if it lies on a device."""
    torch = imported()
    assert torch is not None, "there is a tensor, so there is torch"
    value = value.cpu()
    if value.dtype is torch.bfloat16:
        value = value.view(torch.int16)
        return np.asarray(value.numpy()).view(np.uint16)
    return np.asarray(value.numpy())


def in_host_memory(value: Any) -> bool:
    return bool(value.device.type == "cpu")


def from_ring(tensor: Any) -> Any:
    """A tensor over a ring's memory, which it holds (DLPack)."""
    torch = importlib.import_module("torch")
    found = torch.from_dlpack(tensor)
    return found.view(torch.bool) if tensor.dtype == "bool" else found


def from_numpy(data: Array, dtype: str) -> Any:
    """A tensor over the same memory."""
    torch = importlib.import_module("torch")
    if dtype == "bfloat16":
        return torch.from_numpy(data.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(data)


def device() -> Any:
    """The one device of this process: its slice, or the CPU."""
    torch = imported()
    assert torch is not None, "there is a torch module, so there is torch"
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def to_device(value: Any, target: Any) -> Any:
    """A tensor on `target`; everything else, and without a target every value, as it is."""
    return value.to(target) if target is not None and is_tensor(value) else value


def _storage(value: Any) -> int:
    storage = value.untyped_storage() if hasattr(value, "untyped_storage") else value.storage()
    return int(storage.data_ptr())
