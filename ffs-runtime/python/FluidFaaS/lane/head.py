"""The head: the lane that takes requests and answers them.

Each request has a thread of its own for `pre`, for waiting and for `post`. Its place in the order is
fixed, and inputs of other lanes leave, when `pre` is done; then its components run on the main
thread, one request after the other, and a third thread collects what comes back.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .. import values
from ..dag import Dag, Source
from ..errors import PipelineError
from ..ffaas import arguments, result
from ..output import HEAD_LIMIT, Capture
from ..runner import check_inputs
from .envelope import Envelope, Failure
from .frames import Arrival, DoesNotFit, Outbox, Switch
from .layout import Layout
from .requests import Job, Request, current
from .stage import Stage, Work
from .ways import Entrances, Exits, Opened

if TYPE_CHECKING:
    from ..ffaas import FFaaS

__all__ = ["Head"]


class Head:
    """Runs requests over the lanes; see :class:`FluidFaaS.runner.Runner`."""

    def __init__(
        self,
        layout: Layout,
        early: Exits,
        entrances: Entrances,
        stage: Stage,
        on_broken: Callable[[Exception], None],
    ) -> None:
        """`early` are the rings that carry inputs only. `on_broken` hears what ends the pipeline."""
        self._layout = layout
        self._early = early
        self._entrances = entrances
        self._stage = stage
        self._on_broken = on_broken
        self._to_compute: queue.SimpleQueue[Job | _Turnout | None] = queue.SimpleQueue()
        self._to_collect: queue.SimpleQueue[Job | _Turnout] = queue.SimpleQueue()
        self._order = threading.Lock()
        self._flying: set[Job] = set()
        self._landed = threading.Condition()
        self._broken: str | None = None
        if entrances.ends:
            threading.Thread(target=self._collect, name="ffs-collect", daemon=True).start()

    def dag(self, function: type[FFaaS]) -> Dag | None:
        return self._layout.dag

    def migs(self) -> list[str]:
        return self._layout.migs

    def stages(self, function: type[FFaaS]) -> list[list[list[str]]]:
        return self._layout.stages

    def run(self, function: FFaaS) -> Any:
        """One request, on its own thread."""
        request = current.get() or Request("", 0, Capture(HEAD_LIMIT, self._layout.label))
        began = time.perf_counter()
        inputs = arguments(function)
        check_inputs(self._layout.dag, inputs)
        request.around_ms += (time.perf_counter() - began) * 1000
        job = Job(request, inputs)
        del inputs
        self._submit(job)
        try:
            found = job.wait()
        finally:
            with self._landed:
                self._flying.discard(job)
                self._landed.notify_all()
        outputs = {name: found[port] for name, port in self._layout.dag.outputs.items()}
        del found
        began = time.perf_counter()
        try:
            return result(function, outputs)
        finally:
            request.around_ms += (time.perf_counter() - began) * 1000

    def loop(self) -> None:
        """Computes, on the main thread, until the pipeline breaks."""
        while True:
            found = self._gather()
            last = found[-1]
            try:
                if jobs := [job for job in found if isinstance(job, Job)]:
                    self._compute(jobs)
                if isinstance(last, _Turnout):
                    last.leave(self._stage)
            except Exception as error:
                self._on_broken(error)
                return
            if last is None:
                return
            del found, last, jobs

    def _gather(self) -> list[Job | _Turnout | None]:
        """The next request with those that wait behind it, if they may run at once; up to another assignment, or
        the end (None).
        """
        found: list[Job | _Turnout | None] = []
        while not found or (
            len(found) < self._stage.most and isinstance(found[-1], Job) and not self._to_compute.empty()
        ):
            found.append(self._to_compute.get())
        return found

    def switch(self, to: Opened, begins: Callable[[], None], done: Callable[[], None]) -> None:
        """Requests take the ways of that assignment from the next one on.

        `begins` is called on the main thread before the first of them is computed. `done` is called when all before it are done and nothing is left on the old ways; the layout is the new
        one then.
        """
        turnout = _Turnout(to, begins, done)
        with self._order:
            try:
                self._early = self._early.switch(
                    Exits(to.exits(inputs_only=True), to.layout), to.layout.epoch
                )
            except Exception as error:
                self._on_broken(error)
                return
            self._to_compute.put(turnout)
            self._to_collect.put(turnout)

    def abandon(self, sentence: str) -> None:
        """The pipeline is broken: whatever waits, and whatever comes, is told so."""
        with self._landed:
            self._broken = self._broken or sentence
            flying = list(self._flying)
        for job in flying:
            job.abandon(sentence)
        self._to_compute.put(None)

    def wait_idle(self, timeout_s: float | None) -> bool:
        """Waits until nothing is on its way; says whether that came true in time."""
        with self._landed:
            return self._landed.wait_for(lambda: not self._flying, timeout_s)

    def _submit(self, job: Job) -> None:
        with self._order:
            with self._landed:
                if self._broken is not None:
                    raise PipelineError(self._broken)
                self._flying.add(job)
            job.submitted = time.perf_counter()
            job.expect(1 + self._entrances.width)
            for box in self._early.take():
                try:
                    self._send_early(box, job)
                except Exception as error:
                    self._on_broken(error)
                    return
            self._to_compute.put(job)
            if self._entrances.width:
                self._to_collect.put(job)

    def _send_early(self, box: Outbox, job: Job) -> None:
        items = [job.inputs[source] for source in box.ring.tensors]
        try:
            box.send(job.number, job.deadline_ms, [] if job.envelope.failure else items, job.envelope)
        except DoesNotFit as error:
            job.envelope.failure = Failure(-1, error.sentence)
            box.send(job.number, job.deadline_ms, [], job.envelope)

    def _compute(self, jobs: list[Job]) -> None:
        works = [self._work(job) for job in jobs]
        ports = [port for port in self._layout.dag.outputs.values() if port.node in self._layout.components]
        for job, work, (pool, record) in zip(jobs, works, self._stage.run_all(works)):
            job.record = record
            outputs: dict[Source, Any] = {}
            if pool is not None:
                outputs = {port: values.to_host(pool.take(port)) for port in ports}
            job.returned(outputs, work.envelope)

    @staticmethod
    def _work(job: Job) -> Work:
        waited_ms = (time.perf_counter() - job.submitted) * 1000
        inputs, job.inputs = job.inputs, {}
        envelope = Envelope(failure=job.envelope.failure)
        return Work(job.number, job.deadline_ms, inputs, envelope, job.capture, waited_ms)

    def _collect(self) -> None:
        try:
            while True:
                job = self._to_collect.get()
                if isinstance(job, _Turnout):
                    self._arrive(job)
                else:
                    self._collect_one(job)
                del job
        except Exception as error:
            self._on_broken(error)

    def _collect_one(self, job: Job) -> None:
        found = self._entrances.receive()
        if isinstance(found, Switch) or found[0].request != job.number:
            raise _unexpected(found, f"request {job.number:032x}")
        for arrival in found:
            job.returned(arrival.values, arrival.envelope)

    def _arrive(self, turnout: _Turnout) -> None:
        found = self._entrances.receive()
        expected = Switch(turnout.to.layout.epoch)
        if isinstance(found, list) or found != expected:
            raise _unexpected(found, str(expected))
        self._entrances = Entrances(turnout.to.entrances(), turnout.to.layout)
        self._layout = turnout.to.layout
        turnout.done()


def _unexpected(found: list[Arrival] | Switch, expected: str) -> ValueError:
    what = found if isinstance(found, Switch) else found[0]
    return ValueError(f"rings returned {what}: expected {expected}")


@dataclass(frozen=True, slots=True)
class _Turnout:
    """Between two requests: those behind it take other ways."""

    to: Opened
    #: Called before the first behind it is computed.
    begins: Callable[[], None]
    #: Called when those before it are done.
    done: Callable[[], None]

    def leave(self, stage: Stage) -> None:
        self.begins()
        exits = Exits(self.to.exits(inputs_only=False), self.to.layout)
        stage.use(stage.exits.switch(exits, self.to.layout.epoch))
