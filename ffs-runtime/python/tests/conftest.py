from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

# `python -m pytest` puts the working directory first; what is tested is the installed package.
SOURCES = Path(__file__).parent.parent
sys.path[:] = [entry for entry in sys.path if Path(entry).resolve() != SOURCES]

import pytest  # noqa: E402
from proxy import Child  # noqa: E402


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Child]]:
    """Starts children; they end with the test."""
    children: list[Child] = []

    def start(**environment: str) -> Child:
        child = Child(tmp_path, **environment)
        children.append(child)
        assert child.said("hello")["python"].startswith("3.")
        return child

    yield start
    for child in children:
        child.end()
