"""The invoker's side of the socket for weights, for tests: gives back sealed memory, or says no."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import socket
import threading
from pathlib import Path
from typing import Any


class Store:
    """Answers lanes whose config layer is `folder`."""

    def __init__(self, folder: Path, answer: str = "shared") -> None:
        self._answer = answer
        self._kept: dict[str, int] = {}
        #: Contents that were handed over.
        self.asked: list[bytes] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.bind(str(folder / "weights"))
        self._socket.listen()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            connection, _ = self._socket.accept()
            with connection:
                self._exchange(connection)

    def _exchange(self, connection: socket.socket) -> None:
        line, (descriptor,), _, _ = socket.recv_fds(connection, 4096, 1)
        assert json.loads(line) == {"schema": "ffs.weights/1"}
        content = os.pread(descriptor, os.fstat(descriptor).st_size, 0)
        os.close(descriptor)
        self.asked.append(content)
        if self._answer == "shared":
            digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
            memory = self._kept.setdefault(digest, -1)
            if memory < 0:
                memory = self._kept[digest] = sealed(content)
            self._say(connection, {"digest": digest, "bytes": len(content)}, [memory])
        elif self._answer == "shorter":
            self._say(connection, {"digest": "sha256:0", "bytes": 1}, [sealed(content[:-1])])
        elif self._answer == "refused":
            self._say(connection, {"because": "there is no room"}, [])
        else:
            connection.sendall(self._answer.encode())

    @staticmethod
    def _say(connection: socket.socket, answer: Any, descriptors: list[int]) -> None:
        socket.send_fds(connection, [json.dumps(answer).encode() + b"\n"], descriptors)


def sealed(content: bytes) -> int:
    memory = os.memfd_create("ffs-weights", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.write(memory, content)
    seals = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL
    fcntl.fcntl(memory, fcntl.F_ADD_SEALS, seals)
    return memory
