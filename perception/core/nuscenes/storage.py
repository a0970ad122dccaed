"""Putting files on disk so that a reader never meets half of one.

A file is written under a temporary name and renamed. A scene is written into a folder of its own, the folder
is renamed when it is complete, and only then are its files moved to their places. Stopping at any moment
leaves either nothing of a scene, or a complete folder that the next run moves on.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

from ..files import write_bytes

UNFINISHED = '.unfinished'
"""Folder inside the world that holds scenes on their way; gone when the world is complete."""
FINISHED = '.scenes'
"""Folder inside the world that holds the table rows of every finished scene."""
SCENE_ROWS = 'scene_rows.json'


def to_json(value: Any, indent: int | None = None) -> bytes:
    """JSON text as bytes; NaN and infinities are errors."""
    separators = (',', ':') if indent is None else (',', ': ')
    return json.dumps(value, indent=indent, separators=separators, allow_nan=False).encode()


def load_json(path: Path) -> Any:
    """The content of a JSON file.

    Raises:
        ValueError: names the file when it does not hold JSON.
    """
    try:
        return json.loads(path.read_bytes())
    except json.JSONDecodeError as error:
        raise ValueError(f'{path}: expected JSON, found {error}') from error


class SceneFolder:
    """The unfinished folder of one scene; `with` it either becomes complete or disappears."""

    def __init__(self, world: Path, scene: str) -> None:
        self.complete = world / UNFINISHED / scene
        self.folder = world / UNFINISHED / f'{scene}.tmp'

    def __enter__(self) -> SceneFolder:
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        return self

    def write(self, name: str, data: bytes) -> None:
        """Write a file whose place in the finished world is `name`."""
        write_bytes(self.folder / name, data)

    def __exit__(self, kind: type | None, *_: object) -> None:
        if kind is None:
            self.folder.replace(self.complete)
        else:
            shutil.rmtree(self.folder, ignore_errors=True)


def publish(world: Path, scene: str) -> None:
    """Move the files of a complete scene to their places in the world, its table rows last."""
    folder = world / UNFINISHED / scene
    for path in sorted(folder.rglob('*')):
        if path.is_file() and path != folder / SCENE_ROWS:
            target = world / path.relative_to(folder)
            target.parent.mkdir(parents=True, exist_ok=True)
            path.replace(target)
    target = world / FINISHED / f'{scene}.json'
    target.parent.mkdir(parents=True, exist_ok=True)
    (folder / SCENE_ROWS).replace(target)
    shutil.rmtree(folder)


def recover(world: Path) -> None:
    """Take over what a stopped run left: publish complete scenes, delete incomplete ones."""
    for folder in sorted((world / UNFINISHED).glob('*')):
        if (folder / SCENE_ROWS).is_file() and folder.suffix != '.tmp':
            publish(world, folder.name)
        else:
            shutil.rmtree(folder, ignore_errors=True)


def finished_scenes(world: Path) -> set[str]:
    """Names of the scenes whose files are all in place."""
    return {path.stem for path in (world / FINISHED).glob('*.json')}


def free_bytes(path: Path) -> int:
    """Free space on the disk that will hold `path`, which need not exist yet."""
    existing = next(folder for folder in (path, *path.absolute().parents) if folder.exists())
    return shutil.disk_usage(existing).free


def is_empty_or_absent(path: Path) -> bool:
    """True when nothing is at `path`, or an empty folder."""
    return not path.exists() or (path.is_dir() and not any(os.scandir(path)))
