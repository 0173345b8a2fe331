"""The socket pair to the proxy: messages of JSON, each behind its length (`u32`, little-endian).

The messages themselves are described where the proxy defines them, in `ffs-runtime/src/child/protocol.rs`.
"""

from __future__ import annotations

import json
import os
import socket
import struct
import threading

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["Link"]

VARIABLE = "FFS_CHILD_FD"


class Link:
    """This process's end."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._reading = connection.makefile("rb")
        self._writing = threading.Lock()

    @classmethod
    def from_environment(cls) -> Link:
        """Takes over the descriptor that the proxy names; processes of the user's do not inherit it."""
        number = os.environ.pop(VARIABLE, "")
        if not number.isdigit():
            raise SystemExit(
                f"{VARIABLE} is {number!r}: expected the number of a socket; ffs-runtime starts this module"
            )
        connection = socket.socket(fileno=int(number))
        connection.set_inheritable(False)
        os.register_at_fork(after_in_child=lambda: os.close(connection.detach()))
        return cls(connection)

    def send(self, type: str, **members: Any) -> None:
        """Sends one message. A proxy that has gone is noticed where messages are read."""
        self._send(json.dumps({"type": type, **members}, ensure_ascii=True).encode("ascii"))

    def send_result(self, id: int, status: int, body: str, logs: list[Any], timing: Any) -> None:
        """Sends a result whose `body` is JSON text already; it reaches the user as it is here."""
        rest = json.dumps({"logs": logs, "timing": timing})
        text = f'{{"type":"result","id":{id},"status":{status},"body":{body},{rest[1:]}'
        self._send(text.encode("utf-8"))

    def receive(self) -> dict[str, Any] | None:
        """The next message; None when the proxy has closed the socket."""
        try:
            head = self._reading.read(4)
            if len(head) < 4:
                return None
            (length,) = struct.unpack("<I", head)
            message = self._reading.read(length)
        except OSError:
            return None
        return json.loads(message) if len(message) == length else None

    def _send(self, message: bytes) -> None:
        with self._writing:
            try:
                self._socket.sendall(struct.pack("<I", len(message)) + message)
            except OSError:
                pass
