"""`FFaaS`: what an author derives a function from, with the names of the paper.

class MyFunction(FFS.FFaaS):
    def defDAG(self, x):
        return Classify.reg(self, Segment.reg(self, x))

main = FFS.entry(MyFunction)
"""

from __future__ import annotations

import enum
import os
import time
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from . import convert, values
from .errors import DefinitionError, InputError

if TYPE_CHECKING:
    from .dag import Dag
    from .tensors import TensorType
    from .trace import Trace

__all__ = ["BUILDDAG", "RUN", "Context", "FFaaS", "Mode", "arguments", "result"]


class Mode(enum.Enum):
    """What a function object is made for."""

    #: To run one request.
    RUN = "RUN"
    #: To learn the DAG from an example.
    BUILDDAG = "BUILDDAG"
    #: Neither yet: the caller says what comes.
    DEFERRED = "DEFERRED"


RUN = Mode.RUN
BUILDDAG = Mode.BUILDDAG

#: While set: constructing a function in mode BUILDDAG only tells its class.
capture: ContextVar[Callable[[type[FFaaS]], None] | None] = ContextVar("capture", default=None)


@dataclass(frozen=True)
class Context:
    """What is known of the activation besides its arguments."""

    activation_id: str = ""
    #: `/namespace/package/action`.
    action_name: str = ""
    namespace: str = ""
    #: When the activation's time limit ends, milliseconds since 1970.
    deadline_ms: float | None = None

    @classmethod
    def from_members(cls, members: Mapping[str, Any]) -> Context:
        """From the members of a `/run` body."""
        deadline = str(members.get("deadline", ""))
        return cls(
            activation_id=str(members.get("activation_id", "")),
            action_name=str(members.get("action_name", "")),
            namespace=str(members.get("namespace", "")),
            deadline_ms=float(deadline) if deadline.isdigit() else None,
        )

    @classmethod
    def from_environment(cls) -> Context:
        """From the variables `__OW_…` of a plain action."""
        names = ("activation_id", "action_name", "namespace", "deadline")
        return cls.from_members({name: os.environ.get(f"__OW_{name.upper()}", "") for name in names})

    def remaining_ms(self) -> float | None:
        """Time left before the limit."""
        return None if self.deadline_ms is None else self.deadline_ms - time.time() * 1000


class FFaaS:
    """One request to a function made of several networks.

    Write :meth:`defDAG`; write :meth:`pre` and :meth:`post` where JSON and tensors need more than
    the default conversions. An object lives for one request; what is to last belongs into a component.
    """

    #: Declared dtypes and shapes of external inputs; the others are learned from the example.
    inputs: Mapping[str, TensorType] = {}

    def __init__(self, event: Any = None, context: Any = None, mode: Mode = RUN) -> None:
        self.event: Any = {} if event is None else event
        self.context: Any = context
        self.mode = mode
        #: The DAG, once it is known.
        self.dag: Dag | None = None
        #: UUIDs of the slices that the invoker chose, lane by lane; empty without an invoker.
        self.migs: list[str] = []
        #: Component ids by stage and lane.
        self.stages: list[list[list[str]]] = []
        self._trace: Trace | None = None
        if mode is RUN:
            self.importDAG()
            self.importMIGs()
            self.importStages()
        elif mode is BUILDDAG:
            tell = capture.get()
            if tell is not None:
                tell(type(self))
            self._build()

    def defDAG(self, *inputs: Any) -> Any:
        """Says what feeds what: calls `Model.reg(self, x)` for each network and returns the outputs.

        Each parameter is an external input. The return value is one output, a tuple of them or a
        dict with names; without one, everything that no component reads is an output.
        """
        raise DefinitionError(f"{type(self).__qualname__} defines no defDAG(self, ...)")

    def pre(self, event: Any) -> Mapping[str, Any]:
        """JSON arguments to inputs by name. Runs in the head."""
        from .trace import input_names

        names = input_names(self)
        if not isinstance(event, Mapping):
            raise InputError(
                f"the arguments are a {type(event).__name__}: expected an object with {', '.join(names)}"
            )
        missing = [name for name in names if name not in event]
        if missing:
            raise InputError(
                f"the argument {missing[0]!r} is missing: the function asks for {', '.join(names)}"
            )
        return {name: convert.from_json(name, event[name], self.inputs.get(name)) for name in names}

    def post(self, outputs: Mapping[str, Any], event: Any) -> Any:
        """Outputs by name to the JSON result. Runs in the head."""
        packed = isinstance(event, Mapping) and any(convert.is_packed(value) for value in event.values())
        return {name: convert.to_json(value, packed) for name, value in outputs.items()}

    def reg(
        self,
        model: Any,
        *inputs: Any,
        id: str | None = None,
        init: Mapping[str, Any] | None = None,
        weights_key: str | None = None,
        outputs: Any = None,
        batch: int | None = None,
    ) -> Any:
        """Registers `model` (a class with `forward`, or a function) as a component.

        `inputs` are inputs of :meth:`defDAG` and what other `reg` returned. `id` names the
        component (default: the class's name), `init` are its constructor arguments (JSON),
        components with an equal `weights_key` share weights, `outputs` declares what it returns
        (`FFS.tensor(…)` or a tuple of them) instead of learning it from the example, `batch` allows the
        inputs of so many requests to be stacked along their first dimension and run at once: then it
        has to return a row for each that it got, whoever the others belong to.
        """
        if self._trace is None:
            raise DefinitionError("reg was called outside of defDAG: components are registered there")
        return self._trace.register(model, inputs, id, init, weights_key, outputs, batch)

    def importDAG(self) -> None:
        """Takes the DAG from the config layer. A plain action learns it with its first request."""
        from .runner import current

        self.dag = current().dag(type(self))

    def importMIGs(self) -> None:
        """Takes the UUIDs of the slices that the invoker chose from the config layer."""
        from .runner import current

        self.migs = current().migs()

    def importStages(self) -> None:
        """Takes which stage has which components from the config layer."""
        from .runner import current

        self.stages = current().stages(type(self))

    def run(self) -> Any:
        """Runs this request and returns its result: over the lanes, or in this process."""
        from .runner import current

        return current().run(self)

    def profile(self, **options: Any) -> dict[str, Any]:
        """Measures every component here: memory, time to load, time to run.

        Options: `kind`, `min_runs`, `max_runs`, `budget_ms`; see `FluidFaaS.profiling`.
        """
        from .profiling import profile

        return profile(self, **options)

    def _build(self) -> None:
        from .build import build

        self.dag = build(self)


def arguments(function: FFaaS) -> dict[str, Any]:
    """The inputs of one request, from `pre`, normalised."""
    inputs = function.pre(function.event)
    if not isinstance(inputs, Mapping):
        raise DefinitionError(f"pre returned a {type(inputs).__name__}: expected a dict of inputs by name")
    return {name: values.normalise(value, f"the input {name!r}") for name, value in inputs.items()}


def result(function: FFaaS, outputs: Mapping[str, Any]) -> Any:
    """The result of one request, from `post`."""
    return function.post(outputs, function.event)
