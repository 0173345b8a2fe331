"""PyTorch authors: modules, tensors, bfloat16, zero-copy views."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
import torch
from pipeline import Pipeline

from FluidFaaS import ValueTypeError, _native, values

CODE = """
import torch
import FluidFaaS as FFS

class Encode(FFS.Module):
    def __init__(self, width):
        super().__init__()
        torch.manual_seed(7)
        self.layer = torch.nn.Linear(width, 8)
        self.dropout = torch.nn.Dropout(0.5)

    def forward(self, x):
        return self.dropout(self.layer(x)), (x > 0), x.to(torch.bfloat16)

class Forgetful(FFS.Module):
    def __init__(self):                     # no super().__init__()
        self.scale = torch.nn.Parameter(torch.tensor(2.0))

    def forward(self, x, mask, half):
        assert isinstance(self, torch.nn.Module) and not self.training
        assert mask.dtype is torch.bool and half.dtype is torch.bfloat16
        x += 1
        return x * self.scale, half + 1, {"positive": int(mask.sum())}

class F(FFS.FFaaS):
    def pre(self, event):
        return {"x": torch.tensor(event["x"])}

    def defDAG(self, x):
        y, half, facts = self.reg(Forgetful, *Encode.reg(self, x, init={"width": 3}))
        return {"y": y, "half": half, "facts": facts}

main = FFS.entry(F)
"""


def test_torch_modules_give_the_same_bytes_split_and_unsplit(start, tmp_path):
    plain = start()
    assert plain.init(CODE) is None
    dag = plain.build({"x": [[0.5, -1.0, 2.0]]})
    assert dag["status"] == 200, dag
    outputs = dag["body"]["nodes"][0]["outputs"]
    assert [(o["dtype"], o["shape"]) for o in outputs] == [
        ("float32", [1, 8]),
        ("bool", [1, 3]),
        ("bfloat16", [1, 3]),
    ]
    split = Pipeline(start, tmp_path, CODE, dag["body"], "Encode|Forgetful").loaded()
    for value in ([[1.0, 2.0, 3.0]], [[0.25, -3.5, 0.0]]):
        expected, answer = plain.run({"x": value}), split.run({"x": value})
        assert answer["status"] == 200
        assert json.dumps(answer["body"]) == json.dumps(expected["body"])
    assert answer["body"]["half"] == [[1.25, -2.5, 1.0]] and answer["body"]["facts"] == {"positive": 1}


def test_a_profile_of_torch_modules_counts_their_weights(start):
    child = start()
    code = CODE.replace(
        "torch.nn.Linear(width, 8)",
        "torch.nn.Linear(width, 8); self.large = torch.nn.Parameter(torch.ones(16 << 20))",
    )
    assert child.init(code) is None
    rows = child.profile({"x": [[1.0, 2.0, 3.0]]})
    assert rows["status"] == 200, rows
    assert abs(rows["body"]["components"]["Encode"]["weights_bytes"] - (64 << 20)) < 16 << 20


@pytest.mark.parametrize(
    "made",
    ["arange(6.0).reshape(2, 3)", "tensor([1.5, -2.0]).bfloat16()", "tensor([True, False])", "tensor(7)",
     "zeros(2, 0, 3)", "arange(4, dtype=torch.float16)"],
)  # fmt: skip
def test_tensors_are_views_of_the_ring(made):
    tensor = eval(f"torch.{made}")
    path = f"/dev/shm/ffs-test-torch-{os.getpid()}"
    producer = _native.Producer(path, 1, 64 * 1024, 1)
    consumer = _native.Consumer(path, 1, timeout_ms=10_000)
    producer.reserve("tensors", 1, [values.to_wire(values.normalise(tensor, "it")).wanted()]).commit(b"")
    (found,) = consumer.recv().tensors
    view = values.from_ring("torch", found.dtype, found)
    assert view.dtype is tensor.dtype and torch.equal(view, tensor)
    assert view.numel() == 0 or view.data_ptr() == found.address
    part = view.reshape(-1)[:1]
    del found, view
    with pytest.raises(_native.RingTimedOut):
        producer.reserve("tensors", 2, [], timeout_ms=0)
    del part
    producer.reserve("tensors", 2, [], timeout_ms=0)


def test_what_no_ring_carries_is_named():
    with pytest.raises(
        ValueTypeError,
        match="it is a torch.strided tensor of dtype torch.complex64: expected a strided one of dtype float16",
    ):
        values.normalise(torch.zeros(2, dtype=torch.complex64), "it")
    with pytest.raises(ValueTypeError, match="torch.sparse_coo"):
        values.normalise(torch.zeros(2).to_sparse(), "it")
    shared = torch.zeros(4)
    assert values.shares_memory(shared[:2], shared[2:]) and not values.shares_memory(shared, torch.zeros(4))


def test_what_the_example_needed_threads_for_does_not_stop_the_components():
    """A pool of threads that `pre` has started is not there in a forked process, which would wait for it for ever."""
    code = """
import torch
import FluidFaaS as FFS
from FluidFaaS.build import build
from FluidFaaS.profiling import profile

class Sum(FFS.Module):
    def forward(self, x):
        assert torch.get_num_threads() == 4
        return (x * 2).sum()

class F(FFS.FFaaS):
    def pre(self, event):
        return {"x": (torch.ones(1 << 20) * 0.5)}

    def defDAG(self, x):
        return {"sum": self.reg(Sum, x)}

torch.set_num_threads(4)
build(F({}, None, FFS.BUILDDAG))
assert torch.get_num_threads() == 4
profile(F({}, None, FFS.BUILDDAG), max_runs=3)
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
