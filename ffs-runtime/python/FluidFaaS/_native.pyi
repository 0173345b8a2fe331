"""The native part: see `src/`."""

def check_document(kind: str, text: str) -> None:
    """Raises `ValueError` if `text` is no document of this kind."""
