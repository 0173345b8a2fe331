"""Pipelines over real rings."""

from __future__ import annotations

import json
import os

import actions
import pytest
from pipeline import Pipeline

from FluidFaaS import _native

BUILT = {}


def build(start, code, example):
    """The DAG of an action; asked for once."""
    key = code + json.dumps(example)
    if key not in BUILT:
        builder = start()
        assert builder.init(code) is None
        built = builder.build(example)
        assert built["status"] == 200, built
        BUILT[key] = built["body"]
    return BUILT[key]


@pytest.fixture
def pipeline(start, tmp_path):
    """Starts pipelines; afterwards nothing of them is left in shared memory."""
    made = []

    def make(code, example, plan, **options):
        made.append(Pipeline(start, tmp_path, code, build(start, code, example), plan, **options))
        _native.check_document("assignment", json.dumps(made[-1].assignment))
        return made[-1]

    yield make
    for pipeline in made:
        for child in pipeline.children.values():
            child.end()
        assert [name for name in os.listdir("/dev/shm") if pipeline.id in name] == []


FIVE_PLANS = ["M1,M2,M3,M4,M5", "M1,M2|M3,M4,M5", "M1;M2|M3,M4|M5", "M1;M2|M3|M4|M5"]


@pytest.mark.parametrize("plan", FIVE_PLANS)
def test_the_five_models_give_the_same_bytes_in_every_partition(start, pipeline, plan):
    plain = start()
    assert plain.init(actions.FIVE_MODELS) is None
    split = pipeline(actions.FIVE_MODELS, actions.five_example(), plan).loaded()
    for n in range(8):
        expected = plain.run(actions.five_example(n))
        answer = split.run(actions.five_example(n))
        assert answer["status"] == 200
        assert json.dumps(answer["body"]) == json.dumps(expected["body"])
        assert answer["logs"] == [{"stream": "stdout", "text": "M4 has seen (1, 16)"}]
        _native.check_document("timing", json.dumps(answer["timing"]))
        assert [lane["id"] for lane in answer["timing"]["lanes"]] == list(split.children)


CHAIN_PLANS = ["First,Second,Third", "First|Second|Third", "First,Second|Third"]


@pytest.mark.parametrize("plan", CHAIN_PLANS)
def test_an_exception_gives_the_same_answer_as_unsplit(start, pipeline, plan):
    code = actions.chain("if x[0] > 5:\n    raise ValueError(f'cannot do {x[0]}')")
    plain = start()
    assert plain.init(code) is None
    split = pipeline(code, {"x": [1.0]}, plan).loaded()
    for value in ([9.0], [1.0], [7.5]):
        expected, answer = plain.run({"x": value}), split.run({"x": value})
        assert (answer["status"], answer["body"]) == (expected["status"], expected["body"])
    answer = split.run({"x": [9.0]})
    assert answer["body"] == {"error": "cannot do 10.0"}
    log = [line["text"] for line in answer["logs"] if line["stream"] == "stderr"]
    assert log[0] == "Traceback (most recent call last):" and log[-1] == "ValueError: cannot do 10.0"
    assert any('app.py", line 14, in forward' in line for line in log)


def test_of_several_exceptions_the_first_in_order_counts(start, pipeline):
    code = actions.FIVE_MODELS
    for model in ("M1", "M2"):
        code = code.replace(
            f"class {model}(Dense):\n", f"class {model}(Dense):\n    def forward(self, x):\n        assert x[0][0] < 5, '{model}'\n        return super().forward(x)\n\n"
        )  # fmt: skip
    wrong = {"x": [[9.0] * 16], "y": [[1.0] * 16]}
    for plan in ("M1,M2,M3,M4,M5", "M1;M2|M3,M4,M5", "M2;M1|M3,M4|M5"):
        split = pipeline(code, actions.five_example(), plan).loaded()
        assert split.run(wrong)["body"] == {"error": "M1"}
        assert split.run(actions.five_example())["body"].keys() == {"output"}


def test_requests_overlap_and_keep_their_logs_apart(start, pipeline):
    code = actions.chain("""import time
began = time.monotonic()
time.sleep(0.02)
print("busy", began, time.monotonic())""").replace("print(\"first saw\", x.tolist())", """import time
        began = time.monotonic()
        time.sleep(0.02)
        print("busy", began, time.monotonic())
        print("first saw", x.tolist())""")  # fmt: skip
    split = pipeline(code, {"x": [1.0]}, "First|Second|Third").loaded()
    runs = {split.begin_run({"x": [float(n)]}): n for n in range(20)}
    spans = {"First": [], "Second": []}
    for id, n in runs.items():
        answer = split.head.answer(id)
        assert answer["body"] == {"output": [(n + 1) * 2 - 3]}
        lines = [line["text"] for line in answer["logs"]]
        assert [line for line in lines if not line.startswith("busy")] == [
            f"first saw [{float(n)}]",
            f"second saw [{n + 1.0}]",
        ]
        for stage, line in zip(spans, (line for line in lines if line.startswith("busy"))):
            spans[stage].append(tuple(map(float, line.split()[1:])))
    at_once = [1 for a, b in spans["First"] for c, d in spans["Second"] if a < d and c < b]
    assert len(at_once) >= 10, spans


def test_output_of_every_kind_reaches_the_request_that_made_it(start, pipeline):
    code = actions.chain("""import sys, threading
print("on stderr", file=sys.stderr)
sys.stdout.buffer.write("as bytes: ä\\n".encode())
thread = threading.Thread(target=lambda: print("from a thread of mine"))
thread.start()
thread.join()
print("no end", end="")""").replace("    def defDAG", """    def pre(self, event):
        print("before")
        return super().pre(event)

    def post(self, outputs, event):
        print("after")
        return super().post(outputs, event)

    def defDAG""")  # fmt: skip
    split = pipeline(code, {"x": [1.0]}, "First|Second|Third").loaded()
    lines = [(line["stream"], line["text"]) for line in split.run({"x": [1.0]})["logs"]]
    assert lines == [
        ("stdout", "before"), ("stdout", "first saw [1.0]"), ("stdout", "after"), ("stdout", "second saw [2.0]"),
        ("stderr", "on stderr"), ("stdout", "as bytes: ä"), ("stdout", "from a thread of mine"), ("stdout", "no end"),
    ]  # fmt: skip


def test_a_lane_sends_at_most_64_kib_of_output(start, pipeline):
    split = pipeline(
        actions.chain("print('0123456789' * 10 * int(x[0]))\nprint('y' * 99)"),
        {"x": [1.0]},
        "First|Second|Third",
    ).loaded()
    long = split.run({"x": [499.0]})
    texts = [line["text"] for line in long["logs"]]
    assert "0123456789" * 5000 in texts and "y" * 99 in texts
    longer = split.run({"x": [999.0]})
    texts = [line["text"] for line in longer["logs"]]
    assert (
        texts[-1] == "lane s1l0 (components Second) on slice MIG-s1l0: output beyond 65536 bytes is left out"
    )
    assert longer["body"] == {"output": [1997.0]}


def test_a_long_error_comes_whole(start, pipeline):
    split = pipeline(
        actions.chain("if x[0] > 5: raise ValueError('é' * 100_000)"), {"x": [1.0]}, "First|Second|Third"
    ).loaded()
    assert split.run({"x": [9.0]})["body"] == {"error": "é" * 100_000}
    assert split.run({"x": [1.0]})["status"] == 200


VALUES = """
import numpy as np
import FluidFaaS as FFS

class Make(FFS.Module):
    def forward(self, n):
        n = int(n)
        x = np.arange(n * 3, dtype=np.float32).reshape(n, 3)
        return (x.T, x[:, ::-1], np.float16(n), np.zeros((0, 2), np.int8), x > 2, b"bytes" * n, "text \u00e9 " * n,
                {"n": [n, None, {"k": 1.5}]}, x.astype(">i4"), np.uint16([n]), x, x, x, x, x, x, x, x, x)

class Look(FFS.Module):
    def forward(self, *values):
        seen = [[type(v).__name__, str(getattr(v, "dtype", "")), list(getattr(v, "shape", [])),
                 v.tolist() if isinstance(v, np.ndarray) else repr(v)] for v in values]
        for v in values:
            if isinstance(v, np.ndarray):
                v[...] = 1
        return seen

class F(FFS.FFaaS):
    def defDAG(self, n):
        values = Make.reg(self, n)
        return {"one": Look.reg(self, *values, id="one"), "two": Look.reg(self, *values, id="two")}

main = FFS.entry(F)
"""


def test_all_kinds_of_values_pass_unharmed(start, pipeline):
    plain = start()
    assert plain.init(VALUES) is None
    for plan in ("Make,one,two", "Make|one|two", "Make,one|two"):
        split = pipeline(VALUES, {"n": 3}, plan).loaded()
        for n in (3, 1, 2):
            expected, answer = plain.run({"n": n})["body"], split.run({"n": n})["body"]
            assert answer == expected
        assert answer["one"] == answer["two"]


def test_what_does_not_fit_its_ring_ends_only_its_request(start, pipeline):
    code = actions.chain().replace("return x + 1", "return (x + 1).repeat(int(x[0]))")
    split = pipeline(code, {"x": [1.0]}, "First|Second|Third").loaded()
    answer = split.run({"x": [100_000.0]})
    assert answer["status"] == 200
    assert answer["body"]["error"].startswith("First:0 is larger than its ring was made for: ring ffs-")
    assert "tensor 0 of 400000 bytes does not fit; a slot of " in answer["body"]["error"]
    assert split.run({"x": [2.0]})["body"] == {"output": [3.0, 3.0]}


def test_an_input_that_does_not_fit_ends_only_its_request(start, pipeline):
    split = pipeline(actions.FIVE_MODELS, actions.five_example(), "M1;M2|M3,M4,M5").loaded()
    answer = split.run({"x": [[0.0] * 16] * 1000, "y": [[1.0] * 16]})
    assert answer["body"]["error"].startswith("input x is larger than its ring was made for")
    assert split.run(actions.five_example())["body"].keys() == {"output"}


def test_a_request_past_its_deadline_is_dropped_and_the_next_is_not(start, pipeline):
    split = pipeline(actions.chain(), {"x": [1.0]}, "First|Second|Third").loaded()
    late = split.run({"x": [1.0]}, deadline_s=-1)
    assert late["body"]["error"].startswith(
        "the deadline of the request passed before lane s0l0 (components First)"
    )
    assert late["logs"] == []
    assert split.run({"x": [1.0]})["body"] == {"output": [1.0]}


def test_a_deadline_that_passes_on_the_way_is_seen_by_the_next_lane(start, pipeline):
    code = actions.chain().replace(
        "return x + 1", "import time\n        time.sleep(float(x[0]))\n        return x + 1"
    )
    split = pipeline(code, {"x": [0.0]}, "First|Second|Third").loaded()
    late = split.run({"x": [0.7]}, deadline_s=0.5)
    assert late["body"]["error"].startswith("the deadline of the request passed before lane s1l0")
    assert split.run({"x": [0.0]})["body"] == {"output": [-1.0]}


def test_a_component_that_outlives_its_deadline_ends_the_lane(start, pipeline):
    split = pipeline(
        actions.chain("import time\nif x[0] > 5: time.sleep(3600)"), {"x": [1.0]}, "First|Second|Third"
    ).loaded()
    assert split.run({"x": [1.0]}, deadline_s=30)["body"] == {"output": [1.0]}
    run = split.begin_run({"x": [9.0]}, deadline_s=0.5)
    said = split.children["s1l0"].said("failed")
    assert (
        said["sentence"]
        == "lane s1l0 (components Second) on slice MIG-s1l0 ran on for 1 s after the deadline of its request"
    )
    assert split.children["s1l0"].wait() == 0
    answer = split.head.answer(run)
    assert (answer["status"], answer["body"]["error"]) == (502, said["sentence"])


def test_a_killed_lane_ends_all_requests_with_the_invokers_sentence(start, pipeline):
    split = pipeline(
        actions.chain("import time\nif x[0] > 5: time.sleep(3600)"), {"x": [1.0]}, "First|Second|Third"
    ).loaded()
    assert split.run({"x": [1.0]})["status"] == 200
    runs = [split.begin_run({"x": [9.0]}) for _ in range(3)]
    split.children["s1l0"].process.kill()
    reason = "lane s1l0 (components Second) on slice MIG-s1l0: its process was killed by signal 9"
    for lane in ("s0l0", "s2l0"):
        split.children[lane].send({"type": "poison", "reason": reason})
    for run in runs:
        answer = split.head.answer(run)
        assert (answer["status"], answer["body"]) == (502, {"error": reason})
    assert split.children["s0l0"].wait() == 0 and split.children["s2l0"].wait() == 0


def test_a_lane_whose_runtime_ends_tells_the_others_through_the_rings(start, pipeline):
    split = pipeline(
        actions.chain("import time\nif x[0] > 5: time.sleep(3600)"), {"x": [1.0]}, "First|Second|Third"
    ).loaded()
    run = split.begin_run({"x": [9.0]})
    split.children["s1l0"].end()
    answer = split.head.answer(run)
    assert answer["status"] == 502
    assert answer["body"]["error"] == "lane s1l0 (components Second) on slice MIG-s1l0: its runtime ended"
    assert split.run({"x": [1.0]})["status"] == 502


def test_a_component_that_takes_its_process_down_is_survived(start, pipeline):
    split = pipeline(
        actions.chain("import os\nif x[0] > 5: os._exit(9)"), {"x": [1.0]}, "First|Second|Third"
    ).loaded()
    run = split.begin_run({"x": [9.0]})
    assert split.children["s1l0"].wait() == 9
    split.head.send({"type": "poison", "reason": "lane s1l0: command exited"})
    assert split.head.answer(run)["body"] == {"error": "lane s1l0: command exited"}


def test_a_lane_that_cannot_load_says_so_and_wakes_the_others(start, pipeline):
    code = actions.chain().replace(
        "class Third(FFS.Module):\n", "class Third(FFS.Module):\n    def load(self):\n        import os\n        if 'FFS_LANE' in os.environ:\n            open('/nowhere/weights.bin')\n"
    )  # fmt: skip
    split = pipeline(code, {"x": [1.0]}, "First|Second|Third")
    said = split.children["s2l0"].said("failed")
    assert said["sentence"] == (
        "component Third (main__:Third) cannot be loaded: FileNotFoundError: [Errno 2] No such file or directory: '/nowhere/weights.bin'"
    )
    assert said["at"] == "app.py:20"
    answer = split.run({"x": [1.0]})
    assert answer["status"] == 502
    assert answer["body"]["error"].startswith(
        "lane s2l0 (components Third) on slice MIG-s2l0: component Third (main__:Third) cannot"
    )


def test_an_assignment_that_does_not_carry_what_is_read_is_named(start, tmp_path):
    builder = start()
    assert builder.init(actions.chain()) is None
    dag = builder.build({"x": [1.0]})["body"]
    split = Pipeline(start, tmp_path, actions.chain(), dag, "First|Second|Third")
    for lane in split.children.values():
        lane.said("loaded")
    for change, sentence in (
        (lambda a: a["rings"][0].update(tensors=[]), "assignment.json gives lane s1l0 (components Second) on slice MIG-s1l0 no ring with First:0, which Second reads"),
        (lambda a: a["stages"][1]["lanes"][0].update(rings_in=["r9"]), "lane s1l0 has the ring 'r9', which assignment.json does not describe"),
        (lambda a: a["stages"][1]["lanes"][0].update(id="s5l0"), "FFS_LANE is 's1l0'; assignment.json has s0l0, s5l0, s2l0"),
        (lambda a: a.pop("epoch"), "assignment.json cannot be used: missing field `epoch`"),
        (lambda a: a["stages"][1]["lanes"][0].update(components=["Fourth"]), "the DAG has no component 'Fourth'; it has: First, Second, Third"),
    ):  # fmt: skip
        changed = json.loads(json.dumps(split.assignment))
        change(changed)
        split.write("assignment", changed)
        child = start(FFS_CONFIG=str(split.config), FFS_LANE="s1l0")
        assert child.init(actions.chain()) is None
        child.send({"type": "serve"})
        assert sentence in child.said("failed")["sentence"]


def test_requests_before_the_lane_is_ready_wait_for_it(start, pipeline):
    code = actions.chain().replace(
        "class First(FFS.Module):\n",
        "class First(FFS.Module):\n    def load(self):\n        import time\n        time.sleep(0.5)\n\n",
    )
    split = pipeline(code, {"x": [1.0]}, "First|Second|Third")
    assert split.run({"x": [1.0]})["body"] == {"output": [1.0]}
    split.loaded()


def test_an_error_in_pre_or_post_hurts_only_its_request(start, pipeline):
    code = actions.chain().replace("    def defDAG", """    def pre(self, event):
        if "x" not in event:
            raise KeyError("no x")
        return super().pre(event)

    def post(self, outputs, event):
        if event.get("stumble"):
            raise RuntimeError("in post")
        return super().post(outputs, event)

    def defDAG""")  # fmt: skip
    split = pipeline(code, {"x": [1.0]}, "First|Second|Third").loaded()
    assert split.run({})["body"] == {"error": "'no x'"}
    assert split.run({"x": [1.0], "stumble": True})["body"] == {"error": "in post"}
    assert split.run({"x": [1.0]})["body"] == {"output": [1.0]}
    assert (
        split.run({"x": ["a"]})["body"]["error"]
        == "the argument 'x' holds more than numbers: expected nested lists of numbers"
    )


def test_the_papers_pair_runs_in_lanes(start, pipeline):
    code = actions.FIVE_MODELS.replace("main = FFS.entry(FiveModels)", "").replace(
        "    return FiveModels(event, context, FFS.RUN).run()",
        "    f = FiveModels(event, context, FFS.RUN)\n    return {**f.run(), 'migs': f.migs, 'stages': f.stages, 'id': context.activation_id, 'of': __import__('os').environ['__OW_NAMESPACE']}",
    )
    split = pipeline(code, actions.five_example(), "M1;M2|M3,M4,M5").loaded()
    body = split.run(actions.five_example(), activation_id="0" * 31 + "7", namespace="jane")["body"]
    assert body["migs"] == ["MIG-s0l0", "MIG-s0l1", "MIG-s1l0"]
    assert body["stages"] == [[["M1"], ["M2"]], [["M3", "M4", "M5"]]]
    assert body["id"] == "0" * 31 + "7" and body["of"] == "jane" and len(body["output"][0]) == 16


def test_a_component_without_inputs_is_asked_by_the_head(start, pipeline):
    code = """
import FluidFaaS as FFS
class Clock(FFS.Module):
    ticks = 0
    def forward(self):
        self.ticks += 1
        return {"tick": self.ticks}
class Join(FFS.Module):
    def forward(self, x, tick):
        return {"x": x.tolist(), **tick}
class F(FFS.FFaaS):
    def defDAG(self, x):
        return self.reg(Join, x, Clock.reg(self))
main = FFS.entry(F)
"""
    split = pipeline(code, {"x": [1.0]}, "Join|Clock".replace("Join|Clock", "Clock|Join")).loaded()
    assert [split.run({"x": [n]})["body"]["output"]["tick"] for n in range(3)] == [1, 2, 3]
    other = pipeline(code, {"x": [1.0]}, "Clock;Join").loaded()
    assert other.run({"x": [2.0]})["body"] == {"output": {"x": [2.0], "tick": 1}}


def test_states_are_reached_and_said(start, pipeline):
    code = actions.chain().replace("class Second(FFS.Module):\n", """class Second(FFS.Module):
    def evict(self):
        print("out", flush=True)
    def resume(self):
        print("in again", flush=True)
""")  # fmt: skip
    split = pipeline(code, {"x": [1.0]}, "First|Second|Third").loaded()

    def reach(desired, epoch, **members):
        split.state(desired, epoch, **members)
        for child in split.children.values():
            said = child.said("state")
            assert (said["epoch"], said["reached"]) == (epoch, desired)

    reach("evict", 2)
    assert split.children["s1l0"].stdout() == "out\n"
    waiting = split.begin_run({"x": [1.0]})
    reach("resume", 3)
    assert split.head.answer(waiting)["body"] == {"output": [1.0]}
    assert split.children["s1l0"].stdout() == "out\nin again\n"
    runs = [split.begin_run({"x": [float(n)]}) for n in range(5)]
    reach("drain", 4, deadline_ms=60_000.0)
    assert [split.head.answer(run)["status"] for run in runs] == [200] * 5
    reach("run", 5)
    assert split.run({"x": [1.0]})["status"] == 200
    reach("stop", 6)
    assert [child.wait() for child in split.children.values()] == [0, 0, 0]


def test_a_lane_on_a_shared_slice_computes_only_in_its_turn(start, pipeline, tmp_path):
    migs = {
        "schema": "ffs.migs/1", "taken_at": "2026-01-02T03:04:05Z", "source": "simulated", "gpus": [],
        "slices": [
            {"uuid": "MIG-s1l0", "gpu_uuid": "GPU-0", "profile": "1g.10gb", "compute_slices": 1, "memory_bytes": 1, "state": "shared"},
            {"uuid": "MIG-s0l0", "gpu_uuid": "GPU-0", "profile": "1g.10gb", "compute_slices": 1, "memory_bytes": 1, "state": "hot"},
        ],
    }  # fmt: skip
    config = Pipeline.write
    Pipeline.write = lambda self, name, document: (config(self, "migs", migs), config(self, name, document))
    try:
        split = pipeline(actions.chain(), {"x": [1.0]}, "First|Second|Third").loaded()
    finally:
        Pipeline.write = config
    lane = split.children["s1l0"]
    for turn in (1, 2):
        run = split.begin_run({"x": [1.0]})
        assert (lane.said("turn")) == {"type": "turn", "want": True, "turn": turn}
        lane.send({"type": "turn", "turn": turn})
        assert split.head.answer(run)["body"] == {"output": [1.0]}
        assert (lane.said("turn")) == {"type": "turn", "want": False, "turn": turn}


def test_more_requests_than_slots_pass_through_narrow_rings(start, pipeline):
    split = pipeline(actions.FIVE_MODELS, actions.five_example(), "M1;M2|M3|M4|M5", slots=2).loaded()
    runs = [split.begin_run(actions.five_example(n)) for n in range(60)]
    answers = [split.head.answer(run) for run in runs]
    assert {answer["status"] for answer in answers} == {200}
    assert [answer["body"] for answer in answers[:3]] == [
        split.run(actions.five_example(n))["body"] for n in range(3)
    ]


def test_what_the_components_share_is_loaded_once_per_lane(start, pipeline):
    code = actions.chain().replace(
        "class First(FFS.Module):\n",
        "class First(FFS.Module):\n    weights_key = 'w'\n    def load(self):\n        print('loading', flush=True)\n",
    )
    code = code.replace(
        "Third.reg(self, Second.reg(self, First.reg(self, x)))",
        "Second.reg(self, First.reg(self, First.reg(self, x)))",
    )
    split = pipeline(code, {"x": [1.0]}, "First,First_2|Second").loaded()
    assert split.head.stdout() == "loading\n"
    assert split.run({"x": [1.0]})["body"] == {"output": [6.0]}


def test_a_component_is_not_slow_because_the_next_lane_is(start, pipeline):
    """Whoever makes its output in the ring may wait there; that is no time of the component."""
    code = actions.chain("import time\ntime.sleep(0.2)").replace(
        "return x + 1", "out = FFS.empty(x.shape, x.dtype)\n        np.add(x, 1, out=out)\n        return out"
    )
    split = pipeline(code, {"x": [1.0]}, "First|Second,Third", slots=1).loaded()
    runs = [split.begin_run({"x": [float(n)]}) for n in range(6)]
    timings = [split.head.answer(run)["timing"] for run in runs]
    assert all(timing["lanes"][1]["components"]["Second"] >= 200 for timing in timings)
    # From the third on each waits for the one before to leave the only slot.
    waited = timings[2:]
    assert min(timing["lanes"][0]["components"]["First"] for timing in waited) < 150
    assert max(timing["lanes"][0]["exec_ms"] for timing in waited) >= 150


def test_a_component_that_failed_has_no_time(start, pipeline):
    split = pipeline(actions.chain("assert x[0] < 5"), {"x": [1.0]}, "First,Second|Third").loaded()
    lanes = split.run({"x": [9.0]})["timing"]["lanes"]
    assert [list(lane["components"]) for lane in lanes] == [["First"], []]
    lanes = split.run({"x": [1.0]})["timing"]["lanes"]
    assert [list(lane["components"]) for lane in lanes] == [["First", "Second"], ["Third"]]


def test_times_add_up(start, pipeline):
    code = actions.chain("import time\ntime.sleep(0.05)")
    split = pipeline(code, {"x": [1.0]}, "First|Second|Third").loaded()
    timing = split.run({"x": [1.0]})["timing"]
    lanes = {lane["id"]: lane for lane in timing["lanes"]}
    assert lanes["s1l0"]["exec_ms"] >= 50
    assert lanes["s2l0"]["exec_ms"] < lanes["s1l0"]["exec_ms"]
    assert timing["transfer_ms"] > 0
    times = {id: ms for lane in lanes.values() for id, ms in lane["components"].items()}
    assert list(times) == ["First", "Second", "Third"]
    assert 50 <= times["Second"] <= lanes["s1l0"]["exec_ms"]
    both = [split.begin_run({"x": [1.0]}) for _ in range(2)]
    queued = [split.head.answer(run)["timing"]["lanes"][1]["queue_ms"] for run in both]
    assert max(queued) >= 25
