"""A scene: a drive of 20 s through a city with everything that moves and stands around it."""
from __future__ import annotations

import zlib
from dataclasses import replace

import numpy as np

from ..city.city import LOCATIONS
from ..city.ground import crop_ground
from ..city.records import City
from ..city.static import static_around
from ..scene.relief import Relief
from ..scene.scene import WorldScene
from ..scene.weather import draw_weather_kind, make_weather
from .actors import Actor, make_track, without_overlap
from .drivers import (
    Participant,
    draw_participants,
    driven_actors,
    ego_driver,
    first_without_overlap,
    route_places,
)
from .ego import ego_actor, ego_trajectory
from .parked import parked_actors
from .people import draw_people
from .roadworks import roadworks_actors
from .simulation import STEP_S, DriveLog, Driver, Walkers, simulate
from .surroundings import SceneParameters, Surroundings, draw_surroundings

WARM_UP_S = 6.0
"""The traffic drives this long before the scene begins, so that speeds and gaps have settled."""
WARM_UP_STEPS = int(round(WARM_UP_S / STEP_S))
MARGIN_S = 0.5
"""The tracks begin this long before the scene, so that a sensor may measure at its very start."""
GROUND_MARGIN_M = 170.0
"""How far beyond the ego's way the ground has its own height: farther than sensors reach."""
EPOCH_US = 1_532_000_000_000_000
_SCENE_STREAM = 0x5CE


def make_world_scene(
    city: City, scene_index: int, seed: int, parameters: SceneParameters | None = None
) -> WorldScene:
    """One scene of a city; the same arguments give the same scene on any machine.

    Args:
        city: from `make_city`.
        scene_index: which scene of the world; also spaces the scenes in time.
        seed: the world's seed.
        parameters: how busy the scene is; None gives the defaults.
    """
    parameters = parameters or SceneParameters()
    if parameters.machine is None:
        parameters = replace(parameters, machine=scene_index % 2 == 0)
    name = parameters.name or f'scene-{scene_index:04d}'
    rng = _scene_rng(city, scene_index, seed, name)
    drawn_weather = draw_weather_kind(rng)  # even if it is given: the rest of the scene stays the same
    weather = parameters.weather or drawn_weather

    # the ego's plan decides which part of the city the scene plays in
    ego = ego_driver(city.network, rng)
    surroundings = draw_surroundings(city, ego, parameters, rng)

    # people walk as planned; the cars are simulated among them, from some seconds before the scene on
    times_s = _simulation_times(parameters.duration_s)
    people = draw_people(surroundings, times_s, rng)
    participants = _draw_participants(surroundings, ego, rng)
    whole_log = _simulate(surroundings, ego, participants, people, times_s)
    log = whole_log.since(WARM_UP_STEPS)

    actors = [*driven_actors(participants, log, 1), *_draw_standing(surroundings, ego, log, rng),
              *(person.since(WARM_UP_STEPS) for person in people)]
    actors = _visible_actors(actors, ego_actor(log), parameters.sight_m)

    # ground and standing objects are cropped around the way that the ego really drives
    relief = Relief() if parameters.flat else city.relief
    trajectory = ego_trajectory(ego.route, log, relief)
    path_K2, margin_m = trajectory.xyz_T3[::25, :2], parameters.sight_m
    return WorldScene(
        name=name,
        location=city.location,
        description=_describe(ego, whole_log, city, actors, weather),
        log_name=f'world-{city.location}-{city.seed}-{weather}',
        start_timestamp_us=_start_timestamp_us(city, scene_index),
        duration_s=parameters.duration_s,
        seed=seed,
        weather=make_weather(weather, rng),
        ego=trajectory,
        ground=crop_ground(city.ground, path_K2.min(axis=0) - margin_m, path_K2.max(axis=0) + margin_m),
        static_mesh=static_around(city, path_K2, margin_m + 15.0, surroundings.works, relief),
        tracks=tuple(make_track(index, actor, log.times_s, relief) for index, actor in enumerate(actors)),
        height=relief.field_around(path_K2.min(axis=0) - GROUND_MARGIN_M,
                                   path_K2.max(axis=0) + GROUND_MARGIN_M))


def _scene_rng(city: City, scene_index: int, seed: int, name: str) -> np.random.Generator:
    """Random numbers of one scene; they depend on nothing that was made before it."""
    entropy = [seed, _SCENE_STREAM, LOCATIONS.index(city.location), scene_index, zlib.crc32(name.encode())]
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(entropy)))


def _start_timestamp_us(city: City, scene_index: int) -> int:
    """A day for each city, a minute for each scene."""
    return EPOCH_US + LOCATIONS.index(city.location) * 86_400_000_000 + scene_index * 60_000_000


def _simulation_times(duration_s: float) -> np.ndarray:
    """(T,) times of the simulation's steps; 0 is the start of the scene."""
    first = -round((WARM_UP_S + MARGIN_S) / STEP_S)
    last = round((duration_s + 0.6) / STEP_S)
    return np.round(np.arange(first, last) * STEP_S, 6)


def _draw_participants(
    surroundings: Surroundings, ego: Driver, rng: np.random.Generator
) -> list[Participant]:
    """The other drivers, none of which starts on top of another."""
    parameters = surroundings.parameters
    spacing_m = rng.uniform(*parameters.spacing_m)
    participants = draw_participants(surroundings.city.network, ego, surroundings.way_K2, spacing_m,
                                     parameters.sight_m, parameters.most_drivers, rng)
    return first_without_overlap(ego, participants)


def _simulate(surroundings: Surroundings, ego: Driver, participants: list[Participant], people: list[Actor],
              times_s: np.ndarray) -> DriveLog:
    """The drive of the ego (row 0) and of the participants (the rows after it)."""
    paths = np.array([actor.xy_T2 for actor in people]).reshape(len(people), len(times_s), 2)
    drivers = [ego, *(participant.driver for participant in participants)]
    return simulate(drivers, surroundings.signals, Walkers(paths), times_s)


def _draw_standing(
    surroundings: Surroundings, ego: Driver, log: DriveLog, rng: np.random.Generator
) -> list[Actor]:
    """What stands through the whole scene: road works first, then parked vehicles and cycles."""
    count = len(log.times_s)
    actors: list[Actor] = []
    for zone in surroundings.works:
        actors.extend(roadworks_actors(surroundings.city, zone, count, rng))

    # parked cars line the way that the ego really drives, which is shorter than the one it planned
    driven_K2 = route_places(ego.route, log.s_DT[0, 0], log.s_DT[0, -1])
    return actors + parked_actors(surroundings.along(driven_K2), count, rng)


def _visible_actors(actors: list[Actor], ego: Actor, sight_m: float) -> list[Actor]:
    """Those that come within sight of the ego at some time; of two that overlap the first one stays."""
    visible = [actor for actor in actors
               if np.linalg.norm(actor.xy_T2[::5] - ego.xy_T2[::5], axis=1).min() < sight_m]
    return without_overlap([ego, *visible])[1:]


def _describe(ego: Driver, log: DriveLog, city: City, actors: list[Actor], weather: str) -> str:
    """The scene in one line, in the manner of nuScenes' descriptions."""
    words = [weather.capitalize()]

    # the connectors that the ego drove over, warm-up included
    start, stop = log.s_DT[0, 0], log.s_DT[0, -1]
    for index, s_m in zip(ego.route.lanes, ego.route.lane_start_s, strict=True):
        lane = city.network.lanes[index]
        if start < s_m < stop and lane.is_connector:
            words.append('go straight on' if lane.turn == 'straight' else f'turn {lane.turn}')

    if (log.speed_DT[0] < 0.1).any():
        words.append('wait at intersection')
    words.append('construction')
    if sum(actor.category.startswith('human') for actor in actors) > 20:
        words.append('many peds')
    if sum(actor.parked for actor in actors) > 5:
        words.append('parked cars')
    return ', '.join(words)
