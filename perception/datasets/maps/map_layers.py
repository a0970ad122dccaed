"""The map around a scene's path: written once per scene, read per frame as vectors in ego metres.

The six classes are those of the BEVFusion map-segmentation protocol (Liu et al., ICRA 2023, arXiv
2205.13542): five polygon layers of the nuScenes map expansion and `divider` = road dividers and lane
dividers. The map is flat: it is moved by the car's position and heading alone, as the devkit's map masks are.
"""
from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ...core.contracts import MapLayers, Polygon
from ...core.files import write_bytes
from ...core.geometry import yaw_of
from ...core.protocols import MAP_CLASSES
from ..reading.infos import InfosError, unpack_transform
from .city_map import LINE_LAYERS, CityMap, load_city
from .lane_polylines import scene_lanes
from .ragged import Ragged

if TYPE_CHECKING:
    from shapely.geometry.base import BaseGeometry

__all__ = [
    'CityMap', 'SceneMap', 'layers_around', 'load_city', 'read_scene_map', 'scene_map', 'write_scene_map']

MAP_RADIUS_M = 75.0
"""Reaches the corners of a 100 x 100 m grid (70.7 m), turned in any way and scaled by up to 5 %."""
_MARGIN_M = 10.0
POLYGON_CLASSES = MAP_CLASSES[:5]
DIVIDER = MAP_CLASSES.index('divider')


@dataclass(frozen=True)
class SceneMap:
    """Global metres: rings of polygons (first ring of a group the exterior, the others holes; labels index
    `MAP_CLASSES`), lines (same labels), lanes (labels index `LANE_CLASSES`).
    """

    polygons: Ragged
    lines: Ragged
    lanes: Ragged


def scene_map(city: CityMap, poses: Sequence[Sequence[float]]) -> SceneMap:
    """The map within `MAP_RADIUS_M` of a path, polygons cut a little beyond it. `poses`: packed
    `global_T_ego` per frame."""
    region = _region(np.array([unpack_transform(pose)[:2, 3] for pose in poses]))
    rings, labels, groups = [], [], []
    for label, layer in enumerate(POLYGON_CLASSES):
        for shape in city.touching(layer, region):
            for polygon in _polygons_of(shape if region.contains(shape) else shape.intersection(region)):
                group = groups[-1] + 1 if groups else 0
                found = [np.array(ring.coords)[:, :2] for ring in (polygon.exterior, *polygon.interiors)]
                rings += found
                labels += [label] * len(found)
                groups += [group] * len(found)
    dividers = [
        np.array(line.coords)[:, :2] for layer in LINE_LAYERS for line in city.touching(layer, region)
    ]
    return SceneMap(Ragged.of(rings, labels, groups), Ragged.of(dividers, [DIVIDER] * len(dividers)),
                    scene_lanes(city, region))


def _region(path_T2: np.ndarray) -> BaseGeometry:
    """Everything near a path of positions. Two frames may be one place, and a scene may have one frame."""
    from shapely import LineString, Point
    moved = len(path_T2) > 1 and np.ptp(path_T2, axis=0).max() > 0
    return (LineString(path_T2) if moved else Point(path_T2[0])).buffer(MAP_RADIUS_M + _MARGIN_M, quad_segs=8)


def _polygons_of(shape: BaseGeometry) -> list[BaseGeometry]:
    """The polygons in what an intersection gave, which may also be lines and points where borders only
    touch."""
    return [
        part for part in getattr(shape, 'geoms', [shape]) if part.geom_type == 'Polygon' and not part.is_empty
    ]


def write_scene_map(path: Path, found: SceneMap) -> None:
    """Write the flat arrays as a compressed npz."""
    content = io.BytesIO()
    np.savez_compressed(content, **found.polygons.arrays('polygons'), **found.lines.arrays('lines'),
                        **found.lanes.arrays('lanes'))
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


def flat_ego_T_global(global_T_ego: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rotation `(2, 2)` and the car's position `(2,)`: `(points - position) @ rotation.T` is ego, roll and
    pitch left out."""
    yaw = float(yaw_of(global_T_ego))
    return np.array([[np.cos(yaw), np.sin(yaw)], [-np.sin(yaw), np.cos(yaw)]]), np.asarray(global_T_ego)[
        :2, 3
    ]


def layers_around(found: SceneMap, global_T_ego: np.ndarray, radius_m: float = MAP_RADIUS_M) -> MapLayers:
    """The six classes around one frame, in ego metres; whole polygons and lines that come within the
    radius."""
    rotation, position = flat_ego_T_global(global_T_ego)
    polygons: dict[str, list[Polygon]] = {name: [] for name in POLYGON_CLASSES}
    current = -1
    for i in found.polygons.near(position, radius_m):
        ring = (found.polygons[i] - position) @ rotation.T
        group, name = found.polygons.groups_R[i], MAP_CLASSES[found.polygons.labels_R[i]]
        exterior = i == 0 or found.polygons.groups_R[i - 1] != group
        if exterior:
            current = group
            polygons[name].append((ring, ()))
        elif current == group:
            polygons[name][-1] = (polygons[name][-1][0], (*polygons[name][-1][1], ring))
    lines = tuple((found.lines[i] - position) @ rotation.T for i in found.lines.near(position, radius_m))
    return MapLayers({name: tuple(parts) for name, parts in polygons.items()}, {'divider': lines}, radius_m)
