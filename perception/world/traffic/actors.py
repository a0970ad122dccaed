"""Things before they become tracks: sizes drawn from the fitted figures, paths, attributes, overlap."""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..bodies.make import make_body
from ..scene.track import Track
from .sizes import load_statistics

STILL_M_PER_S = 0.25
_TRUNCATE = 1.8


@dataclass(frozen=True)
class Actor:
    """One thing on its way, at the scene's times.

    Attributes:
        category: full nuScenes category.
        size_lwh_m: (3,).
        xy_T2, yaw_T: box centre and heading.
        pose: body variant ('rider', 'walking', 'standing', 'sitting' or '').
        parked: True for vehicles nobody sits in.
        seed: draws the body.
    """

    category: str
    size_lwh_m: np.ndarray
    xy_T2: np.ndarray
    yaw_T: np.ndarray
    pose: str = ''
    parked: bool = False
    seed: int = 0


def draw_size(category: str, rng: np.random.Generator) -> np.ndarray:
    """(length, width, height) in metres: normal around the figures of the category, cut at 1.8 sigma."""
    figures = load_statistics()
    size = figures['assumed']['size_lwh_m'].get(category)
    if size is None:
        size = figures['fitted']['categories'][category]['size_lwh_m']
    deviation = np.clip(rng.standard_normal(3), -_TRUNCATE, _TRUNCATE)
    return np.maximum(
        np.array(size['mean']) + deviation * np.array(size['std']), 0.7 * np.array(size['mean'])
    )


def standing_actor(category: str, xy: np.ndarray, yaw_rad: float, count: int, rng: np.random.Generator,
                   pose: str = '', size_lwh_m: np.ndarray | None = None) -> Actor:
    """A thing that stays where it is for `count` time samples; vehicles count as parked."""
    size = draw_size(category, rng) if size_lwh_m is None else np.asarray(size_lwh_m, float)
    if pose == 'sitting':
        size = np.array([0.8, 0.6, 1.3])
    return Actor(
        category, size, np.repeat(np.asarray(xy, float)[None], count, 0), np.full(count, float(yaw_rad)),
        pose, category.startswith('vehicle') and pose != 'rider', int(rng.integers(2**31)))


def _attribute(actor: Actor, moving: bool) -> str:
    if actor.category in ('vehicle.bicycle', 'vehicle.motorcycle'):
        return 'cycle.with_rider' if actor.pose == 'rider' else 'cycle.without_rider'
    if actor.category.startswith('vehicle'):
        return 'vehicle.moving' if moving else ('vehicle.parked' if actor.parked else 'vehicle.stopped')
    if actor.category.startswith('human'):
        if actor.pose == 'sitting':
            return 'pedestrian.sitting_lying_down'
        return 'pedestrian.moving' if moving else 'pedestrian.standing'
    return ''


def make_track(index: int, actor: Actor, times_s: np.ndarray) -> Track:
    """The finished track of an actor, standing on the ground, its body built."""
    size = np.asarray(actor.size_lwh_m, float)
    speed = np.linalg.norm(np.gradient(actor.xy_T2, times_s, axis=0), axis=1)
    xyz = np.column_stack([actor.xy_T2, np.full(len(times_s), 0.5 * size[2])])
    attributes = [_attribute(actor, bool(fast)) for fast in speed > STILL_M_PER_S]
    rng = np.random.Generator(np.random.PCG64(actor.seed))
    return Track(index, actor.category, size, times_s, xyz, actor.yaw_T, attributes,
                 make_body(actor.category, size, rng, actor.pose))


def boxes_overlap(first_X5: np.ndarray, second_X5: np.ndarray, slack_m: float = 0.1) -> np.ndarray:
    """Whether upright boxes (x, y, yaw, length, width) overlap by more than `slack_m`: separating axes,
    (X,)."""
    offset = second_X5[:, :2] - first_X5[:, :2]
    overlap = np.ones(len(first_X5), bool)
    turn = second_X5[:, 2] - first_X5[:, 2]
    cos, sin = np.abs(np.cos(turn)), np.abs(np.sin(turn))
    for here, there in ((first_X5, second_X5), (second_X5, first_X5)):
        c, s = np.cos(here[:, 2]), np.sin(here[:, 2])
        along, across = (
            np.abs(offset[:, 0] * c + offset[:, 1] * s), np.abs(offset[:, 1] * c - offset[:, 0] * s))
        overlap &= along < 0.5 * (here[:, 3] + there[:, 3] * cos + there[:, 4] * sin) - slack_m
        overlap &= across < 0.5 * (here[:, 4] + there[:, 3] * sin + there[:, 4] * cos) - slack_m
    return overlap


def without_overlap(actors: list[Actor], every: int = 5) -> list[Actor]:
    """The actors, in order of importance, less those that overlap an earlier one at any looked-at time."""
    places = np.array([actor.xy_T2[::every] for actor in actors])
    yaws = np.array([actor.yaw_T[::every] for actor in actors])
    sizes = np.array([actor.size_lwh_m[:2] for actor in actors])
    radius = 0.5 * np.linalg.norm(sizes, axis=1)
    kept: list[int] = []
    for index in range(len(actors)):
        others = np.array(kept, int)
        if len(others):
            apart = np.linalg.norm(places[others] - places[index], axis=2)
            who, when = np.nonzero(apart < (radius[others] + radius[index])[:, None])
            if len(who):
                def rows(which: np.ndarray, at: np.ndarray) -> np.ndarray:
                    return np.column_stack([places[which, at], yaws[which, at], sizes[which]])
                if boxes_overlap(rows(others[who], when), rows(np.full(len(who), index), when)).any():
                    continue
        kept.append(index)
    return [actors[index] for index in kept]
