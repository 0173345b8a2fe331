"""What travels with the values of a request: times and output of the lanes so far, and its error."""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Envelope", "Failure", "LaneRecord"]

# Made once: those of the module `json` look for options and encodings at each call.
_encode = json.JSONEncoder(check_circular=False, separators=(",", ":")).encode
_decode = json.JSONDecoder().raw_decode


@functools.lru_cache(4096)
def _text(names: str | tuple[str, ...]) -> str:
    """JSON of what is the same in every request."""
    return _encode(names)


@dataclass(frozen=True, order=True)
class Failure:
    """Why a request failed. Of several the one that the unsplit function would have met counts: the least."""

    #: Position of the component in the order of execution; before all of them, -1.
    order: int
    #: What the caller reads.
    text: str


@dataclass(slots=True)
class LaneRecord:
    """One lane's part in a request."""

    queue_ms: float
    exec_ms: float
    #: (stream, line)
    logs: list[tuple[str, str]] = field(default_factory=list)
    #: Milliseconds of each component that ran to its end, in the order of the lane.
    components: list[float] = field(default_factory=list)


@dataclass(slots=True)
class Envelope:
    """One request's story up to here. At a join the stories of all rings become one.

    As text it is three lines: what the next lane has to know, members of the object `lanes`, members of the object
    `transfer`. A lane adds to the last two and does not look into them; the head does, and so does a lane at which
    stories meet, since they may have had a beginning in common.
    """

    lanes: dict[str, LaneRecord] = field(default_factory=dict)
    #: Ring → milliseconds to write, wait for and read the request's frame.
    transfer: dict[str, float] = field(default_factory=dict)
    failure: Failure | None = None
    #: What came as text and was not looked into, of `lanes` and of `transfer`.
    told: tuple[str, str] = ("", "")

    @classmethod
    def joined(cls, parts: Sequence[Envelope]) -> Envelope:
        """Raises ValueError for what no lane of ours has written."""
        if len(parts) == 1:
            return parts[0]
        whole = cls()
        for part in parts:
            part._unfold()
            whole.lanes.update(part.lanes)
            whole.transfer.update(part.transfer)
            failures = [failure for failure in (whole.failure, part.failure) if failure is not None]
            whole.failure = min(failures, default=None)
        return whole

    def encode(self, kinds: list[str], at: list[int] | None, ring: str, took_ms: float) -> bytes:
        """As a frame's text for `ring`, which took that long to fill.

        `kinds` says what its values become again, `at` which of the frame's tensors each is, if it is not all
        in their order.
        """
        # By hand: a request's story is mostly a few numbers, which this writes four times as fast as `json`.
        first = [f'{{"kinds":{_text(tuple(kinds))}']
        if at is not None:
            first.append(f'"at":{at}')
        if self.failure is not None:
            first.append(f'"failure":{_encode([self.failure.order, self.failure.text])}')
        lanes, transfer = ([told] if told else [] for told in self.told)
        lanes += [
            f"{_text(id)}:[{lane.queue_ms:.4f},{lane.exec_ms:.4f},{_encode(lane.logs) if lane.logs else '[]'},"
            f"[{','.join(f'{ms:.4f}' for ms in lane.components)}]]"
            for id, lane in self.lanes.items()
        ]
        transfer += [f"{_text(id)}:{ms:.4f}" for id, ms in self.transfer.items() if id != ring]
        transfer.append(f"{_text(ring)}:{took_ms:.4f}")
        return f"{','.join(first)}}}\n{','.join(lanes)}\n{','.join(transfer)}".encode("ascii")

    @classmethod
    def decode(cls, text: bytes) -> tuple[Envelope, list[str], list[int] | None]:
        """The envelope, the kinds, and where the values are. Raises ValueError for what no lane of ours has written."""
        try:
            first, lanes, transfer = text.decode("ascii").split("\n")
            document, _ = _decode(first)
            failure = document.get("failure")
            failed = Failure(int(failure[0]), str(failure[1])) if failure else None
            at = document.get("at")
            places = None if at is None else [int(place) for place in at]
            kinds = [str(kind) for kind in document.get("kinds", [])]
            return cls(failure=failed, told=(lanes, transfer)), kinds, places
        except (ValueError, TypeError, AttributeError, IndexError, KeyError) as error:
            raise ValueError(f"a frame's text is not that of a lane: {error}") from None

    def _unfold(self) -> None:
        """Looks into what was told; what is known beside it is added to that."""
        (lanes, transfer), self.told = self.told, ("", "")
        own = self.lanes, self.transfer
        try:
            self.lanes = {
                id: LaneRecord(
                    float(queue),
                    float(exec),
                    [(str(stream), str(line)) for stream, line in logs],
                    [float(ms) for ms in components],
                )
                for id, (queue, exec, logs, components) in _pairs(f"{{{lanes}}}")
            }
            self.transfer = {}
            for ring, ms in _pairs(f"{{{transfer}}}"):  # a ring has its writer's time and its reader's
                self.transfer[ring] = self.transfer.get(ring, 0.0) + float(ms)
        except (ValueError, TypeError, AttributeError) as error:
            raise ValueError(f"a frame's text is not that of a lane: {error}") from None
        self.lanes.update(own[0])
        for ring, ms in own[1].items():
            self.transfer[ring] = self.transfer.get(ring, 0.0) + ms


def _pairs(text: str) -> list[tuple[str, Any]]:
    """The members of an object in their order, also where two have one name."""
    pairs = json.loads(text, object_pairs_hook=list)
    if not isinstance(pairs, list):
        raise ValueError("expected an object")
    return pairs
