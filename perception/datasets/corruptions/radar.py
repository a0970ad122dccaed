"""Radars that fail: targets lost, targets that are not there, velocities off, whole radars dead.

No published suite has these.
"""
from __future__ import annotations

from dataclasses import replace

import numpy as np

from ...core.contracts import RADAR_INDEX, RADAR_RCS, RADAR_VELOCITY, XY, RadarPoints, Sample
from ...core.protocols import RADARS
from ..transforms.sensor import without_radars
from .base import OURS, register

_FAR_M, _GHOST_SPEED_MPS, _GHOST_TURN_RAD = 70.0, 15.0, np.deg2rad(15)


def _with_points(sample: Sample, points_P8: np.ndarray) -> Sample:
    return replace(sample, radar=replace(sample.radar, points_P8=points_P8.astype(np.float32)))


@register('radar_drop_out', 'radar', (0.25, 0.5, 0.75), 'fraction of targets lost', OURS, 'radar')
def radar_drop_out(sample: Sample, severity: float, rng: np.random.Generator) -> Sample:
    """Targets are lost at random, each with this probability."""
    if sample.radar is None:
        return sample
    points = sample.radar.points_P8
    return _with_points(sample, points[rng.uniform(size=len(points)) >= severity])


@register('radar_clutter', 'radar', (0.5, 1, 2), 'ghosts per target', OURS, 'radar')
def radar_clutter(sample: Sample, severity: float, rng: np.random.Generator) -> Sample:
    """Ghost targets in every radar's field.

    About the direction of a real target, at any range, moving at any speed along it.
    """
    if sample.radar is None or not len(sample.radar.points_P8):
        return sample
    points = sample.radar.points_P8
    ghosts = points[rng.integers(len(points), size=round(len(points) * severity))].copy()
    turn_rad = rng.uniform(-_GHOST_TURN_RAD, _GHOST_TURN_RAD, len(ghosts))
    azimuth_rad = np.arctan2(ghosts[:, 1], ghosts[:, 0]) + turn_rad
    direction = np.stack([np.cos(azimuth_rad), np.sin(azimuth_rad)], 1)

    ghosts[:, XY] = direction * rng.uniform(3, _FAR_M, (len(ghosts), 1))
    ghosts[:, RADAR_VELOCITY] = direction * rng.uniform(
        -_GHOST_SPEED_MPS, _GHOST_SPEED_MPS, (len(ghosts), 1))
    ghosts[:, RADAR_RCS] = rng.normal(0, 5, len(ghosts))
    return _with_points(sample, np.concatenate([points, ghosts]))


@register('radar_doppler_bias', 'radar', (1, 2, 4), 'm/s', OURS, 'radar', lasting=True)
def radar_doppler_bias(sample: Sample, severity: float, rng: np.random.Generator) -> Sample:
    """Each radar measures all targets this much too fast or all too slow, seen from the car's origin."""
    signs = rng.choice([-1.0, 1.0], len(RADARS))
    if sample.radar is None:
        return sample
    points = sample.radar.points_P8.copy()
    range_m = np.linalg.norm(points[:, XY], axis=1, keepdims=True)
    bias_mps = severity * signs[points[:, RADAR_INDEX].astype(np.int64)][:, None]
    points[:, RADAR_VELOCITY] += bias_mps * points[:, XY] / np.maximum(range_m, 1e-3)
    return _with_points(sample, points)


@register('radar_dead', 'radar', (1, 2, 3), 'radars', OURS, 'radar', lasting=True)
def radar_dead(sample: Sample, severity: float, rng: np.random.Generator) -> Sample:
    """`severity` radars give nothing during the whole drive, and are marked absent."""
    dead = np.zeros(len(RADARS), bool)
    dead[rng.permutation(len(RADARS))[:int(severity)]] = True
    if sample.radar is None:
        return sample
    radar: RadarPoints = without_radars(sample.radar, dead)
    return replace(sample, radar=radar)
