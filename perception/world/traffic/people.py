"""People: along walkways, over crossings, in small groups, on benches."""
from __future__ import annotations

import numpy as np

from ..city.records import Crossing, Road
from .actors import Actor, draw_size, standing_actor
from .routes import Signal
from .sizes import load_statistics
from .surroundings import Surroundings

CROSSING_REACH_M = 45.0
CHILD_FRACTION = 0.06


def draw_people(surroundings: Surroundings, times_s: np.ndarray, rng: np.random.Generator) -> list[Actor]:
    """Everybody on the walkways and crossings around the ego's way, over the whole simulation."""
    least, most = surroundings.parameters.people
    actors: list[Actor] = []
    for road in surroundings.roads:
        for left in (False, True):
            number = int(rng.integers(least, most + 1))
            actors.extend(_walkway_people(surroundings, road, left, number, times_s, rng))

    for crossing in surroundings.city.map.crossings:
        if surroundings.distance_to_way_m(crossing.curve.points_K2.mean(axis=0)) < CROSSING_REACH_M:
            signal = surroundings.signals[crossing.node]
            actors.extend(_crossing_people(crossing, signal, int(rng.integers(0, 3)), times_s, rng))
    return actors


def _walking_speed(category: str, rng: np.random.Generator) -> float:
    speed = load_statistics()['fitted']['categories'][category]['speed_m_per_s']
    return float(np.clip(rng.normal(speed['mean'], speed['std']), 0.6, 2.2))


def _category(rng: np.random.Generator) -> str:
    return 'human.pedestrian.child' if rng.random() < CHILD_FRACTION else 'human.pedestrian.adult'


def _walker(category: str, xy_T2: np.ndarray, rng: np.random.Generator) -> Actor:
    """A person who walks along a path and looks where it leads."""
    step = np.gradient(xy_T2, axis=0)
    yaw_T = np.unwrap(np.arctan2(step[:, 1], step[:, 0]))
    size = draw_size(category, rng)
    return Actor(category, size, xy_T2, yaw_T, 'walking', False, int(rng.integers(2**31)))


def _walkway_people(surroundings: Surroundings, road: Road, left: bool, number: int, times_s: np.ndarray,
                    rng: np.random.Generator) -> list[Actor]:
    """People on one street's walkway; most walk, the others stand alone or in pairs, a few sit.

    Who would walk through road works, or stand in them, is left out.
    """
    sign = 1.0 if left else -1.0
    kerb, walkway = abs(road.kerb_m(left)), surroundings.city.style.walkway_m
    low, high = road.span_m
    actors: list[Actor] = []
    for _ in range(number):
        category, direction = _category(rng), int(rng.choice((-1, 1)))
        aside = sign * (kerb + rng.uniform(1.0, max(walkway - 1.3, 1.2)))
        speed = _walking_speed(category, rng)
        kind = rng.random()

        # the way along the street; who does not walk stays at its first place
        walked = speed * (times_s - times_s[0]) if kind < 0.8 else np.zeros(1)
        s_m = rng.uniform(low, max(high - walked[-1], low + 1.0))
        path = s_m + (walked if direction > 0 else walked[::-1])
        if any(surroundings.blocked_by_works(road, left, float(place), 2.0) for place in path[::10]):
            continue

        if kind < 0.8:
            drift = 0.15 * np.sin(2 * np.pi * times_s / rng.uniform(9, 15) + rng.uniform(0, 6))
            actors.append(_walker(category, road.curve.beside(path, aside + drift)[0], rng))
        elif kind < 0.95:
            xy, _ = road.curve.beside(s_m, aside)
            actors.extend(_standing_group(category, xy, len(times_s), rng))
        else:
            xy, yaw = road.curve.beside(s_m, sign * (kerb + walkway - 0.4))
            facing = float(yaw) - sign * 0.5 * np.pi
            actors.append(standing_actor('human.pedestrian.adult', xy, facing, len(times_s), rng, 'sitting'))
    return actors


def _standing_group(category: str, xy: np.ndarray, count: int, rng: np.random.Generator) -> list[Actor]:
    """One person who stands, at times with a second one face to face."""
    facing = rng.uniform(0, 2 * np.pi)
    group = [standing_actor(category, xy, facing, count, rng, 'standing')]
    if rng.random() < 0.4:
        opposite = xy + 0.9 * np.array([np.cos(facing), np.sin(facing)])
        adult = 'human.pedestrian.adult'
        group.append(standing_actor(adult, opposite, facing + np.pi, count, rng, 'standing'))
    return group


def _crossing_people(crossing: Crossing, signal: Signal, number: int, times_s: np.ndarray,
                     rng: np.random.Generator) -> list[Actor]:
    """People who wait at a crossing and walk over it once cars of its street have red for long enough."""
    length = crossing.curve.length_m
    normal = np.array([-np.sin(crossing.curve.yaw_K[0]), np.cos(crossing.curve.yaw_K[0])])
    actors = []
    for _ in range(number):
        category, back = _category(rng), bool(rng.random() < 0.5)
        speed = _walking_speed(category, rng)
        starts = _safe_starts(signal, crossing.road, times_s, length / speed)
        if not starts:
            continue

        # from one kerb to the other, waiting 0.8 m before the one and stopping as far behind the other
        start = starts[int(rng.integers(len(starts)))]
        s_m = np.clip((times_s - start) * speed, -0.0, length + 1.6) - 0.8
        curve = crossing.curve.reversed() if back else crossing.curve
        along = np.array([np.cos(curve.yaw_K[0]), np.sin(curve.yaw_K[0])])
        xy = curve.points_K2[0] + s_m[:, None] * along + rng.uniform(-1.3, 1.3) * normal
        yaw = np.full(len(times_s), np.arctan2(along[1], along[0]))

        size = draw_size(category, rng)
        actors.append(Actor(category, size, xy, yaw, 'walking', False, int(rng.integers(2**31))))
    return actors


def _safe_starts(signal: Signal, road: int, times_s: np.ndarray, needed_s: float) -> list[float]:
    """Times from which on cars of a street have red for `needed_s` seconds, on a lattice of half seconds."""
    waits = np.arange(0, needed_s, 1.0)
    candidates = np.arange(times_s[0], times_s[-1] - 2.0, 0.5)
    return [t_s for t_s in candidates if not any(signal.is_green(road, t_s + wait) for wait in waits)]
