"""Starts the processes of an instance and plays their proxies: what `ffs-runtime` and the invoker do on a node."""

from __future__ import annotations

import json
import os
import queue
import socket
import struct
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ..dag import Dag
from ..errors import DefinitionError, PipelineError
from .assignment import Plan, assignment

__all__ = ["Instance", "Process"]


class Process:
    """One `python -m FluidFaaS.child`, and what it says."""

    def __init__(self, value: dict[str, Any], module: str = "FluidFaaS.child", **environment: str) -> None:
        ours, theirs = socket.socketpair()
        variables = os.environ | {"FFS_CHILD_FD": str(theirs.fileno()), "OMP_NUM_THREADS": "1"} | environment
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", module],
            env=variables,
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr.fileno(),
        )
        theirs.close()
        self._socket = ours
        self._said: dict[str, queue.SimpleQueue[dict[str, Any] | None]] = {}
        self._lock = threading.Lock()
        self._asked = 0
        self._ended = False
        threading.Thread(target=self._read, daemon=True).start()
        self.send({"type": "init", "value": value})

    def initialized(self) -> None:
        """Waits until the code is imported. Raises :class:`DefinitionError` if it cannot be."""
        error = self.said("initialized")["error"]
        if error is not None:
            raise DefinitionError(error["sentence"], error["at"])

    def build(self, example: Any) -> Dag:
        """The DAG that the code has for `example`."""
        request = {"function": "local/app", "revision": "1-local", "example": example}
        answer = self.answer(self.ask("build", request=request))
        if answer["status"] != 200:
            raise DefinitionError(answer["body"]["error"])
        return Dag.from_document(answer["body"])

    def ask(self, kind: str, **members: Any) -> int:
        with self._lock:
            self._asked += 1
            id = self._asked
        self.send({"type": kind, "id": id, **members})
        return id

    def answer(self, id: int) -> dict[str, Any]:
        return self.said(f"result {id}")

    def said(self, kind: str) -> dict[str, Any]:
        """The next message of a kind. Raises :class:`PipelineError` if the process ends first."""
        message = self._of(kind).get()
        if message is None:
            status = self._process.wait()
            why = f"by signal {-status}" if status < 0 else f"with exit code {status}"
            raise PipelineError(f"the Python process ended {why}")
        return message

    def send(self, message: dict[str, Any]) -> None:
        text = json.dumps(message).encode()
        try:
            self._socket.sendall(struct.pack("<I", len(text)) + text)
        except OSError:
            pass  # it has ended, which whoever waits for an answer learns

    def end(self) -> None:
        """Closes the socket, which ends the process."""
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # it was first
        self._process.wait()
        self._socket.close()

    def _of(self, kind: str) -> queue.SimpleQueue[dict[str, Any] | None]:
        with self._lock:
            found = self._said.setdefault(kind, queue.SimpleQueue())
            if self._ended:
                found.put(None)
            return found

    def _read(self) -> None:
        with self._socket.makefile("rb") as stream:
            try:
                while len(head := stream.read(4)) == 4:
                    message = json.loads(stream.read(struct.unpack("<I", head)[0]))
                    kind = message["type"]
                    self._of(f"result {message['id']}" if kind == "result" else kind).put(message)
                    if kind == "failed":
                        self._of("loaded").put(message)
            except (OSError, ValueError):
                pass
        with self._lock:
            self._ended = True
            for waiting in self._said.values():
                waiting.put(None)


class Instance:
    """The lanes of a plan."""

    def __init__(self, folder: Path, value: dict[str, Any], dag: Dag, plan: Plan) -> None:
        """`folder` is empty and becomes the config layer."""
        self._folder = folder
        self.dag = dag
        self.in_flight = len(plan) + 1
        document = assignment(f"local-{uuid.uuid4().hex[:12]}", dag, plan)
        (folder / "dag.json").write_text(json.dumps(dag.to_document()))
        (folder / "assignment.json").write_text(json.dumps(document))
        self.lanes = [lane["id"] for stage in document["stages"] for lane in stage["lanes"]]
        self._processes = {lane: self._start(lane, value) for lane in self.lanes}
        try:
            for process in self._processes.values():
                process.initialized()
            for process in self._processes.values():
                process.send({"type": "serve"})
            for process in self._processes.values():
                said = process.said("loaded")
                if said["type"] == "failed":
                    raise DefinitionError(said["sentence"], said["at"])
        except BaseException:
            self.end()
            raise

    def run(self, requests: Iterable[Any], deadline_s: float) -> list[dict[str, Any]]:
        """The results of requests, of which as many are under way as on a node. `took_ms` is what each took."""
        head = self._processes["s0l0"]
        waiting: list[tuple[int, float]] = []
        results: list[dict[str, Any]] = []

        def take() -> None:
            id, began = waiting.pop(0)
            result = head.answer(id)
            results.append({**result, "took_ms": (time.monotonic() - began) * 1000})

        for value in requests:
            if len(waiting) == self.in_flight:
                take()
            body = {
                "value": value, "activation_id": uuid.uuid4().hex, "action_name": "/local/app", "namespace": "local",
                "deadline": str(int((time.time() + deadline_s) * 1000)),
            }  # fmt: skip
            waiting.append((head.ask("run", body=body), time.monotonic()))
        while waiting:
            take()
        return results

    def spans(self) -> list[tuple[str, str, float, float]]:
        """Lane, component, begin and end in seconds of the monotonic clock, of every run so far."""
        found = []
        for lane in self.lanes:
            for line in (self._folder / f"{lane}.trace").read_text().splitlines():
                component, began, ended = json.loads(line)
                found.append((lane, component, began, ended))
        return found

    def end(self) -> None:
        for process in self._processes.values():
            process.end()

    def _start(self, lane: str, value: dict[str, Any]) -> Process:
        return Process(
            value,
            "FluidFaaS.local.traced",
            FFS_CONFIG=str(self._folder),
            FFS_LANE=lane,
            FFS_TRACE=str(self._folder / f"{lane}.trace"),
        )
