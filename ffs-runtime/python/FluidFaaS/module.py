"""`Module`: what an author's network derives from, instead of `torch.nn.Module`.

If PyTorch is imported when a subclass is defined, that subclass is a `torch.nn.Module` too;
otherwise it is a plain class. So neither a NumPy nor an ONNX author pays for importing PyTorch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import torch_support

if TYPE_CHECKING:
    from .ffaas import FFaaS

__all__ = ["Module"]


class _Kind(type):
    """Puts `torch.nn.Module` among the bases of a class that is defined with PyTorch at hand."""

    def __new__(mcls, name: str, bases: tuple[type, ...], members: dict[str, Any], **options: Any) -> type:
        torch = torch_support.imported()
        if torch is not None and bases and not any(issubclass(base, torch.nn.Module) for base in bases):
            bases = (*bases, torch.nn.Module)
        return super().__new__(mcls, name, bases, members, **options)

    def __call__(cls, *arguments: Any, **named: Any) -> Any:
        # As in any class, but an author who forgets super().__init__() still has a whole module.
        torch = torch_support.imported()
        if torch is None or not issubclass(cls, torch.nn.Module):
            return super().__call__(*arguments, **named)
        new: Any = cls.__new__
        instance = new(cls, *arguments, **named)
        if isinstance(instance, cls):
            torch.nn.Module.__init__(instance)
            instance.__init__(*arguments, **named)
        return instance


class Module(metaclass=_Kind):
    """One component: `load()` reads its weights, `forward(...)` computes.

    Instances are made only in the lane that owns the component, with the constructor arguments
    given as `init=` to :meth:`reg`. `load()` is optional. `forward` takes what the components
    before it returned and returns one value, or a tuple of values. A value is an array, a tensor,
    `bytes`, or what JSON can hold.
    """

    #: The outputs, if they are declared and not learned from the example: `FFS.tensor(…)` or a tuple.
    outputs: Any = None
    #: Components of one lane with an equal key, class and `init` share one instance.
    weights_key: str | None = None

    #: Most requests whose inputs may be stacked along their first dimension and run at once; 1: none may.
    batch: int = 1

    def forward(self, *inputs: Any) -> Any:
        """Computes the outputs; the author's subclass says how."""
        raise NotImplementedError(f"{type(self).__qualname__} defines no forward(...)")

    def __call__(self, *inputs: Any) -> Any:
        torch = torch_support.imported()
        if torch is not None and isinstance(self, torch.nn.Module):
            return torch.nn.Module.__call__(self, *inputs)
        return self.forward(*inputs)

    @classmethod
    def reg(cls, function: FFaaS, *inputs: Any, **options: Any) -> Any:
        """Registers this class as a component of `function`, which is being defined.

        Returns what stands for the output: one symbol, or a tuple of them. Options: see
        :meth:`FluidFaaS.FFaaS.reg`.
        """
        return function.reg(cls, *inputs, **options)
