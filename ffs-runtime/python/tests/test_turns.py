"""Turns on a shared slice: who asks, who waits, and when it is known that nobody computes unasked."""

from __future__ import annotations

import threading
from typing import Any

from FluidFaaS.lane.turns import Turns

PATIENCE_S = 10.0


class Said:
    """Stands for the link: keeps what is said."""

    def __init__(self) -> None:
        self.turns: list[tuple[bool, int]] = []

    def send(self, kind: str, **members: Any) -> None:
        assert kind == "turn"
        self.turns.append((members["want"], members["turn"]))


def test_nobody_asks_on_a_slice_of_its_own() -> None:
    said = Said()
    turns = Turns(said, shared=False)  # type: ignore[arg-type]
    with turns.taken():
        pass
    assert said.turns == []


def test_a_lane_computes_only_in_its_turn() -> None:
    said = Said()
    turns = Turns(said, shared=True)  # type: ignore[arg-type]
    computed = threading.Event()

    def compute() -> None:
        with turns.taken():
            computed.set()

    thread = threading.Thread(target=compute)
    thread.start()
    assert not computed.wait(0.1)
    turns.granted(1)
    thread.join(PATIENCE_S)
    assert computed.is_set()
    assert said.turns == [(True, 1), (False, 1)]


def test_sharing_begins_when_what_was_not_asked_for_has_ended() -> None:
    said = Said()
    turns = Turns(said, shared=False)  # type: ignore[arg-type]
    inside, leave, shares = threading.Event(), threading.Event(), threading.Event()

    def compute() -> None:
        with turns.taken():
            inside.set()
            assert leave.wait(PATIENCE_S)

    def share() -> None:
        turns.share(True)
        shares.set()

    computing = threading.Thread(target=compute)
    computing.start()
    assert inside.wait(PATIENCE_S)
    sharing = threading.Thread(target=share)
    sharing.start()
    assert not shares.wait(0.1)
    leave.set()
    assert shares.wait(PATIENCE_S)
    for thread in (computing, sharing):
        thread.join(PATIENCE_S)
    assert said.turns == []

    turns.granted(1)
    with turns.taken():
        pass
    assert said.turns == [(True, 1), (False, 1)]

    turns.share(False)
    with turns.taken():
        pass
    assert len(said.turns) == 2
