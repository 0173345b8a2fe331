"""What the guide shows is run."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

README = (Path(__file__).parent.parent / "README.md").read_text()


def test_the_guides_function_runs_plain_and_becomes_a_dag(start):
    code = "\n".join(re.findall(r"```python\n(.*?)```", README, re.DOTALL))
    child = start()
    np.save(child.folder / "segment.npy", np.float32([[1, 0], [1, 1]]))
    code = code.replace('"segment.npy"', repr(str(child.folder / "segment.npy")))
    assert child.init(code) is None
    assert child.run({"image": [[1, 2], [3, 4]]})["body"] == {"scores": [5.0, 3.0], "label": {"best": 0}}
    dag = child.build({"image": [[1, 2], [3, 4]]})["body"]
    assert [node["id"] for node in dag["nodes"]] == ["Segment", "Classify"]
