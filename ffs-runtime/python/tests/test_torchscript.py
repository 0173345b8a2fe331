"""TorchScript networks as components."""

from __future__ import annotations

import pytest
import torch
from pipeline import Pipeline


class Scale(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.factors = torch.nn.Parameter(torch.tensor([2.0, 3.0]))
        self.dropout = torch.nn.Dropout(0.5)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        if bool(x.sum() > 100):  # a branch that only a script keeps
            x = -x
        return self.dropout(x * self.factors), x.argmax()


CODE = """
import fluidfaas

scale = fluidfaas.component(fluidfaas.TorchScript, id="Scale", init={"file": FILE})

@fluidfaas.component
def add(y, best):
    return {"sum": float(y.sum()), "best": int(best)}

@fluidfaas.function
def main(x):
    return add(*scale(x))
"""


@pytest.fixture
def code(tmp_path):
    file = tmp_path / "scale.pt"
    torch.jit.save(torch.jit.script(Scale()), str(file))
    return CODE.replace("FILE", repr(str(file)))


def test_a_saved_script_is_a_component_split_and_unsplit(start, tmp_path, code):
    plain = start()
    assert plain.init(code) is None
    built = plain.build({"x": [1.0, 2.0]})
    assert built["status"] == 200, built
    assert [node["id"] for node in built["body"]["nodes"]] == ["Scale", "add"]
    split = Pipeline(start, tmp_path, code, built["body"], "Scale|add").loaded()
    for x, expected in (([1.0, 2.0], {"sum": 8.0, "best": 1}), ([100.0, 50.0], {"sum": -350.0, "best": 1})):
        for answer in (plain.run({"x": x}), split.run({"x": x})):
            assert answer["body"] == {"output": expected}, answer


def test_a_file_that_is_no_script_is_named(start, tmp_path, code):
    (tmp_path / "scale.pt").write_text("no network")
    child = start()
    assert child.init(code) is None
    answer = child.build({"x": [1.0, 2.0]})
    assert answer["status"] == 502
    assert "scale.pt' is no TorchScript network" in answer["body"]["error"]
    assert "expected a file that torch.jit.save has written" in answer["body"]["error"]


def test_a_script_that_the_module_has_made_is_refused_with_what_to_do(start, code):
    child = start()
    made = code.replace(
        "fluidfaas.component(fluidfaas.TorchScript, ", "fluidfaas.component(torch.jit.load(FILE), "
    )
    made = made.replace("FILE", code.split('"file": ')[1].split("}")[0]).replace(
        "import fluidfaas\n", "import torch, fluidfaas\n"
    )
    assert child.init(made) is None
    answer = child.build({"x": [1.0, 2.0]})
    assert answer["status"] == 502
    assert "save it with torch.jit.save" in answer["body"]["error"], answer
