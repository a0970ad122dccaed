"""Files that are whole or not there: written under a temporary name beside their place, then renamed."""
from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO


def write_whole(path: str | Path, write: Callable[[BinaryIO], object]) -> Path:
    """Call `write(file)` on a temporary file beside `path`, then give it its name; folders are made.

    A failure leaves what stood at `path` before, and nothing beside it. Several processes may write the same
    file: the last wins.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f'.{path.name}.{os.getpid()}.tmp')
    try:
        with temporary.open('wb') as file:
            write(file)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def write_bytes(path: str | Path, content: bytes) -> Path:
    """As `write_whole`, of bytes."""
    return write_whole(path, lambda file: file.write(content))


def write_text(path: str | Path, text: str) -> Path:
    """As `write_whole`, of text in UTF-8."""
    return write_bytes(path, text.encode())


def write_json(path: str | Path, content: Any, indent: int | None = None) -> Path:
    """As `write_text`, of plain values.

    A float that is not a number stays NaN, as Python reads it (see `finite`).
    """
    return write_text(path, json.dumps(content, indent=indent))


def finite(content: Any) -> Any:
    """Plain values with None where a float is NaN or infinite, which JSON does not know."""
    if isinstance(content, dict):
        return {key: finite(value) for key, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [finite(value) for value in content]
    return None if isinstance(content, float) and content - content != 0 else content
