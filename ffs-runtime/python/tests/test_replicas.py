"""Lanes with replicas: they come and go between two requests, and nobody notices but by the speed."""

from __future__ import annotations

import json
import os
from collections import Counter

import actions
from test_lanes import pipeline  # noqa: F401 (a fixture)

from FluidFaaS import _native

SLOW = """import time, os
time.sleep(0.05)
print("second ran in", os.getpid())"""


def answers(split, runs):
    """The answers of requests that are on their way, checked; and in which processes their second stage ran."""
    processes = []
    for id, n in runs.items():
        answer = split.head.answer(id)
        assert (answer["status"], answer["body"]) == (200, {"output": [(n + 1) * 2 - 3]}), answer
        processes += [line["text"].split()[-1] for line in answer["logs"] if "ran in" in line["text"]]
    return processes


def begin(split, numbers):
    return {split.begin_run({"x": [float(n)]}): n for n in numbers}


def test_replicas_serve_in_rotation_and_join_while_requests_are_on_their_way(start, pipeline):  # noqa: F811
    split = pipeline(actions.chain(SLOW), {"x": [1.0]}, "First|Second|Third").loaded()
    runs = begin(split, range(4))
    split.widen("s1l0")
    runs |= begin(split, range(4, 20))
    ran_in = answers(split, runs)
    assert len(set(ran_in[:4])) == 1
    assert sorted(Counter(ran_in[4:]).values()) == [8, 8], ran_in
    assert split.widen("s1l0") == "s1l2"
    ran_in = answers(split, begin(split, range(12)))
    assert sorted(Counter(ran_in).values()) == [4, 4, 4], ran_in


def test_lanes_of_several_replicas_follow_each_other(start, pipeline):  # noqa: F811
    split = pipeline(actions.chain(SLOW), {"x": [1.0]}, "First|Second|Third").loaded()
    expected = 1
    for of, replicas in (("s1l0", 2), ("s2l0", 1), ("s2l0", 1), ("s1l0", 3)):
        split.widen(of)
        expected = replicas if of == "s1l0" else len(set(answers(split, begin(split, range(3)))))
        _native.check_document("assignment", json.dumps(split.assignment))
        assert len(set(answers(split, begin(split, range(12))))) == expected


def test_replicas_leave_while_requests_are_on_their_way(start, pipeline):  # noqa: F811
    split = pipeline(actions.FIVE_MODELS, actions.five_example(), "M1;M2|M3|M4,M5").loaded()
    expected = [split.run(actions.five_example(n))["body"] for n in range(8)]

    def check(runs):
        for id, n in runs.items():
            assert split.head.answer(id)["body"] == expected[n]

    def some():
        return {split.begin_run(actions.five_example(n)): n for n in range(8)}

    first, second = split.widen("s0l1"), split.widen("s1l0")
    check(some())
    runs = some()
    split.narrow(first)
    check(runs | some())
    split.narrow(second)
    check(some())
    assert sorted(split.children) == ["s0l0", "s0l1", "s1l0", "s2l0"]
    assert len([name for name in os.listdir("/dev/shm") if split.id in name]) == len(
        split.assignment["rings"]
    )


def test_a_replica_that_never_comes_disturbs_nobody(start, pipeline):  # noqa: F811
    split = pipeline(actions.chain(SLOW), {"x": [1.0]}, "First|Second|Third").loaded()
    others = list(split.children)
    lane = split.join("s1l0")
    split.tell(["s0l0"])
    assert split.children[lane].said("loaded")
    split.tell(["s2l0"])
    split.children.pop(lane).end()
    assert len(set(answers(split, begin(split, range(6))))) == 1
    split.assignment = json.loads((split.config / "assignment.json").read_text())
    stage = split.assignment["stages"][1]["lanes"]
    stage.pop()
    split.assignment["rings"] = [
        r for r in split.assignment["rings"] if lane not in (r["producer"], r["consumer"])
    ]
    assert split.widen("s1l0") == lane and others == ["s0l0", "s1l0", "s2l0"]
    assert len(set(answers(split, begin(split, range(6))))) == 2


def test_a_lane_that_was_not_told_of_a_switch_ends_the_pipeline_and_says_so(start, pipeline):  # noqa: F811
    split = pipeline(actions.chain(SLOW), {"x": [1.0]}, "First|Second|Third").loaded()
    lane = split.join("s1l0")
    split.tell(["s0l0"])
    assert split.children[lane].said("loaded")
    split.head.send({"type": "assignment", "epoch": 2, "switch": True})
    answer = split.run({"x": [1.0]})
    assert answer["status"] == 502
    sentence = "a ring switches to the assignment of epoch 2, of which this lane was not told"
    assert sentence in answer["body"]["error"], answer


def test_replicas_take_batches(start, pipeline):  # noqa: F811
    code = actions.chain("import time\ntime.sleep(0.02)")
    code = code.replace("class Second(FFS.Module):\n", "class Second(FFS.Module):\n    batch = 4\n\n")
    split = pipeline(code, {"x": [1.0]}, "First|Second|Third", batch=4).loaded()
    runs = begin(split, range(10))
    replica = split.widen("s1l0")
    runs |= begin(split, range(10, 40))
    answers(split, runs)
    runs = begin(split, range(20))
    split.narrow(replica)
    answers(split, runs | begin(split, range(20, 30)))
