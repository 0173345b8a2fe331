"""Requests as frames in a ring.

A request is one frame, unless it has more than 16 tensors or says more than its slot has room for
(long output, a long error). Then frames that carry the flag MORE come before the last one; the
reader copies those at once, so that a request never holds more than one slot.
"""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import _native, values
from ..dag import Source
from ..errors import FluidFaaSError
from ..tensors import Array
from .envelope import Envelope
from .layout import Ring

__all__ = ["Arrival", "DoesNotFit", "Inbox", "Outbox", "RingEnded"]

MORE = 1
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


@dataclass
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


class _End:
    """One end of a ring."""

    def __init__(self, ring: Ring, handle: _native.Handle) -> None:
        self.ring = ring
        self._handle = handle
        self._inode = _inode(ring.path)

    def poison(self, reason: str, sentence: str) -> None:
        """Ends the ring for both ends, whoever waits in it."""
        self._handle.poison(reason, sentence)

    def remove_name(self) -> None:
        """Takes the ring's name away, for whoever was killed and cannot; not from a newer ring."""
        if self._inode is not None and _inode(self.ring.path) == self._inode:
            with contextlib.suppress(OSError):
                os.unlink(self.ring.path)


class Outbox(_End):
    """The writing end of a ring."""

    def __init__(self, ring: Ring, epoch: int) -> None:
        self._producer = _native.Producer(ring.path, ring.slots, ring.slot_bytes, epoch)
        self._json_room = self._producer.json_room
        super().__init__(ring, self._producer.handle())

    def send(self, request: int, deadline_ms: int, items: list[Any], envelope: Envelope) -> None:
        """Sends a request: the values of the ring's tensors, or if it failed none.

        Raises :class:`DoesNotFit`, after which the request can still be sent as failed; :class:`RingEnded`.
        """
        began = time.perf_counter()
        wires = [values.to_wire(item) for item in items]
        head = {"request": request, "deadline_ms": deadline_ms}
        whole = len(wires) - (len(wires) - 1) % TENSORS_A_FRAME - 1 if wires else 0
        try:
            for start in range(0, whole, TENSORS_A_FRAME):
                self._write("tensors", wires[start : start + TENSORS_A_FRAME], start, head, MORE).commit(b"")
            last = wires[whole:]
            kind = "error" if envelope.failure is not None else "tensors"
            reservation = self._write(kind, last, whole, head, 0)
            took_ms = (time.perf_counter() - began) * 1000
            story = Envelope(envelope.lanes, {**envelope.transfer, self.ring.id: took_ms}, envelope.failure)
            text = story.encode([wire.kind for wire in wires])
            try:
                reservation.commit(text)
            except _native.RingTooSmall as error:
                reservation.abort()
                room = error.args[1]
                self._send_text(text[: len(text) - room], head)
                self._write(kind, last, whole, head, 0).commit(text[len(text) - room :])
        except _native.RingError as error:
            raise RingEnded(self.ring.consumer, error) from None

    def _write(
        self, kind: str, wires: list[values.Wire], first: int, head: dict[str, int], flags: int
    ) -> Any:
        shapes = [(wire.dtype, wire.shape) for wire in wires]
        try:
            reservation = self._producer.reserve(kind, tensors=shapes, flags=flags, **head)
        except _native.RingTooSmall as error:
            sentence, _, index = error.args
            source = self.ring.tensors[first + (index or 0)]
            raise DoesNotFit(f"{source} is larger than its ring was made for: {sentence}") from None
        for tensor, wire in zip(reservation.tensors, wires):
            np.copyto(np.asarray(tensor), wire.data)
        return reservation

    def _send_text(self, text: bytes, head: dict[str, int]) -> None:
        for start in range(0, len(text), self._json_room):
            piece = self._write("json", [], 0, head, MORE)
            piece.commit(text[start : start + self._json_room])


class Inbox(_End):
    """The reading end of a ring."""

    def __init__(self, ring: Ring, epoch: int, timeout_ms: float) -> None:
        self._consumer = _native.Consumer(ring.path, epoch, timeout_ms=timeout_ms)
        super().__init__(ring, self._consumer.handle())

    def receive(self) -> Arrival:
        """The next request. Its values are views into the ring and hold their slot.

        Raises :class:`RingEnded`, `ValueError` for what no lane of ours has written.
        """
        began = time.perf_counter()
        arrays: list[tuple[str, Array]] = []
        text = b""
        while True:
            try:
                frame = self._consumer.recv()
            except _native.RingError as error:
                raise RingEnded(self.ring.producer, error) from None
            received = time.perf_counter()
            text += frame.json
            found = [(tensor.dtype, np.asarray(tensor)) for tensor in frame.tensors]
            if not frame.flags & MORE:
                break
            arrays += [(dtype, array.copy()) for dtype, array in found]
            del frame, found  # and with them the slot
        arrays += found
        envelope, kinds = Envelope.decode(text)
        age_ms = frame.age_ms
        sent = time.perf_counter() - age_ms / 1000
        read_ms = (time.perf_counter() - received) * 1000
        took_ms = min(age_ms, (received - began) * 1000 + read_ms)
        envelope.transfer[self.ring.id] = envelope.transfer.get(self.ring.id, 0.0) + took_ms
        return Arrival(
            frame.request, frame.deadline_ms, self._values(arrays, kinds, envelope), envelope, sent, took_ms
        )

    def _values(
        self, arrays: list[tuple[str, Array]], kinds: list[str], envelope: Envelope
    ) -> dict[Source, Any]:
        if envelope.failure is not None:
            return {}
        expected = len(self.ring.tensors)
        if len(arrays) != expected or len(kinds) != expected:
            raise ValueError(
                f"ring {self.ring.id} delivered {len(arrays)} tensors of {len(kinds)} kinds: expected {expected}"
            )
        return {
            source: values.from_wire(kind, dtype, array)
            for source, kind, (dtype, array) in zip(self.ring.tensors, kinds, arrays)
        }


def _inode(path: str) -> int | None:
    try:
        return os.stat(path).st_ino
    except OSError:
        return None
