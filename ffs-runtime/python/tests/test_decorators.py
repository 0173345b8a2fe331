"""`@component` and `@function`."""

from __future__ import annotations

import pytest
from pipeline import Pipeline

CODE = """
import numpy as np
import fluidfaas

@fluidfaas.component
def blur(row):
    return (row[:-1] + row[1:]) / 2

@fluidfaas.component(outputs=fluidfaas.tensor("float32", (fluidfaas.dim("N", max=8),)), id="Sharp")
class Sharpen:
    def __init__(self, by=2):
        self.by = by
    def forward(self, row):
        assert blur(row).shape == (len(row) - 1,)     # called in a component it is a plain function
        return row * np.float32(self.by)

@fluidfaas.component
def clock():
    return 7

twice = fluidfaas.component(Sharpen.factory, init={"by": 3})

@fluidfaas.component
def peak(row, tick):
    return {"at": int(row.argmax()), "of": len(row), "tick": tick}

@fluidfaas.function
def main(row):
    \"\"\"Where a row of pixels is brightest.\"\"\"
    return {"peak": peak(twice(Sharpen(blur(row))), clock())}
"""


@pytest.mark.parametrize("plan", ["blur,Sharp,Sharpen,clock,peak", "blur|Sharp,Sharpen|clock|peak"])
def test_decorated_functions_run_plain_and_in_lanes(start, tmp_path, plan):
    plain = start()
    assert plain.init(CODE) is None
    expected = {"peak": {"at": 2, "of": 4, "tick": 7}}
    assert plain.run({"row": [1.0, 2.0, 9.0, 3.0, 1.0]})["body"] != {}
    built = plain.build({"row": [1.0, 2.0, 9.0, 3.5, 1.0]})
    assert built["status"] == 200, built
    nodes = built["body"]["nodes"]
    assert [node["id"] for node in nodes] == ["blur", "Sharp", "Sharpen", "clock", "peak"]
    assert nodes[2]["init"] == {"by": 3} and nodes[1]["outputs"] == [
        {"port": 0, "dtype": "float32", "shape": ["N"]}
    ]
    split = Pipeline(start, tmp_path, CODE, built["body"], plan).loaded()
    assert split.run({"row": [1.0, 2.0, 9.0, 3.5, 1.0]})["body"] == expected
    for child in split.children.values():
        child.end()


def test_a_plain_torch_module_becomes_a_component(start):
    code = """
import torch, fluidfaas

class Net(torch.nn.Module):
    def __init__(self, width):
        super().__init__()
        self.layer = torch.nn.Linear(3, width)
    def forward(self, x):
        return self.layer(torch.as_tensor(x))

net = fluidfaas.component(Net, init={"width": 4})

@fluidfaas.function
def main(x):
    return net(x)
"""
    child = start()
    assert child.init(code) is None
    assert len(child.run({"x": [1.0, 2.0, 3.0]})["body"]["output"]) == 4
    assert child.build({"x": [1.0, 2.0, 3.0]})["body"]["nodes"][0]["id"] == "Net"


def test_what_is_no_component_or_function_is_a_sentence():
    import fluidfaas

    for call, sentence in (
        (lambda: fluidfaas.component(3), r"component\(3\): expected a function, or a class"),
        (lambda: fluidfaas.function(3), r"function\(3\): expected a function, or a class"),
        (lambda: fluidfaas.function(dict), "expected a class that derives from FFS.FFaaS"),
    ):
        with pytest.raises(fluidfaas.DefinitionError, match=sentence):
            call()
