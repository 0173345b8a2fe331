"""Where a module's mapped weights are while they are not in a GPU's memory: in the node's, to which nothing is copied.

Leaving a slice is to let go of the copy there; coming back is one copy from memory that is pinned, if the driver can
pin what may only be read.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import weakref
from typing import Any

import numpy as np

from . import mapped, torch_support

__all__ = ["Homes"]

#: CU_MEMHOSTREGISTER_PORTABLE and _READ_ONLY.
_FLAGS = 1 | 8


class Homes:
    """The mapped parameters and buffers of one module, by name."""

    def __init__(self, module: Any) -> None:
        self._at: dict[str, tuple[Any, Any]] = {}
        self._versions: dict[str, int] = {}
        self._pinned: dict[int, Pinned | None] = {}
        for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
            if torch_support.in_host_memory(tensor) and mapped.find(tensor.data_ptr()) is not None:
                self._at[name] = (tensor, tensor.data)

    def __len__(self) -> int:
        return len(self._at)

    def enter(self, device: Any) -> None:
        """Copies them to `device`."""
        torch_support.begin(device)  # which also makes it this thread's
        for name, (tensor, home) in self._at.items():
            tensor.data = self._source(home, device).to(device, copy=True, non_blocking=True)
            self._versions[name] = tensor._version
        torch_support.settle()

    def leave(self) -> None:
        """Lets go of the copies; only what was written to meanwhile is kept, in memory of this process."""
        for name, (tensor, home) in list(self._at.items()):
            if tensor._version == self._versions.get(name, tensor._version):
                tensor.data = home
            else:
                tensor.data = tensor.data.cpu()
                del self._at[name]

    def _source(self, home: Any, device: Any) -> Any:
        """`home`, in pinned memory if that can be had."""
        if device.type != "cuda":
            return home
        memory = mapped.find(home.data_ptr())
        assert memory is not None, "its tensors keep it mapped"
        if memory.start not in self._pinned:
            self._pinned[memory.start] = Pinned.of(memory)
        pinned = self._pinned[memory.start]
        return home if pinned is None else pinned.over(home, home.data_ptr() - memory.start)


class Pinned:
    """The same memory once more, mapped as it is for all and known to the driver: private pages would be copied for it."""

    def __init__(self, memory: mmap.mmap, address: int, size: int) -> None:
        self._memory = memory
        self._bytes = np.frombuffer(memoryview((ctypes.c_uint8 * size).from_address(address)), np.uint8)

    @classmethod
    def of(cls, memory: mapped.Memory) -> Pinned | None:
        """None if the driver cannot pin it; then copies take a detour."""
        size = memory.end - memory.start
        try:
            driver = ctypes.CDLL("libcuda.so.1", mode=os.RTLD_NOW)
            register = driver.cuMemHostRegister_v2
            again = mmap.mmap(memory.file.fileno(), size, flags=mmap.MAP_SHARED, prot=mmap.PROT_READ)
        except (OSError, AttributeError):
            return None
        address = np.frombuffer(again, np.uint8).ctypes.data
        if register(ctypes.c_void_p(address), ctypes.c_size_t(size), ctypes.c_uint(_FLAGS)) != 0:
            return None
        pinned = cls(again, address, size)
        weakref.finalize(pinned, _unpin, driver, address, again)
        return pinned

    def over(self, home: Any, offset: int) -> Any:
        """The tensor in the memory that is pinned. To be read only: writing ends the process."""
        return torch_support.like(home, self._bytes[offset : offset + home.numel() * home.element_size()])


def _unpin(driver: Any, address: int, memory: mmap.mmap) -> None:
    driver.cuMemHostUnregister(ctypes.c_void_p(address))
    del memory
