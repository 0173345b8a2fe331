"""PyTorch, where the author uses it. This package never imports it by itself: that takes a second.

A lane sees one device: the slice that `CUDA_VISIBLE_DEVICES` names, else the CPU.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from .errors import ValueTypeError
from .tensors import DTYPES, Array

__all__ = ["imported", "is_tensor", "is_module", "is_script", "normalise", "empty", "shares_memory", "dtype_of", "to_numpy", "from_numpy", "from_array", "from_ring", "in_host_memory",
           "to_host", "device", "begin", "to_device", "settle", "give_back", "GpuMemory", "gpu_memory",
           "torch_dtype", "in_place_of", "put", "like"]  # fmt: skip


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


def is_script(value: Any) -> bool:
    """Whether it is a network or a function of TorchScript."""
    torch = imported()
    return torch is not None and isinstance(value, (torch.jit.ScriptModule, torch.jit.ScriptFunction))


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


def from_array(value: Any) -> Any:
    """A NumPy array as a tensor over the same memory; everything else as it is."""
    return from_numpy(value, "") if isinstance(value, np.ndarray) else value


def device() -> Any:
    """The one device of this process: its slice, or the CPU."""
    torch = imported()
    assert torch is not None, "there is a torch module, so there is torch"
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def begin(device: Any) -> None:
    """Makes the thread that calls it one that uses `device`, also if nothing lies there yet."""
    if device.type == "cuda":
        _cuda().synchronize()


def to_device(inputs: list[Any], target: Any) -> tuple[list[Any], Any]:
    """Tensors on `target`, everything else as it is; without a target tensors come to the host.

    A copy from host memory to a GPU may be under way still. Then the second value has a `synchronize()` that
    returns when it is done; until then the tensors that were copied have to live.
    """
    if target is None:
        return [to_host(value) for value in inputs], None
    if target.type != "cuda":
        return [value.to(target) if is_tensor(value) else value for value in inputs], None
    moved = [value.to(target, non_blocking=True) if is_tensor(value) else value for value in inputs]
    if all(one is other for one, other in zip(inputs, moved)):
        return moved, None
    copied = _cuda().Event()
    copied.record()
    return moved, copied


def to_host(value: Any) -> Any:
    """A tensor in host memory; everything else as it is."""
    return value.cpu() if is_tensor(value) else value


def settle() -> None:
    """Returns when the GPU has done what this thread asked it for, if this process uses one."""
    torch = imported()
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.current_stream().synchronize()


def give_back() -> None:
    """Gives memory of the GPU that holds nothing any more back to whoever else is on it."""
    torch = imported()
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()


class GpuMemory(NamedTuple):
    """Bytes of this process on its GPU."""

    #: In tensors.
    tensors: int
    #: Most that was taken for tensors and work at once, since the process began.
    peak: int
    #: Besides: CUDA's own. Where others are on the GPU, theirs as well.
    context: int


def gpu_memory() -> GpuMemory | None:
    """What this process has on its GPU, if it uses one."""
    torch = imported()
    if torch is None or not torch.cuda.is_initialized():
        return None
    cuda = torch.cuda
    free, total = cuda.mem_get_info()
    return GpuMemory(
        cuda.memory_allocated(), cuda.max_memory_reserved(), max(0, total - free - cuda.memory_reserved())
    )


def _cuda() -> Any:
    torch = imported()
    assert torch is not None, "there is a device, so there is torch"
    return torch.cuda


def in_place_of(old: Any, new: Any) -> Any:
    """`new` as what `old` is, a parameter or a buffer; converted only if its dtype differs."""
    torch = imported()
    assert torch is not None, "there is a tensor, so there is torch"
    new = new.to(old.dtype)
    if isinstance(old, torch.nn.Parameter):
        return torch.nn.Parameter(new, requires_grad=old.requires_grad)
    return new


def put(module: Any, name: str, tensor: Any) -> None:
    """Makes `tensor` the parameter or buffer `name`, as `state_dict` spells it."""
    owner, _, own = name.rpartition(".")
    place = module.get_submodule(owner)
    (place._parameters if own in place._parameters else place._buffers)[own] = tensor


def like(tensor: Any, data: Array) -> Any:
    """A tensor of the same dtype and shape over the bytes of `data`."""
    torch = imported()
    assert torch is not None, "there is a tensor, so there is torch"
    return torch.from_numpy(data).view(tensor.dtype).view(tensor.shape)


def _storage(value: Any) -> int:
    storage = value.untyped_storage() if hasattr(value, "untyped_storage") else value.storage()
    return int(storage.data_ptr())
