"""The part of a city that a scene plays in, and the parameters that say how busy it is."""
from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ..city.records import City, Road, RoadWorks
from ..scene.weather import WEATHER_KINDS
from .drivers import route_places
from .roadworks import draw_roadworks
from .routes import Signal, draw_signals
from .simulation import Driver

NEAR_ROAD_M = 45.0
WAY_FRACTION = 0.7
"""Traffic slows the ego down: it comes about this far of what its desired speed would give."""


@dataclass(frozen=True)
class SceneParameters:
    """What a caller may ask of a scene.

    Attributes:
        name: scene name; None gives `scene-<index>`.
        weather: one of the weather kinds; None draws one.
        duration_s: length of the scene.
        spacing_m: range of the mean distance between vehicles of a lane.
        most_drivers: largest number of vehicles in motion.
        people: range of the number of people on a street's walkway.
        kerb_fraction, lot_fraction: ranges of how much of the kerbs and bays is taken.
        machine: whether a machine works beside the ego's way; None: in the first, third, ... scene of a city.
        red_fraction: how many signals on the way show red when the ego comes.
        sight_m: how far from the ego's way objects are made.
        flat: the ground is the plane z = 0 instead of the city's hills.

    Raises:
        ValueError: the weather is unknown or the duration not within 1 to 60 s.
    """

    name: str | None = None
    weather: str | None = None
    duration_s: float = 20.0
    spacing_m: tuple[float, float] = (13.0, 32.0)
    most_drivers: int = 44
    people: tuple[int, int] = (9, 30)
    kerb_fraction: tuple[float, float] = (0.75, 1.0)
    lot_fraction: tuple[float, float] = (0.5, 0.9)
    machine: bool | None = None
    red_fraction: float = 0.4
    sight_m: float = 75.0
    flat: bool = False

    def __post_init__(self) -> None:
        if self.weather is not None and self.weather not in WEATHER_KINDS:
            raise ValueError(
                f'SceneParameters: weather must be one of {WEATHER_KINDS}, found {self.weather!r}'
            )
        if not 1.0 <= self.duration_s <= 60.0:
            raise ValueError(f'SceneParameters: duration_s must lie in [1, 60], found {self.duration_s}')


@dataclass(frozen=True)
class Surroundings:
    """What the traffic of one scene is drawn from.

    Attributes:
        city: the city.
        parameters: how busy the scene is.
        way_K2: (K, 2) places that the ego comes by, global metres.
        roads: streets near the ego's way, nearest to its beginning first.
        works: road works beside these streets.
        signals: the signal of each crossroads, by node.
    """

    city: City
    parameters: SceneParameters
    way_K2: np.ndarray
    roads: tuple[Road, ...]
    works: tuple[RoadWorks, ...]
    signals: dict[int, Signal]

    def along(self, way_K2: np.ndarray) -> Surroundings:
        """The same surroundings seen from another way (K, 2)."""
        return replace(self, way_K2=way_K2)

    def blocked_by_works(self, road: Road, left: bool, s_m: float, margin_m: float) -> bool:
        """Whether road works lie within `margin_m` of a place along a side of a street."""
        return any(zone.holds(road.index, left, s_m, margin_m) for zone in self.works)

    def distance_to_way_m(self, xy: np.ndarray) -> float:
        """Distance of a place (2,) from the ego's way."""
        return float(np.linalg.norm(self.way_K2 - xy, axis=1).min())


def draw_surroundings(
    city: City, ego: Driver, parameters: SceneParameters, rng: np.random.Generator
) -> Surroundings:
    """The surroundings of the way that the ego is about to drive.

    Args:
        city: the city.
        ego: the ego's plan; its route is longer than the scene.
        parameters: how busy the scene is.
        rng: draws signals and road works.
    """
    reach_m = WAY_FRACTION * ego.desired_m_per_s * (parameters.duration_s + 6)
    way_K2 = route_places(ego.route, ego.start_m, ego.start_m + reach_m)
    arrivals = ego.route.arrivals(ego.start_m, ego.desired_m_per_s)
    signals = draw_signals(city.network, arrivals, parameters.red_fraction, rng)
    roads = _near_roads(city, way_K2, NEAR_ROAD_M)
    works = _works_beside(city, ego, roads, bool(parameters.machine), rng)
    return Surroundings(city, parameters, way_K2, tuple(roads), tuple(works), signals)


def _near_roads(city: City, way_K2: np.ndarray, reach_m: float) -> list[Road]:
    """Streets with a part within reach of the ego's way, nearest to its beginning first."""
    first_half = max(1, len(way_K2) // 2)
    near = []
    for road in city.network.roads:
        points = road.curve.points_K2[::5]
        apart = np.linalg.norm(points[:, None] - way_K2[None], axis=2)
        if apart.min() < reach_m:
            near.append((float(apart[:, :first_half].min()), road.index, road))
    return [road for _, _, road in sorted(near, key=lambda row: row[:2])]


def _works_beside(city: City, ego: Driver, roads: list[Road], with_machine: bool,
                  rng: np.random.Generator) -> list[RoadWorks]:
    """One zone beside the ego's way, seldom a second, small one on another street near it."""
    aim = ego.route.curve.at(ego.start_m + rng.uniform(18.0, 50.0))[0]
    first = min(roads, key=lambda road: np.linalg.norm(road.curve.points_K2 - aim, axis=1).min())
    works = [draw_roadworks(city, first, aim, with_machine, rng)]

    others = [road for road in roads if road is not first]
    if others and rng.random() < 0.1:
        works.append(draw_roadworks(city, others[0], aim, False, rng))
    return works
