"""Tensors that are made, sent and read without a copy: `empty`, and views of the rings."""

from __future__ import annotations

import numpy as np
import pytest
from pipeline import Pipeline

import FluidFaaS as FFS

#: Says where a value lies: the offset in the file of a ring, or None.
WHERE = """
import numpy as np
import FluidFaaS as FFS

def where(value):
    address = value.data_ptr() if hasattr(value, "data_ptr") else value.__array_interface__["data"][0]
    for line in open("/proc/self/maps"):
        span, _, offset, _, _, *path = line.split()
        begin, end = (int(part, 16) for part in span.split("-"))
        if begin <= address < end:
            ring = path and path[0].startswith("/dev/shm/ffs-")
            return [path[0], address - begin + int(offset, 16)] if ring else None
"""

#: Makes its output with `empty`.
MAKE = """
class Make(FFS.Module):
    def forward(self, x):
        made = FFS.empty(8)
        made[:] = x
        return made
"""

NUMPY = (
    WHERE
    + """
class Make(FFS.Module):
    def forward(self, x):
        made = FFS.empty((4, 8), np.float32)
        made[:] = x
        print("made", where(made))
        return made

class Read(FFS.Module):
    def forward(self, y):
        print("read", where(y))
        return y.sum(axis=0)

class F(FFS.FFaaS):
    def defDAG(self, x):
        return Read.reg(self, Make.reg(self, x))

main = FFS.entry(F)
"""
)

TORCH = NUMPY.replace("import numpy", "import torch\nimport numpy").replace(
    "FFS.empty((4, 8), np.float32)\n        made[:] = x", "torch.mm(torch.eye(4).to(torch.KIND), torch.from_numpy(x).to(torch.KIND).expand(4, 8), out=FFS.empty((4, 8), torch.KIND))"
).replace("y.sum(axis=0)", "y.sum(axis=0).to(torch.float32)")  # fmt: skip


@pytest.fixture
def split(start, tmp_path):
    """Starts pipelines of an action's code."""

    def make(code, example, plan, **options):
        builder = start()
        assert builder.init(code) is None
        built = builder.build(example)
        assert built["status"] == 200, built
        return Pipeline(start, tmp_path, code, built["body"], plan, **options).loaded()

    return make


def said(answer):
    """What the components printed: [word, place] each."""
    return [[word, eval(rest)] for word, rest in (line["text"].split(" ", 1) for line in answer["logs"])]


@pytest.mark.parametrize(
    "code",
    [
        NUMPY,
        pytest.param(TORCH.replace("KIND", "float32"), id="torch"),
        pytest.param(
            TORCH.replace("torch.mm(", "mm(").replace("KIND", "bfloat16").replace(
                "def where", "def mm(one, other, out):\n    return out.copy_(one @ other)\n\ndef where"
            ),
            id="bfloat16",
        ),
    ],
)  # fmt: skip
def test_what_is_made_in_the_ring_is_read_where_it_was_made(split, code):
    pipeline = split(code, {"x": [0.0] * 8}, "Make|Read")
    for n in range(6):
        answer = pipeline.run({"x": [float(n)] * 8})
        assert answer["body"] == {"output": [4.0 * n] * 8}, answer
        (made, there), (read, here) = said(answer)
        assert (made, read) == ("made", "read") and there is not None and here == there


def test_what_is_copied_into_the_ring_is_read_as_a_view_of_it(split):
    pipeline = split(NUMPY.replace("FFS.empty(", "np.empty("), {"x": [0.0] * 8}, "Make|Read")
    answer = pipeline.run({"x": [1.0] * 8})
    (_, there), (_, here) = said(answer)
    assert there is None and here is not None


def test_unsplit_and_within_a_lane_it_is_ordinary_memory(start, split):
    plain = start()
    assert plain.init(NUMPY) is None
    assert plain.run({"x": [1.0] * 8})["body"] == {"output": [4.0] * 8}
    answer = split(NUMPY, {"x": [0.0] * 8}, "Make,Read").run({"x": [1.0] * 8})
    assert said(answer) == [["made", None], ["read", None]] and answer["body"] == {"output": [4.0] * 8}


def test_the_reader_may_write_into_it_while_others_here_still_use_the_value(split):
    code = (
        WHERE
        + MAKE
        + """
class Change(FFS.Module):
    def forward(self, y):
        y += 100
        return y.tolist()

class Slow(FFS.Module):
    def forward(self, y):
        import time
        time.sleep(0.05)
        return y.tolist()

class F(FFS.FFaaS):
    def defDAG(self, x):
        y = Make.reg(self, x)
        return {"changed": Change.reg(self, y), "kept": Slow.reg(self, y), "itself": y}

main = FFS.entry(F)
"""
    )
    pipeline = split(code, {"x": [0.0] * 8}, "Make,Slow|Change")
    for n in range(5):
        body = pipeline.run({"x": [float(n)] * 8})["body"]
        assert body == {"changed": [n + 100.0] * 8, "kept": [float(n)] * 8, "itself": [float(n)] * 8}


SEVERAL = (
    WHERE
    + """
class Make(FFS.Module):
    def forward(self, x):
        kind = int(x[0])
        one, two = FFS.empty(3), FFS.empty((), np.int64)
        spare = FFS.empty(3)
        assert where(spare) is None     # there is memory for two outputs of three
        one[:], two[()] = x[:3], 5
        if kind == 1:                   # in the other order, and a part of it
            return two.astype(np.float32) + one, two, one[:2], {"text": "x" * 9000}
        if kind == 2:                   # not at all
            return np.float32([1]), np.int64(5), np.float32([2, 3]), None
        if kind == 3:
            raise ValueError("no")
        if kind == 4:                   # the same memory twice
            return one, two, one, []
        return one, two, np.zeros((0, 4), np.float32), {"json": [1]}

class Read(FFS.Module):
    def forward(self, a, b, c, d):
        return [a.tolist(), b.tolist(), c.tolist(), d]

class F(FFS.FFaaS):
    def defDAG(self, x):
        return self.reg(Read, *Make.reg(self, x))

main = FFS.entry(F)
"""
)


def test_outputs_in_any_order_from_anywhere_arrive_as_unsplit(start, split):
    code = SEVERAL.replace("assert where(spare) is None", "pass")
    plain = start()
    assert plain.init(code) is None
    pipeline = split(code, {"x": [0.0, 1.0, 2.0]}, "Make|Read", extra_bytes=16_384)
    for kind in (0, 1, 2, 3, 4, 1, 0, 3, 2, 4):
        value = {"x": [float(kind), 1.0, 2.0]}
        assert pipeline.run(value)["body"] == plain.run(value)["body"], kind


def test_a_frame_without_room_falls_back_to_ordinary_memory(split):
    code = NUMPY.replace("FFS.empty((4, 8)", "FFS.empty((int(x[0]), 8)")
    pipeline = split(code, {"x": [4.0] * 8}, "Make|Read", growth=2)
    for rows in (4, 100_000, 3):
        answer = pipeline.run({"x": [float(rows)] * 8})
        if rows < 100:
            assert said(answer)[0][1] is not None and answer["body"] == {"output": [float(rows * rows)] * 8}
        else:
            assert said(answer) == [["made", None]]
            assert "is larger than its ring was made for" in answer["body"]["error"]


def test_memory_that_is_lent_and_not_sent_does_not_crowd_out_the_rest(split):
    code = NUMPY.replace("return made", "return np.concatenate([made, made])[: int(x[0])]")
    pipeline = split(code, {"x": [4.0] * 8}, "Make|Read", growth=1, extra_bytes=2600)
    for rows in (4, 2, 8, 4):
        answer = pipeline.run({"x": [float(rows)] * 8})
        expected = {"output": [float(rows * rows)] * 8}
        assert answer["body"] == expected or "is larger than its ring" in answer["body"]["error"]


KEEPER = (
    WHERE
    + MAKE
    + """
class Keep(FFS.Module):
    kept = []
    def forward(self, y):
        self.kept = [*self.kept, y][-KEEP:]
        return [item.tolist()[0] for item in self.kept]

class F(FFS.FFaaS):
    def defDAG(self, x):
        return Keep.reg(self, Make.reg(self, x))

main = FFS.entry(F)
"""
)


def test_inputs_that_an_author_keeps_stay_what_they_were(split):
    pipeline = split(KEEPER.replace("KEEP:", "2:"), {"x": [0.0] * 8}, "Make|Keep", slots=4)
    for n in range(20):
        body = pipeline.run({"x": [float(n)] * 8})["body"]
        assert body["output"][-2:] == [float(n - 1), float(n)][-len(body["output"]) :]


def test_whoever_keeps_all_slots_makes_the_sender_wait_and_is_named_when_that_ends(split):
    pipeline = split(KEEPER.replace("KEEP:", "99:"), {"x": [0.0] * 8}, "Make|Keep", slots=4)
    for n in range(4):
        assert pipeline.run({"x": [float(n)] * 8})["status"] == 200
    answer = pipeline.run({"x": [4.0] * 8}, deadline_s=1)
    assert answer["status"] == 502
    assert answer["body"]["error"] == (
        "lane s0l0 (components Make) on slice MIG-s0l0 ran on for 1 s after the deadline of its request: it waits for "
        "room in the ring to lane s1l0 (components Keep) on slice MIG-s1l0, which still holds what it was sent"
    )


def test_empty_takes_every_name_of_a_dtype():
    for dtype, expected in (
        ("bfloat16", np.uint16),
        (np.float16, np.float16),
        (int, np.int64),
        ("bool", np.bool_),
    ):
        array = FFS.empty((2, 0), dtype)
        assert array.shape == (2, 0) and array.dtype == expected
    assert FFS.empty(3).shape == (3,) and FFS.empty(()).shape == ()
    for dtype in ("complex64", "uint32", "float31", object):
        with pytest.raises(
            FFS.ValueTypeError, match="the dtype .* of empty is not known: expected one of float16"
        ):
            FFS.empty(1, dtype)
    with pytest.raises(FFS.ValueTypeError, match="the shape .* of empty is not valid"):
        FFS.empty((2, -1))
