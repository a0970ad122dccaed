"""How files of results are written: packed arrays, JSON and folders of one file per sample."""
from __future__ import annotations

import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ...core.contracts import Frame
from ...core.files import file_name, write_json, write_whole
from ..base import OfficialFile


def save_arrays(file: BinaryIO, arrays: Mapping[str, Any]) -> None:
    """Write an .npz as numpy reads it, packed for speed rather than for the last byte."""
    with zipfile.ZipFile(file, 'w', zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, value in arrays.items():
            with archive.open(f'{name}.npy', 'w', force_zip64=True) as entry:
                np.lib.format.write_array(entry, np.asanyarray(value), allow_pickle=False)


class JsonFile(OfficialFile):
    """`{'meta': flags, 'results': ...}` with one entry per sample.

    Args:
        path: the file.
        meta: the five nuScenes flags.
        entry: (frame, prediction) -> the sample's entry.
        by_token: `results` is {token: entry}, else a list of entries.
    """

    def __init__(self, path: Path, meta: Mapping[str, bool], entry: Callable[[Frame, Any], Any],
                 by_token: bool) -> None:
        self.path = path
        self.meta = dict(meta)
        self.entry = entry
        self.by_token = by_token
        self.entries: dict[str, Any] = {}

    def add(self, frame: Frame, prediction: Any) -> None:
        """Keep the sample's entry."""
        self.entries[frame.token] = self.entry(frame, prediction)

    def close(self) -> Path:
        """Write the file."""
        results = self.entries if self.by_token else list(self.entries.values())
        write_json(self.path, {'meta': self.meta, 'results': results})
        return self.path


class ArrayFolder(OfficialFile):
    """A folder with `<token>.npz` per sample.

    Args:
        folder: made when the first sample is added.
        arrays: prediction -> named arrays.
    """

    def __init__(self, folder: Path, arrays: Callable[[Any], Mapping[str, Any]]) -> None:
        self.folder = folder
        self.arrays = arrays

    def add(self, frame: Frame, prediction: Any) -> None:
        """Write the sample's file."""
        named = self.arrays(prediction)
        path = self.folder / f'{file_name(frame.token, "sample token")}.npz'
        write_whole(path, lambda file: save_arrays(file, named))

    def close(self) -> Path:
        """Everything is written already."""
        return self.folder


def results_folder(path: Path) -> Path:
    """The folder of results that is meant: this one, or the one in the work dir of a test."""
    inside = path / 'results'
    return inside if inside.is_dir() else path
