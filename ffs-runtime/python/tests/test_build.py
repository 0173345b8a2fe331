"""BUILDDAG and profiling, asked as the proxy asks."""

from __future__ import annotations

import json

import actions
import pytest

from FluidFaaS import _native


def started(start, code, **value):
    child = start()
    assert child.init(code, **value) is None
    return child


def test_the_five_models_become_a_dag(start):
    built = started(start, actions.FIVE_MODELS).build(actions.five_example())
    assert built["status"] == 200, built
    dag = built["body"]
    _native.check_document("dag", json.dumps(dag))
    assert (dag["schema"], dag["function"], dag["revision"]) == ("ffs.dag/1", "guest/app", "1-a")
    assert dag["inputs"] == [
        {"name": "x", "dtype": "float32", "shape": [1, 16]},
        {"name": "y", "dtype": "float32", "shape": [1, 16]},
    ]
    assert [node["id"] for node in dag["nodes"]] == ["M1", "M2", "M3", "M4", "M5"]
    assert dag["nodes"][3] == {
        "id": "M4", "module": "main__:M4", "init": {"seed": 4},
        "inputs": [{"port": 0, "from": {"node": "M3", "port": 0}}],
        "outputs": [{"port": 0, "dtype": "float32", "shape": [1, 16]}],
    }  # fmt: skip
    assert dag["nodes"][4]["inputs"][1] == {"port": 1, "from": {"input": "y"}}
    assert dag["outputs"] == [{"name": "output", "node": "M5", "port": 0}]
    assert "symbols" not in dag


def test_the_papers_pair_is_a_function_without_main(start):
    code = actions.FIVE_MODELS.replace("main = FFS.entry(FiveModels)", "")
    child = started(start, code)
    assert child.build(actions.five_example())["status"] == 200
    assert child.run(actions.five_example())["body"].keys() == {"output"}
    named = started(start, code, main="FiveModels_run")
    assert named.build(actions.five_example())["status"] == 200


def test_declared_dimensions_become_symbols(start):
    code = """
import numpy as np
import FluidFaaS as FFS
class Boxes(FFS.Module):
    outputs = FFS.tensor("float32", (FFS.dim("N", max=64), 4))
    def forward(self, x):
        return np.zeros((3, 4), np.float32)
class Count(FFS.Module):
    def forward(self, boxes):
        return {"n": len(boxes)}
class F(FFS.FFaaS):
    def defDAG(self, x):
        return Count.reg(self, Boxes.reg(self, x), weights_key="w")
main = FFS.entry(F)
"""
    dag = started(start, code).build({"x": [1]})["body"]
    _native.check_document("dag", json.dumps(dag))
    assert dag["nodes"][0]["outputs"] == [{"port": 0, "dtype": "float32", "shape": ["N", 4]}]
    assert dag["nodes"][1]["outputs"] == [{"port": 0, "dtype": "bytes", "shape": [len('{"n": 3}')]}]
    assert dag["nodes"][1]["weights_key"] == "w"
    assert dag["symbols"] == {"N": 64}


def test_an_action_that_is_no_function_is_shown_the_two_lines(start):
    child = started(start, "def main(args):\n    return {}\n")
    for answer in (child.build({}), child.profile({})):
        assert answer["status"] == 502
        assert "import FluidFaaS as FFS\nmain = FFS.entry(MyFunction)" in answer["body"]["error"]


def test_several_pairs_need_a_name(start):
    child = start()
    code = actions.FIVE_MODELS.replace(
        "main = FFS.entry(FiveModels)", "def X_run(a, b): ...\ndef X_buildDAG(a, b): ...\n"
    )
    assert child.init(code)["sentence"] == (
        "the action has several pairs X_run and X_buildDAG (FiveModels, X): name one with --main FiveModels_run"
    )


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ("raise KeyError('k')", "component Second fails on the example: KeyError: 'k' (app.py:13)"),
        (
            "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)",
            "component Second ended its process by SIGSEGV (app.py:22)",
        ),
        ("import os; os._exit(7)", "component Second ended its process with exit status 7 (app.py:22)"),
        ("return object()", "output 0 of component Second is of type object"),
    ],
)
def test_a_component_that_fails_on_the_example_is_named(start, body, sentence):
    child = started(start, actions.chain(body))
    for answer in (child.build({"x": [1]}), child.profile({"x": [1]})):
        assert answer["status"] == 502
        assert answer["body"]["error"].startswith(sentence)
    again = child.build({"x": [1]})  # the child itself is unharmed
    assert again["status"] == 502


def test_a_component_that_cannot_be_loaded_is_named(start):
    code = actions.FIVE_MODELS.replace(
        "        self.weights = ", '        open("missing.bin")\n        self.weights = '
    )
    error = started(start, code).build(actions.five_example())["body"]["error"]
    assert error.startswith(
        "component M1 (main__:M1) cannot be loaded: FileNotFoundError: [Errno 2] No such file or directory: 'missing.bin' (app.py:"
    )


def test_an_example_without_an_input_is_named(start):
    answer = started(start, actions.FIVE_MODELS).build({"x": [[1.0]]})
    assert answer["body"]["error"] == "the argument 'y' is missing: the function asks for x, y"


def test_building_leaves_nothing_loaded(start):
    code = """
import os
import FluidFaaS as FFS
class Big(FFS.Module):
    def load(self):
        self.weights = bytearray(os.urandom(1 << 20) * 64)
    def forward(self, x):
        return x
class F(FFS.FFaaS):
    def defDAG(self, x):
        return Big.reg(self, x)
    def pre(self, event):
        with open("/proc/self/statm") as file:
            print("resident", int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") >> 20)
        return super().pre(event)
main = FFS.entry(F)
"""
    child = started(start, code)
    for _ in range(3):
        assert child.build({"x": [1]})["status"] == 200
    resident = [int(line.split()[1]) for line in child.stdout().splitlines()]
    assert max(resident) - min(resident) < 32


PROFILED = """
import time
import numpy as np
import FluidFaaS as FFS

class Small(FFS.Module):
    def load(self):
        time.sleep(0.05)
        self.weights = np.ones(1 << 20, np.uint8)
    def forward(self, x):
        time.sleep(0.02)
        return np.repeat(x, 1000)

class Large(FFS.Module):
    def load(self):
        self.weights = np.ones(64 << 20, np.uint8)
    def forward(self, x):
        workspace = np.ones(128 << 20, np.uint8)
        return x + workspace[0]

class F(FFS.FFaaS):
    def defDAG(self, x):
        return Large.reg(self, Small.reg(self, x))

main = FFS.entry(F)
"""


def test_profiles_hold_what_components_really_take(start):
    answer = started(start, PROFILED).profile({"x": [1, 2]}, kind="2g.20gb")
    assert answer["status"] == 200, answer
    rows = answer["body"]
    _native.check_document("profile-rows", json.dumps(rows))
    assert rows["kind"] == "2g.20gb"
    assert 10 << 20 < rows["context_bytes"] < 200 << 20
    assert rows["edges"] == {"Small:0->Large:0": {"bytes": 2 * 1000 * 8}}
    small, large = rows["components"]["Small"], rows["components"]["Large"]

    def near(value, mebibytes):
        return abs(value - (mebibytes << 20)) < 8 << 20

    assert near(small["weights_bytes"], 1) and near(large["weights_bytes"], 64)
    assert near(small["workspace_bytes"], 0) and near(large["workspace_bytes"], 128)
    assert small["load_ms"] >= 50 and small["times"]["exec_ms_p50"] >= 20
    assert small["times"]["exec_ms_p95"] >= small["times"]["exec_ms_p50"]
    assert large["swap_in_ms"] > 0 and large["swap_out_ms"] > 0
    assert small["times"]["samples"] >= 3


def test_the_number_of_runs_keeps_to_its_bounds(start):
    child = started(start, PROFILED)

    def samples(**limits):
        rows = child.profile({"x": [1]}, **limits)["body"]
        return rows["components"]["Small"]["times"]["samples"]

    assert samples(min_runs=2, max_runs=2, budget_ms=60_000) == 2
    assert samples(min_runs=4, max_runs=30, budget_ms=0) == 4


def test_profiling_does_not_disturb_the_plain_action(start):
    child = started(start, actions.FIVE_MODELS)
    before = child.run(actions.five_example())["body"]
    assert child.profile(actions.five_example())["status"] == 200
    assert child.run(actions.five_example())["body"] == before
