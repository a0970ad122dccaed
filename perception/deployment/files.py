"""Files that are whole or not there."""
from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any


def write_text(path: str | Path, text: str) -> Path:
    """Write under a temporary name, then rename."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + '.partial')
    partial.write_text(text, encoding='utf-8')
    os.replace(partial, path)
    return path


def write_json(path: str | Path, content: Any) -> Path:
    """As `write_text`, of plain values; what is not a number becomes null."""
    return write_text(path, json.dumps(finite(content), indent=1, allow_nan=False))


def finite(content: Any) -> Any:
    """Plain values with None where a float is NaN or infinite, which JSON does not know."""
    if isinstance(content, dict):
        return {key: finite(value) for key, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [finite(value) for value in content]
    return None if isinstance(content, float) and content - content != 0 else content
