"""Turns on a slice that several instances share: without one, a lane does not compute."""

from __future__ import annotations

import threading
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

    def take(self) -> int:
        """Waits for the turn, if the slice is shared, and tells its number; 0 where none is needed."""
        with self._changed:
            if not self._shared:
                self._unasked += 1
                return 0
            self._number += 1
            number = self._number
        self._link.send("turn", want=True, turn=number)
        with self._changed:
            self._changed.wait_for(lambda: self._granted >= number)
        return number

    def give_back(self, number: int) -> None:
        """Ends what :meth:`take` began."""
        if number:
            self._link.send("turn", want=False, turn=number)
            return
        with self._changed:
            self._unasked -= 1
            if self._shared:  # since then, and whoever said so waits
                self._changed.notify_all()

    def granted(self, turn: int) -> None:
        with self._changed:
            self._granted = max(self._granted, turn)
            self._changed.notify_all()
