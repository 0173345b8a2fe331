"""How much memory this process has, from the kernel's books."""

from __future__ import annotations

import ctypes
import gc
import os

__all__ = ["resident", "peak", "reset_peak", "trim"]

_PAGE = os.sysconf("SC_PAGE_SIZE")


def resident() -> int:
    """Bytes resident now."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * _PAGE


def peak() -> int:
    """Most bytes resident since the start, the fork or :func:`reset_peak`."""
    with open("/proc/self/status", encoding="ascii") as file:
        for line in file:
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return resident()


def reset_peak() -> None:
    """Starts :func:`peak` anew. Where that is not permitted the peak stays an upper bound."""
    try:
        with open("/proc/self/clear_refs", "w", encoding="ascii") as file:
            file.write("5")
    except OSError:
        pass


def trim() -> None:
    """Gives back what the allocator holds without need."""
    gc.collect()
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (AttributeError, OSError):
        pass  # another C library than glibc
