"""Running components one after the other, and who may keep which value.

A component may write into its inputs, and nobody else sees it: whoever is not the last to use a
value gets a copy. In a lane "use" includes a ring that has not carried the value away yet.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from . import values
from .components import Component
from .dag import Dag, Node, Port, Source

__all__ = ["Pool", "Sequence"]


class Sequence:
    """Components in the order in which they run, with the number of uses of every value."""

    def __init__(self, nodes: Iterable[Node], kept: Iterable[Source] = ()) -> None:
        """`kept` are values that someone besides these components uses, once for each mention."""
        self.nodes = list(nodes)
        self._uses: Counter[Source] = Counter(source for node in self.nodes for source in node.sources)
        self._uses.update(kept)

    @classmethod
    def whole(cls, dag: Dag) -> Sequence:
        """The unsplit function."""
        return cls(dag.nodes, kept=dag.outputs.values())

    def pool(self, inputs: Mapping[Source, Any]) -> Pool:
        """The values of one request, before its first component."""
        return Pool(self._uses, inputs)

    def run(
        self,
        components: Mapping[str, Component],
        inputs: Mapping[Source, Any],
        produced: Callable[[Pool, Node], None] = lambda pool, node: None,
        begins: Callable[[Node], None] = lambda node: None,
    ) -> Pool:
        """Runs all components; `begins` is called before and `produced` after each. What is kept is left in the pool.

        Raises :class:`FluidFaaS.components.ComponentFailure` from the first component that fails.
        """
        pool = self.pool(inputs)
        for node in self.nodes:
            arguments = [pool.take(source) for source in node.sources]
            begins(node)
            for port, value in enumerate(components[node.id].run(arguments)):
                pool.put(Port(node.id, port), value)
            del arguments
            produced(pool, node)
        return pool


class Pool:
    """The values that are still needed."""

    def __init__(self, uses: Mapping[Source, int], inputs: Mapping[Source, Any]) -> None:
        self._left = dict(uses)
        self._values: dict[Source, Any] = {}
        for source, value in inputs.items():
            self.put(source, value)

    def put(self, source: Source, value: Any) -> None:
        if self._left.get(source, 0) > 0:
            self._values[source] = value

    def has_all(self, sources: Iterable[Source]) -> bool:
        return self._values.keys() >= set(sources)

    def take(self, source: Source) -> Any:
        """The value to write into: a copy, or for its last user the value itself."""
        self._left[source] -= 1
        if self._left[source] > 0:
            return values.duplicate(self._values[source])
        return self._values.pop(source)

    def look(self, source: Source) -> Any:
        """The value to read only; :meth:`drop` ends the use."""
        return self._values[source]

    def is_shared(self, source: Source) -> bool:
        """Whether more than one use of the value is to come."""
        return self._left[source] > 1

    def replace(self, source: Source, value: Any) -> None:
        """Puts an equal value in its place."""
        self._values[source] = value

    def drop(self, source: Source) -> None:
        self._left[source] -= 1
        if self._left[source] == 0:
            del self._values[source]
