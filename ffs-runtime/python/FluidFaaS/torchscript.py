"""TorchScript: networks that were saved with `torch.jit.save`, without the code that made them."""

from __future__ import annotations

import importlib
from typing import Any

from .errors import DefinitionError

__all__ = ["TorchScript"]


class TorchScript:
    """The network in a `.pt` file, as a component::

        encode = fluidfaas.component(fluidfaas.TorchScript, id="Encode", init={"file": "encode.pt"})

    `file` is relative to the action's files. What is made is a `torch.jit.ScriptModule` on the lane's
    slice, in evaluation mode, which moves and is evicted as any `torch.nn.Module`.
    """

    def __new__(cls, file: str) -> Any:
        torch = importlib.import_module("torch")
        try:
            return torch.jit.load(file, map_location="cpu")
        except (RuntimeError, ValueError, OSError) as error:
            reason = str(error).strip().partition("\n")[0]
            raise DefinitionError(
                f"{file!r} is no TorchScript network ({reason}): expected a file that torch.jit.save has written"
            ) from None

    def forward(self, *inputs: Any) -> Any:
        """As the file says."""
        raise NotImplementedError("a TorchScript object is the network that its file holds")
