"""`entry`: makes of a function class the callable that OpenWhisk calls.

`main = FFS.entry(MyFunction)` is a valid plain action: called with one dict it runs all components
in this process and returns a dict. The runtime recognises it and can run it in lanes instead.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from types import ModuleType
from typing import Any

from .errors import DefinitionError
from .ffaas import Context, FFaaS, Mode, capture

__all__ = ["Entry", "entry", "recognise", "RECIPE"]

#: What an author adds to a module that is not an FFS action.
RECIPE = "import FluidFaaS as FFS\nmain = FFS.entry(MyFunction)"


class Entry:
    """A FluidFaaS function as `main(dict) -> dict`."""

    def __init__(self, function_class: type[FFaaS]) -> None:
        self.function_class = function_class
        self.__name__ = function_class.__name__
        self.__doc__ = function_class.__doc__
        self.__module__ = function_class.__module__

    def __call__(self, event: Any) -> Any:
        return self.invoke(event, Context.from_environment())

    def invoke(self, event: Any, context: Any) -> Any:
        """Runs one request."""
        return self.function_class(event, context, Mode.RUN).run()

    def deferred(self, event: Any, context: Any) -> FFaaS:
        """A function object that has neither built its DAG nor read one."""
        return self.function_class(event, context, Mode.DEFERRED)


class _PairEntry(Entry):
    """The paper's form: `<X>_run(event, context)` and `<X>_buildDAG(event, context)`."""

    def __init__(self, run: Callable[..., Any], build: Callable[..., Any]) -> None:
        self._run = run
        self._build = build
        self.__name__ = run.__name__

    def invoke(self, event: Any, context: Any) -> Any:
        return self._run(event, context)

    def deferred(self, event: Any, context: Any) -> FFaaS:
        return Entry(self._class(event, context)).deferred(event, context)

    def _class(self, event: Any, context: Any) -> type[FFaaS]:
        token = capture.set(_tell)
        try:
            self._build(event, context)
        except _Found as found:
            return found.function_class
        finally:
            capture.reset(token)
        raise DefinitionError(f"{self._build.__name__} made no FFaaS object in mode BUILDDAG")


class _Found(BaseException):
    """Ends the author's `_buildDAG` as soon as its class is known."""

    def __init__(self, function_class: type[FFaaS]) -> None:
        self.function_class = function_class


def _tell(function_class: type[FFaaS]) -> None:
    raise _Found(function_class)


def entry(function_class: type[FFaaS]) -> Entry:
    """The callable for a function class: `main = FFS.entry(MyFunction)`."""
    if not (inspect.isclass(function_class) and issubclass(function_class, FFaaS)):
        raise DefinitionError(f"FFS.entry({function_class!r}): expected a class that derives from FFS.FFaaS")
    return Entry(function_class)


def recognise(module: ModuleType, main: str) -> Entry | None:
    """The FFS function of an action's module, if there is one: `main`, else the paper's pair."""
    found = getattr(module, main, None)
    if isinstance(found, Entry):
        return found
    names = [
        name[: -len("_run")]
        for name in vars(module)
        if name.endswith("_run") and f"{name[:-4]}_buildDAG" in vars(module)
    ]
    if main.endswith("_run") and main[: -len("_run")] in names:
        names = [main[: -len("_run")]]
    if len(names) > 1:
        raise DefinitionError(
            f"the action has several pairs X_run and X_buildDAG ({', '.join(names)}): name one with --main {names[0]}_run"
        )
    if not names or (callable(found) and found is not getattr(module, f"{names[0]}_run")):
        return None
    return _PairEntry(getattr(module, f"{names[0]}_run"), getattr(module, f"{names[0]}_buildDAG"))
