"""Lane elements of the vectorised-map tasks, from the nuScenes map expansion.

After VectorMapNet (Liu et al., ICML 2023, arXiv 2206.08920) and MapTR / MapTRv2 (Liao et al., arXiv
2208.14437, 2308.05736):

* divider: the lines of road_divider and lane_divider;
* ped_crossing: the outer rings of the united ped_crossing polygons;
* boundary: all rings, outer and inner, of the union of road_segment and lane polygons, cracks up to `CRACK_M`
  closed;
* centerline: the middles of lanes and lane connectors, in driving direction. A lane and its successor make
  one polyline where each is the other's only neighbour, so that no stretch of road comes twice. (MapTRv2
  joins along every path through the junctions of its 60 x 30 m window instead, which repeats the stretch that
  paths share and depends on the window.)

Outer rings run clockwise and inner rings counter-clockwise, so the road lies on the right of every boundary.
"""
from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ...core.contracts import LanePolylines
from ...core.protocols import LANE_CLASSES
from .city_map import LINE_LAYERS, ExpansionMap, LaneMiddle
from .ragged import Ragged
from .scene_map import SceneMap

if TYPE_CHECKING:
    from shapely.geometry.base import BaseGeometry

LANE_RADIUS_M = 65.0
CRACK_M = 0.1


def scene_lanes(city: ExpansionMap, region: BaseGeometry, crack_m: float = CRACK_M) -> Ragged:
    """All lane elements that touch a region, whole, in global metres; labels index `LANE_CLASSES`.

    Cracks up to `crack_m` are closed; 0 keeps all.
    """
    dividers = [line for layer in LINE_LAYERS for line in city.touching(layer, region)]
    crossings = _united(city.touching('ped_crossing', region), crack_m)
    road = _united([*city.touching('road_segment', region), *city.touching('lane', region)], crack_m)
    elements = {
        'divider': [np.array(line.coords)[:, :2] for line in dividers],
        'ped_crossing': _rings(crossings, holes=False),
        'boundary': _rings(road, holes=True),
        'centerline': joined_lanes(city.lanes_touching(region)),
    }
    lines = [line for name in LANE_CLASSES for line in elements[name]]
    labels = [label for label, name in enumerate(LANE_CLASSES) for _ in elements[name]]
    return Ragged.of(lines, labels)


def _united(shapes: Sequence[BaseGeometry], crack_m: float) -> list[BaseGeometry]:
    """The polygons of the union.

    Neighbours whose common border was drawn twice leave cracks of a hair's width, along which an outline
    would run to and fro across the road: growing before the union and shrinking after it closes them.
    """
    from shapely import unary_union

    if crack_m == 0:
        union = unary_union(shapes)
    else:
        grown = [shape.buffer(crack_m / 2, join_style='mitre') for shape in shapes]
        union = unary_union(grown).buffer(-crack_m / 2, join_style='mitre')

    return [
        part for part in getattr(union, 'geoms', [union]) if part.geom_type == 'Polygon' and not part.is_empty
    ]


def _rings(polygons: Iterable[BaseGeometry], holes: bool) -> list[np.ndarray]:
    """Closed rings `(P, 2)`, last point = first: outer ones clockwise, inner ones counter-clockwise."""
    rings = []
    for polygon in polygons:
        outer = np.array(polygon.exterior.coords)[:, :2]
        rings.append(outer[::-1] if polygon.exterior.is_ccw else outer)
        for interior in polygon.interiors if holes else ():
            inner = np.array(interior.coords)[:, :2]
            rings.append(inner if interior.is_ccw else inner[::-1])
    return rings


def joined_lanes(lanes: Sequence[LaneMiddle]) -> list[np.ndarray]:
    """Middles of lanes, joined along one-to-one successions: points `(P, 2)` in driving direction."""
    by_token = {lane.token: lane for lane in lanes}
    follows = {lane.token: lane.outgoing[0] for lane in lanes
               if len(lane.outgoing) == 1 and lane.outgoing[0] in by_token
               and by_token[lane.outgoing[0]].incoming == (lane.token,)}
    inner = set(follows.values())
    chains = [_chain(lane.token, follows) for lane in lanes if lane.token not in inner]

    # rings of lanes have no first one
    seen = {token for chain in chains for token in chain}
    for lane in lanes:
        if lane.token not in seen:
            chains.append(_chain(lane.token, follows))
            seen.update(chains[-1])
    return [np.concatenate([by_token[token].points_P2 for token in chain]) for chain in chains]


def _chain(first: str, follows: dict[str, str]) -> list[str]:
    chain = [first]
    while chain[-1] in follows and follows[chain[-1]] != first:
        chain.append(follows[chain[-1]])
    return chain


def lanes_around(
    scene: SceneMap, rotation_22: np.ndarray, position_2: np.ndarray, radius_m: float = LANE_RADIUS_M
) -> LanePolylines:
    """Lane elements around one frame in ego metres.

    What leaves the square of half side `radius_m` is left out at whole points: every piece keeps one point
    beyond the square, nothing is cut at its border. A ring that lies inside stays closed.
    """
    points, labels = [], []
    for i in scene.lanes.near(position_2, radius_m * np.sqrt(2)):
        line = (scene.lanes[i] - position_2) @ rotation_22.T
        for piece in pieces_near(line, radius_m):
            points.append(piece.astype(np.float32))
            labels.append(scene.lanes.labels_R[i])
    return LanePolylines(tuple(points), np.array(labels, dtype=np.int64), radius_m)


def pieces_near(line_P2: np.ndarray, half_side_m: float) -> list[np.ndarray]:
    """Runs of segments whose bounds touch the square around zero, each `(Q, 2)`, in order.

    A closed ring's runs are not broken where its first point happens to lie.
    """
    low = np.minimum(line_P2[:-1], line_P2[1:])
    high = np.maximum(line_P2[:-1], line_P2[1:])
    kept = ((low <= half_side_m) & (high >= -half_side_m)).all(1)
    if kept.all():
        return [line_P2] if len(line_P2) > 1 else []

    if kept[0] and kept[-1] and np.allclose(line_P2[0], line_P2[-1]):
        shift = int(np.flatnonzero(~kept)[0])
        line_P2 = np.concatenate([line_P2[shift:-1], line_P2[:shift + 1]])
        kept = np.roll(kept, -shift)

    # where runs begin and end
    edges = np.diff(np.concatenate([[False], kept, [False]]).astype(np.int8))
    return [
        line_P2[start : end + 1]
        for start, end in zip(np.flatnonzero(edges == 1), np.flatnonzero(edges == -1), strict=True)
    ]
