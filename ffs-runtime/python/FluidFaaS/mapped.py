"""Weights that lie once in a node's memory: safetensors files, mapped and not read.

In a lane the invoker is handed the open file, and gives back memory with the same content, which is there once for all
lanes of the namespace and which nobody can write any more. Where there is no invoker, or it has no room, the file itself
is mapped. Either way the mapping is private: a component that writes into its weights gets pages of its own.
"""

from __future__ import annotations

import json
import mmap
import os
import socket
import stat
import weakref
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np

from . import safetensors, torch_support, values
from .errors import DefinitionError
from .tensors import Array

__all__ = ["Memory", "Weights", "find", "weights", "load_weights"]

#: How long the invoker may take to look through a file, in seconds.
PATIENCE_S = 60.0
#: Longest answer.
_LINE = 4096
#: MADV_POPULATE_READ, since Linux 5.14; the module `mmap` does not name it.
_POPULATE_READ = 22


@dataclass(frozen=True, slots=True)
class Memory:
    """Addresses that are mapped, and the file there."""

    start: int
    end: int
    file: BinaryIO


#: What is mapped here, as long as any tensor lies there.
_mapped: weakref.WeakKeyDictionary[mmap.mmap, Memory] = weakref.WeakKeyDictionary()


def find(address: int) -> Memory | None:
    """The mapped memory in which `address` lies."""
    return next((memory for memory in list(_mapped.values()) if memory.start <= address < memory.end), None)


class Weights(Mapping[str, Array]):
    """The tensors of a file by name: arrays over mapped memory, to be read only.

    bfloat16 appears as its bits, in `uint16`.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.fspath(path)
        #: What the node calls this content, `sha256:…`; None where the file itself is mapped.
        self.digest: str | None = None
        with _open(self.path) as own:
            shared = _from_invoker(own)
            if shared is None:
                self._map(own.fileno())
            else:
                memory, self.digest = shared
                with memory:
                    self._map(memory.fileno())

    def _map(self, descriptor: int) -> None:
        size = os.fstat(descriptor).st_size
        if size == 0:
            raise DefinitionError(f"{self.path} is not a whole safetensors file: it is empty")
        self._memory = mmap.mmap(descriptor, size, access=mmap.ACCESS_COPY)
        start = np.frombuffer(self._memory, np.uint8).ctypes.data
        # The file is kept to be mapped again, shared, where a GPU is to read it.
        _mapped[self._memory] = Memory(start, start + size, os.fdopen(os.dup(descriptor), "rb"))
        try:
            self._memory.madvise(_POPULATE_READ)
        except OSError:
            pass  # an older kernel: pages come when they are read
        self._places = safetensors.read_header(memoryview(self._memory), self.path)

    def __getitem__(self, name: str) -> Array:
        array = self._writable(name)
        array.flags.writeable = False
        return array

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def __repr__(self) -> str:
        return f"<{len(self)} tensors of {self.path}{', shared' if self.digest else ''}>"

    def tensor(self, name: str) -> Any:
        """The tensor for PyTorch, over the same memory.

        PyTorch has no tensors that cannot be written: what writes into one changes this process's view alone.
        """
        dtype = self._places[name].dtype
        try:
            return torch_support.from_numpy(self._writable(name), dtype)
        except TypeError as error:
            raise DefinitionError(
                f"the tensor {name} of {self.path} is of dtype {dtype}, which this PyTorch lacks"
            ) from error

    def _writable(self, name: str) -> Array:
        place = self._places[name]
        dtype = values.numpy_dtype(place.dtype)
        if place.offset % dtype.itemsize:
            copied = self._memory[place.offset : place.offset + place.bytes]
            return np.frombuffer(bytearray(copied), dtype).reshape(place.shape)
        count = place.bytes // dtype.itemsize
        return np.frombuffer(self._memory, dtype, count, place.offset).reshape(place.shape)


def weights(path: str | os.PathLike[str]) -> Weights:
    """The tensors of a safetensors file, which the node holds once for all lanes that need them.

    Raises :class:`DefinitionError` if there is no such file, or if it is not of that format.
    """
    return Weights(path)


def load_weights(
    module: Any, source: str | os.PathLike[str] | Weights, *, prefix: str = "", strict: bool = True
) -> None:
    """Puts the weights of a safetensors file in the place of a `torch.nn.Module`'s, without a copy.

    What `load_state_dict` does with a copy, `assign` of newer versions included: names and shapes have to be the same,
    and with `strict` none may be missing or left over. Of the file's names those that begin with `prefix` count. Only
    where the module has another dtype a tensor is converted, into memory of its own.

    Raises :class:`DefinitionError` naming the first tensor that does not fit.
    """
    if not torch_support.is_module(module):
        raise DefinitionError(
            f"load_weights was given {type(module).__qualname__}: expected a torch.nn.Module"
        )
    found = source if isinstance(source, Weights) else Weights(source)
    wanted = module.state_dict(keep_vars=True)
    names = [name.removeprefix(prefix) for name in found if name.startswith(prefix)]
    if strict:
        for sentence, name in [
            ("lacks", wanted.keys() - names),
            ("has what the module lacks:", set(names) - wanted.keys()),
        ]:
            if name:
                raise DefinitionError(f"{found.path} {sentence} {', '.join(sorted(name)[:5])}")
    placed: dict[int, Any] = {}  # a tensor with two names stays one
    for name in names:
        if name not in wanted:
            continue
        old = wanted[name]
        if id(old) not in placed:
            new = found.tensor(prefix + name)
            if new.shape != old.shape:
                raise DefinitionError(
                    f"the tensor {prefix}{name} of {found.path} has the shape {list(new.shape)}: "
                    f"expected {list(old.shape)}"
                )
            placed[id(old)] = torch_support.in_place_of(old, new)
        torch_support.put(module, name, placed[id(old)])


def _open(path: str) -> Any:
    try:
        file = open(path, "rb")
    except OSError as error:
        raise DefinitionError(f"the weights {path} cannot be opened: {error.strerror}") from error
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise DefinitionError(f"the weights {path} are no file")
    return file


def _from_invoker(own: Any) -> tuple[Any, str] | None:
    """The node's memory with the content of `own`, and its name; None if there is none to be had."""
    folder = os.environ.get("FFS_CONFIG")
    if folder is None:
        return None
    memory: list[int] = []
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(PATIENCE_S)
            connection.connect(os.path.join(folder, "weights"))
            socket.send_fds(connection, [b'{"schema":"ffs.weights/1"}\n'], [own.fileno()])
            line, memory, _, _ = socket.recv_fds(connection, _LINE, 1)
        answer = json.loads(line)
        if not memory or os.fstat(memory[0]).st_size != os.fstat(own.fileno()).st_size:
            return None
        return os.fdopen(memory.pop(), "rb"), str(answer["digest"])
    except (OSError, ValueError, KeyError, TypeError):
        return None  # no invoker, or one that says no: it has written down why
    finally:
        for descriptor in memory:
            os.close(descriptor)
