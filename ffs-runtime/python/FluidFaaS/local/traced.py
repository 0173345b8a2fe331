"""`python -m FluidFaaS.local.traced`: the Python process of a container, which also notes when components run.

Each run is a line `[component, begin, end]` in the file `FFS_TRACE`, in seconds of the machine's monotonic clock.
"""

from __future__ import annotations

import json
import os
import time
from typing import Any

from .. import child
from ..components import Component


class Trace:
    """The file."""

    def __init__(self, file: str) -> None:
        self._out = open(file, "w", encoding="ascii", buffering=1)  # noqa: SIM115 (open until the process ends)

    def around(self, run: Any) -> Any:
        """`run` of a component, noted."""

        def noted(component: Component, inputs: list[Any]) -> list[Any]:
            began = time.monotonic()
            try:
                return run(component, inputs)  # type: ignore[no-any-return]
            finally:
                self._out.write(json.dumps([component.node.id, began, time.monotonic()]) + "\n")

        return noted


def main() -> None:
    trace = Trace(os.environ.pop("FFS_TRACE"))
    Component.run = trace.around(Component.run)  # type: ignore[method-assign]
    child.main()


if __name__ == "__main__":
    main()
