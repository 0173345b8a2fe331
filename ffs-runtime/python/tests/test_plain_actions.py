"""Actions without FluidFaaS behave as in OpenWhisk's own Python image."""

from __future__ import annotations

import base64
import io
import os
import zipfile

HELLO = 'def main(args):\n    return {"greeting": "Hello " + args.get("name", "stranger")}\n'


def zipped(**files: str) -> dict:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, text in files.items():
            archive.writestr(name.replace("__slash__", "/").replace("__dot__", "."), text)
    return {"code": base64.b64encode(buffer.getvalue()).decode(), "binary": True}


def test_an_action_gets_its_arguments_and_returns_a_dict(start):
    child = start()
    assert child.init(HELLO) is None
    result = child.run({"name": "Ada"})
    assert (result["status"], result["body"], result["timing"]) == (200, {"greeting": "Hello Ada"}, None)
    assert child.run({})["body"] == {"greeting": "Hello stranger"}


def test_an_array_is_a_result_and_anything_else_is_not(start):
    child = start()
    assert child.init("def main(args):\n    return args['give']\n") is None
    assert child.run({"give": [1, {"a": None}]})["body"] == [1, {"a": None}]
    for nothing in (None, 7, "text", True):
        result = child.run({"give": nothing})
        assert (result["status"], result["body"]) == (
            502,
            {"error": "The action did not return a dictionary or array."},
        )


def test_an_exception_is_an_application_error_with_a_traceback_in_the_log(start):
    child = start()
    assert child.init("def main(args):\n    return {'quotient': 1 / args['by']}\n", name="divide") is None
    result = child.run({"by": 0})
    assert (result["status"], result["body"]) == (200, {"error": "division by zero"})
    assert "divide.py" in child.stderr() and "ZeroDivisionError: division by zero" in child.stderr()
    assert "FluidFaaS" not in child.stderr()
    assert child.run({"by": 2})["body"] == {"quotient": 0.5}


def test_members_of_run_become_variables_anew_for_each_request(start):
    child = start()
    code = "import os\ndef main(args):\n    return {k: v for k, v in os.environ.items() if k.startswith(('__OW_', 'INIT_'))}\n"
    assert child.init(code, env={"INIT_ONE": "v1", "__OW_NAMESPACE": "guest"}) is None
    first = child.run({}, namespace="jane", activation_id="0" * 32, deadline="1767225660301")["body"]
    assert first == {
        "INIT_ONE": "v1", "__OW_NAMESPACE": "jane", "__OW_ACTIVATION_ID": "0" * 32, "__OW_DEADLINE": "1767225660301",
    }  # fmt: skip
    assert child.run({}, activation_id="1" * 32)["body"]["__OW_ACTIVATION_ID"] == "1" * 32


def test_output_goes_to_the_streams_before_the_answer(start):
    child = start()
    code = (
        "import os, sys\ndef main(args):\n    print('seen', args['n'])\n    print('häufig', file=sys.stderr)\n"
        "    sys.stdout.write('no end')\n    return {}\n"
    )
    assert child.init(code) is None
    child.run({"n": 1})
    assert child.stdout() == "seen 1\nno end"
    assert child.stderr() == "häufig\n"


def test_text_passes_unharmed(start):
    child = start()
    assert child.init("def main(args):\n    return args\n") is None
    value = {"a": "Grüße 日本 🙂", "half": "\ud83d", "n": 12345678901234567890, "f": 0.1, "z": None}
    assert child.run(value)["body"] == value


def test_a_result_that_is_no_json_is_a_developer_error(start):
    child = start()
    assert child.init("def main(args):\n    return {'x': float('nan') if args else object()}\n") is None
    for arguments, why in ((0, "not JSON serializable"), (1, "not JSON compliant")):
        result = child.run(arguments)
        assert result["status"] == 502
        assert result["body"]["error"].startswith("The action's result cannot be written as JSON:")
        assert why in result["body"]["error"]


def test_a_process_that_ends_itself_gives_no_answer(start):
    child = start()
    assert child.init("import os\ndef main(args):\n    os._exit(3)\n") is None
    child.begin_run({})
    assert child.wait() == 3


def test_another_name_than_main_can_be_called(start):
    child = start()
    assert child.init("def other(args):\n    return {'from': 'other'}\n", main="other") is None
    assert child.run({})["body"] == {"from": "other"}


def test_an_action_may_be_called_like_a_package_that_it_imports(start):
    child = start()
    code = "import numpy\ndef main(args):\n    return {'last': int(numpy.arange(4)[args['at']])}\n"
    assert child.init(code, name="numpy") is None
    assert child.run({"at": -1})["body"] == {"last": 3}
    assert "error" in child.run({"at": 9})["body"]
    assert 'numpy.py", line 3, in main' in child.stderr()


def test_what_cannot_be_initialised_says_why_and_where(start):
    cases = [
        ("def main(args):\n    return {\n", "the action's code is not valid Python: '{' was never closed", "app.py:2"),
        ("import nowhere\n", "the action's code cannot be loaded: ModuleNotFoundError: No module named 'nowhere'", "app.py:1"),
        ("x = 1\ndef f():\n    return y\nf()\n", "the action's code cannot be loaded: NameError: name 'y' is not defined", "app.py:3"),
        ("import sys\nsys.exit(4)\n", "the action's code ends the process while it is loaded (sys.exit(4))", "app.py:2"),
        ("def Main(args): pass\n", "the action's code has no function 'main'; it has: Main", "app.py"),
        ("", "the action has no code: expected Python, or a zip with __main__.py", None),
    ]  # fmt: skip
    for code, sentence, at in cases:
        child = start()
        assert child.init(code) == {"sentence": sentence, "at": at}
    child = start()
    child.init("import nowhere\n")
    assert "Traceback" in child.stderr() and "FluidFaaS" not in child.stderr()


def test_a_zip_brings_modules_files_and_a_virtual_environment(start):
    child = start()
    value = zipped(
        __main____dot__py="import helper, packed\ndef main(args):\n    return {'a': helper.A, 'b': packed.B, 'c': open('data.txt').read()}\n",
        helper__dot__py="A = 1\n",
        data__dot__txt="from a file",
        **{"virtualenv/lib/python3.11/site-packages/packed.py": "B = 2\n"},
    )
    assert child.init(**value) is None
    assert child.run({})["body"] == {"a": 1, "b": 2, "c": "from a file"}


def test_a_zip_is_not_run_as_a_script(start):
    child = start()
    assert (
        child.init(
            **zipped(
                __main____dot__py=HELLO
                + "if __name__ == '__main__':\n    raise SystemExit('run as a script')\n"
            )
        )
        is None
    )
    assert child.run({})["body"] == {"greeting": "Hello stranger"}


def test_bad_archives_are_named(start):
    for value, sentence in (
        (
            {"code": "%%%", "binary": True},
            "the action's code cannot be unpacked: File is not a zip file; expected a zip",
        ),
        (zipped(app__dot__py=""), "the action's zip has no __main__.py at its top; there is: app.py"),
    ):
        assert start().init(**value) == {"sentence": sentence, "at": None}


def test_the_child_ends_with_its_socket_even_while_it_computes(start):
    child = start()
    assert (
        child.init("import time\ndef main(args):\n    print('began', flush=True)\n    time.sleep(3600)\n")
        is None
    )
    child.begin_run({})
    while child.stdout() != "began\n":
        assert child.process.poll() is None
    folder = child.folder
    child._socket.shutdown(2)
    assert child.wait() == 0
    assert [name for name in os.listdir(folder) if name.startswith("ffs-action-")] == []


def test_a_plain_action_does_not_load_numpy(start):
    child = start()
    assert child.init("import sys\ndef main(args):\n    return {'loaded': 'numpy' in sys.modules}\n") is None
    assert child.run({})["body"] == {"loaded": False}
