"""Which rings a request takes, where lanes have replicas.

Replicas serve requests in rotation, and every lane sees its requests in the order in which the head sent
them. So each counts for itself, and nothing has to be said about where a request goes. Of a lane with `of`
replicas the one at `place` sees the requests `place`, `place + of`, … since the assignment that made them so.

A new assignment begins between two requests: before the first one that takes the new ways the head sends a frame
with the flag SWITCH into every ring that it has; a lane that finds it at the head of its rings does the same and
goes on with the new ways. Nobody waits for that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from .frames import Arrival, Inbox, Outbox, Switch
from .layout import Layout

__all__ = ["End", "Entrances", "Exits", "Opened"]

End = TypeVar("End", Inbox, Outbox)


@dataclass(frozen=True)
class Opened:
    """An assignment with all rings that this lane has in it."""

    layout: Layout
    inboxes: dict[str, Inbox]
    outboxes: dict[str, Outbox]

    def without(self, other: Opened) -> list[Inbox | Outbox]:
        """The rings that are not in `other`."""
        ends: dict[str, Inbox | Outbox] = {**self.inboxes, **self.outboxes}
        return [end for id, end in ends.items() if id not in other.inboxes and id not in other.outboxes]

    def entrances(self) -> list[list[Inbox]]:
        """The rings into this lane: for each lane before it one, or as many as that one has replicas."""
        return [[self.inboxes[ring.id] for ring in group] for group in self.layout.groups_in]

    def exits(self, inputs_only: bool | None = None) -> list[list[Outbox]]:
        """The same for the lanes behind it; of the head those that carry inputs only, or the others."""
        groups = self.layout.groups_out
        chosen = [g for g in groups if inputs_only is None or g[0].inputs_only == inputs_only]
        return [[self.outboxes[ring.id] for ring in group] for group in chosen]


class _Ways(Generic[End]):
    def __init__(self, groups: Sequence[Sequence[End]], layout: Layout) -> None:
        self._groups: list[list[End]] = [list(group) for group in groups]
        self._next, self._step = layout.place, layout.of

    @property
    def ends(self) -> list[End]:
        """All of them."""
        return [end for group in self._groups for end in group]

    @property
    def width(self) -> int:
        """Rings that each request takes."""
        return len(self._groups)

    def _current(self) -> list[End]:
        return [group[self._next % len(group)] for group in self._groups]

    def _advance(self) -> None:
        self._next += self._step


class Exits(_Ways[Outbox]):
    """The rings out of a lane."""

    def take(self) -> list[Outbox]:
        """Those of the next request, which is the caller's from then on."""
        boxes = self._current()
        self._advance()
        return boxes

    def switch(self, to: Exits, epoch: int) -> Exits:
        """Says in every ring that the next request takes the ways of that assignment, which are returned."""
        for box in self.ends:
            box.send_switch(epoch)
        return to


class Entrances(_Ways[Inbox]):
    """The rings into a lane."""

    @property
    def ready(self) -> bool:
        """Whether the next request is there as a whole."""
        return all(box.has_next for box in self._current())

    def receive(self) -> list[Arrival] | Switch:
        """The next request, a part from each ring, or that another assignment begins before it.

        Raises :class:`RingEnded`; `ValueError` if rings deliver what lanes do not send.
        """
        boxes = self._current()
        first = boxes[0].receive()
        if isinstance(first, Switch):
            for box in self.ends:
                if box is not boxes[0]:
                    self._check(box, box.receive(), first)
            return first
        arrivals = [first]
        for box in boxes[1:]:
            arrival = box.receive()
            if isinstance(arrival, Switch) or arrival.request != first.request:
                raise ValueError(
                    f"ring {box.ring.id} delivered {arrival}, ring {boxes[0].ring.id} {first}: "
                    "expected the same from all"
                )
            arrivals.append(arrival)
        self._advance()
        return arrivals

    @staticmethod
    def _check(box: Inbox, found: Arrival | Switch, switch: Switch) -> None:
        if found != switch:
            raise ValueError(f"ring {box.ring.id} delivered {found}: expected {switch}, as from the others")
