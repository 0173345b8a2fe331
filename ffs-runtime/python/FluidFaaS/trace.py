"""Running `defDAG` to learn the DAG.

`defDAG` gets a symbol for each external input; each `reg` adds a component and returns symbols for
its outputs. A component whose outputs are not declared is run once on the example as soon as it
is registered, so that their number, shapes and dtypes are known. What runs it is an
:class:`Evaluator`: in this process and kept, in a process of its own, or measured.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

from . import torch_support, values
from .author import location_of_caller
from .components import check_outputs
from .dag import Dag, Input, Node, Port, Source
from .errors import DefinitionError, InputError
from .tensors import TensorType

if TYPE_CHECKING:
    from .ffaas import FFaaS

__all__ = ["Evaluator", "Symbol", "Trace", "trace", "tracing"]


class Evaluator(Protocol):
    """Runs a component that has just been registered."""

    def __call__(self, node: Node, factory: Callable[..., Any], inputs: list[Any]) -> list[Any]:
        """The outputs for these inputs, normalised."""


class Symbol:
    """Stands for a value that exists only when the function runs."""

    def __init__(self, trace: Trace, source: Source) -> None:
        self._trace = trace
        self._source = source

    def __repr__(self) -> str:
        return f"<symbol for {self._source}>"

    def _refuse(self, *_: Any, **__: Any) -> NoReturn:
        raise DefinitionError(
            f"defDAG only says what feeds what: {self._source} has no value yet. "
            "Computing, unpacking and comparing belong into the forward of a component",
            location_of_caller(),
        )

    __bool__ = __len__ = __iter__ = __getitem__ = __call__ = __float__ = __int__ = _refuse
    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __rtruediv__ = _refuse
    __matmul__ = __rmatmul__ = __neg__ = __lt__ = __le__ = __gt__ = __ge__ = __array__ = _refuse


class Trace:
    """The DAG under construction, and what its components returned for the example."""

    def __init__(
        self, inputs: Mapping[str, Any], declared: Mapping[str, TensorType], evaluate: Evaluator
    ) -> None:
        self.nodes: list[Node] = []
        self.inputs = {name: declared.get(name) or values.type_of(value) for name, value in inputs.items()}
        self._known: dict[Source, Any] = {Input(name): value for name, value in inputs.items()}
        self._factories: dict[str, Callable[..., Any]] = {}
        self._evaluate = evaluate

    def register(
        self,
        factory: Callable[..., Any],
        inputs: tuple[Any, ...],
        id: str | None,
        init: Mapping[str, Any] | None,
        weights_key: str | None,
        outputs: Any,
        batch: int | None,
    ) -> Symbol | tuple[Symbol, ...]:
        """Adds a component; see :meth:`FluidFaaS.FFaaS.reg`."""
        at = location_of_caller()
        name = getattr(factory, "__qualname__", repr(factory))
        node = Node(
            id=id if id is not None else self._free_id(name),
            module=_importable(factory, at),
            sources=[self._source(item, position, name, at) for position, item in enumerate(inputs)],
            init=_json_arguments(init, name, at),
            weights_key=weights_key if weights_key is not None else getattr(factory, "weights_key", None),
            batch=_batch(factory, batch, name, at),
            at=at,
        )
        if any(node.id == other.id for other in self.nodes):
            raise DefinitionError(
                f"two components have the id {node.id!r}: expected an id of its own for each", at
            )
        declared = outputs if outputs is not None else getattr(factory, "outputs", None)
        self.nodes.append(node)
        self._factories[node.id] = factory
        if declared is not None:
            node.outputs = _declared(declared, name, at)
        else:
            self._run(node)
        symbols = tuple(Symbol(self, Port(node.id, port)) for port in range(len(node.outputs)))
        return symbols if len(symbols) > 1 else symbols[0]

    def value(self, source: Source) -> Any:
        """The value for the example; runs what has to run before it."""
        if source not in self._known:
            assert isinstance(source, Port), "external inputs are known from the start"
            self._run(next(node for node in self.nodes if node.id == source.node))
        return self._known[source]

    def _run(self, node: Node) -> None:
        inputs = [values.duplicate(self.value(source)) for source in node.sources]
        token = tracing.set(None)  # what runs is itself, whatever it calls
        try:
            returned = self._evaluate(node, self._factories[node.id], inputs)
        finally:
            tracing.reset(token)
        if node.outputs:
            check_outputs(node, returned, strict=True)
        else:
            node.outputs = [values.type_of(value) for value in returned]
        for port, value in enumerate(returned):
            self._known[Port(node.id, port)] = value

    def _source(self, item: Any, position: int, name: str, at: str | None) -> Source:
        if isinstance(item, Symbol):
            if item._trace is not self:
                raise DefinitionError(f"input {position} of {name} belongs to another function", at)
            return item._source
        hint = (
            "pass one of its symbols" if isinstance(item, tuple) else "constructor arguments go into init={…}"
        )
        raise DefinitionError(
            f"input {position} of {name} is {item!r}: expected an input of defDAG or an output of a component; {hint}",
            at,
        )

    def _free_id(self, name: str) -> str:
        base = re.sub(r"[^A-Za-z0-9_.-]", "_", name.rpartition(".")[2])[:60]
        taken = {node.id for node in self.nodes}
        number = 2
        id = base
        while id in taken:
            id, number = f"{base}_{number}", number + 1
        return id


#: The DAG that is being defined; None outside of a definition and while a component runs for it.
tracing: ContextVar[Trace | None] = ContextVar("tracing", default=None)


def trace(function: FFaaS, inputs: Mapping[str, Any], evaluate: Evaluator) -> tuple[Dag, Trace]:
    """Runs `defDAG` of `function` on the example `inputs` (normalised)."""
    build = Trace(inputs, function.inputs, evaluate)
    function._trace = build
    token = tracing.set(build)
    names = input_names(function)
    missing = [name for name in names if name not in inputs]
    if missing:
        raise InputError(f"the input {missing[0]!r} is missing: defDAG asks for {', '.join(names)}")
    try:
        returned = function.defDAG(*(Symbol(build, Input(name)) for name in names))
    finally:
        tracing.reset(token)
        function._trace = None
    build.inputs = {name: build.inputs[name] for name in names}
    dag = Dag(nodes=build.nodes, inputs=build.inputs, outputs=_outputs(build, returned))
    dag.check()
    return dag, build


def input_names(function: FFaaS) -> list[str]:
    """The external inputs: the parameters of `defDAG`."""
    names: list[str] = []
    for parameter in inspect.signature(function.defDAG).parameters.values():
        if parameter.kind not in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD):
            raise DefinitionError(
                f"defDAG has the parameter {parameter}: expected a plain name for each external input"
            )
        names.append(parameter.name)
    return names


def _outputs(build: Trace, returned: Any) -> dict[str, Port]:
    """What `defDAG` returned, or without a return everything that nothing reads."""
    if returned is None:
        read = {source for node in build.nodes for source in node.sources}
        ports = [Port(node.id, port) for node in build.nodes for port in range(len(node.outputs))]
        left = [port for port in ports if port not in read]
        several = {port.node for port in left if port.port > 0}
        return {f"{p.node}_{p.port}" if p.node in several else p.node: p for p in left}
    if isinstance(returned, Symbol):
        returned = {"output": returned}
    elif isinstance(returned, (tuple, list)):
        returned = {f"output{position}": item for position, item in enumerate(returned)}
    if not isinstance(returned, dict):
        raise DefinitionError(
            f"defDAG returned {returned!r}: expected an output of a component, several, or a dict of them"
        )
    outputs: dict[str, Port] = {}
    for name, item in returned.items():
        if not isinstance(name, str):
            raise DefinitionError(f"defDAG returned a dict with the key {name!r}: expected names")
        if not isinstance(item, Symbol) or item._trace is not build or not isinstance(item._source, Port):
            raise DefinitionError(
                f"the output {name!r} of defDAG is {item!r}: expected an output of a component"
            )
        outputs[name] = item._source
    return outputs


def _importable(factory: Any, at: str | None) -> str:
    if torch_support.is_script(factory):
        raise DefinitionError(
            "a TorchScript network was made already, so it would lie in every lane: save it with torch.jit.save, and "
            'register TorchScript with init={"file": …}',
            at,
        )
    module, name = getattr(factory, "__module__", None), getattr(factory, "__qualname__", None)
    if not callable(factory) or not module or not name:
        raise DefinitionError(
            f"{factory!r} is no component: expected a class with forward(...), or a function", at
        )
    if "<" in name:
        raise DefinitionError(
            f"{name} is defined inside a function: a lane can only load what stands at the top of a module",
            at,
        )
    if inspect.isclass(factory) and not callable(getattr(factory, "forward", None)):
        raise DefinitionError(
            f"the class {name} has no forward(...): that is what a component computes with", at
        )
    return f"{module}:{name}"


def _batch(factory: Any, batch: Any, name: str, at: str | None) -> int:
    """What the author says, else what the class says; another class's attribute of that name is no promise."""
    said = batch if batch is not None else getattr(factory, "batch", 1)
    if isinstance(said, int) and not isinstance(said, bool) and said >= 1:
        return said
    if batch is None:
        return 1
    raise DefinitionError(f"batch of {name} is {batch!r}: expected a whole number of at least 1", at)


def _json_arguments(init: Mapping[str, Any] | None, name: str, at: str | None) -> dict[str, Any]:
    arguments = dict(init or {})
    try:
        again = json.loads(json.dumps(arguments, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise DefinitionError(
            f"init of {name} is not JSON ({error}): expected what JSON can hold", at
        ) from None
    return dict(again)


def _declared(declared: Any, name: str, at: str | None) -> list[TensorType]:
    items = [declared] if isinstance(declared, TensorType) else declared
    if (
        not isinstance(items, (tuple, list))
        or not items
        or not all(isinstance(item, TensorType) for item in items)
    ):
        raise DefinitionError(f"outputs of {name} is {declared!r}: expected tensor(…) or a tuple of them", at)
    return list(items)
