"""The record of a scene's map and its file: flat arrays in an npz, which cannot execute code."""
from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...core.files import write_bytes
from ..reading.records import InfosError
from .ragged import Ragged


@dataclass(frozen=True)
class SceneMap:
    """The map around a scene's path, in global metres.

    Attributes:
        polygons: rings, the first of a group the exterior, the others holes; labels index `MAP_CLASSES`.
        lines: labels index `MAP_CLASSES`.
        lanes: labels index `LANE_CLASSES`.
    """

    polygons: Ragged
    lines: Ragged
    lanes: Ragged


def write_scene_map(path: Path, scene: SceneMap) -> None:
    """Write the flat arrays as a compressed npz."""
    content = io.BytesIO()
    np.savez_compressed(
        content, **scene.polygons.arrays('polygons'), **scene.lines.arrays('lines'),
        **scene.lanes.arrays('lanes'))
    write_bytes(path, content.getvalue())


def read_scene_map(path: Path) -> SceneMap:
    """Read what `write_scene_map` wrote; nothing in the file can execute.

    Raises:
        InfosError: the file is absent or damaged.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return SceneMap(*(Ragged.from_arrays(arrays, name) for name in ('polygons', 'lines', 'lanes')))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise InfosError(f'{path}: cannot be read as the map of a scene: {error}') from error
