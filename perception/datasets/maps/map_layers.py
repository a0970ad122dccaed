"""The map around a scene's path: written once per scene, read per frame as vectors in ego metres.

The six classes are those of the BEVFusion map-segmentation protocol (Liu et al., ICRA 2023, arXiv
2205.13542): five polygon layers of the nuScenes map expansion and `divider` = road dividers and lane
dividers. The map is flat: it is moved by the car's position and heading alone, as the devkit's map masks are.
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ...core.contracts import MapLayers, Polygon
from ...core.geometry import yaw_of
from ...core.protocols import MAP_CLASSES
from .city_map import LINE_LAYERS, ExpansionMap
from .lane_polylines import scene_lanes
from .published_lanes import road_shapes
from .ragged import Ragged
from .scene_map import SceneMap

if TYPE_CHECKING:
    from shapely.geometry.base import BaseGeometry

MAP_RADIUS_M = 82.0
"""Reaches the corners of 100 x 100 m around the LiDAR (71.4 m from ego), turned in any way, scaled down by up
to 10 % and shifted by up to 2.4 m: 82 * 0.9 - 2.4 = 71.4."""
_MARGIN_M = 10.0
POLYGON_CLASSES = MAP_CLASSES[:5]
DIVIDER = MAP_CLASSES.index('divider')


def scene_map(city: ExpansionMap, poses: Sequence[np.ndarray]) -> SceneMap:
    """The map within `MAP_RADIUS_M` of a path, polygons cut a little beyond it.

    Args:
        city: the whole map.
        poses: `global_T_ego` `(4, 4)` of every frame.
    """
    region = _region(np.array([pose[:2, 3] for pose in poses]))
    dividers = [
        np.array(line.coords)[:, :2] for layer in LINE_LAYERS for line in city.touching(layer, region)]
    return SceneMap(
        polygons=_rings_in(city, region),
        lines=Ragged.of(dividers, [DIVIDER] * len(dividers)),
        lanes=scene_lanes(city, region),
        roads=road_shapes(city, region))


def _rings_in(city: ExpansionMap, region: BaseGeometry) -> Ragged:
    """The rings of all polygons that touch a region, cut at its border; one group a polygon."""
    rings: list[np.ndarray] = []
    labels: list[int] = []
    groups: list[int] = []
    group = 0
    for label, layer in enumerate(POLYGON_CLASSES):
        for shape in city.touching(layer, region):
            for polygon in _polygons_of(shape if region.contains(shape) else shape.intersection(region)):
                for ring in (polygon.exterior, *polygon.interiors):
                    rings.append(np.array(ring.coords)[:, :2])
                    labels.append(label)
                    groups.append(group)
                group += 1
    return Ragged.of(rings, labels, groups)


def _region(path_T2: np.ndarray) -> BaseGeometry:
    """Everything near a path of positions. Two frames may be one place, and a scene may have one frame."""
    from shapely import LineString, Point
    moved = len(path_T2) > 1 and np.ptp(path_T2, axis=0).max() > 0
    return (LineString(path_T2) if moved else Point(path_T2[0])).buffer(MAP_RADIUS_M + _MARGIN_M, quad_segs=8)


def _polygons_of(shape: BaseGeometry) -> list[BaseGeometry]:
    """The polygons in what an intersection gave: lines and points come too where borders only touch."""
    return [
        part for part in getattr(shape, 'geoms', [shape]) if part.geom_type == 'Polygon' and not part.is_empty
    ]


def flat_ego_T_global(global_T_ego: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The flat part of a pose, roll and pitch left out.

    Returns:
        Rotation `(2, 2)` and the car's position `(2,)`: `(points - position) @ rotation.T` is ego.
    """
    yaw = float(yaw_of(global_T_ego))
    rotation = np.array([[np.cos(yaw), np.sin(yaw)], [-np.sin(yaw), np.cos(yaw)]])
    return rotation, np.asarray(global_T_ego)[:2, 3]


def layers_around(scene: SceneMap, global_T_ego: np.ndarray, radius_m: float = MAP_RADIUS_M) -> MapLayers:
    """The six classes around one frame, in ego metres.

    Whole polygons and lines that come within the radius.
    """
    rotation, position = flat_ego_T_global(global_T_ego)
    rings = scene.polygons
    polygons: dict[str, list[Polygon]] = {name: [] for name in POLYGON_CLASSES}
    current = -1
    for i in rings.near(position, radius_m):
        ring = (rings[i] - position) @ rotation.T
        group = rings.groups_R[i]
        of_class = polygons[MAP_CLASSES[rings.labels_R[i]]]

        # the first ring of a group is the exterior; a hole counts only where its exterior is near too
        if i == 0 or rings.groups_R[i - 1] != group:
            current = group
            of_class.append((ring, ()))
        elif current == group:
            exterior, holes = of_class[-1]
            of_class[-1] = exterior, (*holes, ring)

    lines = tuple((scene.lines[i] - position) @ rotation.T for i in scene.lines.near(position, radius_m))
    return MapLayers({name: tuple(parts) for name, parts in polygons.items()}, {'divider': lines}, radius_m)
