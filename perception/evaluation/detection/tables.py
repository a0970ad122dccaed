"""nuScenes tables read straight from their JSON, record by record, without holding a whole table."""
from __future__ import annotations

import json
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

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
