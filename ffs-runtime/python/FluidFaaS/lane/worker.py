"""The loop of a lane that is not the head: one frame from each lane before it, compute, send on.

Where requests may run at once, those that wait already do; none is waited for.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from .. import output
from .envelope import Envelope
from .frames import Arrival, Switch
from .layout import Layout
from .stage import Stage, Work
from .ways import Entrances

__all__ = ["loop"]


def loop(
    layout: Layout, entrances: Entrances, stage: Stage, switch: Callable[[int], Entrances | None]
) -> None:
    """Serves until a ring ends, or an assignment begins in which this lane is not.

    `switch` takes up the assignment of an epoch. Raises :class:`RingEnded`; `ValueError` if rings deliver what
    lanes do not send.
    """
    going: Entrances | None = entrances
    while going is not None:
        works, found = _gather(layout, going, stage.most)
        if works:
            stage.run_all(works)
        del works  # and with them the slots
        if found is not None:
            going = switch(found.epoch)


def _gather(layout: Layout, entrances: Entrances, most: int) -> tuple[list[Work], Switch | None]:
    """The next request with those that wait behind it, or what comes before a switch."""
    works: list[Work] = []
    while not works or (len(works) < most and entrances.ready):
        found = entrances.receive()
        if isinstance(found, Switch):
            return works, found
        works.append(_work(layout, found))
    return works, None


def _work(layout: Layout, arrivals: list[Arrival]) -> Work:
    """One request, from all rings."""
    first = arrivals[0]
    if len(arrivals) == 1:
        waited_ms = (time.perf_counter() - first.sent) * 1000
        return Work(
            first.request,
            first.deadline_ms,
            first.values,
            first.envelope,
            output.Capture(output.LANE_LIMIT, layout.label),
            max(0.0, waited_ms - first.took_ms),
        )
    waited_ms = (time.perf_counter() - max(arrival.sent for arrival in arrivals)) * 1000
    return Work(
        request=first.request,
        deadline_ms=first.deadline_ms,
        values={source: value for arrival in arrivals for source, value in arrival.values.items()},
        envelope=Envelope.joined([arrival.envelope for arrival in arrivals]),
        capture=output.Capture(output.LANE_LIMIT, layout.label),
        queued_ms=max(0.0, waited_ms - sum(arrival.took_ms for arrival in arrivals)),
    )
