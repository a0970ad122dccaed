"""Lane elements exactly as published protocols cut them out of the nuScenes map, frame by frame.

MapTR (Liao et al., arXiv 2208.14437) and MapTRv2 (arXiv 2308.05736) look at a window that is centred on the
LiDAR and turned with it, and there

* divider: the lines of road_divider and lane_divider, cut at the window;
* ped_crossing: all rings of the union of the crossings inside the window. A crossing that the window cuts is
  closed along its border;
* boundary: all rings of the union of the road_segment and lane polygons inside the window, cut `INSET_M`
  within it, so that its border is no boundary. Cracks between two polygons are boundaries;
* centerline (MapTRv2): every path through the middles of lanes and connectors that reach into the window,
  from where none enters to where none leaves, so that a stretch which several paths share comes as often;
  made simpler by up to `SIMPLER_M`.

The order of the steps is the original's, since borders that almost meet may unite or not by the last digit:
polygons are cut in global metres, turned, and united.

The window's long axis is the LiDAR's y, which looks forward on nuScenes' cars; where another axis does, that
one is taken.
"""
from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from ...core.contracts import LanePolylines
from ...core.geometry import yaw_of
from ...core.protocols import LANE_CLASSES, LANE_PROTOCOLS, LANE_RANGES_M
from .city_map import ExpansionMap
from .lane_polylines import LANE_RADIUS_M, lanes_around, scene_lanes
from .ragged import Ragged
from .scene_map import SHAPE_LAYERS, RoadShapes, SceneMap

if TYPE_CHECKING:
    from shapely.geometry.base import BaseGeometry

Node = tuple[float, float]
LaneGraph = dict[Node, dict[Node, None]]
"""Every node, and those that follow it in the order in which they were met."""

INSET_M = 0.2
SIMPLER_M = 0.2
_LINE_TYPES = (1, 2)  # of shapely: LineString, LinearRing
_MILLIMETRES = 3
_REACH_M = 60.0


def road_shapes(city: ExpansionMap, region: BaseGeometry) -> RoadShapes:
    """The shapes of roads, crossings and lane middles that touch a region, whole."""
    rings: list[np.ndarray] = []
    labels: list[int] = []
    groups: list[int] = []

    def add(label: int, polygon: BaseGeometry) -> int:
        group = groups[-1] + 1 if groups else 0
        for ring in (polygon.exterior, *polygon.interiors):
            rings.append(np.array(ring.coords)[:, :2])
            labels.append(label)
            groups.append(group)
        return group

    for label, layer in enumerate(SHAPE_LAYERS[:3]):
        for polygon in city.touching(layer, region):
            add(label, polygon)

    # the published code asks connectors first, and only lanes whose area it can read
    in_order = sorted(city.lanes, key=lambda lane: not lane.connector)
    lanes = {lane.token: lane for lane in in_order if lane.area and lane.area.intersects(region)}
    areas = [add(SHAPE_LAYERS.index('lane_area'), lane.area) for lane in lanes.values()]
    middles = Ragged.of([lane.fine_P2 for lane in lanes.values()], [0] * len(areas), areas)

    row = {token: i for i, token in enumerate(lanes)}
    links = [(token, after) for token, lane in lanes.items() for after in lane.outgoing]
    links += [(before, token) for token, lane in lanes.items() for before in lane.incoming]
    known = [(row[a], row[b]) for a, b in dict.fromkeys(links) if a in row and b in row]
    links_E2 = np.array(known, dtype=np.int64).reshape(-1, 2)

    elements = scene_lanes(city, region, crack_m=0)
    return RoadShapes(elements, Ragged.of(rings, labels, groups), middles, links_E2)


def published_lanes(
    scene: SceneMap, global_T_ego: np.ndarray, ego_T_lidar: np.ndarray | None, protocol: str
) -> LanePolylines:
    """Lanes of one frame by a published protocol, in ego metres.

    `points` are the elements around the car with all cracks, which heads learn from; `in_range` gives the
    protocol's own. Centre lines are paths only in the latter: in `points` each stretch of road comes once.

    Raises:
        ValueError: the scene's map or the frame does not hold what the protocol needs.
    """
    if scene.roads is None:
        raise ValueError(
            f'lane_protocol: {protocol!r} needs the shapes of the roads, which infos of an earlier layout do '
            'not hold: write them again with tools/create_data.py, or take lane_protocol="ours"')
    if ego_T_lidar is None:
        raise ValueError(
            f'lane_protocol: {protocol!r} centres its windows on the LiDAR, and the frame has none; expected '
            'a LiDAR in its infos, or lane_protocol="ours"')

    yaw = float(yaw_of(global_T_ego))
    ego = MapPlace(*np.asarray(global_T_ego)[:2, 3], yaw)
    around = lanes_around(replace(scene, lanes=scene.roads.elements), *ego.turn_and_position())

    global_T_lidar = global_T_ego @ ego_T_lidar
    lidar_yaw = float(yaw_of(global_T_lidar))
    quarters = round((yaw - lidar_yaw) / (np.pi / 2) - 1)
    window = MapPlace(*global_T_lidar[:2, 3], lidar_yaw + quarters * np.pi / 2)

    near = NearShapes.of(scene, window)
    return replace(around, protocol=protocol, in_range=partial(near.lanes, window, ego, protocol))


@dataclass(frozen=True)
class MapPlace:
    """A position on the flat map and a heading (radians)."""

    x: float
    y: float
    yaw: float

    def turn_and_position(self) -> tuple[np.ndarray, np.ndarray]:
        """Rotation and position: `(points - position) @ rotation.T` is seen from here."""
        cos, sin = np.cos(self.yaw), np.sin(self.yaw)
        return np.array([[cos, sin], [-sin, cos]]), np.array([self.x, self.y])

    def to_local(self, xy_P2: np.ndarray) -> np.ndarray:
        """Global points seen from here: turned about here, then moved."""
        return self._turned(xy_P2, -1.0) - np.array([self.x, self.y])

    def to_global(self, xy_P2: np.ndarray) -> np.ndarray:
        """Inverse of `to_local`."""
        return self._turned(np.array([self.x, self.y]) + xy_P2, 1.0)

    def _turned(self, xy_P2: np.ndarray, sign: float) -> np.ndarray:
        """Points turned about here by the heading, rounded as the published code: degrees, then sums."""
        radians = sign * (self.yaw / np.pi * 180) * np.pi / 180
        cos, sin = np.cos(radians), np.sin(radians)
        x, y = np.asarray(xy_P2).T
        turned_x = cos * x - sin * y + (self.x - self.x * cos + self.y * sin)
        turned_y = sin * x + cos * y + (self.y - self.x * sin - self.y * cos)
        return np.stack([turned_x, turned_y], 1)


@dataclass(frozen=True)
class NearShapes:
    """The shapes within `_REACH_M` of one frame, global metres: small enough to travel with its labels.

    Attributes:
        polygons, middles, links_E2: as in `RoadShapes`.
        dividers: road dividers, then lane dividers.
    """

    polygons: Ragged
    middles: Ragged
    links_E2: np.ndarray
    dividers: Ragged

    @classmethod
    def of(cls, scene: SceneMap, window: MapPlace) -> NearShapes:
        """What lies near a place."""
        roads, centre = scene.roads, np.array([window.x, window.y])
        near = roads.polygons.groups_R[roads.polygons.near(centre, _REACH_M)]
        polygons = roads.polygons.select(np.flatnonzero(np.isin(roads.polygons.groups_R, near)))
        rows = np.flatnonzero(np.isin(roads.middles.groups_R, near))

        # links between rows that stay, under their new numbers
        new = np.full(len(roads.middles), -1)
        new[rows] = np.arange(len(rows))
        links_E2 = new[roads.links_E2]
        dividers = scene.lines.select(scene.lines.near(centre, _REACH_M))
        return cls(polygons, roads.middles.select(rows), links_E2[(links_E2 >= 0).all(1)], dividers)

    def lanes(self, window: MapPlace, ego: MapPlace, protocol: str, size: str) -> LanePolylines:
        """The protocol's elements in a range around `window`, in the metres of `ego`."""
        (x0, x1), (y0, y1) = LANE_RANGES_M[size]
        cutter = Window(self, window, width_m=y1 - y0, length_m=x1 - x0)
        elements = {
            'divider': cutter.dividers, 'ped_crossing': cutter.crossings, 'boundary': cutter.boundaries,
            'centerline': cutter.centerlines}

        points: list[np.ndarray] = []
        labels: list[int] = []
        rotation, position = ego.turn_and_position()
        for name in LANE_PROTOCOLS[protocol].classes:
            for line in elements[name]():
                points.append((window.to_global(line) - position) @ rotation.T)
                labels.append(LANE_CLASSES.index(name))
        return LanePolylines(tuple(points), np.array(labels, dtype=np.int64), LANE_RADIUS_M, protocol)


class Window:
    """One window of the map and what lies in it, in metres from its centre.

    Args:
        near: shapes around it.
        place: its centre; x to the right, y forward.
        width_m, length_m: along x and y.
    """

    def __init__(self, near: NearShapes, place: MapPlace, width_m: float, length_m: float) -> None:
        from shapely import Polygon

        self.near = near
        self.place = place
        self.half_m = np.array([width_m / 2, length_m / 2])
        corners = self.half_m * [[1, -1], [1, 1], [-1, 1], [-1, -1]]
        self.patch = Polygon(place.to_global(corners))

    def dividers(self) -> list[np.ndarray]:
        """Pieces of dividers."""
        return [piece for pieces in self._pieces(self.near.dividers).values() for piece in pieces]

    def crossings(self) -> list[np.ndarray]:
        """Rings around crossings."""
        from shapely import unary_union
        return self._outlines(unary_union(self._polygons('ped_crossing')), INSET_M)

    def boundaries(self) -> list[np.ndarray]:
        """Lines around the road."""
        from shapely import unary_union
        roads, lanes = (unary_union(self._polygons(layer)) for layer in ('road_segment', 'lane'))
        return self._outlines(unary_union([roads, lanes]), -INSET_M)

    def centerlines(self) -> list[np.ndarray]:
        """Paths along the middles of lanes."""
        from shapely import get_coordinates, linestrings, simplify
        paths = simplify([linestrings(path) for path in paths_through(self._lane_graph())], SIMPLER_M)
        return [get_coordinates(path) for path in paths]

    def _polygons(self, layer: str) -> np.ndarray:
        """The parts of a layer's polygons inside the window, local."""
        from shapely import transform
        return transform(np.array(list(self._cut_polygons(layer).values())), self.place.to_local)

    def _cut_polygons(self, layer: str) -> dict[int, BaseGeometry]:
        """The parts of a layer's polygons inside the window, by group."""
        from shapely import intersection, is_empty, linearrings, polygons

        shapes = self.near.polygons
        rings_R = np.flatnonzero(shapes.labels_R == SHAPE_LAYERS.index(layer))
        if not len(rings_R):
            return {}

        # consecutive rings of a group are one polygon
        part = shapes.select(rings_R)
        rings = linearrings(part.points_V2, indices=np.repeat(np.arange(len(part)), np.diff(part.starts)))
        groups, index_R = np.unique(part.groups_R, return_inverse=True)
        cut = intersection(polygons(rings, indices=index_R), self.patch)
        return {int(groups[i]): cut[i] for i in np.flatnonzero(~is_empty(cut))}

    def _outlines(self, union: BaseGeometry, margin_m: float) -> list[np.ndarray]:
        """Outer rings clockwise, then inner ones counter-clockwise, cut `margin_m` outside the window."""
        from shapely import box, get_parts, intersection, line_merge
        from shapely.geometry import LinearRing

        parts = [part for part in get_parts(union) if part.geom_type == 'Polygon']
        outer = [ring.reverse() if ring.is_ccw else ring for ring in (part.exterior for part in parts)]
        inner = [ring if ring.is_ccw else ring.reverse() for part in parts for ring in part.interiors]

        half_m = self.half_m + margin_m
        inside = box(*-half_m, *half_m)
        lines: list[np.ndarray] = []
        for ring in (*outer, *inner):
            cut = intersection(LinearRing(ring.coords), inside)
            lines += line_parts(line_merge(cut) if cut.geom_type == 'MultiLineString' else cut)
        return lines

    def _pieces(self, lines: Ragged) -> dict[int, list[np.ndarray]]:
        """The parts of lines inside the window, local, by the line's row."""
        from shapely import intersection, is_empty, linestrings, transform
        if not len(lines):
            return {}

        index_V = np.repeat(np.arange(len(lines)), np.diff(lines.starts))
        cut = intersection(linestrings(lines.points_V2, indices=index_V), self.patch)
        rows = np.flatnonzero(~is_empty(cut))
        local = transform(cut[rows], self.place.to_local)
        return {int(row): line_parts(part) for row, part in zip(rows, local, strict=True)}

    def _lane_graph(self) -> LaneGraph:
        """Points, rounded to millimetres, of all lanes whose area reaches into the window."""
        areas, middles = self._cut_polygons('lane_area'), self.near.middles

        lines: dict[int, list[list[Node]]] = {}
        for row, parts in self._pieces(middles).items():
            if parts and int(middles.groups_R[row]) in areas:
                lines[row] = [list(map(tuple, part.round(_MILLIMETRES).tolist())) for part in parts]

        # along every lane, and from its end to where the next one begins
        steps = [pair for parts in lines.values() for part in parts for pair in pairwise(part)]
        joints = [(a, b) for a, b in self.near.links_E2.tolist() if a in lines and b in lines]
        steps += [(lines[a][-1][-1], lines[b][0][0]) for a, b in joints]

        graph: LaneGraph = {}
        for start, end in steps:
            graph.setdefault(start, {})[end] = None
            graph.setdefault(end, {})
        return graph


def line_parts(shape: BaseGeometry) -> list[np.ndarray]:
    """The lines of what an intersection gave, each `(P, 2)`; points, where borders only touch, are none."""
    from shapely import get_coordinates, get_parts, get_type_id
    parts = get_parts(get_parts(shape))
    return [get_coordinates(part) for part in parts[np.isin(get_type_id(parts), _LINE_TYPES)]]


def paths_through(graph: LaneGraph) -> Iterator[Sequence[Node]]:
    """All paths without repeats from nodes that nothing enters to nodes that nothing leaves."""
    entered = {node for following in graph.values() for node in following}
    for root in graph:
        if root in entered:
            continue

        path, open_ends = [root], [iter(graph[root])]
        on_path = {root}
        while open_ends:
            node = next(open_ends[-1], None)
            if node is None:
                open_ends.pop()
                on_path.discard(path.pop())
            elif node not in on_path and not graph[node]:
                yield [*path, node]
            elif node not in on_path:
                path.append(node)
                on_path.add(node)
                open_ends.append(iter(graph[node]))
