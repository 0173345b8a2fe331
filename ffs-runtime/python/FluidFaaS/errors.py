"""What can go wrong, as one sentence each.

An error of this package names the thing, its value and what was expected. Where the author's code
is the cause it also knows the author's file and line (:attr:`FluidFaaSError.at`).
"""

from __future__ import annotations

__all__ = ["FluidFaaSError", "DefinitionError", "InputError", "PipelineError", "ValueTypeError"]


class FluidFaaSError(Exception):
    """Base of all errors of this package."""

    def __init__(self, sentence: str, at: str | None = None) -> None:
        super().__init__(sentence)
        #: One sentence for a person.
        self.sentence = sentence
        #: ``file.py:12`` of the author's code, if it is known.
        self.at = at


class DefinitionError(FluidFaaSError):
    """The function is not defined as it must be: its DAG, a component, the action's code."""


class InputError(FluidFaaSError):
    """The arguments of one activation are not what the function asks for."""


class ValueTypeError(FluidFaaSError):
    """A component returned something that cannot go from one component to another."""


class PipelineError(FluidFaaSError):
    """The pipeline is broken: a lane died or its rings were poisoned. Not the request's fault."""
