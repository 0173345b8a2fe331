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
from typing import TYPE_CHECKING, Any

from .. import values
from ..dag import Dag, Source
from ..errors import PipelineError
from ..ffaas import arguments, result
from ..output import HEAD_LIMIT, Capture
from ..runner import check_inputs
from .envelope import Envelope, Failure
from .frames import DoesNotFit, Inbox, Outbox
from .layout import Layout
from .requests import Job, Request, current
from .stage import Stage, Work

if TYPE_CHECKING:
    from ..ffaas import FFaaS

__all__ = ["Head"]


class Head:
    """Runs requests over the lanes; see :class:`FluidFaaS.runner.Runner`."""

    def __init__(
        self,
        layout: Layout,
        early: list[Outbox],
        inboxes: list[Inbox],
        stage: Stage,
        on_broken: Callable[[Exception], None],
    ) -> None:
        """`early` are the rings that carry inputs only. `on_broken` hears what ends the pipeline."""
        self._layout = layout
        self._early = early
        self._inboxes = inboxes
        self._stage = stage
        self._on_broken = on_broken
        self._to_compute: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._to_collect: queue.SimpleQueue[Job] = queue.SimpleQueue()
        self._order = threading.Lock()
        self._flying: set[Job] = set()
        self._landed = threading.Condition()
        self._broken: str | None = None
        if inboxes:
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
        while jobs := self._next():
            try:
                self._compute(jobs)
            except Exception as error:
                self._on_broken(error)
                return
            del jobs

    def _next(self) -> list[Job]:
        """The next request, with those that wait behind it if they may run at once; none at the end."""
        job = self._to_compute.get()
        jobs = [job] if job is not None else []
        while jobs and len(jobs) < self._stage.most:
            try:
                job = self._to_compute.get_nowait()
            except queue.Empty:
                break
            if job is None:
                self._to_compute.put(None)  # for the next time
                break
            jobs.append(job)
        return jobs

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
            job.expect(1 + len(self._inboxes))
            for box in self._early:
                try:
                    self._send_early(box, job)
                except Exception as error:
                    self._on_broken(error)
                    return
            self._to_compute.put(job)
            if self._inboxes:
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
        while True:
            job = self._to_collect.get()
            for inbox in self._inboxes:
                try:
                    arrival = inbox.receive()
                    if arrival.request != job.number:
                        raise ValueError(
                            f"ring {inbox.ring.id} returned request {arrival.request:032x}: expected {job.number:032x}"
                        )
                except Exception as error:
                    self._on_broken(error)
                    return
                job.returned(arrival.values, arrival.envelope)
                del arrival
            del job
