"""What runs a request in this process: everything here, or a pipeline of lanes.

A plain action and an author's own script use :class:`Local`. In a head the lane code puts its own
runner in place with :func:`use`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from . import values
from .components import Component, ComponentFailure, load
from .dag import Dag, Input, Node
from .errors import InputError
from .execution import Sequence
from .ffaas import arguments, result
from .trace import trace

if TYPE_CHECKING:
    from .ffaas import FFaaS

__all__ = ["Runner", "Local", "current", "use"]


class Runner(Protocol):
    """Runs requests, and knows what the config layer says."""

    def run(self, function: FFaaS) -> Any: ...
    def dag(self, function: type[FFaaS]) -> Dag | None: ...
    def migs(self) -> list[str]: ...
    def stages(self, function: type[FFaaS]) -> list[list[list[str]]]: ...


class Local:
    """The unsplit function: all components in this process, loaded once and kept."""

    def __init__(self) -> None:
        self._functions: dict[type[FFaaS], _Loaded] = {}
        self._one_at_a_time = threading.RLock()

    def run(self, function: FFaaS) -> Any:
        with self._one_at_a_time:
            loaded = self._functions.setdefault(type(function), _Loaded())
            try:
                outputs = loaded.run(function)
            except ComponentFailure as failure:
                raise failure.__cause__ from None  # type: ignore[misc]
            return result(function, outputs)

    def dag(self, function: type[FFaaS]) -> Dag | None:
        loaded = self._functions.get(function)
        return loaded.dag if loaded else None

    def migs(self) -> list[str]:
        return []

    def stages(self, function: type[FFaaS]) -> list[list[list[str]]]:
        dag = self.dag(function)
        return [[[node.id for node in dag.nodes]]] if dag else []


class _Loaded:
    """The components of one function."""

    def __init__(self) -> None:
        self.dag: Dag | None = None
        self._components: dict[str, Component] = {}
        self._shared: dict[str, Any] = {}

    def run(self, function: FFaaS) -> dict[str, Any]:
        inputs = arguments(function)
        if self.dag is None:
            # The first request shows what the DAG is; its components run while defDAG does.
            dag, learned = trace(function, inputs, self._evaluate)
            outputs = {name: values.to_host(learned.value(port)) for name, port in dag.outputs.items()}
            self.dag = dag
            function.importDAG()
            function.importStages()
            return outputs
        check_inputs(self.dag, inputs)
        pool = Sequence.whole(self.dag).run(
            self._components, {Input(name): value for name, value in inputs.items()}
        )
        return {name: values.to_host(pool.take(port)) for name, port in self.dag.outputs.items()}

    def _evaluate(self, node: Node, factory: Callable[..., Any], inputs: list[Any]) -> list[Any]:
        if node.id not in self._components:
            self._components[node.id] = load(node, factory, self._shared)
        return self._components[node.id].run(inputs)


def check_inputs(dag: Dag, inputs: dict[str, Any]) -> None:
    """Raises if `pre` did not give what the DAG asks for."""
    missing = [name for name in dag.inputs if name not in inputs]
    if missing:
        raise InputError(f"the input {missing[0]!r} is missing: defDAG asks for {', '.join(dag.inputs)}")


_current: Runner = Local()


def current() -> Runner:
    return _current


def use(runner: Runner) -> None:
    """Puts another runner in place, for the rest of this process."""
    global _current
    _current = runner
