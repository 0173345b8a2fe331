"""Where in the author's code something happened.

A location is ``file.py:12``, with the file as the author knows it: relative to the folder of the
action. Frames of this package never count.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    import traceback
    from types import FrameType

__all__ = ["set_root", "location_of_error", "location_of_caller", "format_error"]

_PACKAGE = os.path.dirname(os.path.abspath(__file__)) + os.sep
_root: str | None = None


def set_root(folder: str) -> None:
    """Says in which folder the action's own files lie."""
    global _root
    _root = os.path.abspath(folder) + os.sep


def location_of_error(error: BaseException) -> str | None:
    """The innermost line of the author's code that `error` came through."""
    if isinstance(error, SyntaxError) and error.filename:
        return _location(error.filename, error.lineno or 0)
    at = getattr(error, "at", None)
    if at:
        return str(at)
    frames: list[tuple[str, int]] = []
    part = error.__traceback__
    while part is not None:
        frames.append((part.tb_frame.f_code.co_filename, part.tb_lineno))
        part = part.tb_next
    frames = [(file, line) for file, line in frames if not _is_ours(file)]
    own = [(file, line) for file, line in frames if _root and file.startswith(_root)]
    for file, line in reversed(own or frames):
        return _location(file, line)
    return None


def location_of_caller() -> str | None:
    """The innermost line outside this package that led to the call of this function."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and _is_ours(frame.f_code.co_filename):
        frame = frame.f_back
    return None if frame is None else _location(frame.f_code.co_filename, frame.f_lineno)


def format_error(error: BaseException) -> str:
    """The traceback as the author wants to read it: without the frames of this package."""
    import traceback  # only where something has gone wrong: it takes a while to load

    trace = traceback.TracebackException.from_exception(error)
    part: traceback.TracebackException | None = trace
    while part is not None:
        kept = [frame for frame in part.stack if not _is_ours(frame.filename)]
        part.stack = traceback.StackSummary.from_list(kept)
        part = part.__cause__ or (None if part.__suppress_context__ else part.__context__)
    return "".join(trace.format())


def _is_ours(file: str) -> bool:
    return file.startswith(_PACKAGE) or file.startswith("<frozen ")


def _location(file: str, line: int) -> str:
    if _root and file.startswith(_root):
        file = file[len(_root) :]
    return f"{file}:{line}"
