"""The info files: what a dataset needs to know of every frame, in JSON and plain arrays that cannot execute
code.

A folder of infos holds

* `index.json`: schema, splits, tokens of every scene, boxes per class and token (for class-balanced
  sampling), what was left out;
* `<scene>.jsonl.gz`: one header line, then one line per frame in time order (so that one frame is read
  without parsing the rest);
* `<scene>.map.npz`: the map around the scene's path (see `map_layers`), where the map expansion was there.

The header carries everything `index.json` says about its scene, so an index can be rebuilt from finished
scenes at any time. Transforms are written as the twelve numbers of their upper three rows; NaN is written as
null.
"""
from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...core.files import write_bytes

SCHEMA = 'perception.infos'
SCHEMA_VERSION = 1
INDEX_NAME = 'index.json'

Record = dict[str, Any]


class InfosError(ValueError):
    """An info file is absent, damaged or of another schema; the message names the file and what to do."""


def scene_path(folder: Path, scene: str) -> Path:
    """Where the frames of a scene lie."""
    return Path(folder) / f'{scene}.jsonl.gz'


def map_path(folder: Path, scene: str) -> Path:
    """Where the map around a scene lies."""
    return Path(folder) / f'{scene}.map.npz'


def pack_transform(a_T_b: np.ndarray) -> list[float]:
    """The twelve numbers of a rigid `(4, 4)` transform, row by row."""
    return np.asarray(a_T_b, dtype=np.float64)[:3].ravel().tolist()


def unpack_transform(numbers: Sequence[float]) -> np.ndarray:
    """Inverse of `pack_transform`: `(4, 4)` float64.

    Raises:
        InfosError: there are not twelve numbers.
    """
    if len(numbers) != 12:
        raise InfosError(f'a transform needs 12 numbers, found {len(numbers)}')
    transform = np.eye(4)
    transform[:3] = np.asarray(numbers, dtype=np.float64).reshape(3, 4)
    return transform


def pack_numbers(values: np.ndarray) -> list[Any]:
    """Nested lists of an array of any shape; NaN becomes None, since JSON has no NaN."""
    values = np.asarray(values, dtype=np.float64)
    return np.where(np.isnan(values), None, values.astype(object)).tolist()


def unpack_numbers(values: Sequence[Any], columns: int) -> np.ndarray:
    """Inverse of `pack_numbers` for a table: float64 `(rows, columns)`, None becomes NaN; no rows give `(0,
    columns)`."""
    return np.array(values, dtype=np.float64).reshape(-1, columns)


def _line(record: Record) -> str:
    return json.dumps(record, separators=(',', ':'), allow_nan=False)


def write_scene(folder: Path, header: Record, frames: Sequence[Record]) -> None:
    """Write `<scene>.jsonl.gz`; `header['scene']` names it and the schema is added."""
    header = {'schema': SCHEMA, 'schema_version': SCHEMA_VERSION, **header}
    text = '\n'.join([_line(header), *map(_line, frames)]) + '\n'
    write_bytes(scene_path(folder, header['scene']), gzip.compress(text.encode(), compresslevel=6, mtime=0))


def _check_schema(path: Path, found: Any) -> Record:
    if not isinstance(found, dict) or found.get('schema') != SCHEMA:
        raise InfosError(f'{path}: not an info file: expected schema {SCHEMA!r}')
    if found.get('schema_version') != SCHEMA_VERSION:
        raise InfosError(
            f'{path}: schema_version: expected {SCHEMA_VERSION}, found {found.get("schema_version")}; '
            f'write the infos again with tools/create_data.py'
        )
    return found


def read_scene_header(path: Path) -> Record:
    """The header line of `<scene>.jsonl.gz`.

    Raises:
        InfosError: the file is absent, damaged or of another schema.
    """
    try:
        with gzip.open(path, 'rt', encoding='utf-8') as file:
            return _check_schema(path, json.loads(file.readline()))
    except (OSError, EOFError, ValueError) as error:
        raise (
            error if isinstance(error, InfosError) else InfosError(f'{path}: cannot be read: {error}')
        ) from error


class SceneFrames:
    """The frames of one scene, parsed one at a time. `header` is parsed, the frames stay as text until asked
    for."""

    def __init__(self, path: Path) -> None:
        try:
            with gzip.open(path, 'rb') as file:
                first, *self._lines = file.read().splitlines()
            self.header = _check_schema(path, json.loads(first))
        except (OSError, EOFError, ValueError) as error:
            raise (
                error if isinstance(error, InfosError) else InfosError(f'{path}: cannot be read: {error}')
            ) from error
        tokens = self.header['tokens']
        if len(tokens) != len(self._lines):
            raise InfosError(f'{path}: expected {len(tokens)} frames, found {len(self._lines)}')
        self._index = {token: i for i, token in enumerate(tokens)}

    def __len__(self) -> int:
        return len(self._lines)

    def frame(self, token: str) -> Record:
        """The record of one frame (see `nuscenes.frame_record`)."""
        return json.loads(self._lines[self._index[token]])


def read_index(folder: Path) -> Record:
    """The index of a folder of infos.

    Raises:
        InfosError: there is none, or it is damaged or of another schema.
    """
    path = Path(folder) / INDEX_NAME
    if not path.is_file():
        raise InfosError(
            f'{path}: no such file; write the infos with: python tools/create_data.py nuscenes --root ROOT '
            f'--version VERSION'
        )
    try:
        found = json.loads(path.read_text())
    except ValueError as error:
        raise InfosError(f'{path}: not valid JSON: {error}') from error
    return _check_schema(path, found)


def write_index(folder: Path, index: Record) -> None:
    """Write `index.json`; the schema is added."""
    index = {'schema': SCHEMA, 'schema_version': SCHEMA_VERSION, **index}
    write_bytes(Path(folder) / INDEX_NAME, (json.dumps(index, indent=1, allow_nan=False) + '\n').encode())
