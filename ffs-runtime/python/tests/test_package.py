"""The package as others get it: typed throughout, and a wheel that needs nothing of this tree."""

from __future__ import annotations

import json
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import actions
import pytest

TREE = Path(__file__).parents[3]
WHEELS = sorted((TREE / ".cache/wheels").glob("fluidfaas-*.whl"))
needs_wheel = pytest.mark.skipif(not WHEELS, reason="scripts/python-env has built no wheel here")


def test_mypy_has_nothing_to_say(tmp_path):
    package = Path(__file__).parents[1] / "FluidFaaS"
    ended = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path), str(package)],
        cwd=package.parent, capture_output=True, text=True,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stdout + ended.stderr


@needs_wheel
def test_the_wheel_is_for_every_python_from_3_11_and_carries_its_types():
    (wheel,) = WHEELS
    assert "-cp311-abi3-" in wheel.name
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {
        "FluidFaaS/py.typed",
        "FluidFaaS/_native.pyi",
        "fluidfaas/py.typed",
        "FluidFaaS/local/commands.py",
    } <= names


@needs_wheel
def test_in_a_fresh_environment_the_wheel_is_all_that_an_author_installs(tmp_path):
    venv.create(tmp_path / "env", with_pip=True)
    python = str(tmp_path / "env/bin/python")
    installed = subprocess.run(
        [python, "-m", "pip", "install", "-q", str(WHEELS[0])], capture_output=True, text=True
    )
    assert installed.returncode == 0, installed.stderr
    (tmp_path / "app.py").write_text(actions.FIVE_MODELS)
    command = [python, "-m", "FluidFaaS", "run", "app.py", "--json", "--split", "each", "--input"]
    ended = subprocess.run(
        [*command, json.dumps(actions.five_example())],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ended.returncode == 0, ended.stderr
    assert len(json.loads(ended.stdout)["output"][0]) == 16
