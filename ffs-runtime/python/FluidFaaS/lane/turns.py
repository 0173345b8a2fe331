"""Turns on a slice that several instances share: without one, a lane does not compute."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

from ..link import Link

__all__ = ["Turns"]


class Turns:
    """Asks for the turn before each execution and gives it back afterwards."""

    def __init__(self, link: Link, shared: bool) -> None:
        self._link = link
        self._shared = shared
        self._number = 0
        self._granted = 0
        self._changed = threading.Condition()

    @contextlib.contextmanager
    def taken(self) -> Iterator[None]:
        """Waits for the turn, if the slice is shared."""
        if not self._shared:
            yield
            return
        self._number += 1
        self._link.send("turn", want=True, turn=self._number)
        with self._changed:
            self._changed.wait_for(lambda: self._granted >= self._number)
        try:
            yield
        finally:
            self._link.send("turn", want=False, turn=self._number)

    def granted(self, turn: int) -> None:
        with self._changed:
            self._granted = max(self._granted, turn)
            self._changed.notify_all()
