"""`python -m FluidFaaS run` and `check`, as an author calls them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

import actions
import pytest

EXAMPLE = json.dumps(actions.five_example())
FIVE = actions.EXAMPLES / "five_models.py"


def ffs(*arguments, code=0):
    """Standard output and error of the command, which must end with this exit code and leave no ring behind."""
    before = {name for name in os.listdir("/dev/shm") if name.startswith("ffs-local-")}
    ended = subprocess.run(
        [sys.executable, "-P", "-m", "FluidFaaS", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ended.returncode == code, ended.stdout + ended.stderr
    assert {name for name in os.listdir("/dev/shm") if name.startswith("ffs-local-")} <= before
    return ended.stdout, ended.stderr


@pytest.fixture
def app(tmp_path):
    def write(text):
        file = tmp_path / "app.py"
        file.write_text(text)
        return file

    return write


def test_a_split_run_returns_what_the_unsplit_one_does_and_shows_both(tmp_path):
    whole, said = ffs("run", FIVE, "--input", EXAMPLE, "--json")
    assert said.count("M4 has seen (1, 16)\n") >= 1 and "M3 (M1:0, M2:0) -> float32[1, 16]" in said
    picture = tmp_path / "t.svg"
    split, said = ffs("run", FIVE, "--input", EXAMPLE, "--json", "--split", "M1;M2|M3,M4|M5", "--requests", 3, "--timeline", picture)  # fmt: skip
    assert json.loads(split) == json.loads(whole)
    assert "median of 3" in said and f"timeline: {picture}" in said
    svg = ElementTree.fromstring(picture.read_text())
    titles = [item.text for item in svg.iter("{http://www.w3.org/2000/svg}title")]
    assert sorted(title.split(":")[0] for title in titles) == [
        f"M{m}, request {n}" for m in range(1, 6) for n in range(1, 4)
    ]


def test_a_folder_and_a_file_of_arguments_do_as_well_and_html_is_a_page(tmp_path):
    folder = tmp_path / "five"
    folder.mkdir()
    (folder / "__main__.py").write_text("from networks import main\n")
    (folder / "networks.py").write_text(actions.FIVE_MODELS)
    (tmp_path / "input.json").write_text(EXAMPLE)
    page = tmp_path / "t.html"
    out, _ = ffs("run", folder, "--input", tmp_path / "input.json", "--split", "each", "--timeline", page)
    assert "s4l0   M5" in out and page.read_text().startswith("<!DOCTYPE html>")


def test_a_request_that_fails_says_so_and_names_the_line(app):
    broken = app(actions.chain("assert x[0] < 5, f'{x[0]} is too much'"))
    out, said = ffs("run", broken, "--input", '{"x": [1.0]}', "--split", "each")
    assert json.loads(out[out.index("{\n") :]) == {"output": [1.0]}
    out, said = ffs("run", broken, "--input", '{"x": [9.0]}', code=1)
    last = said.splitlines()[-1]
    assert (
        last == "error: component Second fails on the example: AssertionError: 10.0 is too much (app.py:13)"
    ), said


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--input", "[1]"], "--input is a list: expected an object"),
        (["--input", "{"], "--input '{' is neither a file nor JSON"),
        (["--input", EXAMPLE, "--split", "M1|M2"], "expected each of M1, M2, M3, M4, M5 once"),
        (["--input", EXAMPLE, "--split", "M5|M1,M2,M3,M4"], "runs M5 before M4, whose output it reads"),
        (["--input", "{}"], "the argument 'x' is missing"),
    ],
)
def test_what_cannot_be_run_is_a_sentence(arguments, sentence):
    _, said = ffs("run", FIVE, *arguments, code=1)
    last = said.splitlines()[-1]
    assert last.startswith("error: ") and sentence in last and "Traceback" not in said


def test_check_is_content_with_what_works():
    assert ffs("check", FIVE, "--input", EXAMPLE)[0] == "ok: it gives the same result split and unsplit\n"
    assert ffs("check", FIVE)[0].startswith("ok so far: the code loads")


@pytest.mark.parametrize(
    ("code", "sentence"),
    [
        ("import FluidFaaS as FFS\n\n1 / 0\n", "app.py:3: the action's code cannot be loaded: ZeroDivisionError"),
        ("def main(event):\n    return event\n", "the action is no FluidFaaS function"),
        (actions.chain("import pandas"), "app.py:13: pandas is imported, which the image ffs/python has not"),
        (actions.chain("return {1, 2}"), "of type set"),
        (actions.chain("raise OSError('no disk')"), "component Second fails on the example: OSError: no disk (app.py:13)"),
        (
            actions.chain("global seen; seen = 1").replace("return x - 3", "return x - globals().get('seen', 3)"),
            "it returns something else than unsplit",
        ),
    ],
)  # fmt: skip
def test_check_says_what_would_fail(app, code, sentence):
    out, _ = ffs("check", app(code), "--input", '{"x": [1.0]}', code=1)
    assert sentence in out and out.startswith("error: ")
