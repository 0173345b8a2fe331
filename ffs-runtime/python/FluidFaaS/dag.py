"""The DAG of a function: components, and the values between them. In files: `dag.json`."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NamedTuple

from .errors import DefinitionError
from .tensors import Dim, TensorType

__all__ = ["Dag", "Node", "Port", "Input", "Source", "MAX_NODES"]

SCHEMA = "ffs.dag/1"
MAX_NODES = 64
_ID = re.compile(r"[A-Za-z0-9_.-]{1,64}")


class Port(NamedTuple):
    """One output of a component."""

    node: str
    port: int

    def __str__(self) -> str:
        return f"{self.node}:{self.port}"


class Input(NamedTuple):
    """One external input of the function."""

    name: str

    def __str__(self) -> str:
        return f"input {self.name}"


Source = Port | Input


@dataclass
class Node:
    """One component: what makes it, and where its inputs come from."""

    id: str
    #: Importable class or function, `module:name`.
    module: str
    sources: list[Source]
    outputs: list[TensorType] = field(default_factory=list)
    #: Constructor arguments.
    init: dict[str, Any] = field(default_factory=dict)
    weights_key: str | None = None
    #: Most requests whose inputs may be stacked along their first dimension and run at once.
    batch: int = 1
    #: The author's file and line, where it was registered in this process.
    at: str | None = None


@dataclass
class Dag:
    """Nodes in an order in which they can run."""

    nodes: list[Node]
    inputs: dict[str, TensorType]
    #: Name of a result → where it comes from.
    outputs: dict[str, Port]
    function: str = ""
    revision: str = ""

    def node(self, id: str) -> Node:
        for node in self.nodes:
            if node.id == id:
                return node
        known = ", ".join(node.id for node in self.nodes)
        raise DefinitionError(f"the DAG has no component {id!r}; it has: {known}")

    def order(self, id: str) -> int:
        """Position of a component in the order of execution."""
        return self.nodes.index(self.node(id))

    def edges(self) -> Iterable[tuple[Port, Port]]:
        """Producer port and consumer port of every edge between components."""
        for node in self.nodes:
            for position, source in enumerate(node.sources):
                if isinstance(source, Port):
                    yield source, Port(node.id, position)

    def type_of(self, source: Source) -> TensorType:
        return (
            self.inputs[source.name]
            if isinstance(source, Input)
            else self.node(source.node).outputs[source.port]
        )

    def check(self) -> None:
        """Raises what makes this no DAG of a function."""
        if not self.nodes:
            raise DefinitionError("defDAG registered no component: call Model.reg(self, x) for each network")
        if len(self.nodes) > MAX_NODES:
            raise DefinitionError(f"the DAG has {len(self.nodes)} components: expected at most {MAX_NODES}")
        if not self.outputs:
            raise DefinitionError("the DAG has no output")
        seen: dict[str, Node] = {}
        for node in self.nodes:
            if not _ID.fullmatch(node.id):
                raise DefinitionError(
                    f"the component id {node.id!r} is not valid: expected 1 to 64 characters of A-Z a-z 0-9 _ . -",
                    node.at,
                )
            if node.id in seen:
                raise DefinitionError(
                    f"two components have the id {node.id!r}: expected an id of its own for each", node.at
                )
            for position, source in enumerate(node.sources):
                self._check_source(node, position, source, seen)
            seen[node.id] = node
        for name, port in self.outputs.items():
            if port.node not in seen or port.port >= max(1, len(seen[port.node].outputs)):
                raise DefinitionError(f"the output {name!r} comes from {port}, which is not in the DAG")
        self._check_reach(seen)

    def _check_source(self, node: Node, position: int, source: Source, seen: dict[str, Node]) -> None:
        if isinstance(source, Input):
            if source.name not in self.inputs:
                raise DefinitionError(
                    f"input {position} of component {node.id} is {source}, which is not in the DAG", node.at
                )
        elif source.node not in seen:
            raise DefinitionError(
                f"input {position} of component {node.id} comes from {source}, which is not before it: the DAG has a cycle"
                if any(other.id == source.node for other in self.nodes)
                else f"input {position} of component {node.id} comes from {source}, which is not in the DAG",
                node.at,
            )
        elif source.port >= max(1, len(seen[source.node].outputs)):
            raise DefinitionError(
                f"input {position} of component {node.id} comes from {source}, which is not in the DAG",
                node.at,
            )

    def _check_reach(self, nodes: dict[str, Node]) -> None:
        reached = {port.node for port in self.outputs.values()}
        for node in reversed(self.nodes):
            if node.id not in reached:
                raise DefinitionError(
                    f"component {node.id} reaches no output: return what it makes from defDAG, or leave it out",
                    node.at,
                )
            reached.update(source.node for source in node.sources if isinstance(source, Port))

    def to_document(self) -> dict[str, Any]:
        """This DAG as `dag.json`."""
        symbols: dict[str, int] = {}
        document: dict[str, Any] = {
            "schema": SCHEMA,
            "function": self.function,
            "revision": self.revision,
            "built_at": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "inputs": [{"name": name, **_type(item, symbols)} for name, item in self.inputs.items()],
            "nodes": [self._node_document(node, symbols) for node in self.nodes],
            "outputs": [
                {"name": name, "node": port.node, "port": port.port} for name, port in self.outputs.items()
            ],
        }
        if symbols:
            document["symbols"] = symbols
        return document

    @staticmethod
    def _node_document(node: Node, symbols: dict[str, int]) -> dict[str, Any]:
        document: dict[str, Any] = {"id": node.id, "module": node.module}
        if node.init:
            document["init"] = node.init
        if node.weights_key is not None:
            document["weights_key"] = node.weights_key
        if node.batch > 1:
            document["batch"] = node.batch
        document["inputs"] = [
            {
                "port": position,
                "from": {"input": source.name}
                if isinstance(source, Input)
                else {"node": source.node, "port": source.port},
            }
            for position, source in enumerate(node.sources)
        ]
        document["outputs"] = [
            {"port": port, **_type(item, symbols)} for port, item in enumerate(node.outputs)
        ]
        return document

    @classmethod
    def from_document(cls, document: dict[str, Any]) -> Dag:
        """Reads `dag.json`.

        Raises :class:`DefinitionError` naming the member that is missing or wrong.
        """
        try:
            if document["schema"] != SCHEMA:
                raise DefinitionError(f"dag.json has the schema {document['schema']!r}: expected {SCHEMA!r}")
            symbols = document.get("symbols", {})
            dag = cls(
                nodes=[_read_node(node, symbols) for node in document["nodes"]],
                inputs={item["name"]: _read_type(item, symbols) for item in document["inputs"]},
                outputs={item["name"]: Port(item["node"], item["port"]) for item in document["outputs"]},
                function=document["function"],
                revision=document["revision"],
            )
        except KeyError as missing:
            raise DefinitionError(f"dag.json has no member {missing}") from None
        except (TypeError, AttributeError) as wrong:
            raise DefinitionError(f"dag.json does not have the form of {SCHEMA}: {wrong}") from None
        dag.nodes = _sorted(dag.nodes)
        dag.check()
        return dag


def _sorted(nodes: list[Node]) -> list[Node]:
    """The nodes so that each comes after those it reads from; else in the order of the document."""
    ordered: list[Node] = []
    waiting = list(nodes)
    while waiting:
        done = {node.id for node in ordered}
        known = {node.id for node in waiting}
        ready = next(
            (
                n
                for n in waiting
                if all(not isinstance(s, Port) or s.node in done or s.node not in known for s in n.sources)
            ),
            None,
        )
        if ready is None:
            return ordered + waiting  # a cycle, which check() names
        waiting.remove(ready)
        ordered.append(ready)
    return ordered


def _type(item: TensorType, symbols: dict[str, int]) -> dict[str, Any]:
    shape: list[int | str] = []
    for size in item.shape:
        if isinstance(size, Dim):
            if symbols.setdefault(size.name, size.max) != size.max:
                raise DefinitionError(
                    f"the dimension {size.name} is declared with max {size.max} and with max {symbols[size.name]}"
                )
            shape.append(size.name)
        else:
            shape.append(size)
    return {"dtype": item.dtype, "shape": shape}


def _read_type(item: dict[str, Any], symbols: dict[str, int]) -> TensorType:
    shape = tuple(Dim(size, symbols[size]) if isinstance(size, str) else int(size) for size in item["shape"])
    return TensorType(item["dtype"], shape)


def _read_node(node: dict[str, Any], symbols: dict[str, int]) -> Node:
    sources: list[tuple[int, Source]] = []
    for item in node["inputs"]:
        origin = item["from"]
        source = Input(origin["input"]) if "input" in origin else Port(origin["node"], origin["port"])
        sources.append((item["port"], source))
    outputs = sorted(
        ((item["port"], _read_type(item, symbols)) for item in node["outputs"]), key=lambda pair: pair[0]
    )
    return Node(
        id=node["id"],
        module=node["module"],
        sources=[source for _, source in sorted(sources, key=lambda pair: pair[0])],
        outputs=[item for _, item in outputs],
        init=dict(node.get("init", {})),
        weights_key=node.get("weights_key"),
        batch=node.get("batch", 1),
    )
