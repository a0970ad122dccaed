"""The info files: what a dataset needs to know of every frame, in JSON and arrays that cannot execute code.

A folder of infos holds

* `index.json`: schema, splits, tokens of every scene, boxes per class and token (for class-balanced
  sampling), what was left out;
* `<scene>.jsonl.gz`: one header line, then one line per frame in time order (so that one frame is read
  without parsing the rest);
* `<scene>.map.npz`: the map around the scene's path (see `scene_map`), where the map expansion was there.

The header carries everything `index.json` says about its scene, so an index can be rebuilt from finished
scenes at any time. A frame's line is a `FrameRecord`.
"""
from __future__ import annotations

import gzip
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...core.files import write_bytes
from .records import FrameRecord, InfosError, Json

__all__ = [
    'INDEXED', 'INDEX_NAME', 'InfosError', 'SceneFrames', 'frames_with', 'map_path', 'read_index',
    'read_scene_header', 'scene_path', 'write_index', 'write_scene']

SCHEMA = 'perception.infos'
SCHEMA_VERSION = 1
INDEX_NAME = 'index.json'
INDEXED = ('location', 'tokens', 'has_map', 'annotated', 'frames_with')
"""What `index.json` repeats of every scene's header."""


def scene_path(folder: Path, scene: str) -> Path:
    """Where the frames of a scene lie."""
    return Path(folder) / f'{scene}.jsonl.gz'


def map_path(folder: Path, scene: str) -> Path:
    """Where the map around a scene lies."""
    return Path(folder) / f'{scene}.map.npz'


def _line(content: Json) -> str:
    return json.dumps(content, separators=(',', ':'), allow_nan=False)


def frames_with(frames: Sequence[FrameRecord]) -> dict[str, int]:
    """How many frames have each kind of sensor and of label, by the names of `FrameRecord.has`."""
    counts: Counter[str] = Counter()
    for frame in frames:
        counts.update(frame.has())
    return dict(counts)


def write_scene(folder: Path, header: Json, frames: Sequence[FrameRecord]) -> None:
    """Write `<scene>.jsonl.gz`; `header['scene']` names it and the schema is added."""
    header = {'schema': SCHEMA, 'schema_version': SCHEMA_VERSION, **header}
    lines = [_line(header), *(_line(frame.to_json()) for frame in frames)]
    text = '\n'.join(lines) + '\n'

    # without a time stamp, so that the same content gives the same bytes
    compressed = gzip.compress(text.encode(), compresslevel=6, mtime=0)
    write_bytes(scene_path(folder, header['scene']), compressed)


def _check_schema(path: Path, content: Any) -> Json:
    if not isinstance(content, dict) or content.get('schema') != SCHEMA:
        raise InfosError(f'{path}: not an info file: expected schema {SCHEMA!r}')
    version = content.get('schema_version')
    if version != SCHEMA_VERSION:
        raise InfosError(
            f'{path}: schema_version: expected {SCHEMA_VERSION}, found {version}; '
            'write the infos again with tools/create_data.py'
        )
    return content


def read_scene_header(path: Path) -> Json:
    """Read the header line of `<scene>.jsonl.gz`.

    Raises:
        InfosError: the file is absent, damaged or of another schema.
    """
    try:
        with gzip.open(path, 'rt', encoding='utf-8') as file:
            return _check_schema(path, json.loads(file.readline()))
    except InfosError:
        raise
    except (OSError, EOFError, ValueError) as error:
        raise InfosError(f'{path}: cannot be read: {error}') from error


class SceneFrames:
    """The frames of one scene, parsed one at a time: they stay as text until asked for.

    Attributes:
        path: the file.
        header: its first line.

    Raises:
        InfosError: the file is absent, damaged or of another schema.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with gzip.open(path, 'rb') as file:
                first, *self._lines = file.read().splitlines()
            self.header = _check_schema(path, json.loads(first))
        except InfosError:
            raise
        except (OSError, EOFError, ValueError) as error:
            raise InfosError(f'{path}: cannot be read: {error}') from error

        tokens = self.header['tokens']
        if len(tokens) != len(self._lines):
            raise InfosError(f'{path}: expected {len(tokens)} frames, found {len(self._lines)}')
        self._index = {token: i for i, token in enumerate(tokens)}

    def __len__(self) -> int:
        return len(self._lines)

    def frame(self, token: str) -> FrameRecord:
        """Unpack the record of one frame.

        Raises:
            InfosError: its line is damaged, or a field is absent or of another form.
        """
        line = self._lines[self._index[token]]
        try:
            return FrameRecord.from_json(json.loads(line))
        except (AttributeError, TypeError, ValueError) as error:
            raise InfosError(f'{self.path}: frame {token!r}: {error}') from error

    def frames(self) -> list[FrameRecord]:
        """Unpack all frames, in time order."""
        return [self.frame(token) for token in self.header['tokens']]


def read_index(folder: Path) -> Json:
    """Read the index of a folder of infos.

    Raises:
        InfosError: there is none, or it is damaged or of another schema.
    """
    path = Path(folder) / INDEX_NAME
    if not path.is_file():
        raise InfosError(
            f'{path}: no such file; write the infos with: python tools/create_data.py nuscenes --root ROOT '
            '--version VERSION'
        )
    try:
        content = json.loads(path.read_text())
    except ValueError as error:
        raise InfosError(f'{path}: not valid JSON: {error}') from error
    return _check_schema(path, content)


def write_index(folder: Path, index: Json) -> None:
    """Write `index.json`; the schema is added."""
    index = {'schema': SCHEMA, 'schema_version': SCHEMA_VERSION, **index}
    text = json.dumps(index, indent=1, allow_nan=False) + '\n'
    write_bytes(Path(folder) / INDEX_NAME, text.encode())
