"""`python -m FluidFaaS.child`: the Python process of an action container.

`ffs-runtime` starts it and talks with it over a socket pair (:mod:`FluidFaaS.link`). The main
thread runs the user's code, one request after the other; a second thread reads messages, so that
a lane can be told to stop while it computes. A process that serves a lane hands its main thread
to :mod:`FluidFaaS.lane`.
"""

from __future__ import annotations

import os
import queue
import sys
import threading

from . import action, author
from .answer import body_text, error_body, error_text
from .errors import DefinitionError, FluidFaaSError
from .link import Link

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from .lane.process import LaneProcess

__all__ = ["main"]

_NOT_OURS = (
    "the action is no FluidFaaS function: its main is no FFS.entry(...), and there is no pair X_run and X_buildDAG. "
    "Add these two lines at the end of its file, with the name of your class:\n"
    "import FluidFaaS as FFS\nmain = FFS.entry(MyFunction)"
)


class Child:
    """One action: initialised once, then run."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._folder = action.new_folder()
        self._action: action.Action | None = None
        self._lane: LaneProcess | None = None
        self._work: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()

    def serve(self) -> None:
        """Runs until the proxy closes the socket."""
        threading.Thread(target=self._read, name="ffs-link", daemon=True).start()
        self._link.send("hello", python=sys.version.split()[0])
        while True:
            self._work.get()()

    def _read(self) -> None:
        while (message := self._link.receive()) is not None:
            self._take(message)
        self.end()

    def end(self) -> None:
        """Ends this process at once, and what it made with it."""
        if self._lane is not None:
            self._lane.abandon("its runtime ended")
        action.remove_folder(self._folder)
        os._exit(0)

    def _take(self, message: dict[str, Any]) -> None:
        kind = message.get("type")
        if kind == "init":
            self._work.put(lambda: self._init(message["value"]))
        elif kind == "serve":
            self._begin_lane()
        elif kind == "run" and self._lane is not None:
            self._lane.take_run(message["id"], message["body"])
        elif kind == "run":
            self._work.put(lambda: self._run(message["id"], message["body"]))
        elif kind in ("build", "profile"):
            self._work.put(lambda: self._document(kind, message["id"], message["request"]))
        elif self._lane is not None:
            self._lane.take(message)
        elif kind == "poison":
            self.end()

    def _init(self, value: dict[str, Any]) -> None:
        error = None
        try:
            self._action = action.load(value, self._folder)
        except FluidFaaSError as failure:
            if failure.__cause__ is not None:
                sys.stderr.write(author.format_error(failure.__cause__))
            error = {"sentence": failure.sentence, "at": failure.at}
        _flush()
        self._link.send("initialized", error=error)
        if "FFS_LANE" in os.environ:
            # It will serve a lane; the invoker has other things to do before it says so.
            from .lane import process as _  # noqa: F401

    def _begin_lane(self) -> None:
        from .lane.process import LaneProcess

        lane = self._lane = LaneProcess(self._link, self.end)
        self._work.put(lambda: lane.serve(self._entry))

    def _entry(self) -> Any:
        if self._action is None:
            raise DefinitionError("the action is not initialised")
        if self._action.entry is None:
            raise DefinitionError(_NOT_OURS)
        return self._action.entry

    def _run(self, id: int, body: dict[str, Any]) -> None:
        action.set_environment(body)
        try:
            if self._action is None:
                raise DefinitionError("the action is not initialised")
            result = self._action.call(body.get("value", {}))
        except Exception as error:
            sys.stderr.write(author.format_error(error))
            result = {"error": error_text(error)}
        status, text = body_text(result)
        _flush()
        self._link.send_result(id, status, text, [], None)

    def _document(self, kind: str, id: int, request: dict[str, Any]) -> None:
        try:
            entry = self._entry()
            from .build import build_document
            from .ffaas import Context
            from .profiling import profile_document

            answer = build_document if kind == "build" else profile_document
            status, text = body_text(answer(entry, request, Context.from_environment()))
        except FluidFaaSError as error:
            at = error.at or author.location_of_error(error)
            status, text = 502, error_body(f"{error.sentence} ({at})" if at else error.sentence)
        except Exception as error:
            sys.stderr.write(author.format_error(error))
            at = author.location_of_error(error)
            where = f" ({at})" if at else ""
            status, text = 502, error_body(f"{kind}: {type(error).__name__}: {error}{where}")
        _flush()
        self._link.send_result(id, status, text, [], None)


def _flush() -> None:
    sys.stdout.flush()
    sys.stderr.flush()


def main() -> None:
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(encoding="utf-8", errors="backslashreplace", line_buffering=True)  # type: ignore[union-attr]
    # Code that asks at its import whether there is a GPU would else keep forked processes from using it.
    os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")
    link = Link.from_environment()
    if "FFS_CONFIG" in os.environ:
        from . import output

        output.install()
    Child(link).serve()


if __name__ == "__main__":
    main()
