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
SHAPE_LAYERS = ('ped_crossing', 'road_segment', 'lane', 'lane_area')
_LINKS = 'road_links'
_ROADS = {'road_elements': len(LANE_CLASSES), 'road_polygons': len(SHAPE_LAYERS), 'road_middles': 1}
MAP_LAYOUT = 2
"""Of a scene's map file; scenes with another one are made again."""


@dataclass(frozen=True)
class RoadShapes:
    """What published protocols make their lanes of, as the map draws it, in global metres.

    Attributes:
        elements: lane elements with all cracks of the map in their outlines; labels index `LANE_CLASSES`.
        polygons: rings, the first of a group the exterior; labels index `SHAPE_LAYERS`, of which `lane_area`
            holds the areas of lanes and lane connectors that have a middle.
        middles: middles of lane connectors, then of lanes; the group is that of the lane's area in
            `polygons`.
        links_E2: int64, (row of a middle, row of one that follows it).
    """

    elements: Ragged
    polygons: Ragged
    middles: Ragged
    links_E2: np.ndarray

    def arrays(self) -> dict[str, np.ndarray]:
        """The flat arrays by name."""
        parts = self.elements.arrays('road_elements') | self.polygons.arrays('road_polygons')
        return parts | self.middles.arrays('road_middles') | {_LINKS: self.links_E2}


@dataclass(frozen=True)
class SceneMap:
    """The map around a scene's path, in global metres.

    Attributes:
        polygons: rings, the first of a group the exterior, the others holes; labels index `MAP_CLASSES`.
        lines: road dividers, then lane dividers; labels index `MAP_CLASSES`.
        lanes: labels index `LANE_CLASSES`.
        roads: None in infos of an earlier layout.
    """

    polygons: Ragged
    lines: Ragged
    lanes: Ragged
    roads: RoadShapes | None = None


def write_scene_map(path: Path, scene: SceneMap) -> None:
    """Write the flat arrays as a compressed npz."""
    content = io.BytesIO()
    roads = {} if scene.roads is None else scene.roads.arrays()
    np.savez_compressed(
        content, **scene.polygons.arrays('polygons'), **scene.lines.arrays('lines'),
        **scene.lanes.arrays('lanes'), **roads)
    write_bytes(path, content.getvalue())


def read_scene_map(path: Path) -> SceneMap:
    """Read what `write_scene_map` wrote; nothing in the file can execute.

    Raises:
        BadFile: the file is absent, damaged, or holds points that are not finite or labels of no class.
    """
    arrays = read_arrays(path, mib=SCENE_MAP_MIB)
    with decoding(path, 'the map of a scene'):
        parts = (_ragged(path, arrays, name, count) for name, count in _CLASSES.items())
        return SceneMap(*parts, roads=_roads(path, arrays) if _LINKS in arrays else None)


def _roads(path: Path, arrays: Mapping[str, np.ndarray]) -> RoadShapes:
    """The shapes of roads, after a look at every number."""
    elements, polygons, middles = (_ragged(path, arrays, name, count) for name, count in _ROADS.items())
    check_array(path, _LINKS, arrays[_LINKS], 'iu', (None, 2), (0, len(middles) - 1))
    return RoadShapes(elements, polygons, middles, arrays[_LINKS])


def _ragged(path: Path, arrays: Mapping[str, np.ndarray], name: str, classes: int) -> Ragged:
    """Point lists of one kind, after a look at every number."""
    points, starts, labels, groups = (
        arrays[f'{name}_{part}'] for part in ('points', 'starts', 'labels', 'groups'))
    check_array(path, f'{name}_points', points, 'f', (None, 2), (-FARTHEST_M, FARTHEST_M))
    check_array(path, f'{name}_labels', labels, 'iu', (None,), (0, classes - 1))
    for part, array in (('starts', starts), ('groups', groups)):
        check_array(path, f'{name}_{part}', array, 'iu', (None,))
    return Ragged.from_arrays(arrays, name)
