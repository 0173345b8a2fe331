"""What the guide shows is run."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

README = (Path(__file__).parent.parent / "README.md").read_text()
#: The code in the order of the guide: a class for each network, its recipe, and the same without classes.
CLASSES, RECIPE, FUNCTIONS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
COMMANDS = re.findall(r"^python -m FluidFaaS .*$", README, re.MULTILINE)
IMAGE = {"image": [[1, 2], [3, 4]]}


@pytest.fixture
def app(tmp_path):
    """The function with classes, whose weights are there."""
    np.save(tmp_path / "segment.npy", np.float32([[1, 0], [1, 1]]))
    return f"{CLASSES}\n{RECIPE}".replace('"segment.npy"', repr(str(tmp_path / "segment.npy")))


def test_the_guides_function_runs_plain_and_becomes_a_dag(start, app):
    child = start()
    assert child.init(app) is None
    assert child.run(IMAGE)["body"] == {"scores": [5.0, 3.0], "label": {"best": 0}}
    dag = child.build(IMAGE)["body"]
    assert [node["id"] for node in dag["nodes"]] == ["Segment", "Classify"]


def test_the_guides_function_without_a_class_runs_plain_and_becomes_a_dag(start):
    child = start()
    assert child.init(FUNCTIONS) is None
    assert child.run(IMAGE)["body"] == {"scores": [0.5, 0.75], "label": {"best": 1}}
    dag = child.build(IMAGE)["body"]
    assert [node["id"] for node in dag["nodes"]] == ["scaled", "Classify"]


def test_the_guide_has_commands():
    assert [command.split()[3] for command in COMMANDS] == ["run", "run", "check"]


@pytest.mark.parametrize("command", COMMANDS)
def test_the_guides_commands_work(tmp_path, app, command):
    (tmp_path / "app.py").write_text(app)
    (tmp_path / "image.json").write_text(json.dumps(IMAGE))
    ended = subprocess.run(
        [sys.executable, *shlex.split(command)[1:]], cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    if " --timeline " in command:
        assert (tmp_path / "timeline.svg").read_text().startswith("<svg")
