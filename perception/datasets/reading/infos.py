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

from ...core.files import file_name, write_bytes
from ...core.reading import DAMAGE, BadFile, parse_json, read_unpacked
from .checks import check_frame, check_header, check_index
from .records import FrameRecord, InfosError, Json

__all__ = [
    'INDEXED', 'INDEX_NAME', 'InfosError', 'SceneFrames', 'frames_with', 'map_path', 'read_index',
    'read_scene_header', 'scene_path', 'write_index', 'write_scene']

SCHEMA = 'perception.infos'
SCHEMA_VERSION = 1
INDEX_NAME = 'index.json'
INDEXED = ('location', 'tokens', 'has_map', 'annotated', 'frames_with')
"""What `index.json` repeats of every scene's header."""
SCENE_MIB = 1024
INDEX_MIB = 1024
"""Largest files, unpacked: a scene of nuScenes has about 3 MiB, its whole index 20."""


def scene_path(folder: Path, scene: str) -> Path:
    """Where the frames of a scene lie. Raises ValueError for a name that could lead elsewhere."""
    return Path(folder) / f'{file_name(scene, "scene")}.jsonl.gz'


def map_path(folder: Path, scene: str) -> Path:
    """Where the map around a scene lies. Raises as `scene_path`."""
    return Path(folder) / f'{file_name(scene, "scene")}.map.npz'


def _line(content: Json) -> str:
    return json.dumps(content, separators=(',', ':'), allow_nan=False)


def frames_with(frames: Sequence[FrameRecord]) -> dict[str, int]:
    """How many frames have each kind of sensor and of label, by the names of `FrameRecord.has`."""
    counts: Counter[str] = Counter()
    for frame in frames:
        counts.update(frame.has())
    return dict(counts)


def write_scene(folder: Path, header: Json, frames: Sequence[FrameRecord]) -> None:
    """Write `<scene>.jsonl.gz`; `header['scene']` names it and the schema is added.

    Raises:
        InfosError: a frame holds what no frame may (see `check_frame`); nothing is written then.
    """
    header = {'schema': SCHEMA, 'schema_version': SCHEMA_VERSION, **header}
    path = scene_path(folder, header['scene'])
    for frame in frames:
        check_frame(path, frame)
    lines = [_line(header), *(_line(frame.to_json()) for frame in frames)]
    text = '\n'.join(lines) + '\n'

    # without a time stamp, so that the same content gives the same bytes
    compressed = gzip.compress(text.encode(), compresslevel=6, mtime=0)
    write_bytes(path, compressed)


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
    """Read the header line of `<scene>.jsonl.gz`, of which every line is there.

    Raises:
        InfosError: the file is absent, damaged anywhere or of another schema.
    """
    return SceneFrames(path).header


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
        first, *self._lines = _read(path, SCENE_MIB).splitlines() or [b'']
        self.header = check_header(path, _check_schema(path, _parsed(path, first)))

        tokens = self.header['tokens']
        if len(tokens) != len(self._lines):
            raise InfosError(f'{path}: expected {len(tokens)} frames, found {len(self._lines)}')
        self._index = {token: i for i, token in enumerate(tokens)}

    def __len__(self) -> int:
        return len(self._lines)

    def frame(self, token: str) -> FrameRecord:
        """Unpack the record of one frame.

        Raises:
            InfosError: the scene has no such frame, its line is damaged, or a field is absent, of another
                form or out of its range.
        """
        if token not in self._index:
            raise InfosError(f'{self.path}: found no frame {token!r}')
        line = self._lines[self._index[token]]
        try:
            record = FrameRecord.from_json(json.loads(line))
        except DAMAGE as error:
            raise InfosError(f'{self.path}: frame {token!r}: {error}') from error
        return check_frame(self.path, record)

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
    return check_index(path, _check_schema(path, _parsed(path, _read(path, INDEX_MIB))))


def _read(path: Path, mib: float) -> bytes:
    try:
        return read_unpacked(path, mib)
    except BadFile as error:
        raise InfosError(f'{error}; write the infos again with tools/create_data.py') from error


def _parsed(path: Path, text: bytes) -> Any:
    try:
        return parse_json(path, text)
    except BadFile as error:
        raise InfosError(f'{error}; write the infos again with tools/create_data.py') from error


def write_index(folder: Path, index: Json) -> None:
    """Write `index.json`; the schema is added."""
    index = {'schema': SCHEMA, 'schema_version': SCHEMA_VERSION, **index}
    text = json.dumps(index, indent=1, allow_nan=False) + '\n'
    write_bytes(Path(folder) / INDEX_NAME, text.encode())
