"""Networks that are more than one file: OpenVINO's .xml has its weights beside it."""
from __future__ import annotations

import os
from pathlib import Path


def network_parts(path: str | Path) -> list[Path]:
    """The files of one network, the one to open first."""
    path = Path(path)
    return [path, path.with_suffix('.bin')] if path.suffix == '.xml' else [path]


def move_network(source: str | Path, target: str | Path) -> Path:
    """Rename a network's files; the one that is opened first comes last."""
    for old, new in reversed(list(zip(network_parts(source), network_parts(target), strict=True))):
        os.replace(old, new)
    return Path(target)


def remove_network(path: str | Path) -> None:
    """Remove a network's files where there are any."""
    for part in network_parts(path):
        part.unlink(missing_ok=True)
