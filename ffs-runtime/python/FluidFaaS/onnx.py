"""ONNX Runtime sessions that keep to the threads they are given."""

from __future__ import annotations

import os
from typing import Any

__all__ = ["onnx_session"]


def onnx_session(model: Any, **options: Any) -> Any:
    """An `onnxruntime.InferenceSession` with as many threads as `OMP_NUM_THREADS` says.

    ONNX Runtime by itself takes every core it sees; on a part of a machine that is slower, and
    its results may differ from machine to machine in the last bit. `model` and `options` are those
    of `InferenceSession`.
    """
    import onnxruntime

    if "sess_options" not in options:
        settings = onnxruntime.SessionOptions()
        threads = os.environ.get("OMP_NUM_THREADS", "")
        settings.intra_op_num_threads = int(threads) if threads.isdigit() else 0
        settings.inter_op_num_threads = 1
        options["sess_options"] = settings
    if "providers" not in options:
        available = onnxruntime.get_available_providers()
        wanted = ("CUDAExecutionProvider", "CPUExecutionProvider")
        options["providers"] = [name for name in wanted if name in available]
    return onnxruntime.InferenceSession(model, **options)
