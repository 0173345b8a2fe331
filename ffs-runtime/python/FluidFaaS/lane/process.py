"""The life of a process that serves a lane: rings, components, states, and the end."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import _native, action, author, components, memory, output, runner
from ..answer import body_text, error_body, error_text
from ..errors import FluidFaaSError, PipelineError
from ..ffaas import Context
from ..link import Link
from . import layout as layouts
from . import worker
from .frames import Inbox, Outbox, RingEnded
from .head import Head
from .layout import Layout, Ring
from .requests import Request, RequestFailed, current
from .stage import Stage
from .turns import Turns
from .watch import GRACE_S, Watch
from .ways import End, Entrances, Exits, Opened

if TYPE_CHECKING:
    from ..entries import Entry

__all__ = ["LaneProcess"]

#: How long the other lanes may take to make their rings. The invoker's start deadline is shorter.
START_MS = 600_000.0
#: The same where a lane joins others that run already.
JOIN_MS = 60_000.0
#: Requests that the head has in `pre`, on their way or in `post` at once; the invoker sends fewer.
MOST_REQUESTS = 64


class LaneProcess:
    """One lane, from the message `serve` on."""

    def __init__(self, link: Link, end: Callable[[], None]) -> None:
        """`end` ends this process."""
        self._link = link
        self._end = end
        self._entry: Entry | None = None
        self._layout: Layout | None = None
        self._head: Head | None = None
        self._stage: Stage | None = None
        self._turns: Turns | None = None
        self._ends: list[Inbox | Outbox] = []
        self._making = threading.Lock()
        #: The assignment in force, and the one that was opened last.
        self._opened: Opened | None = None
        self._coming: Opened | None = None
        self._joining = threading.Lock()
        self._serving = threading.Event()
        self._settling = threading.Lock()
        self._broken: str | None = None
        self._requests = ThreadPoolExecutor(MOST_REQUESTS, thread_name_prefix="ffs-request")
        self._unanswered: dict[int, Request] = {}

    def serve(self, entry: Callable[[], Entry]) -> None:
        """Opens the rings, loads the components, and runs requests; on the main thread."""
        try:
            opened = self._start(entry)
        except FluidFaaSError as error:
            if error.__cause__ is not None:
                sys.stderr.write(author.format_error(error.__cause__))
            self._fail(error.sentence, error.at or author.location_of_error(error))
            return
        except _native.RingError as error:
            self._fail(error.args[0], None)
            return
        assert self._layout is not None and self._stage is not None, "the start has made them"
        if self._head is not None:
            self._head.loop()
            return
        try:
            worker.loop(
                self._layout, Entrances(opened.entrances(), opened.layout), self._stage, self._take_up
            )
        except Exception as error:
            self._break(error)

    def take_run(self, id: int, body: dict[str, Any]) -> None:
        """A request for the head; answered from a thread of its own."""
        self._requests.submit(self._answer, id, body)

    def take(self, message: dict[str, Any]) -> None:
        """What the invoker says to a lane."""
        kind = message["type"]
        if kind == "poison":
            self._give_up(message["reason"], "died")
            self._end()
        elif kind == "turn" and self._turns is not None:
            self._turns.granted(message["turn"])
        elif kind == "assignment":
            threading.Thread(target=self._change_assignment, args=(message,), daemon=True).start()
        elif kind == "state":
            threading.Thread(target=self._change_state, args=(message,), daemon=True).start()

    def abandon(self, reason: str) -> None:
        """This process ends: the other lanes are told through the rings."""
        label = self._layout.label if self._layout is not None else "a lane"
        self._making.acquire()  # for good: no ring is made any more
        self._poison("failed", f"{label}: {reason}")
        for end in list(self._ends):
            end.remove_name()

    # Start.

    def _start(self, entry: Callable[[], Entry]) -> Opened:
        layout = layouts.read(Path(os.environ["FFS_CONFIG"]), os.environ.get("FFS_LANE", ""))
        self._layout = layout
        self._settle_near(layout.numa)
        if layout.is_head:
            self._entry = entry()
        outboxes = self._make_rings(layout, {})
        began = time.perf_counter()
        loaded = components.load_all(layout.dag, layout.components)
        memory.trim()
        load_ms = (time.perf_counter() - began) * 1000
        resident = memory.resident()
        opened = Opened(layout, self._open_rings(layout, {}, START_MS), outboxes)
        self._pin(self._ends)
        self._opened = opened
        self._turns = Turns(self._link, layout.shared)
        late = Exits(opened.exits(inputs_only=False if layout.is_head else None), layout)
        self._stage = Stage(layout, loaded, late, Watch(self._overrun), self._turns)
        if layout.is_head:
            early = Exits(opened.exits(inputs_only=True), layout)
            entrances = Entrances(opened.entrances(), layout)
            self._head = Head(layout, early, entrances, self._stage, self._break)
            runner.use(self._head)
        self._serving.set()
        self._link.send("loaded", load_ms=load_ms, resident_bytes=resident)
        return opened

    def _make_rings(self, layout: Layout, known: dict[str, Outbox]) -> dict[str, Outbox]:
        """The rings out of this lane; those that are not known are made."""

        def make(ring: Ring) -> Outbox:
            with self._making:
                return self._keep(Outbox(ring, layout.epoch))

        return {ring.id: known.get(ring.id) or make(ring) for ring in layout.rings_out}

    def _open_rings(self, layout: Layout, known: dict[str, Inbox], timeout_ms: float) -> dict[str, Inbox]:
        """The rings into this lane; for those that are not known the lanes before it are waited for."""

        def find(ring: Ring) -> Inbox:
            return self._keep(Inbox(ring, layout.epoch, timeout_ms))

        return {ring.id: known.get(ring.id) or find(ring) for ring in layout.rings_in}

    def _keep(self, end: End) -> End:
        self._ends.append(end)
        return end

    def _settle_near(self, node: int | None) -> None:
        """Takes memory near the GPU from now on, where there is a choice."""
        try:
            if node is not None:
                _native.prefer_node(node)
        except OSError as error:
            sys.stderr.write(f"rings may lie far from the GPU, whose NUMA node is {node}: {error.strerror}\n")

    def _pin(self, ends: Iterable[Inbox | Outbox]) -> None:
        """Registers rings with CUDA where this lane uses it, until the process ends: one copy less to and from it.

        To be called on the main thread: that is the one that uses it.
        """
        if os.environ.get("FFS_PIN") == "0":
            return
        try:
            for end in list(ends):
                end.pin()
        except _native.RingError as error:
            sys.stderr.write(f"copies to and from the GPU take longer: {error.args[0]}\n")

    # Requests.

    def _answer(self, id: int, body: dict[str, Any]) -> None:
        context = Context.from_members(body)
        capture = output.Capture(output.HEAD_LIMIT, "this request")
        request = Request(context.activation_id, int(context.deadline_ms or 0), capture)
        self._unanswered[id] = request
        self._serving.wait()
        action.set_environment(body)  # of requests at once the last one's; the context is each one's own
        token = current.set(request)
        try:
            with output.captured(capture):
                status, text = self._run(body.get("value", {}), context)
        finally:
            current.reset(token)
        self._send_answer(id, status, text)

    def _run(self, event: Any, context: Context) -> tuple[int, str]:
        try:
            if self._broken is not None or self._entry is None:
                raise PipelineError(self._broken or "this lane is not the head and answers no requests")
            return body_text(self._entry.invoke(event, context))
        except PipelineError as error:
            return 502, error_body(error.sentence)
        except RequestFailed as error:
            return 200, error_body(error.sentence)
        except Exception as error:
            sys.stderr.write(author.format_error(error))
            return 200, error_body(error_text(error))

    def _send_answer(self, id: int, status: int, text: str) -> None:
        request = self._unanswered.pop(id, None)
        if request is None:
            return  # answered when the pipeline was given up
        lanes = self._layout.lanes if self._layout is not None else {}
        timing = request.timing(lanes, layouts.HEAD) if request.jobs else None
        self._link.send_result(id, status, text, request.logs(list(lanes)), timing)

    # States.

    def _change_state(self, message: dict[str, Any]) -> None:
        desired = message["desired"]
        if desired != "stop":
            self._serving.wait()
        with self._settling:
            if desired == "stop":
                self._give_up("the instance was stopped", "stopped")
            elif self._stage is None or self._turns is None:
                return  # the lane failed, and said so
            else:
                if message.get("shared") is not None:
                    self._turns.share(message["shared"])
                if desired == "evict":
                    self._stage.evict()
                elif desired in ("run", "resume"):
                    self._stage.resume()
                elif desired == "drain":
                    self._drain(message.get("deadline_ms"))
            self._link.send("state", epoch=message["epoch"], reached=desired)
            if desired == "stop":
                self._end()

    def _drain(self, deadline_ms: float | None) -> None:
        assert self._stage is not None, "only a lane that serves is drained"
        if self._head is not None:
            self._head.wait_idle(None if deadline_ms is None else deadline_ms / 1000)
        self._stage.idle()

    # Other assignments.

    def _change_assignment(self, message: dict[str, Any]) -> None:
        self._serving.wait()
        epoch = message["epoch"]
        if message["switch"]:
            now, coming = self._opened, self._coming
            if self._head and now and coming and coming.layout.epoch == epoch:
                new = coming.without(now)
                self._head.switch(coming, lambda: self._pin(new), lambda: self._switched(coming))
            return
        error = None
        with self._joining:
            try:
                self._open(epoch)
            except FluidFaaSError as failure:
                error = failure.sentence
            except _native.RingError as failure:
                error = failure.args[0]
        self._link.send("assignment", epoch=epoch, switched=False, error=error)

    def _open(self, epoch: int) -> None:
        """Opens the rings that are new in the assignment of that epoch; those of one that never came go."""
        now = self._opened
        if now is None:
            return  # the lane failed, and said so
        if self._coming is not None:
            never, self._coming = self._coming, None
            for end in self._let_go(never, now):
                end.poison("stopped", "the assignment that it was for was given up")
        layout = layouts.read_again(Path(os.environ["FFS_CONFIG"]), now.layout)
        if layout.epoch != epoch:
            raise PipelineError(f"assignment.json has epoch {layout.epoch}: expected {epoch}")
        outboxes = self._make_rings(layout, now.outboxes)
        self._coming = Opened(layout, self._open_rings(layout, now.inboxes, JOIN_MS), outboxes)

    def _take_up(self, epoch: int) -> Entrances | None:
        """The ways of the assignment of that epoch from here on; none if this lane is not in it."""
        assert self._stage is not None, "only a lane that serves is told so through its rings"
        now, coming = self._opened, self._coming
        if now is None or coming is None or coming.layout.epoch != epoch:
            raise ValueError(
                f"a ring switches to the assignment of epoch {epoch}, of which this lane was not told"
            )
        self._pin(coming.without(now))
        self._stage.use(self._stage.exits.switch(Exits(coming.exits(), coming.layout), epoch))
        self._switched(coming)
        return Entrances(coming.entrances(), coming.layout) if coming.inboxes else None

    def _switched(self, coming: Opened) -> None:
        """No request takes the old ways any more, as far as this lane is concerned."""
        before, self._opened, self._coming = self._opened, coming, None
        assert before is not None, "a lane that serves has rings"
        self._layout = coming.layout
        self._let_go(before, coming)
        if self._head is not None:
            self._link.send("assignment", epoch=coming.layout.epoch, switched=True, error=None)

    def _let_go(self, before: Opened, after: Opened) -> list[Inbox | Outbox]:
        """The ends that are not in `after`; they are nobody's business any more, and nobody finds their names."""
        gone = before.without(after)
        for end in gone:
            end.remove_name()
            self._ends.remove(end)
        return gone

    # Ends.

    def _fail(self, sentence: str, at: str | None) -> None:
        """This lane cannot go on, by its own fault."""
        self._link.send("failed", sentence=sentence, at=at)
        label = f"{self._layout.label}: " if self._layout is not None else ""
        self._give_up(f"{label}{sentence}", "failed")

    def _break(self, error: Exception) -> None:
        """A ring ended, or the code of the lane itself failed."""
        assert self._layout is not None, "rings and requests come after the layout"
        if isinstance(error, RingEnded):
            peer = self._layout.labels.get(error.peer, error.peer)
            self._give_up(error.note or f"{peer}: {error}", "failed")
        else:
            sys.stderr.write(author.format_error(error))
            self._fail(str(error) or type(error).__name__, author.location_of_error(error))

    def _overrun(self) -> None:
        label = self._layout.label if self._layout is not None else "the lane"
        sentence = f"{label} ran on for {GRACE_S:.0f} s after the deadline of its request"
        peer = self._stage.waits_for() if self._stage is not None else None
        if peer is not None and self._layout is not None:
            sentence += f": it waits for room in the ring to {self._layout.labels[peer]}, which still holds what it was sent"
        self._link.send("failed", sentence=sentence, at=None)
        self._give_up(sentence, "failed")
        self._end()

    def _give_up(self, sentence: str, reason: str) -> None:
        """Poisons the rings, and answers whatever waits for an answer with `sentence`."""
        if self._broken is None:
            self._broken = sentence
        self._poison(reason, sentence)
        if self._head is not None:
            self._head.abandon(self._broken)
        self._serving.set()
        for id in list(self._unanswered):
            self._send_answer(id, 502, error_body(self._broken))

    def _poison(self, reason: str, sentence: str) -> None:
        for end in list(self._ends):
            end.poison(reason, sentence)
