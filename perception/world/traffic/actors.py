"""Objects before they become tracks: sizes drawn from the fitted statistics, paths, attributes, overlap."""
from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ..bodies.make import make_body
from ..scene.relief import Relief
from ..scene.track import Track
from .sizes import load_statistics

STILL_M_PER_S = 0.25
_TRUNCATE = 1.8


@dataclass(frozen=True)
class Actor:
    """One object on its way, at the scene's times.

    Attributes:
        category: full nuScenes category.
        size_lwh_m: (3,).
        xy_T2, yaw_T: box centre and heading.
        pose: body variant ('rider', 'walking', 'standing', 'sitting' or '').
        parked: True for vehicles without a driver.
        seed: draws the body.
    """

    category: str
    size_lwh_m: np.ndarray
    xy_T2: np.ndarray
    yaw_T: np.ndarray
    pose: str = ''
    parked: bool = False
    seed: int = 0

    def since(self, step: int) -> Actor:
        """The actor from a time step on."""
        return replace(self, xy_T2=self.xy_T2[step:], yaw_T=self.yaw_T[step:])


def draw_size(category: str, rng: np.random.Generator) -> np.ndarray:
    """(length, width, height) in metres: normal around the category's mean, cut at 1.8 sigma."""
    statistics = load_statistics()
    size = statistics['assumed']['size_lwh_m'].get(category)
    if size is None:
        size = statistics['fitted']['categories'][category]['size_lwh_m']

    mean, std = np.array(size['mean']), np.array(size['std'])
    deviation = np.clip(rng.standard_normal(3), -_TRUNCATE, _TRUNCATE)
    return np.maximum(mean + deviation * std, 0.7 * mean)


def standing_actor(category: str, xy: np.ndarray, yaw_rad: float, count: int, rng: np.random.Generator,
                   pose: str = '', size_lwh_m: np.ndarray | None = None) -> Actor:
    """An object that stays where it is; vehicles count as parked.

    Args:
        category: full nuScenes category.
        xy: (2,) global metres.
        yaw_rad: heading.
        count: number of time samples.
        rng: draws the size and the body.
        pose: body variant.
        size_lwh_m: (3,) metres; None draws it.
    """
    size = draw_size(category, rng) if size_lwh_m is None else np.asarray(size_lwh_m, float)
    if pose == 'sitting':
        size = np.array([0.8, 0.6, 1.3])
    xy_T2 = np.repeat(np.asarray(xy, float)[None], count, 0)
    yaw_T = np.full(count, float(yaw_rad))
    parked = category.startswith('vehicle') and pose != 'rider'
    return Actor(category, size, xy_T2, yaw_T, pose, parked, int(rng.integers(2**31)))


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


def _standing_on(actor: Actor, relief: Relief) -> tuple[np.ndarray, np.ndarray]:
    """Box centres (T, 3) and slopes (T, 2): people stay upright, everything else leans with its ground."""
    length, width, height = actor.size_lwh_m
    foot_m, slope = relief.plane_at(actor.xy_T2, actor.yaw_T, (-0.3 * length, 0.3 * length), 0.4 * width)
    if actor.category.startswith('human'):
        slope = np.zeros_like(slope)

    # the centre lies half a height along the ground's normal
    normal = np.column_stack([-slope, np.ones(len(slope))])
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    return np.column_stack([actor.xy_T2, foot_m]) + 0.5 * height * normal, slope


def make_track(index: int, actor: Actor, times_s: np.ndarray, relief: Relief) -> Track:
    """The finished track of an actor, standing on the ground, its body built."""
    size = np.asarray(actor.size_lwh_m, float)
    speed = np.linalg.norm(np.gradient(actor.xy_T2, times_s, axis=0), axis=1)
    xyz, slope = _standing_on(actor, relief)
    attributes = [_attribute(actor, bool(fast)) for fast in speed > STILL_M_PER_S]

    rng = np.random.Generator(np.random.PCG64(actor.seed))
    body = make_body(actor.category, size, rng, actor.pose)
    return Track(index, actor.category, size, times_s, xyz, actor.yaw_T, attributes, body, slope)


def boxes_overlap(first_X5: np.ndarray, second_X5: np.ndarray, slack_m: float = 0.1) -> np.ndarray:
    """Which upright boxes (x, y, yaw, length, width) overlap by more than `slack_m`, by separating axes.

    Returns:
        (X,) bool, one for each pair of rows.
    """
    offset = second_X5[:, :2] - first_X5[:, :2]
    turn = second_X5[:, 2] - first_X5[:, 2]
    cos, sin = np.abs(np.cos(turn)), np.abs(np.sin(turn))
    overlap = np.ones(len(first_X5), bool)
    for here, there in ((first_X5, second_X5), (second_X5, first_X5)):
        # the distance of the centres along and across this box
        c, s = np.cos(here[:, 2]), np.sin(here[:, 2])
        along = np.abs(offset[:, 0] * c + offset[:, 1] * s)
        across = np.abs(offset[:, 1] * c - offset[:, 0] * s)

        overlap &= along < 0.5 * (here[:, 3] + there[:, 3] * cos + there[:, 4] * sin) - slack_m
        overlap &= across < 0.5 * (here[:, 4] + there[:, 3] * sin + there[:, 4] * cos) - slack_m
    return overlap


def without_overlap(actors: list[Actor], every: int = 5) -> list[Actor]:
    """The actors, in order of importance, less those that overlap an earlier one.

    Args:
        actors: all with the same number of time samples.
        every: step between the time samples that are compared.
    """
    places = np.array([actor.xy_T2[::every] for actor in actors])
    yaws = np.array([actor.yaw_T[::every] for actor in actors])
    sizes = np.array([actor.size_lwh_m[:2] for actor in actors])
    radius = 0.5 * np.linalg.norm(sizes, axis=1)

    def boxes(which: np.ndarray, at: np.ndarray) -> np.ndarray:
        return np.column_stack([places[which, at], yaws[which, at], sizes[which]])

    kept: list[int] = []
    for index in range(len(actors)):
        # circles around the boxes first: most pairs never come near each other
        others = np.array(kept, int)
        apart = np.linalg.norm(places[others] - places[index], axis=2)
        which, at = np.nonzero(apart < (radius[others] + radius[index])[:, None])
        if not boxes_overlap(boxes(others[which], at), boxes(np.full(len(which), index), at)).any():
            kept.append(index)
    return [actors[index] for index in kept]
