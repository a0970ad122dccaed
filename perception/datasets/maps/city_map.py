"""One city's map expansion in memory, read with the official devkit and indexed by place.

shapely and the devkit are imported inside functions: only the writing of infos needs them.
"""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...core.files import file_name

if TYPE_CHECKING:
    from nuscenes.map_expansion.map_api import NuScenesMap
    from shapely.geometry.base import BaseGeometry

POLYGON_LAYERS = (
    'drivable_area', 'ped_crossing', 'walkway', 'stop_line', 'carpark_area', 'road_segment', 'lane')
LINE_LAYERS = ('road_divider', 'lane_divider')
CENTERLINE_STEP_M = 1.0
FINE_STEP_M = 0.5
_TURN = {'L': 1.0, 'S': 0.0, 'R': -1.0}


@dataclass(frozen=True)
class LaneMiddle:
    """The middle of one lane or lane connector.

    Attributes:
        token: of the lane.
        points_P2: global metres in driving direction.
        incoming, outgoing: tokens of its neighbours.
        fine_P2: points `FINE_STEP_M` apart as the devkit's `discretize_lanes` gives them, ends of pieces
            twice, rounded to millimetres.
        area: its polygon; None where it has none or an invalid one.
        connector: whether it leads across a junction.
    """

    token: str
    points_P2: np.ndarray
    incoming: tuple[str, ...]
    outgoing: tuple[str, ...]
    fine_P2: np.ndarray | None = None
    area: BaseGeometry | None = None
    connector: bool = False


@dataclass(frozen=True)
class ExpansionMap:
    """Polygons and lines by layer (shapely, global metres) and lane middles of one city."""

    location: str
    shapes: dict[str, list[BaseGeometry]]
    lanes: list[LaneMiddle]

    @cached_property
    def _trees(self) -> dict[str, Any]:
        from shapely import STRtree

        return {name: STRtree(shapes) for name, shapes in self.shapes.items()}

    @cached_property
    def _lane_tree(self) -> Any:
        from shapely import LineString, STRtree

        return STRtree([LineString(lane.points_P2) for lane in self.lanes])

    def index(self) -> None:
        """Build the search trees now, so that forked processes share them."""
        _ = self._trees, self._lane_tree

    def touching(self, layer: str, region: BaseGeometry) -> list[BaseGeometry]:
        """Shapes of a layer that touch a region, in the map's order."""
        indices = self._trees[layer].query(region, predicate='intersects')
        return [self.shapes[layer][i] for i in sorted(indices)]

    def lanes_touching(self, region: BaseGeometry) -> list[LaneMiddle]:
        """Lane middles that touch a region, in the map's order."""
        return [self.lanes[i] for i in sorted(self._lane_tree.query(region, predicate='intersects'))]


def load_city(root: Path, location: str) -> ExpansionMap | None:
    """Read `maps/expansion/<location>.json`; None where it is not there.

    Raises:
        ValueError: the file is there and the devkit cannot read it; the message names it.
    """
    path = Path(root) / 'maps' / 'expansion' / f'{file_name(location, "location")}.json'
    if not path.is_file():
        return None

    from nuscenes.map_expansion.map_api import NuScenesMap

    try:
        api = NuScenesMap(dataroot=str(root), map_name=location)
    # the devkit raises KeyError, AssertionError and bare Exception for unfit files
    except Exception as error:
        raise ValueError(
            f'{path}: not a map expansion that the devkit reads: {type(error).__name__}: {error}'
        ) from error

    shapes = {name: _polygons(api, name) for name in POLYGON_LAYERS}
    shapes |= {name: _lines(api, name) for name in LINE_LAYERS}
    city = ExpansionMap(location, shapes, _lanes(api))
    city.index()
    return city


def _polygons(api: NuScenesMap, layer: str) -> list[BaseGeometry]:
    """Polygons of a layer.

    As in the devkit, invalid ones are left out; of drivable areas, which it does not check, repaired.
    """
    from shapely import make_valid

    polygons = []
    for record in getattr(api, layer):
        for token in record['polygon_tokens'] if layer == 'drivable_area' else [record['polygon_token']]:
            polygon = api.extract_polygon(token)
            if not polygon.is_valid:
                if layer != 'drivable_area':
                    continue
                polygon = make_valid(polygon)
            if not polygon.is_empty:
                polygons.append(polygon)
    return polygons


def _lines(api: NuScenesMap, layer: str) -> list[BaseGeometry]:
    lines = [api.extract_line(record['line_token']) for record in getattr(api, layer)]
    return [line for line in lines if not line.is_empty]


def _lanes(api: NuScenesMap) -> list[LaneMiddle]:
    """Lanes and lane connectors that have an arc-line path."""
    both = [(record, False) for record in api.lane] + [(record, True) for record in api.lane_connector]
    lanes = [
        _lane(api, record, connector)
        for record, connector in both if api.arcline_path_3.get(record['token'])]
    return [lane for lane in lanes if len(lane.points_P2) >= 2]


def _lane(api: NuScenesMap, record: Mapping[str, Any], connector: bool) -> LaneMiddle:
    """One lane or lane connector."""
    token = record['token']
    path, links = api.arcline_path_3[token], api.connectivity.get(token, {})
    fine = np.concatenate([arcline_points(piece, FINE_STEP_M) for piece in path]).round(3)

    return LaneMiddle(
        token=token,
        points_P2=lane_middle(path),
        incoming=tuple(links.get('incoming', ())),
        outgoing=tuple(links.get('outgoing', ())),
        fine_P2=fine,
        area=_area(api, record.get('polygon_token')),
        connector=connector)


def _area(api: NuScenesMap, polygon_token: str | None) -> BaseGeometry | None:
    if polygon_token is None:
        return None
    polygon = api.extract_polygon(polygon_token)
    return polygon if polygon.is_valid and not polygon.is_empty else None


def lane_middle(path: Sequence[Mapping[str, Any]], step_m: float = CENTERLINE_STEP_M) -> np.ndarray:
    """Points `(P, 2)` at most `step_m` apart along the arc-line paths of one lane, each point once."""
    points = np.concatenate([arcline_points(piece, step_m) for piece in path])
    apart = np.linalg.norm(np.diff(points, axis=0), axis=1) > 1e-3
    return points[np.concatenate([[True], apart])]


def arcline_points(path: Mapping[str, Any], step_m: float) -> np.ndarray:
    """Evenly spaced points `(P, 2)` along one arc-line path.

    A path is a Dubins path: three arcs or straights, `shape` like 'LSR'. The spacing is the devkit's
    (`arcline_path_utils.discretize`): the largest not above `step_m` by its rounding, ends included.
    """
    lengths = np.array(path['segment_length'], dtype=np.float64)
    count = int(max(np.ceil(lengths.sum() / step_m) + 1.5, 2))
    along = np.linspace(0.0, lengths.sum(), count)
    points = np.zeros((count, 2))

    x, y, yaw = path['start_pose']
    start = 0.0
    for i, (turn, length) in enumerate(zip(path['shape'], lengths, strict=True)):
        curvature = _TURN[turn] / path['radius']
        inside = (along >= start) if i == 2 else (along >= start) & (along < start + length)
        points[inside] = _arc(x, y, yaw, curvature, along[inside] - start)

        # the next piece begins where this one ends
        x, y = _arc(x, y, yaw, curvature, np.array([length]))[0]
        yaw += curvature * length
        start += length
    return points


def _arc(x: float, y: float, yaw_rad: float, curvature: float, along_m: np.ndarray) -> np.ndarray:
    """Points at distances along an arc (or straight) that starts at (x, y) with a heading: `(P, 2)`."""
    if abs(curvature) < 1e-9:
        return np.stack([x + along_m * np.cos(yaw_rad), y + along_m * np.sin(yaw_rad)], 1)
    end = yaw_rad + curvature * along_m
    dx = (np.sin(end) - np.sin(yaw_rad)) / curvature
    dy = (np.cos(end) - np.cos(yaw_rad)) / curvature
    return np.stack([x + dx, y - dy], 1)
