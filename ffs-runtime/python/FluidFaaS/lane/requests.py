"""Requests in the head: from the body of `/run` to its answer."""

from __future__ import annotations

import threading
import uuid
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from .. import output
from ..dag import Input, Source
from ..errors import FluidFaaSError, PipelineError
from .envelope import Envelope, LaneRecord

__all__ = ["Job", "Request", "RequestFailed", "current"]

#: The request that the running thread works for.
current: ContextVar[Request | None] = ContextVar("request", default=None)


class RequestFailed(FluidFaaSError):
    """A component failed; its traceback is in the log of its lane."""


@dataclass
class Request:
    """One `/run`."""

    activation_id: str
    deadline_ms: int
    capture: output.Capture
    #: Milliseconds in `pre` and `post`.
    around_ms: float = 0.0
    jobs: list[Job] = field(default_factory=list)

    def logs(self, lanes: list[str]) -> list[dict[str, str]]:
        """Its lines: the head's, then those of the other lanes."""
        lines = self.capture.lines()
        for job in self.jobs:
            for lane in lanes:
                lines += job.envelope.lanes[lane].logs if lane in job.envelope.lanes else []
        return [{"stream": stream, "text": text} for stream, text in lines]

    def timing(self, lanes: dict[str, tuple[str, ...]], head: str) -> dict[str, Any]:
        """Where its time went, as the document `Timing`; `lanes` are those of the instance with their components."""
        records: dict[str, LaneRecord] = {}
        runs: dict[str, list[float]] = {}
        transfer_ms = 0.0
        for job in self.jobs:
            transfer_ms += sum(job.envelope.transfer.values())
            for lane, record in {**job.envelope.lanes, head: job.record}.items():
                sum_ = records.setdefault(lane, LaneRecord(0.0, 0.0))
                sum_.queue_ms += record.queue_ms
                sum_.exec_ms += record.exec_ms
                for component, ms in zip(lanes.get(lane, ()), record.components):
                    runs.setdefault(component, []).append(ms)
        records.setdefault(head, LaneRecord(0.0, 0.0)).exec_ms += self.around_ms
        return {
            "lanes": [
                {
                    "id": lane,
                    "queue_ms": round(records[lane].queue_ms, 3),
                    "exec_ms": round(records[lane].exec_ms, 3),
                    "components": {
                        component: round(sum(runs[component]) / len(runs[component]), 3)
                        for component in components
                        if component in runs
                    },
                }
                for lane, components in lanes.items()
                if lane in records
            ],
            "transfer_ms": round(transfer_ms, 3),
        }


class Job:
    """One run of the DAG: usually the only one of its request."""

    def __init__(self, request: Request, inputs: dict[str, Any]) -> None:
        taken = bool(request.jobs)
        #: Distinct among all that are on their way.
        self.number = _number(request.activation_id, taken)
        self.deadline_ms = request.deadline_ms
        self.capture = request.capture
        self.inputs: dict[Source, Any] = {Input(name): value for name, value in inputs.items()}
        self.outputs: dict[Source, Any] = {}
        self.envelope = Envelope()
        self.record = LaneRecord(0.0, 0.0)
        self.submitted = 0.0
        self._lock = threading.Lock()
        self._owed = 0
        self._broken: str | None = None
        self._done = threading.Event()
        request.jobs.append(self)

    def expect(self, parts: int) -> None:
        """So many calls of :meth:`returned` make it complete."""
        self._owed = parts

    def returned(self, outputs: dict[Source, Any], envelope: Envelope) -> None:
        """A part of the result is there: from the head's own components, or from a return ring."""
        with self._lock:
            self.outputs.update(outputs)
            self.envelope = Envelope.joined((self.envelope, envelope))
            self._owed -= 1
            if self._owed == 0:
                self._done.set()

    def abandon(self, sentence: str) -> None:
        """The pipeline is broken; nothing will come back."""
        self._broken = sentence
        self._done.set()

    def wait(self) -> dict[Source, Any]:
        """The outputs, which are the caller's alone.

        Raises :class:`RequestFailed`, :class:`PipelineError`.
        """
        self._done.wait()
        if self._broken is not None:
            raise PipelineError(self._broken)
        if self.envelope.failure is not None:
            raise RequestFailed(self.envelope.failure.text)
        outputs, self.outputs = self.outputs, {}
        return outputs


def _number(activation_id: str, taken: bool) -> int:
    try:
        number = int(activation_id, 16) if len(activation_id) == 32 and not taken else 0
    except ValueError:
        number = 0
    return number or uuid.uuid4().int
