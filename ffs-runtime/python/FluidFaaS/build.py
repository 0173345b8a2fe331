"""BUILDDAG: from an example to `dag.json`.

Each component runs once in a forked process of its own, so that this one never holds more than
the example's tensors, and so that a component that takes its process down gives a sentence.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from . import values
from .components import load
from .dag import Dag, Node
from .ffaas import FFaaS, arguments
from .isolated import in_fork
from .trace import trace

if TYPE_CHECKING:
    from .entries import Entry

__all__ = ["build", "build_document"]


def build(function: FFaaS) -> Dag:
    """The DAG of `function`, learned from its event."""
    dag, _ = trace(function, arguments(function), evaluate)
    return dag


def evaluate(node: Node, factory: Callable[..., Any], inputs: list[Any]) -> list[Any]:
    """Runs one component once, elsewhere."""

    def outputs() -> list[Any]:
        # This process stays without CUDA: what is forked from one with it cannot use it.
        return [values.to_host(value) for value in load(node, factory, {}).run(inputs)]

    return in_fork(outputs, f"component {node.id}", node.at)


def build_document(entry: Entry, request: dict[str, Any], context: Any) -> dict[str, Any]:
    """Answers `POST /ffs/build`: `dag.json`."""
    dag = build(entry.deferred(request["example"], context))
    dag.function = request["function"]
    dag.revision = request["revision"]
    return dag.to_document()
