"""Ends a lane whose components do not end: a deadline holds for the whole pipeline."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

__all__ = ["Watch", "GRACE_S"]

#: How long a component may outlive the deadline of its request.
GRACE_S = 1.0


class Watch:
    """Calls `overrun` when something runs on past its deadline.

    Its thread sleeps until the earliest time at which that could be, and is woken only if a
    request with an earlier deadline comes; so it costs next to nothing per request.
    """

    def __init__(self, overrun: Callable[[], None]) -> None:
        self._overrun = overrun
        self._lock = threading.Lock()  # by itself, it costs a request less than through the condition
        self._changed = threading.Condition(self._lock)
        self._until: float | None = None
        self._wakes_at: float | None = None
        threading.Thread(target=self._watch, name="ffs-watch", daemon=True).start()

    def begin(self, deadline_ms: int) -> None:
        """Something begins that must have ended by then (milliseconds since 1970; 0: whenever it likes)."""
        if not deadline_ms:
            return
        with self._lock:
            self._until = deadline_ms / 1000 + GRACE_S
            if self._wakes_at is None or self._until < self._wakes_at:
                self._wakes_at = self._until
                self._changed.notify()

    def end(self) -> None:
        self._until = None

    def _watch(self) -> None:
        with self._changed:
            while True:
                now, until = time.time(), self._until
                if until is not None and until <= now:
                    break
                if self._wakes_at is not None and self._wakes_at <= now:
                    self._wakes_at = until
                self._changed.wait(None if self._wakes_at is None else self._wakes_at - now)
        self._overrun()
