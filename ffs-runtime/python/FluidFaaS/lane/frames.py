"""Requests as frames in a ring.

A request is one frame, unless it has more than 16 tensors or says more than its slot has room for
(long output, a long error). Then frames that carry the flag MORE come before the last one; the
reader copies those at once, so that a request never holds more than one slot.

A frame with the flag SWITCH is no request: those behind it take the ways of another assignment.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from .. import _native, torch_support, values
from ..dag import Port, Source
from ..errors import FluidFaaSError
from ..tensors import Array
from .envelope import Envelope
from .layout import Ring

__all__ = ["Arrival", "DoesNotFit", "Inbox", "Outbox", "RingEnded", "Switch"]

MORE = 1
SWITCH = 2
TENSORS_A_FRAME = 16


class DoesNotFit(FluidFaaSError):
    """A value is larger than the ring was made for. Only its request is hurt."""


class RingEnded(Exception):
    """The ring to or from another lane is closed, poisoned or corrupt."""

    def __init__(self, peer: str, error: _native.RingError) -> None:
        poisoned = isinstance(error, _native.RingPoisoned)
        note: str = error.args[1] if poisoned else ""
        # Lanes of ours leave a sentence; what is none was written by user code.
        readable = note.isprintable() and "\N{REPLACEMENT CHARACTER}" not in note
        super().__init__(error.args[0] if readable else "the ring between them is corrupt")
        #: The lane at the other end.
        self.peer = peer
        #: What whoever poisoned the ring has to say; perhaps nothing.
        self.note = note if readable else ""


@dataclass(frozen=True, slots=True)
class Switch:
    """Instead of a request: from here on the assignment of that epoch holds."""

    epoch: int

    def __str__(self) -> str:
        return f"the switch to the assignment of epoch {self.epoch}"


@dataclass(slots=True)
class Arrival:
    """One request, as a ring delivered it."""

    request: int
    deadline_ms: int
    values: dict[Source, Any]
    envelope: Envelope
    #: `time.perf_counter()` when it lay in the ring.
    sent: float
    #: Milliseconds from then, or from when we began to look for it, until it was ours.
    took_ms: float

    def __str__(self) -> str:
        return f"request {self.request:032x}"


class _End:
    """One end of a ring."""

    def __init__(self, ring: Ring, handle: _native.Handle) -> None:
        self.ring = ring
        self._handle = handle
        self._inode = _inode(ring.path)

    def poison(self, reason: str, sentence: str) -> None:
        """Ends the ring for both ends, whoever waits in it."""
        self._handle.poison(reason, sentence)

    def pin(self) -> bool:
        """Registers its memory with CUDA, if this thread uses it; says whether it is registered.

        Raises :class:`FluidFaaS._native.RingError`; the ring works all the same.
        """
        return self._handle.pin()

    def remove_name(self) -> None:
        """Takes the ring's name away, for whoever was killed and cannot; not from a newer ring."""
        if self._inode is not None and _inode(self.ring.path) == self._inode:
            with contextlib.suppress(OSError):
                os.unlink(self.ring.path)


class Outbox(_End):
    """The writing end of a ring."""

    def __init__(self, ring: Ring, epoch: int) -> None:
        self.native = _native.Producer(ring.path, ring.slots, ring.slot_bytes, epoch)
        self._json_room = self.native.json_room
        super().__init__(ring, self.native.handle())
        in_one_frame = len(ring.tensors) <= TENSORS_A_FRAME
        sources = ring.tensors if in_one_frame else ()
        #: How many outputs of each component it carries, where they can be made in its memory.
        self._ports = Counter(source.node for source in sources if isinstance(source, Port))
        #: Whether it waits for the reader, as seen from other threads.
        self.waits = False
        #: The frame in which a component makes outputs of the request at hand.
        self._frame: _native.Reservation | None = None
        #: What was lent of it: address, dtype and shape, and how often to which component.
        self._lent: list[tuple[int, str, tuple[int, ...]]] = []
        self._borrowed: Counter[str] = Counter()

    def lend(
        self, component: str, dtype: str, shape: tuple[int, ...], request: int, deadline_ms: int
    ) -> _native.Tensor | None:
        """Memory in the frame of this request for an output of `component`, if it has none yet and there is room."""
        if self._borrowed[component] >= self._ports[component]:
            return None
        try:
            if self._frame is None:
                self._frame = self._reserve(_Head("tensors", request, deadline_ms), ())
            tensor = self._frame.push((dtype, shape))
        except _native.RingError:
            return None  # no room; or the ring has ended, which whoever sends learns as well
        self._borrowed[component] += 1
        self._lent.append((tensor.address, dtype, shape))
        return tensor

    @property
    def lends(self) -> bool:
        """Whether outputs of the request at hand are made in its memory."""
        return self._frame is not None

    def has_lent(self, value: Any) -> bool:
        """Whether `value` lies in the frame of the request at hand."""
        return _place(values.to_wire(value)) in self._lent

    def send(self, request: int, deadline_ms: int, items: list[Any], envelope: Envelope) -> None:
        """Sends a request: the values of the ring's tensors, or if it failed none.

        What lies in memory that was lent is sent as it is. Raises :class:`DoesNotFit`, after which the
        request can still be sent as failed; :class:`RingEnded`.
        """
        began = time.perf_counter()
        head = _Head("error" if envelope.failure is not None else "tensors", request, deadline_ms)
        wires = [values.to_wire(item) for item in items]
        kinds = [wire.kind for wire in wires]
        try:
            if self._frame is not None and (made := self._complete(wires)) is not None:
                reservation, at = made
                last = 0
            else:
                last = self._send_first(wires, head) if len(wires) > TENSORS_A_FRAME else 0
                reservation, at = self._write(wires, last, head), None
            took_ms = (time.perf_counter() - began) * 1000
            text = envelope.encode(kinds, at, self.ring.id, took_ms)
            try:
                reservation.commit(text)
            except _native.RingTooSmall:
                if at is not None:
                    wires = [wire.duplicate() for wire in wires]
                    text = envelope.encode(kinds, None, self.ring.id, took_ms)
                reservation.abort()
                self._send_text(text, head)
                self._write(wires, last, head).commit(b"")
        except _native.RingError as error:
            raise RingEnded(self.ring.consumer, error) from None

    def send_switch(self, epoch: int) -> None:
        """Says that the next request takes the ways of that assignment. Raises :class:`RingEnded`."""
        try:
            self._reserve(_Head("json", 0, 0, SWITCH), ()).commit(str(epoch).encode("ascii"))
        except _native.RingError as error:
            raise RingEnded(self.ring.consumer, error) from None

    def _complete(self, wires: list[values.Wire]) -> tuple[_native.Reservation, list[int]] | None:
        """The frame in which outputs were made, with the others copied behind them, and where in it each is.

        Without room for them, or for none, the frame is given up and `wires` get memory of their own.
        """
        frame, lent = self._frame, self._lent
        assert frame is not None, "only what was begun is completed"
        self._frame, self._lent = None, []
        self._borrowed.clear()
        at = [lent.index(place) if (place := _place(wire)) in lent else -1 for wire in wires]
        others = [position for position, index in enumerate(at) if index < 0]
        if wires and len(lent) + len(others) <= TENSORS_A_FRAME:
            try:
                for index, position in enumerate(others, len(lent)):
                    memory = frame.push(wires[position].wanted())
                    if wires[position].on_device:
                        wires[position].copy_into(memory)
                    at[position] = index
                torch_support.settle()
                return frame, at
            except _native.RingTooSmall:
                pass  # what was lent and is not sent takes their place
        wires[:] = [wire if index < 0 else wire.duplicate() for wire, index in zip(wires, at)]
        frame.abort()
        return None

    def _send_first(self, wires: list[values.Wire], head: _Head) -> int:
        """Sends what does not go into a request's last frame, and tells how many these are."""
        whole = len(wires) - (len(wires) - 1) % TENSORS_A_FRAME - 1
        for start in range(0, whole, TENSORS_A_FRAME):
            part = _Head("tensors", head.request, head.deadline_ms, MORE)
            self._write(wires[: start + TENSORS_A_FRAME], start, part).commit(b"")
        return whole

    def _send_text(self, text: bytes, head: _Head) -> None:
        part = _Head("json", head.request, head.deadline_ms, MORE)
        for start in range(0, len(text), self._json_room):
            self._write([], 0, part).commit(text[start : start + self._json_room])

    def _write(self, wires: list[values.Wire], first: int, head: _Head) -> _native.Reservation:
        """A frame with all of `wires` from `first` on."""
        wires = wires[first:] if first else wires
        try:
            reservation = self._reserve(head, [wire.wanted() for wire in wires])
        except _native.RingTooSmall as error:
            sentence, _, index = error.args
            source = self.ring.tensors[first + (index or 0)]
            raise DoesNotFit(f"{source} is larger than its ring was made for: {sentence}") from None
        if any(wire.on_device for wire in wires):
            for memory, wire in zip(reservation.tensors, wires):
                if wire.on_device:
                    wire.copy_into(memory)
            torch_support.settle()
        return reservation

    def _reserve(self, head: _Head, wanted: Sequence[_native.Wanted]) -> _native.Reservation:
        self.waits = True
        try:
            return self.native.reserve(
                head.kind, head.request, wanted, deadline_ms=head.deadline_ms, flags=head.flags
            )
        finally:
            self.waits = False


class _Head(NamedTuple):
    """What every frame of a request says."""

    kind: str
    request: int
    deadline_ms: int
    flags: int = 0


def _place(wire: values.Wire) -> tuple[int, str, tuple[int, ...]]:
    return wire.address, wire.dtype, wire.shape


class Inbox(_End):
    """The reading end of a ring."""

    def __init__(self, ring: Ring, epoch: int, timeout_ms: float) -> None:
        self.native = _native.Consumer(ring.path, epoch, timeout_ms=timeout_ms)
        super().__init__(ring, self.native.handle())

    @property
    def has_next(self) -> bool:
        """Whether the next request, or the end of the ring, is there."""
        return self.native.ready

    def receive(self) -> Arrival | Switch:
        """The next request. Its values are views into the ring and hold their slot. Or that a switch comes first.

        Raises :class:`RingEnded`, `ValueError` for what no lane of ours has written.
        """
        began = time.perf_counter()
        tensors: list[tuple[str, _native.Tensor | Array]] = []
        text = b""
        while True:
            try:
                frame = self.native.recv()
            except _native.RingError as error:
                raise RingEnded(self.ring.producer, error) from None
            text += frame.json
            found, flags = frame.tensors, frame.flags
            if flags & SWITCH:
                return Switch(int(text))
            if not flags & MORE:
                break
            tensors += [(tensor.dtype, np.asarray(tensor).copy()) for tensor in found]
            del frame, found  # and with them the slot
        tensors += [(tensor.dtype, tensor) for tensor in found]
        envelope, kinds, at = Envelope.decode(text)
        age_ms, now = frame.age_ms, time.perf_counter()
        sent = now - age_ms / 1000
        took_ms = min(age_ms, (now - began) * 1000)
        envelope.transfer[self.ring.id] = took_ms
        return Arrival(
            frame.request,
            frame.deadline_ms,
            self._values(tensors, kinds, at, envelope),
            envelope,
            sent,
            took_ms,
        )

    def _values(
        self,
        tensors: list[tuple[str, _native.Tensor | Array]],
        kinds: list[str],
        at: list[int] | None,
        envelope: Envelope,
    ) -> dict[Source, Any]:
        if envelope.failure is not None:
            return {}
        expected = len(self.ring.tensors)
        places = range(len(tensors)) if at is None else at
        if len(places) != expected or len(kinds) != expected:
            raise ValueError(
                f"ring {self.ring.id} delivered {len(places)} tensors of {len(kinds)} kinds: expected {expected}"
            )
        if at is not None and (not set(at) <= set(range(len(tensors))) or len(set(at)) < expected):
            raise ValueError(
                f"ring {self.ring.id} has its values at {places} of {len(tensors)} tensors: expected one for each"
            )
        return {
            source: values.from_ring(kind, *tensors[place])
            for source, kind, place in zip(self.ring.tensors, kinds, places)
        }


def _inode(path: str) -> int | None:
    try:
        return os.stat(path).st_ino
    except OSError:
        return None
