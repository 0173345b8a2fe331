"""Work in a forked process: what it allocates, leaks or breaks ends with it.

The parent has imported the author's code and loaded nothing, so a fork is a fresh process that
need not import again.
"""

from __future__ import annotations

import os
import pickle
import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from .author import format_error, location_of_error
from .components import ComponentFailure
from .errors import DefinitionError, FluidFaaSError

__all__ = ["in_fork"]

T = TypeVar("T")


@dataclass
class _Failed:
    """An exception of the forked process, as far as it can travel."""

    sentence: str
    at: str | None
    trace: str


def in_fork(work: Callable[[], T], what: str, at: str | None = None) -> T:
    """What `work` returns, computed in a forked process.

    Raises :class:`DefinitionError` if it raises there, or if the process dies; `what` and `at`
    (the author's line) name what ran.
    """
    result_in, result_out = os.pipe()
    life_in, life_out = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        os.close(result_in)
        os.close(life_out)
        threading.Thread(target=_end_with_parent, args=(life_in,), daemon=True).start()
        _child(work, result_out)
    os.close(result_out)
    os.close(life_in)
    try:
        with open(result_in, "rb") as pipe:
            answer = pipe.read()
    finally:
        os.close(life_out)
        _, status = os.waitpid(pid, 0)
    if not answer:
        raise DefinitionError(f"{what} {_ending(status)}", at)
    outcome = pickle.loads(answer)
    if isinstance(outcome, _Failed):
        sys.stderr.write(outcome.trace)
        sentence = (
            outcome.sentence
            if what in outcome.sentence
            else f"{what} fails on the example: {outcome.sentence}"
        )
        raise DefinitionError(sentence, outcome.at or at)
    return outcome  # type: ignore[no-any-return]


def _child(work: Callable[[], object], out: int) -> None:
    # On a thread of its own: what GNU OpenMP knows of a thread has come along in the fork, its pool of further threads has not,
    # and would be waited for for ever.
    worker = threading.Thread(target=_work, args=(work, out))
    worker.start()
    worker.join()
    os._exit(0)


def _work(work: Callable[[], object], out: int) -> None:
    try:
        try:
            answer = pickle.dumps(work(), protocol=5)
        except BaseException as error:
            cause = error.__cause__ if isinstance(error, ComponentFailure) and error.__cause__ else error
            sentence = str(cause) if isinstance(cause, FluidFaaSError) else f"{type(cause).__name__}: {cause}"
            trace = "" if isinstance(cause, FluidFaaSError) else format_error(cause)
            answer = pickle.dumps(_Failed(sentence, location_of_error(cause), trace))
        sys.stdout.flush()
        sys.stderr.flush()
        with open(out, "wb") as pipe:
            pipe.write(answer)
    finally:
        os._exit(0)  # whatever other threads the author's code has left


def _end_with_parent(life: int) -> None:
    os.read(life, 1)  # nobody writes: this returns when the parent has closed its end
    os._exit(1)


def _ending(status: int) -> str:
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        name = signal.Signals(number).name if number in set(signal.Signals) else str(number)
        hint = ": perhaps its memory limit is too small" if number == signal.SIGKILL else ""
        return f"ended its process by {name}{hint}"
    return f"ended its process with exit status {os.WEXITSTATUS(status)}"
