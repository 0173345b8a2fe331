"""Another name of :mod:`FluidFaaS`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import FluidFaaS as _FluidFaaS

if TYPE_CHECKING:
    from FluidFaaS import *  # noqa: F403

__all__ = _FluidFaaS.__all__
__version__ = _FluidFaaS.__version__


def __getattr__(name: str) -> Any:
    return getattr(_FluidFaaS, name)


def __dir__() -> list[str]:
    return dir(_FluidFaaS)
