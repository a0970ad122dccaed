"""Summaries of single samples on disk, so that a stopped run need not ask the model again: plain arrays,
nothing is unpickled.

A summary takes some ten kilobytes where a sample's answers take a megabyte. A file appears under its name
when it is complete.
"""
from __future__ import annotations

import shutil
import types
import typing
import zipfile
from dataclasses import fields, is_dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from ...core.files import write_whole
from ..errors import ResultError
from ..judge import Summary
from .results import sample_path, stored_tokens


class SummaryStore:
    """A folder with a file `samples/<token>.npz` per judged sample.

    Args:
        folder: made when the first summary is written.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    def tokens(self) -> list[str]:
        """Samples that are there, sorted by name."""
        return stored_tokens(self.folder)

    def write(self, summary: Summary) -> None:
        """Keep one sample's summary."""
        arrays = flatten(summary)
        write_whole(sample_path(self.folder, summary.frame.token), lambda file: np.savez(file, **arrays))

    def read(self, token: str) -> Summary:
        """One sample's summary.

        Raises:
            ResultError: absent or damaged; names the file.
        """
        path = sample_path(self.folder, token)
        try:
            with np.load(path, allow_pickle=False) as file:
                return rebuild(Summary, {name: file[name] for name in file.files})
        except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
            raise ResultError(
                f'{path}: damaged summary of sample {token} ({error}); delete it to run it again'
            ) from None

    def clear(self) -> None:
        """Remove all of it."""
        shutil.rmtree(self.folder, ignore_errors=True)


def flatten(record: Any, name: str = '') -> dict[str, np.ndarray]:
    """A dataclass of arrays, numbers, words, bytes, tuples, dictionaries and further dataclasses -> arrays by
    dotted name.

    None has no entry; a tuple of dataclasses and a dictionary have an entry per item.
    """
    if record is None:
        return {}
    if is_dataclass(record):
        return _joined({f.name: getattr(record, f.name) for f in fields(record)}, name)
    if isinstance(record, dict):
        return _joined(record, name)
    if isinstance(record, tuple) and any(is_dataclass(item) for item in record):
        return _joined({str(i): item for i, item in enumerate(record)}, name)
    return {name: np.frombuffer(record, np.uint8) if isinstance(record, bytes) else np.asarray(record)}


def _joined(parts: dict[str, Any], name: str) -> dict[str, np.ndarray]:
    found: dict[str, np.ndarray] = {}
    for key, part in parts.items():
        found |= flatten(part, f'{name}.{key}' if name else key)
    return found


@lru_cache(maxsize=32)
def _hints(kind: type) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def rebuild(kind: Any, arrays: dict[str, np.ndarray], name: str = '') -> Any:
    """Inverse of `flatten` for a type such as `Summary`, by its annotations.

    Raises:
        KeyError: an array is missing.
    """
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        there = name in arrays or any(found.startswith(f'{name}.') for found in arrays)
        return rebuild(arguments[0], arrays, name) if there else None
    if is_dataclass(kind):
        return kind(
            **{
                part: rebuild(hint, arrays, f'{name}.{part}' if name else part)
                for part, hint in _hints(kind).items()
            }
        )
    if origin is dict:
        return {key: rebuild(arguments[1], arrays, f'{name}.{key}') for key in _keys(arrays, name)}
    if origin is tuple:
        if is_dataclass(arguments[0]):
            return tuple(rebuild(arguments[0], arrays, f'{name}.{key}') for key in _keys(arrays, name))
        return tuple(arrays[name].tolist())
    if kind is np.ndarray:
        return arrays[name]
    return arrays[name].tobytes() if kind is bytes else kind(arrays[name].item())


def _keys(arrays: dict[str, np.ndarray], name: str) -> list[str]:
    start = f'{name}.'
    return list(
        dict.fromkeys(found[len(start) :].split('.')[0] for found in arrays if found.startswith(start))
    )
