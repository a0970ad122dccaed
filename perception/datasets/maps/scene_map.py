"""The record of a scene's map and its file: flat arrays in an npz, which cannot execute code."""
from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...core.contracts import FARTHEST_M
from ...core.files import write_bytes
from ...core.protocols import LANE_CLASSES, MAP_CLASSES
from ...core.reading import check_array, decoding, read_arrays
from .ragged import Ragged

SCENE_MAP_MIB = 256
"""Largest file of one scene's map, unpacked: those of nuScenes have up to 3 MiB."""
_CLASSES = {'polygons': len(MAP_CLASSES), 'lines': len(MAP_CLASSES), 'lanes': len(LANE_CLASSES)}


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
        BadFile: the file is absent, damaged, or holds points that are not finite or labels of no class.
    """
    arrays = read_arrays(path, mib=SCENE_MAP_MIB)
    with decoding(path, 'the map of a scene'):
        return SceneMap(*(_ragged(path, arrays, name, count) for name, count in _CLASSES.items()))


def _ragged(path: Path, arrays: Mapping[str, np.ndarray], name: str, classes: int) -> Ragged:
    """Point lists of one kind, after a look at every number."""
    points, starts, labels, groups = (
        arrays[f'{name}_{part}'] for part in ('points', 'starts', 'labels', 'groups'))
    check_array(path, f'{name}_points', points, 'f', (None, 2), (-FARTHEST_M, FARTHEST_M))
    check_array(path, f'{name}_labels', labels, 'iu', (None,), (0, classes - 1))
    for part, array in (('starts', starts), ('groups', groups)):
        check_array(path, f'{name}_{part}', array, 'iu', (None,))
    return Ragged.from_arrays(arrays, name)
