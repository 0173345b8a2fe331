"""`component` and `function`: functions as decorated functions, without a class.

@component
def blur(row): ...

@function
def brightest(row):
    return {"at": peak(blur(row))}

main = brightest
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, cast

from .entries import Entry, entry
from .errors import DefinitionError
from .ffaas import FFaaS
from .trace import tracing

__all__ = ["Component", "component", "function"]


class Component:
    """A class or function that is a component where it is called in a function's definition, and itself elsewhere."""

    def __init__(self, factory: Callable[..., Any], options: Mapping[str, Any]) -> None:
        functools.update_wrapper(self, factory)
        self.factory = factory
        self.__component__ = factory
        self._options = options

    def __call__(self, *inputs: Any, **arguments: Any) -> Any:
        trace = tracing.get()
        if trace is None:
            return self.factory(*inputs, **arguments)
        if arguments:
            raise DefinitionError(
                f"{self.factory.__qualname__} is called with {', '.join(arguments)}=: expected its inputs in their "
                "order; constructor arguments go into component(…, init={…})"
            )
        return trace.register(self.factory, inputs, **self._options)


def component(
    factory: Callable[..., Any] | None = None,
    *,
    id: str | None = None,
    init: Mapping[str, Any] | None = None,
    weights_key: str | None = None,
    outputs: Any = None,
    batch: int | None = None,
) -> Any:
    """Makes a component of a function or of a class with `forward`, such as any `torch.nn.Module`.

    Above a definition as `@component` or `@component(outputs=…)`; or `encode = component(Encoder, init={"width": 64})`
    for a class from elsewhere. In what :func:`function` decorates, calling it says what it reads. The options are those
    of :meth:`FluidFaaS.FFaaS.reg`.
    """
    options = {"id": id, "init": init, "weights_key": weights_key, "outputs": outputs, "batch": batch}
    if factory is None:
        return lambda found: component(found, **options)
    if not callable(factory):
        raise DefinitionError(f"component({factory!r}): expected a function, or a class with forward(...)")
    return Component(factory, options)


def function(definition: Any) -> Entry:
    """Makes `main` of a function that says what feeds what, or of an `FFaaS` class.

    Each parameter is an external input. In it components are called, as :func:`component` makes them, and their
    outputs returned: one, a tuple or a dict of them.
    """
    if inspect.isclass(definition):
        return entry(cast("type[FFaaS]", definition))
    if not inspect.isfunction(definition):
        raise DefinitionError(
            f"function({definition!r}): expected a function, or a class that derives from FFS.FFaaS"
        )

    def define(self: FFaaS, *inputs: Any) -> Any:
        return definition(*inputs)

    parameters = inspect.signature(definition).parameters.values()
    own = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)
    define.__signature__ = inspect.Signature([own, *parameters])  # type: ignore[attr-defined]
    members = {"defDAG": define, "__doc__": definition.__doc__, "__module__": definition.__module__}
    return entry(type(definition.__name__, (FFaaS,), members))
