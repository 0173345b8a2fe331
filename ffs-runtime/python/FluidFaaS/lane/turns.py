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
        self._unasked = 0
        self._changed = threading.Condition()

    def share(self, shared: bool) -> None:
        """Asks from now on, or no more; returns when nothing computes that has not asked as it should."""
        with self._changed:
            self._shared = shared
            self._changed.notify_all()
            if shared:
                self._changed.wait_for(lambda: self._unasked == 0)

    @contextlib.contextmanager
    def taken(self) -> Iterator[None]:
        """Waits for the turn, if the slice is shared."""
        with self._changed:
            shared = self._shared
            self._unasked += not shared
            self._number += shared
            number = self._number
        try:
            if shared:
                self._link.send("turn", want=True, turn=number)
                with self._changed:
                    self._changed.wait_for(lambda: self._granted >= number)
            yield
        finally:
            if shared:
                self._link.send("turn", want=False, turn=number)
            else:
                with self._changed:
                    self._unasked -= 1
                    if self._shared:  # since then, and whoever said so waits
                        self._changed.notify_all()

    def granted(self, turn: int) -> None:
        with self._changed:
            self._granted = max(self._granted, turn)
            self._changed.notify_all()
