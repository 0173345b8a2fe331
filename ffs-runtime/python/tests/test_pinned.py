"""Lanes on a GPU, as far as one is not needed: a driver of the test's own writes down what is registered."""

from __future__ import annotations

import json
import subprocess
from collections import Counter
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from pipeline import Pipeline, assignment

from FluidFaaS import _native, torch_support
from FluidFaaS.components import Component, ComponentFailure
from FluidFaaS.dag import Node
from FluidFaaS.lane import layout

CODE = """
import FluidFaaS as FFS

class Double(FFS.Module):
    def forward(self, x):
        return x * 2

class Sum(FFS.Module):
    def forward(self, y):
        return y.sum(axis=0)

class F(FFS.FFaaS):
    def defDAG(self, x):
        return Sum.reg(self, Double.reg(self, x))

main = FFS.entry(F)
"""
EXAMPLE = {"x": [1.0, 2.0, 3.0]}


@pytest.fixture(scope="module")
def driver(tmp_path_factory):
    """A `libcuda.so.1` that registers nothing, and notes what it was asked for."""
    library = tmp_path_factory.mktemp("driver") / "libcuda.so.1"
    written = Path(__file__).parents[2] / "shm/tests/c/fake_cuda.c"
    subprocess.run(
        ["cc", "-shared", "-fPIC", "-Wl,-soname,libcuda.so.1", str(written), "-o", str(library)], check=True
    )
    return library


@pytest.fixture
def lanes(start, tmp_path, driver):
    """Starts two lanes with the driver loaded; gives them and the file of its calls."""

    def make(**environment: str):
        calls = tmp_path / "calls"
        builder = start()
        assert builder.init(CODE) is None
        dag = builder.build(EXAMPLE)["body"]
        environment |= {"LD_PRELOAD": str(driver), "FAKE_CUDA_CALLS": str(calls)}
        pipeline = Pipeline(partial(start, **environment), tmp_path, CODE, dag, "Double|Sum").loaded()
        for n in range(3):
            assert pipeline.run({"x": [1.0, float(n)]})["body"] == {"output": 2.0 + 2 * n}
        return pipeline, calls.read_text().split("\n")[:-1] if calls.exists() else []

    return make


def test_each_end_of_each_ring_is_registered_once(lanes):
    pipeline, calls = lanes()
    rings = pipeline.assignment["rings"]
    asked = Counter((call.split()[0], int(call.split()[2])) for call in calls)
    sizes = Counter(4096 + ring["slots"] * (ring["bytes"] // ring["slots"] + 63 & ~63) for ring in rings)
    assert asked == Counter({("register", size): 2 * count for size, count in sizes.items()})


def test_those_of_a_replica_too_by_the_thread_that_uses_cuda(lanes, tmp_path):
    pipeline, before = lanes()
    rings = len(pipeline.assignment["rings"])
    pipeline.widen("s1l0")
    for n in range(4):
        assert pipeline.run({"x": [1.0, float(n)]})["body"] == {"output": 2.0 + 2 * n}
    asked = Counter(call.split()[0] for call in (tmp_path / "calls").read_text().splitlines()[len(before) :])
    assert asked == {"register": 2 * (len(pipeline.assignment["rings"]) - rings)}


def test_what_cuda_refuses_is_one_line_in_the_log_and_no_more(lanes):
    pipeline, calls = lanes(FAKE_CUDA_ERROR="2")
    assert calls == []
    for child in pipeline.children.values():
        (line,) = [line for line in child.stderr().splitlines() if "copies to and from the GPU" in line]
        assert "cuMemHostRegister" in line and "2" in line


def test_a_thread_that_does_not_use_cuda_registers_nothing_and_says_nothing(lanes):
    pipeline, calls = lanes(FAKE_CUDA_WITHOUT_CONTEXT="1")
    assert calls == [] and all(child.stderr() == "" for child in pipeline.children.values())


def test_it_can_be_switched_off(lanes):
    assert lanes(FFS_PIN="0")[1] == []


@pytest.mark.parametrize("fails", [False, True])
def test_memory_that_is_copied_to_a_gpu_is_kept_until_the_copy_is_done(monkeypatch, fails):
    happened = []

    class Network(torch.nn.Module):
        def forward(self, x):
            happened.append("computed")
            if fails:
                raise ValueError("no")
            return x

    class Copying:
        def synchronize(self):
            happened.append("copied")

    monkeypatch.setattr(torch_support, "to_device", lambda inputs, device: (inputs, Copying()))
    component = Component(Node("Network", "app:Network", []), Network())
    if fails:
        with pytest.raises(ComponentFailure, match="no"):
            component.run([torch.ones(2)])
    else:
        assert component.run([torch.ones(2)])[0].tolist() == [1.0, 1.0]
    assert happened == ["computed", "copied"]


def test_tensors_come_to_the_host_where_a_component_has_no_device():
    inputs = [torch.ones(2), np.ones(2), b"x", {"a": 1}]
    moved, copying = torch_support.to_device(inputs, None)
    assert all(one is other for one, other in zip(inputs, moved)) and copying is None
    moved, copying = torch_support.to_device(inputs, torch.device("cpu"))
    assert all(one is other for one, other in zip(inputs, moved)) and copying is None


def test_a_lane_knows_the_numa_node_of_its_gpu_where_the_node_says_so(start, tmp_path):
    builder = start()
    assert builder.init(CODE) is None
    dag = builder.build(EXAMPLE)["body"]
    (tmp_path / "dag.json").write_text(json.dumps(dag))
    (tmp_path / "assignment.json").write_text(json.dumps(assignment("i", dag, "Double|Sum")))
    assert layout.read(tmp_path, "s1l0").numa is None
    gpu = {"index": 0, "model": "M", "memory_bytes": 1, "mig": True}
    migs = {
        "schema": "ffs.migs/1", "taken_at": "2026-01-02T03:04:05Z", "source": "nvml", "slices": [],
        "gpus": [{"uuid": "GPU-1", "numa": 0, **gpu}, {"uuid": "GPU-0", "numa": 3, **gpu}],
    }  # fmt: skip
    (tmp_path / "migs.json").write_text(json.dumps(migs))
    assert layout.read(tmp_path, "s1l0").numa == 3
    del migs["gpus"][1]["numa"]
    (tmp_path / "migs.json").write_text(json.dumps(migs))
    assert layout.read(tmp_path, "s1l0").numa is None


def test_a_numa_node_that_is_not_there_changes_nothing():
    assert _native.prefer_node(4_000_000) is False
