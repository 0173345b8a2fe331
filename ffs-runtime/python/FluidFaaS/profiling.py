"""Measuring components: memory, time to load, time to run. In files: `profile.json`.

Each component is measured in a forked process of its own, one after the other, on the inputs that
the components before it really made. What is measured is the slice that this process sits on: memory
is the GPU's where the component uses one, else the host's.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from . import batches, memory, torch_support, values
from .components import Component, ComponentFailure, load
from .dag import Node, Port
from .ffaas import FFaaS, arguments
from .isolated import in_fork
from .trace import trace

if TYPE_CHECKING:
    from .entries import Entry

__all__ = ["Limits", "profile", "profile_document"]

_CHUNK = 16 << 20


@dataclass(frozen=True)
class Limits:
    """How often to run a component after one warm-up run."""

    min_runs: int = 3
    max_runs: int = 30
    #: No further run begins after this much time, once `min_runs` are done.
    budget_ms: float = 2000.0


def profile(function: FFaaS, kind: str = "full", **limits: Any) -> dict[str, Any]:
    """The rows of `profile.json` for the slice profile `kind`, measured on the function's event."""
    bounds = Limits(**limits)
    memory.trim()
    context_bytes = memory.resident()
    rows: dict[str, Any] = {}
    on_gpu: list[int] = []

    def measured(node: Node, factory: Callable[..., Any], inputs: list[Any]) -> list[Any]:
        outputs, rows[node.id], own = in_fork(
            lambda: measure(node, factory, inputs, bounds), f"component {node.id}", node.at
        )
        if own is not None:
            on_gpu.append(own)
        return outputs

    dag, learned = trace(function, arguments(function), measured)
    edges = {}
    for node in dag.nodes:
        for port in range(len(node.outputs)):
            learned.value(Port(node.id, port))  # measures components with declared outputs, too
    for source, target in dag.edges():
        edges[f"{source}->{target}"] = {"bytes": values.to_wire(learned.value(source)).data.nbytes}
    return {
        "kind": kind,
        "context_bytes": max(on_gpu, default=context_bytes),
        "components": {node.id: rows[node.id] for node in dag.nodes},
        "edges": edges,
    }


def profile_document(entry: Entry, request: dict[str, Any], context: Any) -> dict[str, Any]:
    """Answers `POST /ffs/profile`: one column of `profile.json`."""
    limits = {name: request[name] for name in ("min_runs", "max_runs", "budget_ms")}
    return profile(entry.deferred(request["example"], context), request["kind"], **limits)


def measure(
    node: Node, factory: Callable[..., Any], inputs: list[Any], limits: Limits
) -> tuple[list[Any], Any, int | None]:
    """Loads and runs one component in this fresh process: its outputs, its row, and what a GPU holds besides."""
    before = memory.resident()
    memory.reset_peak()
    started = time.perf_counter()
    component = load(node, factory, {})
    load_ms = _ms_since(started)
    memory.trim()
    loaded = memory.resident()
    weights = max(0, loaded - before)
    gpu = torch_support.gpu_memory()
    if gpu is not None:
        weights = gpu.tensors
    # Loading needs its memory at the same place as running, so the larger of both peaks counts.
    peak = memory.peak()
    memory.reset_peak()
    outputs = [
        values.to_host(value) for value in component.run([values.duplicate(value) for value in inputs])
    ]
    times = _run(component, inputs, limits)
    workspace = max(peak, memory.peak()) - loaded
    if gpu is not None:
        gpu = torch_support.gpu_memory() or gpu
        workspace = gpu.peak - weights
    batched = _batches(component, inputs, limits, loaded, weights)
    if gpu is None:
        swap_out_ms, swap_in_ms = _copy_ms(weights), _copy_ms(weights)
    else:
        swap_out_ms, swap_in_ms = _timed(component.evict), _timed(component.resume)
    row = {
        "weights_bytes": weights,
        "workspace_bytes": max(0, workspace),
        "load_ms": load_ms,
        "swap_in_ms": swap_in_ms,
        "swap_out_ms": swap_out_ms,
        "times": {
            "exec_ms_p50": _quantile(times, 0.5),
            "exec_ms_p95": _quantile(times, 0.95),
            "samples": len(times),
            **({"batches": batched} if batched else {}),
        },
    }
    return outputs, row, gpu.context if gpu is not None else None


def _timed(work: Callable[[], None]) -> float:
    started = time.perf_counter()
    work()
    torch_support.settle()
    return _ms_since(started)


def _batches(
    component: Component, inputs: list[Any], limits: Limits, loaded: int, weights: int
) -> dict[str, Any]:
    """Times and memory for 2, 4, … requests at once, up to what the author allows; as far as it goes well."""
    rows: dict[str, Any] = {}
    few = replace(limits, max_runs=min(limits.max_runs, 10), budget_ms=limits.budget_ms / 4)
    for size in _sizes(component.node.batch):
        if batches.stack([inputs] * size) is None:
            break
        memory.reset_peak()
        try:
            times = _run(component, inputs, few, size)
        except ComponentFailure:
            break  # too large for the slice, or no batch at all: then each request runs alone
        gpu = torch_support.gpu_memory()
        workspace = memory.peak() - loaded if gpu is None else gpu.peak - weights
        rows[str(size)] = {
            "exec_ms_p50": _quantile(times, 0.5),
            "exec_ms_p95": _quantile(times, 0.95),
            "workspace_bytes": max(0, workspace),
        }
    return rows


def _sizes(most: int) -> list[int]:
    """2, 4, 8 … and `most` itself."""
    powers = [1 << power for power in range(1, most.bit_length())]
    return powers if most in (1, *powers) else [*powers, most]


def _run(component: Component, inputs: list[Any], limits: Limits, size: int = 1) -> list[float]:
    """Milliseconds of each execution for `size` requests; stacking and splitting them is part of it."""
    times: list[float] = []
    began = time.perf_counter()
    while len(times) < limits.max_runs:
        if len(times) >= limits.min_runs and _ms_since(began) > limits.budget_ms:
            break
        arguments = [values.duplicate(value) for value in inputs]
        started = time.perf_counter()
        stacked = batches.stack([arguments] * size) if size > 1 else None
        if stacked is None:
            component.run(arguments)
        else:
            component.run_stacked(*stacked)
        torch_support.settle()
        times.append(max(_ms_since(started), 1e-6))
    return times


def _quantile(times: list[float], share: float) -> float:
    """The smallest time that at least this share of the runs did not exceed."""
    ordered = sorted(times)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def _copy_ms(size: int) -> float:
    """Time to copy `size` bytes of memory, measured in pieces so that it needs little of it."""
    piece = min(size, _CHUNK)
    if piece == 0:
        return 0.0
    source, target = np.ones(piece, np.uint8), np.ones(piece, np.uint8)
    started = time.perf_counter()
    for offset in range(0, size, piece):
        length = min(piece, size - offset)
        target[:length] = source[:length]
    return _ms_since(started)


def _ms_since(started: float) -> float:
    return (time.perf_counter() - started) * 1000.0
