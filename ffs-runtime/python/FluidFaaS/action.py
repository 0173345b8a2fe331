"""The user's code: one file, or a zip with `__main__.py` and perhaps `virtualenv/`.

It is laid out in a folder of its own, which becomes the working directory, and is imported under
the name `main__` (so that `if __name__ == "__main__":` does not run). Nothing is installed.
"""

from __future__ import annotations

import os
import sys
from importlib.machinery import ModuleSpec, SourceFileLoader
from types import ModuleType

from . import author
from .errors import DefinitionError, FluidFaaSError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from .entries import Entry

__all__ = ["MODULE", "Action", "load", "new_folder", "remove_folder", "set_environment"]

#: The name under which an action's file is imported.
MODULE = "main__"


class Action:
    """The user's code, imported."""

    def __init__(self, call: Callable[[Any], Any], entry: Entry | None) -> None:
        #: What OpenWhisk calls with one dict.
        self.call = call
        #: The FluidFaaS function, if it is one.
        self.entry = entry


def load(value: Mapping[str, Any], folder: str) -> Action:
    """Imports what `/init` carries, in `folder`.

    Raises :class:`DefinitionError` with the author's file and line.
    """
    os.environ.update({name: str(text) for name, text in (value.get("env") or {}).items()})
    file = _unpack(value, folder)
    os.chdir(folder)
    author.set_root(os.path.dirname(file))
    _set_path(folder)
    module = _import(file)
    main = value.get("main") or "main"
    entry = _recognise(module, main)
    found = getattr(module, main, entry)
    if not callable(found):
        functions = [
            name for name, item in vars(module).items() if callable(item) and not name.startswith("_")
        ]
        has = ", ".join(functions) or "no function"
        raise DefinitionError(
            f"the action's code has no function {main!r}; it has: {has}", os.path.basename(file)
        )
    return Action(found, entry)


def set_environment(body: dict[str, Any]) -> None:
    """The members of `/run` besides `value`, as the variables `__OW_…`."""
    for name, value in body.items():
        if name != "value" and value is not None:
            try:
                os.environ[f"__OW_{name.upper()}"] = value if isinstance(value, str) else str(value)
            except ValueError:
                pass  # a NUL or "=" that no variable can hold


def new_folder() -> str:
    """A folder for an action's files; :func:`remove_folder` takes it away."""
    folder = os.path.join(
        os.environ.get("TMPDIR") or "/tmp", f"ffs-action-{os.getpid()}-{os.urandom(8).hex()}"
    )
    os.mkdir(folder, 0o700)
    return folder


def remove_folder(folder: str) -> None:
    import shutil

    shutil.rmtree(folder, ignore_errors=True)


def _unpack(value: Mapping[str, Any], folder: str) -> str:
    code = value.get("code")
    if not isinstance(code, str) or not code:
        raise DefinitionError("the action has no code: expected Python, or a zip with __main__.py")
    if value.get("binary"):
        return _unpack_zip(code, folder)
    name = "".join(c if c.isalnum() or c in "_.-" else "_" for c in str(value.get("name") or "action"))
    # Where no import looks: an action may be called like a package that it imports.
    own = os.path.join(folder, "action-code")
    os.mkdir(own)
    file = os.path.join(own, f"{name}.py")
    with open(file, "w", encoding="utf-8", errors="surrogatepass") as out:
        out.write(code)
    return file


def _unpack_zip(code: str, folder: str) -> str:
    import base64
    import binascii
    import io
    import zipfile

    try:
        archive = zipfile.ZipFile(io.BytesIO(base64.b64decode(code)))
        archive.extractall(folder)
    except (binascii.Error, ValueError) as error:
        raise DefinitionError(f"the action's code is not base64: {error}") from None
    except (zipfile.BadZipFile, OSError, RuntimeError) as error:
        raise DefinitionError(f"the action's code cannot be unpacked: {error}; expected a zip") from None
    file = os.path.join(folder, "__main__.py")
    if not os.path.isfile(file):
        inside = ", ".join(sorted({name.split("/")[0] for name in archive.namelist()})[:8]) or "nothing"
        raise DefinitionError(f"the action's zip has no __main__.py at its top; there is: {inside}")
    return file


def _set_path(folder: str) -> None:
    """The action's folder first, then its virtual environment, then what is installed."""
    before = [entry for entry in sys.path if entry not in ("", os.getcwd())]
    if os.path.isdir(os.path.join(folder, "virtualenv")):
        import glob
        import site

        for packages in sorted(
            glob.glob(os.path.join(glob.escape(folder), "virtualenv/lib/python*/site-packages"))
        ):
            site.addsitedir(packages)
    added = [entry for entry in sys.path if entry not in before and entry not in ("", os.getcwd())]
    sys.path[:] = [folder, *added, *before]


def _import(file: str) -> ModuleType:
    loader = SourceFileLoader(MODULE, file)
    module = ModuleType(MODULE)
    module.__file__ = file
    module.__loader__ = loader
    module.__spec__ = ModuleSpec(MODULE, loader, origin=file)
    sys.modules[MODULE] = module
    try:
        loader.exec_module(module)
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
