"""The records of a city: streets and lanes, map layers, road works, standing objects."""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from ..scene.curves import Curve
from ..scene.ground_raster import GroundRaster
from ..scene.mesh import Mesh
from ..scene.relief import Relief
from .styles import CityStyle

if TYPE_CHECKING:
    from shapely.geometry import LineString, Polygon

PARKING_STRIP_M = 2.5


@dataclass(frozen=True)
class Road:
    """One street between two nodes; `parking` is (right of the centre line, left of it)."""

    index: int
    node_a: int
    node_b: int
    curve: Curve
    lanes_per_direction: int
    lane_width_m: float
    median_m: float
    parking: tuple[bool, bool]
    setback_a_m: float = 0.0
    setback_b_m: float = 0.0

    @property
    def carriageway_m(self) -> float:
        """From the centre line to the outer edge of the outermost lane."""
        return 0.5 * self.median_m + self.lanes_per_direction * self.lane_width_m

    @property
    def right_m(self) -> float:
        """From the centre line to the right kerb."""
        return self.carriageway_m + PARKING_STRIP_M * self.parking[0]

    @property
    def left_m(self) -> float:
        """From the centre line to the left kerb."""
        return self.carriageway_m + PARKING_STRIP_M * self.parking[1]

    @property
    def half_width_m(self) -> float:
        """The wider of both sides."""
        return max(self.right_m, self.left_m)

    @property
    def span_m(self) -> tuple[float, float]:
        """Where lanes begin and end along the centre line."""
        return self.setback_a_m, self.curve.length_m - self.setback_b_m

    def kerb_m(self, left: bool) -> float:
        """Signed offset (left positive) of one kerb."""
        return self.left_m if left else -self.right_m


@dataclass(frozen=True)
class StreetLane:
    """A lane of a street or, when `node` is set, a connector inside a crossroads.

    `road` is the street's index (-1 for connectors), `arm` the street a connector comes from.
    """

    index: int
    curve: Curve
    width_m: float
    road: int
    direction: int
    position: int
    node: int = -1
    arm: int = -1
    turn: str = ''
    incoming: list[int] = field(default_factory=list)
    outgoing: list[int] = field(default_factory=list)

    @property
    def is_connector(self) -> bool:
        """True inside a crossroads."""
        return self.node >= 0


@dataclass(frozen=True)
class RoadNetwork:
    """Nodes (N, 2), streets, and lanes followed by connectors (`lanes[i].index == i`)."""

    nodes_N2: np.ndarray
    roads: tuple[Road, ...]
    lanes: tuple[StreetLane, ...]
    drives_right: bool

    def arms(self, node: int) -> list[Road]:
        """The streets that meet at `node`."""
        return [road for road in self.roads if node in (road.node_a, road.node_b)]

    def arm_pose(self, road: Road, node: int, distance_m: float) -> tuple[np.ndarray, float]:
        """Point on a street's centre line `distance_m` from the node, and the heading towards the node."""
        if node == road.node_a:
            xy, yaw = road.curve.at(distance_m)
            return xy, float(yaw) + np.pi
        xy, yaw = road.curve.at(road.curve.length_m - distance_m)
        return xy, float(yaw)

    def setback_m(self, road: Road, node: int) -> float:
        """How far from the node the street's lanes end."""
        return road.setback_a_m if node == road.node_a else road.setback_b_m


@dataclass(frozen=True)
class Crossing:
    """A pedestrian crossing; `curve` runs along its middle from kerb to kerb."""

    polygon: Polygon
    node: int
    road: int
    curve: Curve


@dataclass(frozen=True)
class StopLine:
    """The area in which cars stop before a crossroads, and the painted bar inside it."""

    polygon: Polygon
    paint: Polygon
    node: int
    road: int
    direction: int
    kind: str
    crossing: int


@dataclass(frozen=True)
class CarPark:
    """A car park with its bays: (B, 3) x, y, yaw of a car that stands in the bay nose first."""

    polygon: Polygon
    driveway: Polygon
    bays_B3: np.ndarray
    road: int
    yaw_rad: float


@dataclass(frozen=True)
class TrafficLight:
    """A signal at the far side of a node for one arm: position, the direction it faces."""

    xy_m: np.ndarray
    yaw_rad: float
    node: int
    road: int


@dataclass(frozen=True)
class StreetMap:
    """All map layers as shapely geometries in global metres.

    `road_dividers` and `lane_dividers` pair a line with its street; lane dividers also say the direction
    and the position of the lane inside of the line.
    """

    drivable: tuple[Polygon, ...]
    walkways: tuple[Polygon, ...]
    node_zones: tuple[Polygon, ...]
    road_areas: tuple[Polygon, ...]
    lane_polygons: tuple[Polygon, ...]
    crossings: tuple[Crossing, ...]
    stop_lines: tuple[StopLine, ...]
    car_parks: tuple[CarPark, ...]
    road_dividers: tuple[tuple[LineString, int], ...]
    lane_dividers: tuple[tuple[LineString, int, int, int], ...]
    traffic_lights: tuple[TrafficLight, ...]


@dataclass(frozen=True)
class StandingObjects:
    """Standing meshes, one per object, with the (S, 2) middles and (S,) radii by which they are cropped."""

    meshes: tuple[Mesh, ...]
    centre_S2: np.ndarray
    radius_S: np.ndarray


@dataclass(frozen=True)
class City:
    """One invented city.

    Attributes:
        location: nuScenes location name whose place it takes.
        seed: the seed it was made from.
        style: its parameters.
        network: streets, lanes and connectors.
        map: the map layers.
        ground: ground materials of the whole city.
        canvas_edge: (width, height) of the map in metres.
        build_standing: gives the standing objects; called once, by whoever asks for `static` first, since
            a city whose maps alone are written needs none.
        relief: how high its ground lies.
    """

    location: str
    seed: int
    style: CityStyle
    network: RoadNetwork
    map: StreetMap
    ground: GroundRaster
    canvas_edge: tuple[float, float]
    build_standing: Callable[[], StandingObjects]
    relief: Relief

    @cached_property
    def static(self) -> StandingObjects:
        """Buildings, poles, trees, bushes, walls."""
        return self.build_standing()

    @property
    def layers(self) -> dict[str, list]:
        """Shapely geometries by nuScenes layer name."""
        lanes = list(zip(self.network.lanes, self.map.lane_polygons, strict=True))
        return {
            'drivable_area': list(self.map.drivable),
            'road_segment': [*self.map.road_areas, *self.map.node_zones],
            'lane': [polygon for lane, polygon in lanes if not lane.is_connector],
            'lane_connector': [polygon for lane, polygon in lanes if lane.is_connector],
            'ped_crossing': [crossing.polygon for crossing in self.map.crossings],
            'walkway': list(self.map.walkways), 'stop_line': [line.polygon for line in self.map.stop_lines],
            'carpark_area': [park.polygon for park in self.map.car_parks],
            'road_divider': [line for line, _ in self.map.road_dividers],
            'lane_divider': [line for line, *_ in self.map.lane_dividers]}


@dataclass(frozen=True)
class RoadWorks:
    """A road-works zone beside a street, given by distance along it and offset to the side of the works.

    Attributes:
        road, left: the street and its side.
        start_m, stop_m: from where to where along the street.
        inner_m, outer_m: from how far to how far beside its middle.
        with_machine: whether a machine works there.
    """

    road: int
    left: bool
    start_m: float
    stop_m: float
    inner_m: float
    outer_m: float
    with_machine: bool = True

    def holds(self, road: int, left: bool, s_m: float, margin_m: float = 4.0) -> bool:
        """Whether a place along a street side lies in the zone (or just before or behind it)."""
        on_this_side = (self.road, self.left) == (road, left)
        return on_this_side and self.start_m - margin_m < s_m < self.stop_m + margin_m

    def outline(self, road: Road) -> np.ndarray:
        """(K, 2) ring around the zone."""
        sign = 1.0 if self.left else -1.0
        low, high = sorted((sign * self.inner_m, sign * self.outer_m))
        return road.curve.piece(self.start_m, self.stop_m).strip(low, high)
