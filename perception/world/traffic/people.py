"""People: along walkways, over crossings, in small groups, on benches."""
from __future__ import annotations

import numpy as np

from ..city.records import City, Crossing, Road, RoadWorks
from .actors import Actor, draw_size, standing_actor
from .routes import Signal
from .sizes import load_statistics


def _walking_speed(category: str, rng: np.random.Generator) -> float:
    speed = load_statistics()['fitted']['categories'][category]['speed_m_per_s']
    return float(np.clip(rng.normal(speed['mean'], speed['std']), 0.6, 2.2))


def _category(rng: np.random.Generator) -> str:
    return 'human.pedestrian.child' if rng.random() < 0.06 else 'human.pedestrian.adult'


def _walker(category: str, xy_T2: np.ndarray, rng: np.random.Generator) -> Actor:
    step = np.gradient(xy_T2, axis=0)
    return Actor(
        category, draw_size(category, rng), xy_T2, np.unwrap(np.arctan2(step[:, 1], step[:, 0])), 'walking',
        False, int(rng.integers(2**31)))


def walkway_people(city: City, road: Road, left: bool, number: int, works: list[RoadWorks], times_s: np.ndarray,
                   rng: np.random.Generator) -> list[Actor]:
    """People on one street's walkway; two thirds walk, the others stand alone or in pairs, a few sit."""
    sign, kerb = 1.0 if left else -1.0, abs(road.kerb_m(left))
    low, high = road.span_m
    actors: list[Actor] = []
    for _ in range(number):
        category, direction = _category(rng), int(rng.choice((-1, 1)))
        aside = sign * (kerb + rng.uniform(1.0, max(city.style.walkway_m - 1.3, 1.2)))
        speed = _walking_speed(category, rng)
        kind = rng.random()
        walked = speed * (times_s - times_s[0]) if kind < 0.8 else np.zeros(1)
        s_m = rng.uniform(low, max(high - walked[-1], low + 1.0))
        path = s_m + (walked if direction > 0 else walked[::-1])
        if any(zone.holds(road.index, left, float(place), 2.0) for zone in works for place in path[::10]):
            continue
        if kind < 0.8:
            drift = 0.15 * np.sin(2 * np.pi * times_s / rng.uniform(9, 15) + rng.uniform(0, 6))
            actors.append(_walker(category, road.curve.beside(path, aside + drift)[0], rng))
        elif kind < 0.95:
            xy, yaw = road.curve.beside(s_m, aside)
            facing = rng.uniform(0, 2 * np.pi)
            actors.append(standing_actor(category, xy, facing, len(times_s), rng, 'standing'))
            if rng.random() < 0.4:
                beside = xy + 0.9 * np.array([np.cos(facing), np.sin(facing)])
                actors.append(
                    standing_actor(
                        'human.pedestrian.adult', beside, facing + np.pi, len(times_s), rng, 'standing'
                    )
                )
        else:
            xy, yaw = road.curve.beside(s_m, sign * (kerb + city.style.walkway_m - 0.4))
            actors.append(
                standing_actor(
                    'human.pedestrian.adult', xy, float(yaw) - sign * 0.5 * np.pi, len(times_s), rng,
                    'sitting')
            )
    return actors


def crossing_people(crossing: Crossing, signal: Signal, number: int, times_s: np.ndarray,
                    rng: np.random.Generator) -> list[Actor]:
    """People who wait at a crossing and walk over it once cars of its street have red for long enough."""
    actors = []
    length = crossing.curve.length_m
    normal = np.array([-np.sin(crossing.curve.yaw_K[0]), np.cos(crossing.curve.yaw_K[0])])
    for _ in range(number):
        category, back = _category(rng), bool(rng.random() < 0.5)
        speed = _walking_speed(category, rng)
        needed = length / speed
        starts = [
            t_s
            for t_s in np.arange(times_s[0], times_s[-1] - 2.0, 0.5)
            if not any(signal.is_green(crossing.road, t_s + wait) for wait in np.arange(0, needed, 1.0))
        ]
        if not starts:
            continue
        start = starts[int(rng.integers(len(starts)))]
        s_m = np.clip((times_s - start) * speed, -0.0, length + 1.6) - 0.8
        curve = crossing.curve.reversed() if back else crossing.curve
        along = np.array([np.cos(curve.yaw_K[0]), np.sin(curve.yaw_K[0])])
        xy = curve.points_K2[0] + s_m[:, None] * along + rng.uniform(-1.3, 1.3) * normal
        yaw = np.full(len(times_s), np.arctan2(along[1], along[0]))
        actors.append(Actor(category, draw_size(category, rng), xy, yaw, 'walking', False,
                            int(rng.integers(2 ** 31))))
    return actors
