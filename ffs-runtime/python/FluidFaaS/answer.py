"""The result of a request as the text that goes back."""

from __future__ import annotations

import json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["body_text", "error_body", "error_text"]

NEITHER = "The action did not return a dictionary or array."


def body_text(result: Any) -> tuple[int, str]:
    """HTTP status and JSON text of what the user's code returned."""
    if not isinstance(result, (dict, list, tuple)):
        return 502, error_body(NEITHER)
    try:
        return 200, _text(result)
    except (TypeError, ValueError, RecursionError) as error:
        return 502, error_body(f"The action's result cannot be written as JSON: {error}")


def error_body(sentence: str) -> str:
    return _text({"error": sentence})


def error_text(error: BaseException) -> str:
    """What the caller of a request reads of an exception."""
    return str(error) or type(error).__name__


def _text(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:  # half a surrogate pair; escaped it is still JSON
        return json.dumps(value, ensure_ascii=True, allow_nan=False)
    return text
