"""The proxy's side of the socket pair, for tests: starts children and talks with them."""

from __future__ import annotations

import json
import os
import queue
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

#: Generous: the machine may be busy.
PATIENCE = 120


class Child:
    """One `python -m FluidFaaS.child`, and what it says."""

    def __init__(self, folder: Path, **environment: str) -> None:
        ours, theirs = socket.socketpair()
        os.set_inheritable(theirs.fileno(), True)
        self._folder = tempfile.TemporaryDirectory(dir=folder)
        self.folder = Path(self._folder.name)
        variables = {
            name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH", "PYTHONPATH") if name in os.environ
        }
        variables |= {
            "FFS_CHILD_FD": str(theirs.fileno()),
            "TMPDIR": self._folder.name,
            "OMP_NUM_THREADS": "1",
        }
        self.stdout_file, self.stderr_file = self.folder / "stdout", self.folder / "stderr"
        self.process = self._begin(variables | environment, theirs, folder)
        theirs.close()
        self._socket = ours
        self._next = 0
        self._answers: dict[int, queue.SimpleQueue[Any]] = {}
        self._said: dict[str, queue.SimpleQueue[Any]] = {}
        self._lock = threading.Lock()
        self.closed = threading.Event()
        threading.Thread(target=self._read, daemon=True).start()

    def _begin(self, environment: dict[str, str], theirs: socket.socket, folder: Path) -> Any:
        with self.stdout_file.open("wb") as out, self.stderr_file.open("wb") as err:
            return subprocess.Popen(
                [sys.executable, "-m", "FluidFaaS.child"],
                env=environment,
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
                cwd=folder,
            )

    # What the proxy does.

    def init(self, code: str = "", **value: Any) -> Any:
        """The error of `initialized`, or None."""
        self.send(
            {"type": "init", "value": {"name": "app", "main": "main", "binary": False, "code": code, **value}}
        )
        return self.said("initialized")["error"]

    def begin_run(self, value: Any, **members: str) -> int:
        return self._ask("run", body={"value": value, **members})

    def run(self, value: Any, **members: str) -> dict[str, Any]:
        return self.answer(self.begin_run(value, **members))

    def build(self, example: Any) -> dict[str, Any]:
        return self.answer(
            self._ask("build", request={"function": "guest/app", "revision": "1-a", "example": example})
        )

    def profile(self, example: Any, kind: str = "1g.10gb", **limits: Any) -> dict[str, Any]:
        request = {"kind": kind, "example": example, "min_runs": 3, "max_runs": 5, "budget_ms": 100, **limits}
        return self.answer(self._ask("profile", request=request))

    def answer(self, id: int) -> dict[str, Any]:
        return self._wait(self._answers[id], f"the answer to {id}")

    def said(self, kind: str) -> dict[str, Any]:
        return self._wait(self._of(kind), kind)

    def _wait(self, messages: queue.SimpleQueue[Any], what: str) -> dict[str, Any]:
        give_up = time.monotonic() + PATIENCE
        while time.monotonic() < give_up:
            ended = self.closed.is_set()
            try:
                return messages.get(timeout=0 if ended else 0.2)
            except queue.Empty:
                if ended:
                    break
        raise AssertionError(f"{what} did not come; stderr: {self.stderr()}")

    def send(self, message: dict[str, Any]) -> None:
        text = json.dumps(message).encode()
        self._socket.sendall(struct.pack("<I", len(text)) + text)

    def stdout(self) -> str:
        return self.stdout_file.read_text()

    def stderr(self) -> str:
        return self.stderr_file.read_text()

    def wait(self) -> int:
        return self.process.wait(PATIENCE)

    def end(self) -> None:
        """Closes the socket, which ends the child; kills it if it does not."""
        self._socket.close() if self.closed.is_set() else self._socket.shutdown(socket.SHUT_RDWR)
        try:
            self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            raise
        finally:
            self._socket.close()
            self._folder.cleanup()

    def _ask(self, kind: str, **members: Any) -> int:
        with self._lock:
            self._next += 1
            id = self._next
            self._answers[id] = queue.SimpleQueue()
        self.send({"type": kind, "id": id, **members})
        return id

    def _of(self, kind: str) -> queue.SimpleQueue[Any]:
        with self._lock:
            return self._said.setdefault(kind, queue.SimpleQueue())

    def _read(self) -> None:
        try:
            while len(head := self._socket.recv(4, socket.MSG_WAITALL)) == 4:
                (length,) = struct.unpack("<I", head)
                message = json.loads(self._socket.recv(length, socket.MSG_WAITALL))
                if message["type"] == "result":
                    self._answers[message["id"]].put(message)
                else:
                    self._of(message["type"]).put(message)
        except OSError:
            pass
        finally:
            self.closed.set()
