"""The author's file, folder or zip, as the value of `/init` carries it."""

from __future__ import annotations

import base64
import io
import json
import zipfile
from pathlib import Path
from typing import Any

from ..errors import DefinitionError, InputError

__all__ = ["LARGEST_ZIP", "arguments", "init_value", "python_files"]

#: Bytes that OpenWhisk takes as an action's code.
LARGEST_ZIP = 48 << 20


def init_value(app: Path, main: str) -> dict[str, Any]:
    """The code of `app`: a Python file, a zip, or a folder with `__main__.py`, which is zipped."""
    value: dict[str, Any] = {"name": app.stem, "main": main}
    if app.is_dir():
        if not (app / "__main__.py").is_file():
            raise DefinitionError(f"the folder {app} has no __main__.py: expected the action's files")
        return value | {"binary": True, "code": base64.b64encode(_zipped(app)).decode("ascii")}
    try:
        data = app.read_bytes()
    except OSError as error:
        raise DefinitionError(
            f"{app} cannot be read: {error.strerror}; expected a file, a zip or a folder"
        ) from None
    if zipfile.is_zipfile(io.BytesIO(data)):
        return value | {"binary": True, "code": base64.b64encode(data).decode("ascii")}
    try:
        return value | {"binary": False, "code": data.decode("utf-8")}
    except UnicodeDecodeError:
        raise DefinitionError(f"{app} is neither Python in UTF-8 nor a zip") from None


def python_files(value: dict[str, Any]) -> dict[str, str]:
    """The author's own Python files by name, without those in `virtualenv/`."""
    if not value["binary"]:
        return {f"{value['name']}.py": value["code"]}
    with zipfile.ZipFile(io.BytesIO(base64.b64decode(value["code"]))) as archive:
        names = [name for name in archive.namelist() if name.endswith(".py")]
        own = [name for name in names if not name.startswith("virtualenv/")]
        return {name: archive.read(name).decode("utf-8", "replace") for name in own}


def arguments(text: str) -> dict[str, Any]:
    """The action's arguments: JSON, or the name of a file with it."""
    try:
        is_file = Path(text).is_file()
    except OSError:
        is_file = False  # too long for a name
    try:
        found = json.loads(Path(text).read_text(encoding="utf-8") if is_file else text)
    except (ValueError, OSError) as error:
        raise InputError(f"--input {text[:60]!r} is neither a file nor JSON: {error}") from None
    if not isinstance(found, dict):
        raise InputError(f"--input is a {type(found).__name__}: expected an object, the action's arguments")
    return found


def _zipped(folder: Path) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(folder.rglob("*")):
            if file.is_file() and "__pycache__" not in file.parts:
                archive.write(file, file.relative_to(folder).as_posix())
    return buffer.getvalue()
