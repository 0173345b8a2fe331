"""The user's code: one file, or a zip with `__main__.py` and perhaps `virtualenv/`.

It is laid out in a folder of its own, which becomes the working directory, and is imported under
the name `main__` (so that `if __name__ == "__main__":` does not run). Nothing is installed.
"""

from __future__ import annotations

import base64
import binascii
import importlib.util
import io
import os
import re
import shutil
import site
import sys
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from . import author
from .errors import DefinitionError, FluidFaaSError

if TYPE_CHECKING:
    from .entries import Entry

__all__ = ["Action", "load", "MODULE"]

#: The name under which an action's file is imported.
MODULE = "main__"


class Action:
    """The user's code, imported."""

    def __init__(self, folder: Path, call: Callable[[Any], Any], entry: Entry | None) -> None:
        self.folder = folder
        #: What OpenWhisk calls with one dict.
        self.call = call
        #: The FluidFaaS function, if it is one.
        self.entry = entry


def load(value: Mapping[str, Any], folder: Path) -> Action:
    """Imports what `/init` carries, in `folder`.

    Raises :class:`DefinitionError` with the author's file and line.
    """
    os.environ.update({name: str(text) for name, text in (value.get("env") or {}).items()})
    file = _unpack(value, folder)
    os.chdir(folder)
    author.set_root(str(folder))
    _set_path(folder)
    module = _import(file)
    main = value.get("main") or "main"
    entry = _recognise(module, main)
    found = getattr(module, main, entry)
    if not callable(found):
        functions = [name for name, item in vars(module).items() if callable(item) and not name.startswith("_")]
        has = ", ".join(functions) or "no function"
        raise DefinitionError(f"the action's code has no function {main!r}; it has: {has}", file.name)
    return Action(folder, found, entry)


def new_folder() -> Path:
    """A folder for an action's files; :func:`remove_folder` takes it away."""
    return Path(tempfile.mkdtemp(prefix="ffs-action-"))


def remove_folder(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)


def _unpack(value: Mapping[str, Any], folder: Path) -> Path:
    code = value.get("code")
    if not isinstance(code, str) or not code:
        raise DefinitionError("the action has no code: expected Python, or a zip with __main__.py")
    if not value.get("binary"):
        name = re.sub(r"[^A-Za-z0-9_.-]", "_", str(value.get("name") or "action"))
        file = folder / f"{name}.py"
        file.write_text(code, encoding="utf-8")
        return file
    try:
        archive = zipfile.ZipFile(io.BytesIO(base64.b64decode(code)))
        archive.extractall(folder)
    except (binascii.Error, ValueError) as error:
        raise DefinitionError(f"the action's code is not base64: {error}") from None
    except (zipfile.BadZipFile, OSError, RuntimeError) as error:
        raise DefinitionError(f"the action's code cannot be unpacked: {error}; expected a zip") from None
    file = folder / "__main__.py"
    if not file.is_file():
        inside = ", ".join(sorted({name.split("/")[0] for name in archive.namelist()})[:8]) or "nothing"
        raise DefinitionError(f"the action's zip has no __main__.py at its top; there is: {inside}")
    return file


def _set_path(folder: Path) -> None:
    """The action's folder first, then its virtual environment, then what is installed."""
    before = [entry for entry in sys.path if entry not in ("", os.getcwd())]
    for packages in sorted(folder.glob("virtualenv/lib/python*/site-packages")):
        site.addsitedir(str(packages))
    added = [entry for entry in sys.path if entry not in before and entry not in ("", os.getcwd())]
    sys.path[:] = [str(folder), *added, *before]


def _import(file: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(MODULE, file)
    assert spec is not None and spec.loader is not None, "a .py file has a loader"
    module = importlib.util.module_from_spec(spec)
    sys.modules[MODULE] = module
    try:
        spec.loader.exec_module(module)
    except FluidFaaSError as error:
        error.at = error.at or author.location_of_error(error)
        raise
    except SystemExit as error:
        sentence = f"the action's code ends the process while it is loaded (sys.exit({error.code!r}))"
        raise DefinitionError(sentence, author.location_of_error(error)) from error
    except SyntaxError as error:
        sentence = f"the action's code is not valid Python: {error.msg}"
        raise DefinitionError(sentence, author.location_of_error(error)) from error
    except Exception as error:
        sentence = f"the action's code cannot be loaded: {type(error).__name__}: {error}"
        raise DefinitionError(sentence, author.location_of_error(error)) from error
    return module


def _recognise(module: ModuleType, main: str) -> Entry | None:
    if "FluidFaaS.ffaas" not in sys.modules:
        return None  # without its classes there is no function of ours
    from .entries import recognise

    return recognise(module, main)
