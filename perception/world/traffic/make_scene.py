"""A scene: a drive of 20 s through a city with everything that moves and stands around it."""
from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np

from ..city.city import LOCATIONS
from ..city.ground import crop_ground
from ..city.records import City, Road, RoadWorks
from ..city.static import static_around
from ..scene.scene import WorldScene
from ..scene.weather import WEATHER_KINDS, draw_weather_kind, make_weather
from .actors import Actor, make_track, without_overlap
from .drivers import draw_participants, driven_actors, ego_driver, first_without_overlap, route_places
from .ego import ego_actor, ego_trajectory
from .parked import (
    draw_works,
    kerb_parking,
    kerbs_of,
    lot_parking,
    parked_cycles,
    wanted_at_kerb,
    works_actors,
)
from .people import crossing_people, walkway_people
from .routes import Signal, draw_signals
from .simulation import STEP_S, DriveLog, Driver, Walkers, simulate

WARM_UP_S = 6.0
EPOCH_US = 1_532_000_000_000_000
_SCENE_STREAM = 0x5CE


@dataclass(frozen=True)
class SceneParameters:
    """What a caller may wish for.

    Attributes:
        name: scene name; None gives `scene-<index>`.
        weather: one of the weather kinds; None draws one.
        duration_s: length of the scene.
        spacing_m: range of the mean distance between vehicles of a lane.
        most_drivers: at most so many vehicles in motion.
        people: range of the number of people on a street's walkway.
        kerb_share, lot_share: ranges of how much of the kerbs and bays is taken.
        red_share: how many signals on the way show red when the ego comes.
        sight_m: how far from the ego's way things are made.
    """

    name: str | None = None
    weather: str | None = None
    duration_s: float = 20.0
    spacing_m: tuple[float, float] = (13.0, 32.0)
    most_drivers: int = 44
    people: tuple[int, int] = (3, 11)
    kerb_share: tuple[float, float] = (0.25, 0.65)
    lot_share: tuple[float, float] = (0.25, 0.6)
    red_share: float = 0.4
    sight_m: float = 75.0

    def __post_init__(self) -> None:
        if self.weather is not None and self.weather not in WEATHER_KINDS:
            raise ValueError(
                f'SceneParameters: weather must be one of {WEATHER_KINDS}, found {self.weather!r}'
            )
        if not 1.0 <= self.duration_s <= 60.0:
            raise ValueError(f'SceneParameters: duration_s must lie in [1, 60], found {self.duration_s}')


def _near_roads(city: City, seen_K2: np.ndarray, reach_m: float) -> list[Road]:
    """Streets with a part within reach of the ego's way, nearest to its beginning first."""
    near = []
    for road in city.network.roads:
        points = road.curve.points_K2[::5]
        apart = np.linalg.norm(points[:, None] - seen_K2[None], axis=2)
        if apart.min() < reach_m:
            near.append((float(apart[:, : max(1, len(seen_K2) // 2)].min()), road.index, road))
    return [road for _, _, road in sorted(near, key=lambda row: row[:2])]


def _draw_works(city: City, ego: Driver, roads: list[Road], rng: np.random.Generator) -> list[RoadWorks]:
    """One zone beside the ego's way, sometimes a second one on another street near it."""
    aim = ego.route.curve.at(ego.start_m + rng.uniform(18.0, 50.0))[0]
    first = min(roads, key=lambda road: np.linalg.norm(road.curve.points_K2 - aim, axis=1).min())
    works = [draw_works(city, first, aim, rng)]
    others = [road for road in roads if road is not first]
    if others and rng.random() < 0.25:
        works.append(draw_works(city, others[0], aim, rng))
    return works


def _standing(
    city: City,
    roads: list[Road],
    works: list[RoadWorks],
    seen_K2: np.ndarray,
    parameters: SceneParameters,
    count: int,
    rng: np.random.Generator,
) -> list[Actor]:
    """Parked vehicles and cycles; the nearest kerbs hold a trailer and a bus."""
    kerbs = kerbs_of(city, roads, works)
    wanted = [
        str(name) for name in rng.permutation(['vehicle.trailer', 'vehicle.bus.rigid', 'vehicle.truck'])
    ]
    actors = wanted_at_kerb(kerbs, wanted, seen_K2, count, rng)
    for kerb in kerbs:
        actors.extend(kerb_parking(kerb, rng.uniform(*parameters.kerb_share), count, rng))
    actors.extend(lot_parking(city, seen_K2, 60.0, rng.uniform(*parameters.lot_share), count, rng))
    first_left = bool(rng.random() < 0.5)
    for category, left in (('vehicle.bicycle', first_left), ('vehicle.motorcycle', not first_left)):
        actors.extend(_cycle_row(city, roads, works, seen_K2, left, category, count, rng))
    return actors


def _cycle_row(
    city: City,
    roads: list[Road],
    works: list[RoadWorks],
    seen_K2: np.ndarray,
    left: bool,
    category: str,
    count: int,
    rng: np.random.Generator,
) -> list[Actor]:
    """One to four cycles parked in a row on a walkway near the ego's way, clear of road works."""
    for _ in range(20):
        road = roads[int(rng.integers(len(roads)))]
        apart = np.linalg.norm(road.curve.points_K2[:, None] - seen_K2[None], axis=2).min(axis=1)
        if apart.min() > 25.0:
            continue
        s_m = float(road.curve.s_K[apart.argmin()]) + rng.uniform(-12, 12)
        s_m = float(np.clip(s_m, road.span_m[0] + 2, road.span_m[1] - 6))
        if not any(zone.holds(road.index, left, s_m, 7.0) for zone in works):
            return parked_cycles(city, road, left, s_m, category, int(rng.integers(1, 5)), count, rng)
    return []


def _people(
    city: City,
    roads: list[Road],
    works: list[RoadWorks],
    signals: dict[int, Signal],
    seen_K2: np.ndarray,
    parameters: SceneParameters,
    times_s: np.ndarray,
    rng: np.random.Generator,
) -> list[Actor]:
    actors: list[Actor] = []
    for road in roads:
        for left in (False, True):
            number = int(rng.integers(parameters.people[0], parameters.people[1] + 1))
            actors.extend(walkway_people(city, road, left, number, works, times_s, rng))
    for crossing in city.map.crossings:
        middle = crossing.curve.points_K2.mean(axis=0)
        if np.linalg.norm(seen_K2 - middle, axis=1).min() < 45.0:
            actors.extend(
                crossing_people(crossing, signals[crossing.node], int(rng.integers(0, 3)), times_s, rng)
            )
    return actors


def _in_sight(actors: list[Actor], ego_xy_T2: np.ndarray, sight_m: float) -> list[Actor]:
    """Those that come within sight of the ego at some time."""
    return [actor for actor in actors
            if np.linalg.norm(actor.xy_T2[::5] - ego_xy_T2[::5], axis=1).min() < sight_m]


def _describe(ego: Driver, log: DriveLog, city: City, actors: list[Actor], weather: str) -> str:
    start, stop = log.s_DT[0, 0], log.s_DT[0, -1]
    turns = [
        city.network.lanes[lane].turn
        for lane, s_m in zip(ego.route.lanes, ego.route.lane_start_s, strict=True)
        if start < s_m < stop and city.network.lanes[lane].is_connector
    ]
    words = [
        weather.capitalize(), *(f'turn {turn}' if turn != 'straight' else 'go straight on' for turn in turns)]
    if (log.speed_DT[0] < 0.1).any():
        words.append('wait at intersection')
    words.append('construction')
    people = sum(actor.category.startswith('human') for actor in actors)
    parked = sum(actor.parked for actor in actors)
    return ', '.join(
        [*words, *(['many peds'] if people > 20 else []), *(['parked cars'] if parked > 5 else [])]
    )


def make_world_scene(
    city: City, scene_index: int, seed: int, parameters: SceneParameters | None = None
) -> WorldScene:
    """One scene of a city; the same arguments give the same scene anywhere.

    Args:
        city: from `make_city`.
        scene_index: which scene of the world; also spaces the scenes in time.
        seed: the world's seed.
        parameters: wishes.
    """
    parameters = parameters or SceneParameters()
    name = parameters.name or f'scene-{scene_index:04d}'
    entropy = [seed, _SCENE_STREAM, LOCATIONS.index(city.location), scene_index, zlib.crc32(name.encode())]
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence(entropy)))
    drawn = draw_weather_kind(rng)
    weather = parameters.weather or drawn
    times_all = np.round(np.arange(-round((WARM_UP_S + 0.5) / STEP_S),
                                   round((parameters.duration_s + 0.6) / STEP_S)) * STEP_S, 6)
    first = int(round(WARM_UP_S / STEP_S))
    times = times_all[first:]

    ego = ego_driver(city.network, rng)
    seen = route_places(
        ego.route, ego.start_m, ego.start_m + 0.7 * ego.desired_m_per_s * (parameters.duration_s + 6)
    )
    signals = draw_signals(
        city.network, ego.route, ego.start_m, ego.desired_m_per_s, parameters.red_share, rng
    )
    roads = _near_roads(city, seen, 45.0)
    works = _draw_works(city, ego, roads, rng)
    people = _people(city, roads, works, signals, seen, parameters, times_all, rng)
    participants = first_without_overlap(
        ego,
        draw_participants(
            city.network, ego, seen, rng.uniform(*parameters.spacing_m), parameters.sight_m,
            parameters.most_drivers, rng),
    )
    walkers = Walkers(np.array([actor.xy_T2 for actor in people]).reshape(len(people), len(times_all), 2))
    log = simulate([ego, *(participant.driver for participant in participants)], signals, walkers, times_all)

    people = [Actor(actor.category, actor.size_lwh_m, actor.xy_T2[first:], actor.yaw_T[first:], actor.pose,
                    actor.parked, actor.seed) for actor in people]
    machines = [actor for zone in works for actor in works_actors(city, zone, len(times), rng)]
    driven = route_places(ego.route, log.s_DT[0, first], log.s_DT[0, -1])
    standing = _standing(city, roads, works, driven, parameters, len(times), rng)
    me = ego_actor(log, first)
    others = _in_sight([*driven_actors(participants, log, 1, first), *machines, *standing, *people], me.xy_T2,
                       parameters.sight_m)
    actors = without_overlap([me, *others])[1:]
    trajectory = ego_trajectory(ego.route, log, first)
    path = trajectory.xyz_T3[::25, :2]
    margin = parameters.sight_m
    start_us = EPOCH_US + LOCATIONS.index(city.location) * 86_400_000_000 + scene_index * 60_000_000
    return WorldScene(
        name=name, location=city.location, description=_describe(ego, log, city, actors, weather),
        log_name=f'world-{city.location}-{city.seed}-{weather}', start_timestamp_us=start_us,
        duration_s=parameters.duration_s, seed=seed, weather=make_weather(weather, rng), ego=trajectory,
        ground=crop_ground(city.ground, path.min(axis=0) - margin, path.max(axis=0) + margin),
        static_mesh=static_around(city, path, parameters.sight_m + 15.0, works),
        tracks=tuple(make_track(index, actor, times) for index, actor in enumerate(actors)))
