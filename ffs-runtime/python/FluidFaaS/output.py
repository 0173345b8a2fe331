"""Standard output and error, request by request.

In a lane several requests overlap, so what the user's code prints is kept with the request that
printed it. Which one that is the context says (:mod:`contextvars`); a thread that the user's code
started itself has none, and belongs to the only request there is, if there is only one. Writes that
do not go through `sys.stdout` and `sys.stderr` stay what they are.
"""

from __future__ import annotations

import io
import sys
import threading
from contextvars import ContextVar
from typing import Any, TextIO

__all__ = ["Capture", "LANE_LIMIT", "HEAD_LIMIT", "captured", "install"]

#: Bytes that a lane sends along with a request.
LANE_LIMIT = 64 * 1024
#: Bytes that the head keeps of a request; OpenWhisk's largest log limit.
HEAD_LIMIT = 10 * 1024 * 1024

_current: ContextVar[Capture | None] = ContextVar("output", default=None)
_active: list[Capture] = []


class Capture:
    """The lines of one request in one lane."""

    def __init__(self, limit: int, where: str) -> None:
        self._lock = threading.Lock()
        self._lines: list[tuple[str, str]] = []
        self._open = {"stdout": "", "stderr": ""}
        self._room = limit
        self._written = False
        self._where = where
        self._limit = limit

    def write(self, stream: str, text: str) -> None:
        with self._lock:
            self._written = True
            *whole, rest = (self._open[stream] + text).split("\n")
            for line in whole:
                self._add(stream, line)
            # A line without end must not grow without bound either.
            self._open[stream] = rest if self._room >= 0 else ""
            if len(rest) > self._room >= 0:
                self._add(stream, rest)
                self._open[stream] = ""

    def lines(self) -> list[tuple[str, str]]:
        """(stream, text) in the order in which lines were ended."""
        if not self._written:
            return []
        with self._lock:
            for stream, rest in self._open.items():
                if rest:
                    self._add(stream, rest)
                    self._open[stream] = ""
            return list(self._lines)

    def _add(self, stream: str, line: str) -> None:
        if self._room < 0:
            return
        note = f"{self._where}: output beyond {self._limit} bytes is left out"
        self._room -= len(line.encode("utf-8", "surrogatepass")) + 1
        self._lines.append((stream, line) if self._room >= 0 else ("stderr", note))


class captured:  # noqa: N801 (used as a function)
    """What is printed inside belongs to `capture`."""

    __slots__ = ("_capture", "_token")

    def __init__(self, capture: Capture) -> None:
        self._capture = capture

    def __enter__(self) -> None:
        self._token = _current.set(self._capture)
        _active.append(self._capture)

    def __exit__(self, *_: object) -> None:
        _active.remove(self._capture)
        _current.reset(self._token)


def install() -> None:
    """Puts the dividing streams in place of `sys.stdout` and `sys.stderr`, before user code is imported."""
    sys.stdout = _Divided("stdout", sys.stdout)
    sys.stderr = _Divided("stderr", sys.stderr)


class _Divided(io.TextIOBase):
    """A text stream whose writes go to the current request, else to where they went before."""

    def __init__(self, name: str, raw: TextIO) -> None:
        self._name = name
        self._raw = raw
        self._bytes = _Bytes(self)

    def write(self, text: str, /) -> int:
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        capture = _current.get()
        if capture is None:
            active = set(_active)
            capture = active.pop() if len(active) == 1 else None
        if capture is None:
            return self._raw.write(text)
        capture.write(self._name, text)
        return len(text)

    def flush(self) -> None:
        self._raw.flush()

    def fileno(self) -> int:
        return self._raw.fileno()

    def writable(self) -> bool:
        return True

    @property
    def buffer(self) -> Any:
        return self._bytes

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return "utf-8"

    @property
    def errors(self) -> str:  # type: ignore[override]
        return "backslashreplace"

    @property
    def name(self) -> str:
        return f"<{self._name}>"


class _Bytes(io.RawIOBase):
    """`sys.stdout.buffer`."""

    def __init__(self, text: _Divided) -> None:
        self._text = text

    def write(self, data: Any, /) -> int:
        raw = bytes(data)
        self._text.write(raw.decode("utf-8", "backslashreplace"))
        return len(raw)

    def writable(self) -> bool:
        return True

    def flush(self) -> None:
        self._text.flush()
