"""One component in the process that owns it: made, loaded, run, evicted.

Every way of running a function (unsplit, in lanes, for its DAG, for its profile) comes through
:meth:`Component.run`, so that all give the same bytes.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import json
from collections.abc import Callable, Iterable
from typing import Any

from . import batches, torch_support, values
from .author import location_of_error
from .dag import Dag, Node
from .errors import DefinitionError, FluidFaaSError, ValueTypeError
from .homes import Homes

__all__ = ["Component", "ComponentFailure", "check_outputs", "load", "load_all", "resolve"]


class ComponentFailure(Exception):
    """An exception of the author's code inside a component; it is the `__cause__`."""

    def __init__(self, component: str, cause: BaseException) -> None:
        super().__init__(str(cause) or type(cause).__name__)
        self.component = component
        self.__cause__ = cause


class Component:
    """A loaded component."""

    def __init__(self, node: Node, instance: Any) -> None:
        self.node = node
        self._instance = instance
        self._device = torch_support.device() if torch_support.is_module(instance) else None
        self._homes: Homes | None = None
        if self._device is None:
            self._call = instance.forward if hasattr(instance, "forward") else instance
        else:
            # On a CPU mapped weights are used where they are.
            if self._device.type != "cpu":
                self._homes = Homes(instance)
                self._homes.enter(self._device)
            self._call = instance.eval().to(self._device)
            torch_support.begin(self._device)
        self._takes_tensors_only = torch_support.is_script(instance)

    def run(self, inputs: list[Any]) -> list[Any]:
        """The outputs, normalised. `inputs` belong to the component: it may write into them.

        Raises :class:`ComponentFailure` with the author's exception as its cause.
        """
        try:
            outputs = normalise_outputs(self.node, self._forward(inputs))
            check_outputs(self.node, outputs)
        except Exception as error:
            raise ComponentFailure(self.node.id, error) from error
        return outputs

    def run_stacked(self, inputs: list[Any], rows: list[int]) -> list[list[Any]]:
        """The outputs of several requests from one execution; each has so many of the first dimension.

        Raises :class:`ComponentFailure`, also if it does not return a row for each that it got.
        """
        try:
            outputs = normalise_outputs(self.node, self._forward(inputs))
            split = batches.split(outputs, rows, self.node.id)
            for own in split:
                check_outputs(self.node, own)
        except Exception as error:
            raise ComponentFailure(self.node.id, error) from error
        return split

    def _forward(self, inputs: list[Any]) -> Any:
        torch = torch_support.imported()
        if torch is None:
            return self._call(*inputs)
        if self._takes_tensors_only:
            inputs = [torch_support.from_array(value) for value in inputs]
        arguments, copying = torch_support.to_device(inputs, self._device)
        try:
            with torch.no_grad():
                return self._call(*arguments)
        finally:
            if copying is not None:
                copying.synchronize()  # the ring's writer may have the memory again

    def evict(self) -> None:
        """Moves the weights out of the slice, into host memory."""
        if hasattr(self._instance, "evict"):
            self._instance.evict()
        elif self._device is not None:
            if self._homes is not None:
                self._homes.leave()
            self._instance.to("cpu")
            torch_support.give_back()

    def resume(self) -> None:
        """Moves the weights back into the slice."""
        if hasattr(self._instance, "resume"):
            self._instance.resume()
        elif self._device is not None:
            if self._homes is not None:
                self._homes.enter(self._device)
            self._instance.to(self._device)


def load_all(dag: Dag, ids: Iterable[str]) -> dict[str, Component]:
    """Loads the components with these ids; equal ones with a common `weights_key` once.

    Raises :class:`DefinitionError` naming the component and the author's line.
    """
    shared: dict[str, Any] = {}
    return {id: load(dag.node(id), resolve(dag.node(id)), shared) for id in ids}


def load(node: Node, factory: Callable[..., Any], shared: dict[str, Any]) -> Component:
    """Makes and loads one component, or takes an equal one from `shared`."""
    key = json.dumps([node.weights_key, node.module, node.init], sort_keys=True)
    instance = shared.get(key)
    if instance is None:
        instance = _instance(node, factory)
        if node.weights_key is not None:
            shared[key] = instance
    return Component(node, instance)


def resolve(node: Node) -> Callable[..., Any]:
    """The class or function that `module:name` of `node` names."""
    module, colon, name = node.module.partition(":")
    if not colon or not module or not name:
        raise DefinitionError(
            f"the module {node.module!r} of component {node.id} is not valid: expected module:name"
        )
    try:
        found: Any = functools.reduce(getattr, name.split("."), importlib.import_module(module))
    except (ImportError, AttributeError) as error:
        raise DefinitionError(
            f"component {node.id}: {node.module} cannot be found ({error})", location_of_error(error)
        ) from error
    found = getattr(found, "__component__", found)  # what `component` decorates
    if not callable(found):
        raise DefinitionError(f"component {node.id}: {node.module} is {found!r}, not a class or function")
    return found  # type: ignore[no-any-return]


def normalise_outputs(node: Node, returned: Any) -> list[Any]:
    """A tuple is several outputs, anything else is one. No two of them share memory."""
    items = returned if isinstance(returned, tuple) else (returned,)
    if not items:
        raise ValueTypeError(
            f"component {node.id} returned an empty tuple: expected at least one value", node.at
        )
    outputs: list[Any] = []
    for port, item in enumerate(items):
        value = values.normalise(item, f"output {port} of component {node.id}")
        if outputs and any(values.shares_memory(value, other) for other in outputs):
            value = values.duplicate(value)
        outputs.append(value)
    return outputs


def check_outputs(node: Node, returned: list[Any], strict: bool = False) -> None:
    """Raises if a component did not return what the DAG says of it.

    A shape without a declared dimension was learned from one example and binds nobody, unless
    `strict`: then the example itself is held against the declaration.
    """
    if node.outputs and len(returned) != len(node.outputs):
        raise ValueTypeError(
            f"component {node.id} returned {len(returned)} values, the DAG has {len(node.outputs)}", node.at
        )
    for port, (value, declared) in enumerate(zip(returned, node.outputs)):
        if strict or declared.varies:
            wire = values.to_wire(value)
            mismatch = declared.mismatch(wire.dtype, wire.shape)
            if mismatch:
                raise ValueTypeError(
                    f"output {port} of component {node.id} is not as declared: {mismatch}", node.at
                )


def _instance(node: Node, factory: Callable[..., Any]) -> Any:
    try:
        if not inspect.isclass(factory):
            return functools.partial(factory, **node.init) if node.init else factory
        instance: Any = factory(**node.init)
        if callable(getattr(instance, "load", None)):
            instance.load()
        return instance
    except FluidFaaSError:
        raise
    except Exception as error:
        raise DefinitionError(
            f"component {node.id} ({node.module}) cannot be loaded: {type(error).__name__}: {error}",
            location_of_error(error) or node.at,
        ) from error
