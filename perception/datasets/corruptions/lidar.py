"""LiDARs that fail, as in MetaBEV and MultiCorrupt.

MetaBEV: limited field, missing objects, beam reduction and missing LiDAR. MultiCorrupt: points reducing,
motion blur, fog and snow.

A `Sample` does not say where its LiDAR sits; angles and ranges are taken from `LIDAR_PLACE_M`, the roof of
nuScenes' cars.
"""
from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import numpy as np

from ...core.contracts import (
    CENTRE,
    INTENSITY,
    RING,
    SIZE,
    TIME_LAG,
    VELOCITY,
    XY,
    XYZ,
    Annotations,
    LidarPoints,
    Sample,
)
from ...core.geometry import points_in_boxes
from .base import METABEV, MULTICORRUPT, register

LIDAR_PLACE_M = np.array([0.94, 0.0, 1.84], np.float32)
_RINGS = 32
_SPEED_OF_LIGHT_MPS = 299_792_458.0
_BLUR_SIGMA_M = (0.06, 0.10, 0.13)
_FOG = ((0.02, 0.008), (0.03, 0.008), (0.06, 0.05))
_FLAKES_PER_M = (0.003, 0.006, 0.012)
_LEVELS = 'level'


def _with_points(sample: Sample, points_P6: np.ndarray) -> Sample:
    return replace(sample, lidar=LidarPoints(np.ascontiguousarray(points_P6, dtype=np.float32)))


def azimuth_deg(points_P6: np.ndarray) -> np.ndarray:
    """Direction of points as the LiDAR sees them, `(P,)` in [-180, 180]: 0 ahead, counter-clockwise."""
    offset = points_P6[:, XY] - LIDAR_PLACE_M[XY]
    return np.degrees(np.arctan2(offset[:, 1], offset[:, 0]))


@register(
    'limited_field', 'lidar', (180, 120, 90, 60), 'degrees to either side', METABEV, 'metabev', harmless=180
)
def limited_field(sample: Sample, severity: float, rng: np.random.Generator) -> Sample:
    """Only points within `severity` degrees left and right of straight ahead, of all sweeps."""
    if sample.lidar is None:
        return sample
    points = sample.lidar.points_P6
    return _with_points(sample, points[np.abs(azimuth_deg(points)) <= severity])


@register(
    'missing_objects', 'lidar', (0, 0.1, 0.3, 0.5, 0.7, 1.0), 'fraction of objects', METABEV, 'metabev',
    needs=('boxes',), harmless=0)
def missing_objects(
    sample: Sample, severity: float, rng: np.random.Generator, annotations: Annotations
) -> Sample:
    """Each annotated object loses all its points with this probability.

    In older sweeps they are looked for where its velocity says it was.
    """
    if sample.lidar is None:
        return sample
    points, boxes = sample.lidar.points_P6, annotations.boxes.boxes_M9
    keep = np.ones(len(points), bool)

    # columns apart: the test below runs over all points once a box
    lag_s = np.ascontiguousarray(points[:, TIME_LAG])
    x, y = (np.ascontiguousarray(points[:, axis]) for axis in (0, 1))
    for box in boxes[rng.uniform(size=len(boxes)) < severity]:
        centre, (vx, vy), reach_m = box[CENTRE], np.nan_to_num(box[VELOCITY]), box[SIZE][:2].max()
        near_x = np.abs(x + lag_s * vx - centre[0]) <= reach_m
        near_y = np.abs(y + lag_s * vy - centre[1]) <= reach_m
        near = np.flatnonzero(near_x & near_y)

        # points moved to the key frame's time, where the box is
        moved = points[near, XYZ]
        moved[:, XY] += lag_s[near, None] * (vx, vy)
        keep[near[points_in_boxes(moved, box[None])[:, 0]]] = False
    return _with_points(sample, points[keep])


def kept_rings(beams: int) -> np.ndarray:
    """Which of 32 rings stay, evenly spread; fewer beams are always among more.

    For 16, 8, 4 they are MultiCorrupt's.
    """
    if beams == 1:
        return np.array([_RINGS // 2 + 1])
    return np.arange(_RINGS) if beams == _RINGS else np.arange(1, _RINGS, _RINGS // beams)


@register('beam_reduction', 'lidar', (32, 16, 8, 4, 1), 'beams of 32', METABEV, 'metabev', harmless=32,
          suites={'multicorrupt': (16, 8, 4)})
def beam_reduction(sample: Sample, severity: float, rng: np.random.Generator) -> Sample:
    """`severity` of the 32 beams are left, by the ring column."""
    if sample.lidar is None:
        return sample
    points = sample.lidar.points_P6
    if len(points) and points[:, RING].min() < 0:
        raise ValueError(
            f'corruption beam_reduction: sample {sample.frame.token} has points whose ring is not known (-1)'
        )
    return _with_points(sample, points[np.isin(points[:, RING], kept_rings(int(severity)))])


@register(
    'missing_lidar', 'lidar', (1,), 'no LiDAR at all', METABEV, 'metabev_missing',
    sensors=('camera', 'lidar'), lasting=True)
def missing_lidar(sample: Sample, severity: float, rng: np.random.Generator) -> Sample:
    """The LiDAR does not work: the feature is absent, not an empty cloud."""
    return replace(sample, lidar=None)


@register('points_reduction', 'lidar', (70, 80, 90), 'percent of points lost', MULTICORRUPT, 'multicorrupt')
def points_reduction(sample: Sample, severity: float, rng: np.random.Generator) -> Sample:
    """Points are lost at random, 70, 80, 90 of a hundred."""
    if sample.lidar is None:
        return sample
    points = sample.lidar.points_P6
    keep = np.sort(rng.permutation(len(points))[:round(len(points) * (100 - severity) / 100)])
    return _with_points(sample, points[keep])


@register('lidar_motion_blur', 'lidar', (1, 2, 3), _LEVELS, MULTICORRUPT, 'multicorrupt')
def lidar_motion_blur(sample: Sample, severity: float, rng: np.random.Generator) -> Sample:
    """A shaking LiDAR: one random shift of the cloud (sigma 0.06, 0.10, 0.13 m) and jitter of each point."""
    if sample.lidar is None:
        return sample
    sigma = _BLUR_SIGMA_M[int(severity) - 1]
    points = sample.lidar.points_P6.copy()
    shift = rng.normal(size=3) * sigma
    jitter = rng.normal(size=(len(points), 3)) * np.array([0.15, 0.2, 0.12]) * sigma
    points[:, XYZ] += shift + np.clip(jitter, -3 * sigma, 3 * sigma)
    return _with_points(sample, points)


@lru_cache(maxsize=8)
def fog_echo(alpha_per_m: float, pulse_s: float = 2e-8) -> tuple[np.ndarray, np.ndarray]:
    """Strongest echo of fog in front of a target, for targets at 0.1, 0.2 ... 200 m.

    The integral of Hahner et al. (ICCV 2021, arXiv 2108.05249, eq. 13): a sin^2 pulse, attenuation there and
    back, 1/R^2, and a receiver that begins to see the beam at 0.9 m and sees all of it from 1 m on.

    Returns:
        strength `(2000,)` in s/m^2 and the distance in m where it comes from.
    """
    ranges_m = np.arange(1, 2001) * 0.1
    times_s = np.linspace(0, 2 * pulse_s, 200)
    from_m = ranges_m[:, None] - _SPEED_OF_LIGHT_MPS * times_s / 2
    seen = np.clip((from_m - 0.9) / 0.1, 0, 1)
    safe_m = np.maximum(from_m, 0.1)
    pulse = np.sin(np.pi * times_s / (2 * pulse_s)) ** 2
    power = pulse * np.exp(-2 * alpha_per_m * safe_m) / safe_m**2 * seen

    # up to each range, the index of the strongest echo so far
    strength = power.sum(1) * (times_s[1] - times_s[0])
    record = strength >= np.maximum.accumulate(strength)
    best = np.maximum.accumulate(np.where(record, np.arange(len(strength)), 0))
    return strength[best], ranges_m[best]


@register('lidar_fog', 'lidar', (1, 2, 3), _LEVELS, MULTICORRUPT, 'multicorrupt')
def lidar_fog(sample: Sample, severity: float, rng: np.random.Generator) -> Sample:
    """Fog by Hahner et al. (ICCV 2021): targets fade.

    Where the echo of the fog itself is stronger, the point moves near the car.
    """
    if sample.lidar is None:
        return sample
    alpha, beta = _FOG[int(severity) - 1]
    points = sample.lidar.points_P6.copy()
    rays = points[:, XYZ] - LIDAR_PLACE_M
    range_m = np.maximum(np.linalg.norm(rays, axis=1), 0.1)

    # intensity of the target through the fog, and of the fog before it
    entry = np.clip(np.round(range_m * 10).astype(int) - 1, 0, 1999)
    strength, distance_m = (table[entry] for table in fog_echo(alpha))
    clear = points[:, INTENSITY]
    faded = np.round(clear * np.exp(-2 * alpha * range_m))
    echo = strength * clear * range_m ** 2 * beta / (1e-6 / np.pi)

    # the reference implementation spreads the echoes at random
    spread = range_m / np.maximum(rng.uniform(range_m - 10, range_m + 10), 0.5 * range_m)
    nearer = echo > faded
    scale = np.where(nearer, np.minimum(distance_m * spread / range_m, 1), 1)
    points[:, INTENSITY] = np.where(nearer, np.minimum(echo, 255), faded)
    points[:, XYZ] = LIDAR_PLACE_M + rays * scale[:, None]
    return _with_points(sample, points)


@register(
    'lidar_snow', 'lidar', (1, 2, 3), _LEVELS,
    MULTICORRUPT + ' (its snow is Hahner et al., CVPR 2022; ours is simpler)', 'multicorrupt')
def lidar_snow(sample: Sample, severity: float, rng: np.random.Generator) -> Sample:
    """Snow: 0.3, 0.6, 1.2 percent of the beams meet a flake each metre.

    Near flakes return an echo, other targets fade or vanish.
    """
    if sample.lidar is None:
        return sample
    per_m = _FLAKES_PER_M[int(severity) - 1]
    points = sample.lidar.points_P6.copy()
    rays = points[:, XYZ] - LIDAR_PLACE_M
    range_m = np.maximum(np.linalg.norm(rays, axis=1), 0.1)

    # which beams end at a flake, and which targets are lost behind the others
    chance, fate = rng.uniform(size=(2, len(points)))
    flake_m = 1.5 + rng.exponential(3.5, len(points))
    met = chance < 1 - np.exp(-per_m * np.minimum(range_m, 30))
    echoes = met & (flake_m < range_m)
    lost = ~echoes & (fate < 1 - np.exp(-per_m * range_m))

    faded = points[:, INTENSITY] * np.exp(-2 * per_m * range_m)
    points[:, INTENSITY] = np.where(echoes, 60 / flake_m, faded)
    points[:, XYZ] = LIDAR_PLACE_M + rays * np.where(echoes, flake_m / range_m, 1)[:, None]
    return _with_points(sample, points[~lost])
