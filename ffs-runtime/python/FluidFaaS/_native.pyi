"""The native part: rings in shared memory, and the documents of the config layer. See `src/`."""

from collections.abc import Sequence
from typing import TypeAlias

from .tensors import Array

def check_document(kind: str, text: str) -> None:
    """Raises `ValueError` if `text` is no document of this kind."""

def prefer_node(node: int) -> bool:
    """Prefers memory of this NUMA node for what this thread touches first. Raises `OSError`."""

class RingError(Exception): ...
class RingClosed(RingError): ...
class RingPoisoned(RingError): ...
class RingTimedOut(RingError): ...
class RingTooSmall(RingError): ...

class Handle:
    name: str
    def poison(self, reason: str, text: str) -> None: ...
    def close(self) -> None: ...
    def check(self) -> None: ...
    def pin(self) -> bool: ...

class Tensor:
    """Memory in a ring; `numpy.asarray(tensor)` and `torch.from_dlpack(tensor)` view it."""

    dtype: str
    address: int
    def tobytes(self) -> bytes: ...
    def __dlpack__(
        self,
        *,
        stream: object = None,
        max_version: object = None,
        dl_device: tuple[int, int] | None = None,
        copy: bool | None = None,
    ) -> object: ...
    def __dlpack_device__(self) -> tuple[int, int]: ...
    def __buffer__(self, flags: int, /) -> memoryview: ...

#: dtype, shape, a contiguous buffer that is copied in, strides in elements.
Wanted: TypeAlias = (
    tuple[str, Sequence[int]]
    | tuple[str, Sequence[int], Array | bytes | None]
    | tuple[str, Sequence[int], None, Sequence[int]]
)

class Reservation:
    tensors: list[Tensor]
    def push(self, tensor: Wanted) -> Tensor: ...
    def commit(self, json: bytes) -> None: ...
    def abort(self) -> None: ...

class Producer:
    slots: int
    slot_bytes: int
    json_room: int
    def __new__(cls, path: str, slots: int, slot_bytes: int, epoch: int) -> Producer: ...
    def reserve(
        self,
        kind: str,
        request: int,
        tensors: Sequence[Wanted],
        *,
        deadline_ms: int = 0,
        flags: int = 0,
        timeout_ms: float | None = None,
    ) -> Reservation: ...
    def handle(self) -> Handle: ...

class Frame:
    kind: str
    request: int
    deadline_ms: int
    flags: int
    age_ms: float
    tensors: list[Tensor]
    json: bytes

class Consumer:
    def __new__(cls, path: str, epoch: int, *, timeout_ms: float | None = None) -> Consumer: ...
    def recv(self, *, timeout_ms: float | None = None) -> Frame: ...
    @property
    def ready(self) -> bool: ...
    def handle(self) -> Handle: ...
