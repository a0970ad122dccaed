"""nuScenes tables read straight from their JSON, record by record, without holding a whole table."""
from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from ...core.protocols import SPLIT_LISTS
from ...core.reading import decoded, read_json
from ..errors import ResultError

PREDEFINED_SPLITS = ('train', 'val', 'test', 'mini_train', 'mini_val', 'train_detect', 'train_track')
"""The devkit's own; it reads the samples of every other split in the order of the sample table."""

_CHUNK_BYTES = 1 << 24


def stream_records(path: Path) -> Iterator[dict[str, Any]]:
    """The records of a nuScenes table (a JSON list), one at a time.

    Memory stays at a few megabytes for tables of any size.

    Raises:
        ResultError: the file is absent, is not a list of records, or ends too early.
    """
    if not path.is_file():
        raise ResultError(f'{path}: no such table')
    try:
        yield from _records(path)
    except (RecursionError, UnicodeDecodeError) as error:
        raise ResultError(f'{path}: damaged JSON: {type(error).__name__}: {error}') from None


def _records(path: Path) -> Iterator[dict[str, Any]]:
    decode = json.JSONDecoder().raw_decode
    with path.open(encoding='utf-8-sig') as file:
        text = file.read(_CHUNK_BYTES)
        more = True
        at = text.find('[') + 1
        if at == 0 or text[:at - 1].strip():
            raise ResultError(f'{path}: expected a JSON list of records')

        while True:
            while at < len(text) and text[at] in ' \t\r\n,':
                at += 1
            if text[at:at + 1] == ']':
                return

            try:
                record, at = decode(text, at)
            except json.JSONDecodeError as error:
                # a record cut by the end of the chunk, or the end of the file
                chunk = file.read(_CHUNK_BYTES) if more else ''
                more = bool(chunk)
                if not more:
                    raise ResultError(
                        f'{path}: damaged or truncated JSON near "{text[at : at + 60]}": {error.msg}'
                    ) from None
                text, at = text[at:] + chunk, 0
                continue
            yield record


@dataclass(frozen=True)
class Drives:
    """Which drive each of S samples is of, and when it was.

    Attributes:
        tokens: of the samples, in the order of their table.
        scenes: token of the scene of each.
        time_us_S: int64.
        is_custom: of a split of `splits.json`, see `GroundTruth`.
    """

    tokens: tuple[str, ...]
    scenes: tuple[str, ...]
    time_us_S: np.ndarray
    is_custom: bool = False

    def __len__(self) -> int:
        return len(self.tokens)

    def index(self) -> dict[str, int]:
        """Sample token -> row of `tokens`."""
        return {token: i for i, token in enumerate(self.tokens)}

    def order(self) -> np.ndarray:
        """The samples scene by scene, in the order of time: int64 `(S,)`."""
        rank_of = {scene: i for i, scene in enumerate(dict.fromkeys(self.scenes))}
        scene_S = np.array([rank_of[scene] for scene in self.scenes], dtype=np.int64)
        return np.lexsort([self.time_us_S, scene_S])


def read_drives(root: Path, version: str, split: str) -> Drives:
    """The samples of a split, from the tables `scene` and `sample`.

    Raises:
        ResultError: a table is absent or damaged, a record lacks a field, the split is unknown or empty.
    """
    folder = root / version
    if not folder.is_dir():
        raise ResultError(f'{folder}: no such folder of nuScenes tables')
    names = scenes_of_split(root, version, split)

    try:
        listed = stream_records(folder / 'scene.json')
        scenes = {r['token'] for r in listed if names is None or r['name'] in names}
        samples = [
            (r['token'], r['scene_token'], r['timestamp'])
            for r in stream_records(folder / 'sample.json') if r['scene_token'] in scenes]
    except KeyError as error:
        raise ResultError(
            f'{folder}: a record of scene.json or sample.json lacks the field {error}'
        ) from None
    if not samples:
        raise ResultError(f'{folder}: split "{split}" has no samples in these tables')

    tokens, of_scene, times_us = zip(*samples, strict=True)
    is_custom = names is not None and split not in PREDEFINED_SPLITS
    return Drives(tokens, of_scene, np.array(times_us, dtype=np.int64), is_custom)


@lru_cache(maxsize=4)
def _devkit_splits() -> dict[str, list[str]]:
    try:
        from nuscenes.utils.splits import create_splits_scenes
    except ImportError:
        return {}
    return create_splits_scenes()


def scenes_of_split(root: Path, version: str, split: str) -> set[str] | None:
    """Scene names of a split; None means every scene (`split` = 'all').

    Looked for in the version's own `splits.json` (the devkit's format for custom splits), then in
    `perception/core/splits` of this repository, then in the devkit.

    Raises:
        ResultError: the split is unknown; the message lists the known ones.
    """
    if split == 'all':
        return None

    custom = root / version / 'splits.json'
    known: dict[str, Any] = {}
    if custom.is_file():
        known = decoded(custom, 'splits', lambda: dict(read_json(custom)), ResultError)
    if split in known:
        return set(known[split])
    for listed in (SPLIT_LISTS / f'{split}.txt', SPLIT_LISTS / f'nuscenes_{split}.txt'):
        if listed.is_file():
            return set(listed.read_text(encoding='utf-8').split())
    official = _devkit_splits()
    if split in official:
        return set(official[split])

    names = sorted({*known, *official, 'all', *(p.stem for p in SPLIT_LISTS.glob('*.txt'))})
    raise ResultError(f'split "{split}" is not known for {root / version}; known splits: {", ".join(names)}')
