"""LiDARs that fail: MetaBEV's limited field, missing objects, beam reduction and missing LiDAR;
MultiCorrupt's points reducing, motion blur, fog and snow.

A `Sample` does not say where its LiDAR sits; angles and ranges are taken from `LIDAR_PLACE_M`, the roof of
nuScenes' cars.
"""
from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import numpy as np

from ...core.contracts import Annotations, LidarPoints, Sample
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
    offset = points_P6[:, :2] - LIDAR_PLACE_M[:2]
    return np.degrees(np.arctan2(offset[:, 1], offset[:, 0]))


# --------------------------------------------------------------------------------------------------------------
# MetaBEV

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
    'missing_objects', 'lidar', (0, 0.1, 0.3, 0.5, 0.7, 1.0), 'share of objects', METABEV, 'metabev',
    needs=('boxes',), harmless=0)
def missing_objects(
    sample: Sample, severity: float, rng: np.random.Generator, annotations: Annotations
) -> Sample:
    """Each annotated object loses all its points with this probability, in older sweeps where its velocity
    says it was."""
    if sample.lidar is None:
        return sample
    points, boxes = sample.lidar.points_P6, annotations.boxes.boxes_M9
    keep, lag_s = np.ones(len(points), bool), np.ascontiguousarray(points[:, 5])
    x, y = (np.ascontiguousarray(points[:, axis]) for axis in (0, 1))
    for box in boxes[rng.uniform(size=len(boxes)) < severity]:
        (vx, vy), reach_m = np.nan_to_num(box[7:9]), box[3:5].max()
        near = np.flatnonzero(
            (np.abs(x + lag_s * vx - box[0]) <= reach_m) & (np.abs(y + lag_s * vy - box[1]) <= reach_m)
        )
        moved = points[near, :3]
        moved[:, :2] += lag_s[near, None] * (vx, vy)
        keep[near[points_in_boxes(moved, box[None, :7])[:, 0]]] = False
    return _with_points(sample, points[keep])


def kept_rings(beams: int) -> np.ndarray:
    """Which of 32 rings stay, evenly spread; fewer beams are always among more. For 16, 8, 4 they are
    MultiCorrupt's."""
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
    if len(points) and points[:, 4].min() < 0:
        raise ValueError(
            f'corruption beam_reduction: sample {sample.frame.token} has points whose ring is not known (-1)'
        )
    return _with_points(sample, points[np.isin(points[:, 4], kept_rings(int(severity)))])


@register(
    'missing_lidar', 'lidar', (1,), 'no LiDAR at all', METABEV, 'metabev_missing',
    sensors=('camera', 'lidar'), lasting=True)
def missing_lidar(sample: Sample, severity: float, rng: np.random.Generator) -> Sample:
    """The LiDAR does not work: the feature is absent, not an empty cloud."""
    return replace(sample, lidar=None)


# ---------------------------------------------------------------------------------------------------------
# MultiCorrupt

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
    sigma, points = _BLUR_SIGMA_M[int(severity) - 1], sample.lidar.points_P6.copy()
    shift, jitter = (
        rng.normal(size=3) * sigma, rng.normal(size=(len(points), 3)) * np.array([0.15, 0.2, 0.12]) * sigma)
    points[:, :3] += shift + np.clip(jitter, -3 * sigma, 3 * sigma)
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
    power = (
        np.sin(np.pi * times_s / (2 * pulse_s)) ** 2 * np.exp(-2 * alpha_per_m * safe_m) / safe_m**2 * seen
    )
    strength = power.sum(1) * (times_s[1] - times_s[0])
    best = np.maximum.accumulate(
        np.where(strength >= np.maximum.accumulate(strength), np.arange(len(strength)), 0)
    )
    return strength[best], ranges_m[best]


@register('lidar_fog', 'lidar', (1, 2, 3), _LEVELS, MULTICORRUPT, 'multicorrupt')
def lidar_fog(sample: Sample, severity: float, rng: np.random.Generator) -> Sample:
    """Fog by Hahner et al. (ICCV 2021): targets fade, and where the fog itself answers louder the point moves
    near the car."""
    if sample.lidar is None:
        return sample
    (alpha, beta), points = _FOG[int(severity) - 1], sample.lidar.points_P6.copy()
    rays = points[:, :3] - LIDAR_PLACE_M
    range_m = np.maximum(np.linalg.norm(rays, axis=1), 0.1)
    strength, distance_m = (
        table[np.clip(np.round(range_m * 10).astype(int) - 1, 0, 1999)] for table in fog_echo(alpha)
    )
    clear, faded = points[:, 3], np.round(points[:, 3] * np.exp(-2 * alpha * range_m))
    answer = strength * clear * range_m ** 2 * beta / (1e-6 / np.pi)
    spread = range_m / np.maximum(rng.uniform(range_m - 10, range_m + 10), 0.5 * range_m)
    nearer = answer > faded
    scale = np.where(nearer, np.minimum(distance_m * spread / range_m, 1), 1)
    points[:, 3] = np.where(nearer, np.minimum(answer, 255), faded)
    points[:, :3] = LIDAR_PLACE_M + rays * scale[:, None]
    return _with_points(sample, points)


@register(
    'lidar_snow', 'lidar', (1, 2, 3), _LEVELS,
    MULTICORRUPT + ' (its snow is Hahner et al., CVPR 2022; ours is simpler)', 'multicorrupt')
def lidar_snow(sample: Sample, severity: float, rng: np.random.Generator) -> Sample:
    """Snow: 0.3, 0.6, 1.2 percent of the beams meet a flake each metre; near flakes answer, other targets
    fade or vanish."""
    if sample.lidar is None:
        return sample
    per_m, points = _FLAKES_PER_M[int(severity) - 1], sample.lidar.points_P6.copy()
    rays = points[:, :3] - LIDAR_PLACE_M
    range_m = np.maximum(np.linalg.norm(rays, axis=1), 0.1)
    chance, fate = rng.uniform(size=(2, len(points)))
    flake_m = 1.5 + rng.exponential(3.5, len(points))
    met = chance < 1 - np.exp(-per_m * np.minimum(range_m, 30))
    answers = met & (flake_m < range_m)
    lost = ~answers & (fate < 1 - np.exp(-per_m * range_m))
    points[:, 3] = np.where(answers, 60 / flake_m, points[:, 3] * np.exp(-2 * per_m * range_m))
    points[:, :3] = LIDAR_PLACE_M + rays * np.where(answers, flake_m / range_m, 1)[:, None]
    return _with_points(sample, points[~lost])
