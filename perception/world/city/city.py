"""An invented city: its street network, its map layers, its ground and everything that stands on it.

``make_city`` is deterministic in (location, seed) and cached per process.
"""
from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from ..scene.curves import Curve
from ..scene.scene import GroundRaster, Mesh
from .roads import RoadNetwork, draw_network
from .styles import CITY_STYLES, CityStyle

if TYPE_CHECKING:
    from shapely.geometry import LineString, Polygon

LOCATIONS = tuple(CITY_STYLES)
_CITY_STREAM = 0xC17


@dataclass(frozen=True)
class Crossing:
    """A pedestrian crossing; ``curve`` runs along its middle from kerb to kerb."""

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
class CityMap:
    """All map layers as shapely geometries in global metres.

    ``road_dividers`` and ``lane_dividers`` pair a line with its street; lane dividers also say the direction
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
class StaticThings:
    """Standing meshes, one per thing, with the (S, 2) middles and (S,) radii by which they are cropped."""

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
        static: buildings, poles, trees, bushes, walls.
        canvas_edge: (width, height) of the map in metres.
    """

    location: str
    seed: int
    style: CityStyle
    network: RoadNetwork
    map: CityMap
    ground: GroundRaster
    static: StaticThings
    canvas_edge: tuple[float, float]

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


@lru_cache(maxsize=4)
def make_city(location: str, seed: int = 0) -> City:
    """The city that takes the place of ``location``.

    Args:
        location: one of :data:`LOCATIONS`.
        seed: the world's seed.

    Raises:
        ValueError: the location is unknown or the seed negative.
    """
    from .ground import paint_ground
    from .layers import draw_map
    from .static import build_static

    if location not in CITY_STYLES:
        raise ValueError(f'make_city: location must be one of {LOCATIONS}, found {location!r}')
    if seed < 0:
        raise ValueError(f'make_city: seed must not be negative, found {seed}')
    style = CITY_STYLES[location]
    streams = np.random.SeedSequence([seed, _CITY_STREAM, LOCATIONS.index(location)]).spawn(3)
    roads_rng, map_rng, static_rng = (np.random.Generator(np.random.PCG64(stream)) for stream in streams)
    network = draw_network(style, roads_rng)
    edge = np.ceil(network.nodes_N2.max(axis=0) + 110.0)
    city_map = draw_map(network, style, map_rng)
    canvas_edge = (float(edge[0]), float(edge[1]))
    ground = paint_ground(network, city_map, style, canvas_edge)
    return City(
        location, seed, style, network, city_map, ground, build_static(network, city_map, style, static_rng),
        canvas_edge)
