"""What an action imports, held against what its image has: nothing is installed at run time."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator

__all__ = ["IMAGE", "missing"]

#: Top-level modules of the image `ffs/python`, besides Python's own; `python-torch` adds PyTorch.
IMAGE = frozenset({"FluidFaaS", "fluidfaas", "numpy", "onnxruntime", "PIL"})
TORCH = frozenset({"torch", "torchvision"})


def missing(files: dict[str, str], packed: set[str]) -> Iterator[tuple[str, str]]:
    """Location and sentence for each import that no image of ours has; `packed` is in the action's `virtualenv/`."""
    own = {name.split("/")[0].removesuffix(".py") for name in files}
    for file, text in files.items():
        try:
            tree = ast.parse(text)
        except SyntaxError:
            continue  # whoever imports it says so
        for node in ast.walk(tree):
            for name in _modules(node):
                if name not in own | packed | IMAGE | TORCH and name not in sys.stdlib_module_names:
                    hint = "put it into virtualenv/ in the zip, or use an image that has it"
                    line = getattr(node, "lineno", 0)
                    yield f"{file}:{line}", f"{name} is imported, which the image ffs/python has not: {hint}"


def _modules(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name.split(".")[0] for alias in node.names]
    if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
        return [node.module.split(".")[0]]
    return []
