"""This lane's components for one request, and the rings that what they make goes into."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from .. import _native, room, torch_support, values
from ..answer import error_text
from ..author import format_error
from ..components import Component, ComponentFailure
from ..dag import Node, Source
from ..execution import Pool, Sequence
from ..output import Capture, captured
from .envelope import Envelope, Failure, LaneRecord
from .frames import DoesNotFit, Outbox
from .layout import Layout
from .turns import Turns
from .watch import Watch

__all__ = ["Stage", "Work"]


@dataclass(slots=True)
class Work:
    """One request in this lane."""

    request: int
    deadline_ms: int
    values: dict[Source, Any]
    envelope: Envelope
    capture: Capture
    #: Milliseconds that it waited for this lane, known when it begins.
    queued_ms: float = 0.0


class _Lender:
    """Lends the memory of rings to the component that runs."""

    def __init__(self, work: Work, owed: list[Outbox]) -> None:
        self._work = work
        self._owed = owed
        self._component = ""
        self._began = 0.0

    def begins(self, node: Node) -> None:
        self._component = node.id
        self._began = time.perf_counter()

    def took_ms(self, now: float) -> float:
        """Milliseconds that the component has run, until `now`; waiting for room in a ring does not count."""
        return (now - self._began) * 1000

    def lend(self, dtype: str, shape: tuple[int, ...]) -> _native.Tensor | None:
        asked = time.perf_counter()
        try:
            for box in self._owed:
                tensor = box.lend(self._component, dtype, shape, self._work.request, self._work.deadline_ms)
                if tensor is not None:
                    return tensor
            return None
        finally:
            self._began += time.perf_counter() - asked


class Stage:
    """Runs requests one at a time."""

    def __init__(
        self,
        layout: Layout,
        components: dict[str, Component],
        outboxes: Iterable[Outbox],
        watch: Watch,
        turns: Turns,
    ) -> None:
        self._layout = layout
        self._components = components
        self._outboxes = list(outboxes)
        self._watch = watch
        self._turns = turns
        self._last = layout.components[-1]
        kept = [source for box in self._outboxes for source in box.ring.tensors]
        if layout.is_head:
            kept += [port for port in layout.dag.outputs.values() if port.node in layout.components]
        self._sequence = Sequence((layout.dag.node(id) for id in layout.components), kept)
        self._one_at_a_time = threading.Lock()
        self._resident = threading.Event()
        self._resident.set()

    def run(self, work: Work) -> tuple[Pool | None, LaneRecord]:
        """Runs the components and sends what they make; an error goes to every ring that is still owed.

        Afterwards `work.envelope.failure` says whether it went wrong. The pool holds what was
        not sent. Raises :class:`RingEnded`.
        """
        owed = list(self._outboxes)
        pool = None
        if work.envelope.failure is None and work.deadline_ms and time.time() * 1000 > work.deadline_ms:
            late = f"the deadline of the request passed before {self._layout.label} could begin"
            work.envelope.failure = Failure(self._order(self._layout.components[0]), late)
        record = LaneRecord(work.queued_ms, 0.0)
        if work.envelope.failure is None:
            self._resident.wait()
            with self._one_at_a_time, self._turns.taken(), captured(work.capture):
                pool = self._execute(work, record, owed)
        if owed or self._layout.is_head:
            self._close(work, record)
        for box in owed:
            box.send(work.request, work.deadline_ms, [], work.envelope)
        return pool, record

    def evict(self) -> None:
        """Moves the weights out of the slice, once nothing runs; requests wait until they are back."""
        self._resident.clear()
        with self._one_at_a_time:
            for component in self._components.values():
                component.evict()
            torch_support.give_back()

    def resume(self) -> None:
        """Moves the weights back."""
        if not self._resident.is_set():
            with self._one_at_a_time:
                for component in self._components.values():
                    component.resume()
            self._resident.set()

    def waits_for(self) -> str | None:
        """The lane that has not taken what this one has for it, if this one waits for that."""
        return next((box.ring.consumer for box in self._outboxes if box.waits), None)

    def idle(self) -> None:
        """Returns when nothing runs."""
        with self._one_at_a_time:
            pass

    def _execute(self, work: Work, record: LaneRecord, owed: list[Outbox]) -> Pool | None:
        began = time.perf_counter()
        spent_sending = 0.0

        def produced(pool: Pool, node: Node) -> None:
            nonlocal spent_sending
            ready = [box for box in owed if pool.has_all(box.ring.tensors)]
            if ready or node.id == self._last:
                torch_support.settle()  # what was computed, or copied into a ring's memory, is there
            sending = time.perf_counter()
            record.components.append(lender.took_ms(sending))
            if node.id == self._last:
                record.exec_ms = (sending - began - spent_sending) * 1000
                self._close(work, record)
            for box in ready:
                items = [pool.look(source) for source in box.ring.tensors]
                if box.lends:
                    # Once it is sent its memory is the reader's, and others here may need it still.
                    for source, item in zip(box.ring.tensors, items):
                        if pool.is_shared(source) and box.has_lent(item):
                            pool.replace(source, values.duplicate(item))
                box.send(work.request, work.deadline_ms, items, work.envelope)
                owed.remove(box)
                del items
                for source in box.ring.tensors:
                    pool.drop(source)
            spent_sending += time.perf_counter() - sending

        lender = _Lender(work, owed)
        token = room.current.set(lender)
        self._watch.begin(work.deadline_ms)
        try:
            return self._sequence.run(self._components, work.values, produced, lender.begins)
        except ComponentFailure as failure:
            cause = failure.__cause__ or failure
            sys.stderr.write(format_error(cause))
            work.envelope.failure = Failure(self._order(failure.component), error_text(cause))
        except DoesNotFit as error:
            work.envelope.failure = Failure(self._order(self._last), error.sentence)
        finally:
            self._watch.end()
            room.current.reset(token)
        record.exec_ms = (time.perf_counter() - began - spent_sending) * 1000
        return None

    def _close(self, work: Work, record: LaneRecord) -> None:
        """Puts this lane's record into the envelope. The head keeps its own to itself."""
        if not self._layout.is_head:
            record.logs = work.capture.lines()
            work.envelope.lanes[self._layout.lane] = record

    def _order(self, component: str) -> int:
        return self._layout.dag.order(component)
