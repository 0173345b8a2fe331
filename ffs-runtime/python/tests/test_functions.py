"""Defining a function and running it unsplit, as a plain action or in a script."""

from __future__ import annotations

import base64
import importlib.util
import json
import subprocess
import sys

import actions
import numpy as np
import pytest

import FluidFaaS as FFS
import fluidfaas


def load(tmp_path, code, name="app"):
    file = tmp_path / f"{name}.py"
    file.write_text(code)
    spec = importlib.util.spec_from_file_location(name, file)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def raises(function, event=None):
    with pytest.raises(FFS.FluidFaaSError) as caught:
        FFS.entry(function)(event if event is not None else {"x": [1.0]})
    return caught.value


class Double(FFS.Module):
    loaded = 0

    def load(self):
        type(self).loaded += 1

    def forward(self, x):
        return x * 2


class Both(FFS.Module):
    def forward(self, x):
        return x, {"largest": x.max(), "name": "béla"}


def add(one, other, more=0):
    return one + other + more


def test_the_papers_five_models_run_as_a_program():
    done = subprocess.run(
        [sys.executable, actions.EXAMPLES / "five_models.py"], capture_output=True, text=True, check=True
    )
    first, _, rest = done.stdout.partition('{"output"')
    assert first == "M4 has seen (1, 16)\n"
    assert '"M1:0->M3:0"' in rest and '"exec_ms_p50"' in rest


def test_the_papers_entry_points_give_what_main_gives(tmp_path):
    module = load(tmp_path, actions.FIVE_MODELS, "five")
    example = actions.five_example()
    x, y = np.float32(example["x"]), np.float32(example["y"])
    weights = [
        np.random.default_rng(seed).standard_normal((16, 16), dtype=np.float32) for seed in range(1, 6)
    ]
    m = [lambda v, w=w: np.tanh(v @ w) for w in weights]
    expected = m[4](m[3](m[2](m[0](x) + m[1](x)))) * y
    assert np.float32(module.main(example)["output"]).tobytes() == expected.tobytes()
    assert module.FiveModels_run(example, None) == module.main(example)

    built = module.FiveModels(example, None, FFS.BUILDDAG).dag
    assert [node.id for node in built.nodes] == ["M1", "M2", "M3", "M4", "M5"]
    assert [str(source) for source in built.node("M5").sources] == ["M4:0", "input y"]


def test_both_names_are_one_package():
    assert (
        fluidfaas.FFaaS is FFS.FFaaS and fluidfaas.Module is FFS.Module and fluidfaas.function is FFS.function
    )
    assert set(fluidfaas.__all__) == set(FFS.__all__)
    for name in FFS.__all__:
        assert getattr(FFS, name) is not None


def test_components_are_loaded_once():
    class F(FFS.FFaaS):
        def defDAG(self, x):
            return Double.reg(self, x)

    main = FFS.entry(F)
    before = Double.loaded
    assert [main({"x": [n]}) for n in (1.0, 2.0, 3.0)] == [
        {"output": [2.0]},
        {"output": [4.0]},
        {"output": [6.0]},
    ]
    assert Double.loaded == before + 1


def test_a_decorated_class_is_an_entry():
    @fluidfaas.function
    class F(FFS.FFaaS):
        """Doubles."""

        def defDAG(self, x):
            return {"twice": self.reg(Double, x, id="d")}

    assert isinstance(F, FFS.Entry) and F.__doc__ == "Doubles."
    assert F({"x": [[1.5]]}) == {"twice": [[3.0]]}


def test_several_outputs_functions_and_json_go_between_components():
    class F(FFS.FFaaS):
        def defDAG(self, x):
            same, facts = Both.reg(self, x)
            total = self.reg(add, same, x, init={"more": 1})
            return {"total": total, "facts": facts}

    main = FFS.entry(F)
    for n in (1.0, 2.0):
        assert main({"x": [n, 5.0]}) == {
            "total": [2 * n + 1, 11.0],
            "facts": {"largest": 5.0, "name": "béla"},
        }


def test_without_a_return_what_nobody_reads_is_the_result():
    class F(FFS.FFaaS):
        def defDAG(self, x):
            Both.reg(self, Double.reg(self, x), id="b")

    assert FFS.entry(F)({"x": [1.0]}) == {"b_0": [2.0], "b_1": {"largest": 2.0, "name": "béla"}}


def test_pre_and_post_stand_between_json_and_tensors():
    class F(FFS.FFaaS):
        def pre(self, event):
            return {"x": np.frombuffer(event["text"].encode(), np.uint8)}

        def post(self, outputs, event):
            return {"sum": int(outputs["output"].sum()), "of": event["text"]}

        def defDAG(self, x):
            return self.reg(add, x, x)

    assert FFS.entry(F)({"text": "ab"}) == {
        "sum": 2 * (97 + 98) - 256 * (2 * 97 // 256 + 2 * 98 // 256),
        "of": "ab",
    }


def test_tensors_in_json_come_back_in_the_form_they_came_in():
    class F(FFS.FFaaS):
        def defDAG(self, x):
            return Double.reg(self, x)

    packed = {
        "dtype": "int16",
        "shape": [2, 1],
        "data": base64.b64encode(np.int16([3, -4]).tobytes()).decode(),
    }
    (result,) = FFS.entry(F)({"x": packed}).values()
    assert result["dtype"] == "int16" and result["shape"] == [2, 1]
    assert np.frombuffer(base64.b64decode(result["data"]), np.int16).tolist() == [6, -8]
    assert FFS.entry(F)({"x": 21}) == {"output": 42}
    assert FFS.entry(F)({"x": [[1], [2]]}) == {"output": [[2], [4]]}


def test_a_declared_input_has_its_dtype():
    class F(FFS.FFaaS):
        inputs = {"x": FFS.tensor("float64", (FFS.dim("N", max=8),))}

        def defDAG(self, x):
            return Double.reg(self, x)

    packed = FFS.entry(F)
    assert packed({"x": [1]}) == {"output": [2.0]}
    document = F({"x": [1]}, None, FFS.BUILDDAG).dag.to_document()
    assert document["inputs"] == [{"name": "x", "dtype": "float64", "shape": ["N"]}]
    assert document["symbols"] == {"N": 8}


def test_writing_into_an_input_is_seen_by_nobody_else():
    class Spoil(FFS.Module):
        def forward(self, x):
            x += 100
            return x

    globals()["Spoil"] = Spoil
    Spoil.__qualname__ = "Spoil"

    class F(FFS.FFaaS):
        def defDAG(self, x):
            d = Double.reg(self, x)
            return {"spoilt": Spoil.reg(self, d), "kept": d, "again": self.reg(Double, d, id="again")}

    main = FFS.entry(F)
    for _ in range(2):
        assert main({"x": [1.0]}) == {"spoilt": [102.0], "kept": [2.0], "again": [4.0]}


class Labels(FFS.Module):
    outputs = (
        FFS.tensor("float32", (FFS.dim("BOXES", max=4), 2)),
        FFS.tensor("bytes", (FFS.dim("TEXT", max=10),)),
    )

    def forward(self, n):
        return np.zeros((int(n), 2), np.float32), "x" * int(n)


def test_declared_outputs_are_held_against_what_is_returned():
    class F(FFS.FFaaS):
        def defDAG(self, n):
            boxes, text = Labels.reg(self, n)
            return {"boxes": boxes, "text": text}

    main = FFS.entry(F)
    assert main({"n": 1}) == {"boxes": [[0.0, 0.0]], "text": "x"}
    assert main({"n": 0}) == {"boxes": [], "text": ""}
    with pytest.raises(
        FFS.ValueTypeError,
        match=r"output 0 of component Labels is not as declared: dimension 0 \(BOXES\) is 5, declared is at most 4",
    ):
        main({"n": 5})


def test_equal_components_with_a_weights_key_share_one_instance():
    class F(FFS.FFaaS):
        def defDAG(self, x):
            return Double.reg(self, Double.reg(self, x, weights_key="w"), weights_key="w")

    before = Double.loaded
    assert FFS.entry(F)({"x": [1.0]}) == {"output": [4.0]}
    assert Double.loaded == before + 1


def test_definitions_that_cannot_work_name_the_authors_line(tmp_path):
    def say(body, inputs="x"):
        code = (
            "import FluidFaaS as FFS\nfrom test_functions import Double, Both\n"
            f"class F(FFS.FFaaS):\n    def defDAG(self, {inputs}):\n        {body}\n"
        )
        error = raises(load(tmp_path, code).F, {name.strip(): [1.0] for name in inputs.split(",")})
        at = error.at and error.at.rpartition("/")[2]
        return f"{error} @ {at}"

    assert say("pass") == "defDAG registered no component: call Model.reg(self, x) for each network @ None"
    assert (
        say("return x")
        == "the output 'output' of defDAG is <symbol for input x>: expected an output of a component @ None"
    )
    assert say("return Double.reg(self, x + 1)").startswith(
        "defDAG only says what feeds what: input x has no value yet."
    )
    assert say("a, b = Double.reg(self, x)").endswith("@ app.py:5")
    assert say("if x: pass").endswith("@ app.py:5")
    assert say("return Double.reg(self, 0.5)") == (
        "input 0 of Double is 0.5: expected an input of defDAG or an output of a component; "
        "constructor arguments go into init={…} @ app.py:5"
    )
    assert "is (<symbol for Both:0>" in say("return Double.reg(self, Both.reg(self, x))")
    assert say("return self.reg(F, x)") == (
        "the class F has no forward(...): that is what a component computes with @ app.py:5"
    )
    assert say("return self.reg(lambda x: x, x)") == (
        "F.defDAG.<locals>.<lambda> is defined inside a function: a lane can only load what stands at the top of a module @ app.py:5"
    )
    assert say("return Double.reg(self, x, id='a b')").startswith("the component id 'a b' is not valid")
    assert say("return Double.reg(self, Double.reg(self, x, id='d'), id='d')") == (
        "two components have the id 'd': expected an id of its own for each @ app.py:5"
    )
    assert say("Double.reg(self, x); return Double.reg(self, x)") == (
        "component Double reaches no output: return what it makes from defDAG, or leave it out @ app.py:5"
    )
    assert say("return Double.reg(self, x, init={'a': object()})").startswith("init of Double is not JSON")
    assert say("return Double.reg(self, x, outputs=3)").startswith(
        "outputs of Double is 3: expected tensor(…)"
    )
    assert (
        say("return {1: Double.reg(self, x)}")
        == "defDAG returned a dict with the key 1: expected names @ None"
    )
    assert say("return Double.reg(self, x)", "*x").startswith("defDAG has the parameter *x")


def test_arguments_that_do_not_fit_are_named():
    class F(FFS.FFaaS):
        def defDAG(self, x, y):
            return self.reg(add, x, y)

    def say(event):
        return str(raises(F, event))

    assert say({"x": 1}) == "the argument 'y' is missing: the function asks for x, y"
    assert say([1]) == "the arguments are a list: expected an object with x, y"
    assert say({"x": [[1], [2, 3]], "y": 1}).startswith("the argument 'x' is no tensor: ")
    assert (
        say({"x": [1, "a"], "y": 1})
        == "the argument 'x' holds more than numbers: expected nested lists of numbers"
    )
    assert say({"x": {"dtype": "float8", "shape": [], "data": ""}, "y": 1}).startswith(
        "the argument 'x' has the dtype 'float8'"
    )
    assert say({"x": {"dtype": "int8", "shape": [-1], "data": ""}, "y": 1}).endswith(
        "has the shape [-1]: expected a list of whole numbers"
    )
    assert say({"x": {"dtype": "int8", "shape": [2], "data": "%"}, "y": 1}).startswith(
        "the data of argument 'x' is not base64"
    )
    assert say({"x": {"dtype": "int32", "shape": [2], "data": "AA=="}, "y": 1}) == (
        "the data of argument 'x' has 1 bytes: expected 8 for int32 [2]"
    )


def test_values_that_cannot_travel_are_named():
    def forward(kind):
        class Give(FFS.Module):
            def forward(self, x):
                return kind(x)

        globals()["Give"] = Give
        Give.__qualname__ = "Give"

        class F(FFS.FFaaS):
            def defDAG(self, x):
                return Give.reg(self, x)

        return str(raises(F))

    assert forward(lambda x: x.astype(np.complex64)).startswith(
        "output 0 of component Give is an array of dtype complex64"
    )
    assert forward(lambda x: [x, x]) == (
        "output 0 of component Give is of type list (a tensor inside a list or dict; return a tuple of tensors, or stack "
        "them into one): expected a NumPy array, a PyTorch tensor, bytes, or what JSON can hold"
    )
    assert forward(lambda x: object()).startswith(
        "output 0 of component Give is of type object (object inside it)"
    )
    assert forward(lambda x: ()) == "component Give returned an empty tuple: expected at least one value"


def test_an_authors_exception_comes_through_unchanged():
    class F(FFS.FFaaS):
        def defDAG(self, x):
            return self.reg(add, x, x, init={"more": "text"})

    with pytest.raises(TypeError, match="unsupported operand|ufunc 'add'"):
        FFS.entry(F)({"x": [1.0]})


def test_wrong_declarations_are_named():
    def say(make):
        with pytest.raises(FFS.DefinitionError) as caught:
            make()
        return str(caught.value)

    assert say(lambda: FFS.dim("n", max=3)).startswith("the dimension name 'n' is not valid")
    assert (
        say(lambda: FFS.dim("N", max=0)) == "max of dimension N is 0: expected a whole number of at least 1"
    )
    assert say(lambda: FFS.tensor("float128")).startswith(
        "the dtype 'float128' is not known: expected one of float16,"
    )
    assert say(lambda: FFS.tensor("int8", (0,))).startswith("the size 0 in shape (0,) is not valid")
    assert say(lambda: FFS.entry(Double)).endswith("expected a class that derives from FFS.FFaaS")


def test_onnx_sessions_take_the_threads_they_are_given(monkeypatch):
    pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed")
    import onnxruntime

    seen = {}
    monkeypatch.setattr(onnxruntime, "InferenceSession", lambda model, **options: seen.update(options))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    FFS.onnx_session(b"model")
    assert seen["sess_options"].intra_op_num_threads == 1
    assert seen["providers"][-1] == "CPUExecutionProvider"


def test_the_default_form_of_results_is_json():
    class F(FFS.FFaaS):
        def defDAG(self, x):
            return self.reg(add, x, x)

    assert json.loads(json.dumps(FFS.entry(F)({"x": [True, False]}))) == {"output": [1, 0]}
