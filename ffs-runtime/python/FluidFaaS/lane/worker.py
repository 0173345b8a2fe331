"""The loop of a lane that is not the head: one frame from each ring, compute, send on.

Where requests may run at once, those that wait already do; none is waited for.
"""

from __future__ import annotations

import time

from .. import output
from .envelope import Envelope
from .frames import Inbox
from .layout import Layout
from .stage import Stage, Work

__all__ = ["loop"]


def loop(layout: Layout, inboxes: list[Inbox], stage: Stage) -> None:
    """Serves until a ring ends.

    Raises :class:`RingEnded`; `ValueError` if rings deliver what lanes do not send.
    """
    while True:
        works = [_join(layout, inboxes)]
        while len(works) < stage.most and all(inbox.has_next for inbox in inboxes):
            works.append(_join(layout, inboxes))
        stage.run_all(works)
        del works  # and with them the slots


def _join(layout: Layout, inboxes: list[Inbox]) -> Work:
    """The next request, from all rings. Each carries all requests in the same order."""
    arrivals = [inbox.receive() for inbox in inboxes]
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
    for arrival, inbox in zip(arrivals, inboxes):
        if arrival.request != first.request:
            raise ValueError(
                f"ring {inbox.ring.id} delivered request {arrival.request:032x}, "
                f"ring {inboxes[0].ring.id} request {first.request:032x}: expected the same from all"
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
