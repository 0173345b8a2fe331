"""This lane's components for one request, and the rings that what they make goes into."""

from __future__ import annotations

import sys
import threading
import time
from dataclasses import dataclass
from typing import Any

from .. import _native, batches, room, torch_support, values
from ..answer import error_text
from ..author import format_error
from ..components import Component, ComponentFailure
from ..dag import Node, Port, Source
from ..execution import Pool, Sequence
from ..output import Capture, captured
from .envelope import Envelope, Failure, LaneRecord
from .frames import DoesNotFit, Outbox
from .layout import Layout
from .turns import Turns
from .watch import Watch
from .ways import Exits

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


@dataclass(slots=True)
class _Part:
    """One request among several that run at once."""

    work: Work
    record: LaneRecord
    owed: list[Outbox]
    #: None before its first component, and once it has failed.
    pool: Pool | None = None


class Stage:
    """Runs requests one at a time, or those that wait at once where all components of the lane allow it."""

    def __init__(
        self,
        layout: Layout,
        components: dict[str, Component],
        exits: Exits,
        watch: Watch,
        turns: Turns,
    ) -> None:
        self._layout = layout
        self._components = components
        self._watch = watch
        self._turns = turns
        self._last = layout.components[-1]
        #: Most requests at once.
        self.most = min(layout.batch, *(layout.dag.node(id).batch for id in layout.components))
        kept = [source for box in exits.ends for source in box.ring.tensors]
        if layout.is_head:
            kept += [port for port in layout.dag.outputs.values() if port.node in layout.components]
        self._sequence = Sequence((layout.dag.node(id) for id in layout.components), kept)
        self.use(exits)
        self._one_at_a_time = threading.Lock()
        self._resident = threading.Event()
        self._resident.set()

    def use(self, exits: Exits) -> None:
        """Requests leave through these rings from now on."""
        order = {node.id: position for position, node in enumerate(self._sequence.nodes)}
        self.exits = exits
        #: By ring, after which component all that it carries is there.
        self._filled = {
            box.ring.id: max((order[s.node] for s in box.ring.tensors if isinstance(s, Port)), default=0)
            for box in exits.ends
        }

    def run(self, work: Work) -> tuple[Pool | None, LaneRecord]:
        """Runs the components and sends what they make; an error goes to every ring that is still owed.

        Afterwards `work.envelope.failure` says whether it went wrong. The pool holds what was
        not sent. Raises :class:`RingEnded`.
        """
        owed = self.exits.take()
        pool = None
        self._refuse_late(work)
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

    def run_all(self, works: list[Work]) -> list[tuple[Pool | None, LaneRecord]]:
        """As :meth:`run`, for each. Several have one execution of each component where their inputs can be
        stacked, and it is part of the time of each. If that fails, each runs alone, so that the error of one is
        nobody else's. On each ring they keep their order.
        """
        if len(works) == 1:
            return [self.run(works[0])]
        parts = [_Part(work, LaneRecord(work.queued_ms, 0.0), self.exits.take()) for work in works]
        for part in parts:
            self._refuse_late(part.work)
        going = [part for part in parts if part.work.envelope.failure is None]
        if going:
            self._resident.wait()
            with self._one_at_a_time, self._turns.taken(), captured(going[0].work.capture):
                self._execute_all(parts)
        for part in parts:
            self._send_owed(part, len(self._sequence.nodes))
            if self._layout.is_head:
                self._close(part.work, part.record)
        return [(part.pool, part.record) for part in parts]

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
        return next((box.ring.consumer for box in self.exits.ends if box.waits), None)

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

    def _execute_all(self, parts: list[_Part]) -> None:
        began = time.perf_counter()
        spent_sending = 0.0
        going = [part for part in parts if part.work.envelope.failure is None]
        for part in going:
            part.pool = self._sequence.pool(part.work.values)
        self._watch.begin(min((p.work.deadline_ms for p in going if p.work.deadline_ms), default=0))
        try:
            for position, node in enumerate(self._sequence.nodes):
                self._run_component(node, going)
                torch_support.settle()
                sending = time.perf_counter()
                for part in going:
                    part.record.exec_ms = (sending - began - spent_sending) * 1000
                for part in parts:
                    self._send_owed(part, position)
                spent_sending += time.perf_counter() - sending
                going = [part for part in going if part.pool is not None]
                if not going:
                    return
        finally:
            self._watch.end()

    def _run_component(self, node: Node, going: list[_Part]) -> None:
        """Runs one component for all; whose run fails has no pool afterwards."""
        component = self._components[node.id]
        pools = [part.pool for part in going if part.pool is not None]
        inputs = [[pool.take(source) for source in node.sources] for pool in pools]
        together: ComponentFailure | None = None
        found: list[list[Any] | None] | None = None
        if len(going) > 1 and (stacked := batches.stack(inputs)) is not None:
            try:
                found = list(component.run_stacked(*stacked))
            except ComponentFailure as failure:
                together = failure
        if found is None:
            found = [self._run_alone(component, part, own) for part, own in zip(going, inputs)]
        if together is not None and None not in found:
            self.most = 1
            cause = together.__cause__ or together
            sys.stderr.write(
                f"component {node.id} failed for {len(going)} requests at once and for none of them alone: "
                f"it gets one at a time from now on ({type(cause).__name__}: {cause})\n"
            )
        for part, pool, outputs in zip(going, pools, found):
            if outputs is None:
                part.pool = None
                continue
            for port, value in enumerate(outputs):
                pool.put(Port(node.id, port), value)

    def _run_alone(self, component: Component, part: _Part, inputs: list[Any]) -> list[Any] | None:
        with captured(part.work.capture):
            try:
                return component.run(inputs)
            except ComponentFailure as failure:
                cause = failure.__cause__ or failure
                sys.stderr.write(format_error(cause))
                part.work.envelope.failure = Failure(self._order(failure.component), error_text(cause))
                return None

    def _send_owed(self, part: _Part, position: int) -> None:
        """Sends what is complete after the component at `position`, or that the request has failed."""
        work = part.work
        for box in [box for box in part.owed if self._filled[box.ring.id] <= position]:
            if part.pool is None or position + 1 >= len(self._sequence.nodes):
                self._close(work, part.record)
            if part.pool is not None:
                items = [part.pool.look(source) for source in box.ring.tensors]
                try:
                    box.send(work.request, work.deadline_ms, items, work.envelope)
                except DoesNotFit as error:
                    work.envelope.failure = Failure(self._order(self._last), error.sentence)
                    part.pool = None
                    self._close(work, part.record)
            if part.pool is None:
                box.send(work.request, work.deadline_ms, [], work.envelope)
            else:
                for source in box.ring.tensors:
                    part.pool.drop(source)
            part.owed.remove(box)

    def _refuse_late(self, work: Work) -> None:
        if work.envelope.failure is None and work.deadline_ms and time.time() * 1000 > work.deadline_ms:
            late = f"the deadline of the request passed before {self._layout.label} could begin"
            work.envelope.failure = Failure(self._order(self._layout.components[0]), late)

    def _close(self, work: Work, record: LaneRecord) -> None:
        """Puts this lane's record into the envelope. The head keeps its own to itself."""
        if not self._layout.is_head:
            record.logs = work.capture.lines()
            work.envelope.lanes[self._layout.lane] = record

    def _order(self, component: str) -> int:
        return self._layout.dag.order(component)
