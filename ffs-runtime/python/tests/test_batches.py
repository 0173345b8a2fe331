"""Several requests in one execution of a component."""

from __future__ import annotations

import json

import numpy as np
import pytest
from test_lanes import pipeline  # noqa: F401 (a fixture)

from FluidFaaS import _native, batches

#: `Net` keeps the first request for half a second, so that the others wait; it says how many rows it saw.
CODE = """
import time
import numpy as np
import FluidFaaS as FFS

class First(FFS.Module):
    def forward(self, x):
        return x * 1.5

class Net(FFS.Module):
    batch = 4

    def forward(self, x):
        time.sleep(0.5 if x[0, 0] == 1.5 else 0)
        print("rows", len(x))
        {body}
        return x + np.arange(3, dtype=x.dtype), x.sum(axis=1)

class Last(FFS.Module):
    batch = 8

    def forward(self, x, sums):
        return x * 2, sums - 1

class Batched(FFS.FFaaS):
    def defDAG(self, x):
        y, sums = Net.reg(self, First.reg(self, x))
        y, sums = Last.reg(self, y, sums)
        return {"y": y, "sums": sums}

main = FFS.entry(Batched)
"""

PLANS = ["First,Net,Last", "First|Net,Last", "First|Net|Last", "First,Net|Last"]


def code(body="pass"):
    return CODE.replace("{body}", body.replace("\n", "\n        "))


def value(n, columns=3):
    return {"x": [[1.0 + n] + [float(n)] * (columns - 1)]}


def run_all(split, values):
    """All at once: those behind the first wait for it."""
    runs = [split.begin_run(values[0])]
    runs += [split.begin_run(value) for value in values[1:]]
    return [split.head.answer(run) for run in runs]


def rows(answers):
    """How many rows each execution of `Net` saw, by the logs."""
    lines = [line["text"] for answer in answers for line in answer["logs"]]
    return [int(line.split()[1]) for line in lines if line.startswith("rows")]


@pytest.mark.parametrize("plan", PLANS)
def test_requests_that_wait_run_at_once_and_get_what_is_theirs(start, pipeline, plan):  # noqa: F811
    plain = start()
    assert plain.init(code()) is None
    split = pipeline(code(), value(7), plan, batch=4).loaded()
    values = [value(n) for n in range(7)]
    answers = run_all(split, values)
    for item, answer in zip(values, answers):
        assert (answer["status"], answer["body"]) == (200, plain.run(item)["body"])
        _native.check_document("timing", json.dumps(answer["timing"]))
        assert [lane["id"] for lane in answer["timing"]["lanes"]] == list(split.children)
    together = plan in ("First|Net,Last", "First|Net|Last")  # First does not allow it, nor do lanes with it
    assert sum(rows(answers)) == 7 and max(rows(answers)) <= (4 if together else 1)
    assert (max(rows(answers)) > 1) == together, rows(answers)


def test_an_assignment_without_batches_has_none(start, pipeline):  # noqa: F811
    split = pipeline(code(), value(7), "First|Net,Last", slots=10).loaded()
    assert rows(run_all(split, [value(n) for n in range(6)])) == [1] * 6


def test_the_error_of_one_is_nobody_elses(start, pipeline):  # noqa: F811
    body = "assert not (x == 4.5).any(), 'four and a half'"
    split = pipeline(code(body), value(7), "First|Net|Last", batch=4).loaded()
    values = [value(n) for n in range(6)]  # 1.5 × 3 is first in the one and second in the other
    expected = {"y": None, "sums": None}
    answers = run_all(split, values)
    failed = [n for n, answer in enumerate(answers) if "error" in answer["body"]]
    assert failed == [2, 3]
    for n in failed:
        assert answers[n]["body"] == {"error": "four and a half"} and answers[n]["status"] == 200
        log = [line["text"] for line in answers[n]["logs"] if line["stream"] == "stderr"]
        assert log[-1] == "AssertionError: four and a half"
    for n in set(range(6)) - set(failed):
        assert answers[n]["body"].keys() == expected.keys()
        assert not [line for line in answers[n]["logs"] if line["stream"] == "stderr"]
    # It is as it was: those that wait run at once again.
    again = run_all(split, [value(0), *[value(n) for n in (7, 8, 9, 10, 11)]])
    assert max(rows(again)) > 1 and all("error" not in answer["body"] for answer in again)


def test_a_component_that_mixes_its_rows_gets_one_request_at_a_time(start, pipeline):  # noqa: F811
    wrong = code("return x + x.mean(), x.sum(keepdims=True)[0]")
    plain = start()
    assert plain.init(wrong) is None
    split = pipeline(wrong, value(7), "First|Net|Last", batch=4).loaded()
    values = [value(n) for n in range(6)]
    answers = run_all(split, values)
    assert [answer["body"] for answer in answers] == [plain.run(item)["body"] for item in values]
    said = [line["text"] for answer in answers for line in answer["logs"] if line["stream"] == "stderr"]
    assert len(said) == 1 and "it gets one at a time from now on" in said[0]
    assert "output 1 of component Net has the shape [1]" in said[0]
    assert rows(run_all(split, values)) == [1] * 6


def test_what_cannot_be_stacked_runs_alone(start, pipeline):  # noqa: F811
    split = pipeline(code("return x * 1, x.sum(axis=1)"), value(7), "First|Net|Last", batch=4).loaded()
    values = [value(n, columns) for n, columns in enumerate([3, 1, 2, 3, 2])]
    answers = run_all(split, values)
    assert rows(answers) == [1] * 5
    assert [len(answer["body"]["y"][0]) for answer in answers] == [3, 1, 2, 3, 2]


def test_a_deadline_that_has_passed_stops_nobody_else(start, pipeline):  # noqa: F811
    split = pipeline(code(), value(7), "First|Net,Last", batch=4).loaded()
    runs = [split.begin_run(value(n), deadline_s=-1 if n == 2 else 60) for n in range(4)]
    answers = [split.head.answer(run) for run in runs]
    assert ["error" in answer["body"] for answer in answers] == [False, False, True, False]
    assert "deadline" in answers[2]["body"]["error"]


def test_the_dag_and_the_profile_say_how_many(start):
    child = start()
    assert child.init(code()) is None
    dag = child.build(value(7))["body"]
    assert [node.get("batch") for node in dag["nodes"]] == [None, 4, 8]
    _native.check_document("dag", json.dumps(dag))
    profile = child.profile(value(7), min_runs=2, max_runs=2)["body"]
    _native.check_document("profile-rows", json.dumps(profile))
    times = {id: row["times"] for id, row in profile["components"].items()}
    assert "batches" not in times["First"]
    assert list(times["Net"]["batches"]) == ["2", "4"]
    assert list(times["Last"]["batches"]) == ["2", "4", "8"]
    assert all(row["exec_ms_p50"] > 0 for row in times["Net"]["batches"].values())


@pytest.mark.parametrize("wrong", ["0", "-1", "'many'", "True"])
def test_a_batch_that_is_no_number_is_said_with_the_authors_line(start, wrong):
    child = start()
    assert child.init(code().replace("First.reg(self, x)", f"First.reg(self, x, batch={wrong})")) is None
    answer = child.build(value(7))
    assert answer["status"] != 200
    assert "expected a whole number of at least 1" in json.dumps(answer["body"])


def test_stacked_values_come_apart_again():
    requests = [[np.full((n, 2), n, np.int64), np.full((n,), n, np.float32)] for n in (1, 3, 2)]
    stacked, counts = batches.stack(requests)
    assert counts == [1, 3, 2] and [value.shape for value in stacked] == [(6, 2), (6,)]
    apart = batches.split(stacked, counts, "x")
    for before, after in zip(requests, apart):
        assert all((a == b).all() and a.dtype == b.dtype for a, b in zip(before, after))


@pytest.mark.parametrize(
    "other",
    [
        [np.zeros((1, 3), np.float32)],
        [np.zeros((1, 2), np.float64)],
        [np.float32(1)],
        [{"a": 1}],
        [b"text"],
        [],
    ],
)
def test_what_differs_is_not_stacked(other):
    assert batches.stack([[np.zeros((1, 2), np.float32)], other]) is None
