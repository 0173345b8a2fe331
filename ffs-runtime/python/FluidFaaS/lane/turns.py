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
        self._lock = threading.Lock()  # by itself, it costs a request less than through the condition
        self._changed = threading.Condition(self._lock)

    def share(self, shared: bool) -> None:
        """Asks from now on, or no more; returns when nothing computes that has not asked as it should."""
        with self._changed:
            self._shared = shared
            self._changed.notify_all()
            if shared:
                self._changed.wait_for(lambda: self._unasked == 0)

    def taken(self) -> _Taken:
        """`with turns.taken():` waits for the turn, if the slice is shared, and gives it back."""
        return _Taken(self)

    def _take(self) -> int:
        """The number of the turn, once it is granted; 0 where none is needed."""
        with self._lock:
            if not self._shared:
                self._unasked += 1
                return 0
            self._number += 1
            number = self._number
        self._link.send("turn", want=True, turn=number)
        with self._changed:
            self._changed.wait_for(lambda: self._granted >= number)
        return number

    def _give_back(self, number: int) -> None:
        if number:
            self._link.send("turn", want=False, turn=number)
            return
        with self._lock:
            self._unasked -= 1
            if self._shared:  # since then, and whoever said so waits
                self._changed.notify_all()

    def granted(self, turn: int) -> None:
        with self._changed:
            self._granted = max(self._granted, turn)
            self._changed.notify_all()


class _Taken:
    """A turn; a class, because a generator costs each request more."""

    __slots__ = ("_number", "_turns")

    def __init__(self, turns: Turns) -> None:
        self._turns = turns

    def __enter__(self) -> None:
        self._number = self._turns._take()

    def __exit__(self, *_: object) -> None:
        self._turns._give_back(self._number)
