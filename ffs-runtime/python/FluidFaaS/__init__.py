"""FluidFaaS: serverless functions made of several neural networks.

    import FluidFaaS as FFS

    class Segment(FFS.Module):
        def load(self): ...
        def forward(self, image): ...

    class MyFunction(FFS.FFaaS):
        def defDAG(self, image):
            return Classify.reg(self, Segment.reg(self, image))

    main = FFS.entry(MyFunction)

`main(dict) -> dict` is an OpenWhisk action like any other. On a node with ffs-invoker the networks
are spread over whatever slices of its GPUs are free.
"""

from __future__ import annotations

import importlib

TYPE_CHECKING = False  # as type checkers know it; the module `typing` would cost every action its loading
if TYPE_CHECKING:
    from typing import Any

    from .decorators import component, function
    from .entries import Entry, entry
    from .errors import DefinitionError, FluidFaaSError, InputError, PipelineError, ValueTypeError
    from .ffaas import BUILDDAG, RUN, Context, FFaaS
    from .mapped import Weights, load_weights, weights
    from .module import Module
    from .onnx import onnx_session
    from .room import empty
    from .tensors import dim, tensor
    from .torchscript import TorchScript

# Loaded when first asked for: a plain action pays neither for NumPy nor for the rest.
_HOMES = {
    "Entry": "entries", "entry": "entries",
    "component": "decorators", "function": "decorators",
    "BUILDDAG": "ffaas", "RUN": "ffaas", "Context": "ffaas", "FFaaS": "ffaas",
    "Module": "module", "empty": "room", "dim": "tensors", "tensor": "tensors", "onnx_session": "onnx",
    "TorchScript": "torchscript",
    "Weights": "mapped", "weights": "mapped", "load_weights": "mapped",
    "DefinitionError": "errors", "FluidFaaSError": "errors", "InputError": "errors",
    "PipelineError": "errors", "ValueTypeError": "errors",
}  # fmt: skip

__all__ = [
    "BUILDDAG", "RUN", "Context", "DefinitionError", "Entry", "FFaaS", "FluidFaaSError", "InputError",
    "Module", "PipelineError", "TorchScript", "ValueTypeError", "Weights", "component", "dim", "empty", "entry", "function", "load_weights",
    "onnx_session", "tensor", "weights",
]  # fmt: skip

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{home}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
