"""Sensors that do not fit together: moved in space or late in time (MultiCorrupt and our own).

What is off here is what the car believes: a camera's stated pose, a cloud's place, a time stamp. Nothing in
the sample says so.
"""
from __future__ import annotations

from dataclasses import replace

import numpy as np

from ...core.contracts import XYZ, LidarPoints, Sample
from ...core.geometry import make_transform
from ..transforms.sensor import keep_sensors
from .base import MULTICORRUPT, OURS, Previous, register
from .lidar import LIDAR_PLACE_M

_PROBABILITIES = (0.2, 0.4, 0.6)
_MISPLACED_M = 2.0
_EGO_R_LIDAR = np.array([[0.0, 1, 0], [-1, 0, 0], [0, 0, 1]])  # nuScenes' LiDAR: x right, y ahead, z up


def rotation_about(axis_3: np.ndarray, angle_rad: float) -> np.ndarray:
    """`(3, 3)` turn about an axis by an angle (Rodrigues)."""
    x, y, z = axis_3 / np.linalg.norm(axis_3)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle_rad) * cross + (1 - np.cos(angle_rad)) * cross @ cross


@register(
    'calibration_drift_deg', 'alignment', (0.5, 1, 2, 5), 'degrees', OURS, 'alignment', sensors=('camera',),
    lasting=True)
def calibration_drift_deg(sample: Sample, severity: float, rng: np.random.Generator) -> Sample:
    """Each camera's stated pose is turned by this angle about a random axis of its own."""
    if sample.camera is None:
        return sample
    turns = [make_transform(rotation_about(axis, np.deg2rad(severity)), np.zeros(3))
             for axis in rng.normal(size=(len(sample.camera.names), 3))]
    return replace(
        sample, camera=replace(sample.camera, ego_T_cam_N44=sample.camera.ego_T_cam_N44 @ np.stack(turns))
    )


@register(
    'calibration_drift_m', 'alignment', (0.05, 0.1, 0.2, 0.5), 'metres', OURS, 'alignment',
    sensors=('camera',), lasting=True)
def calibration_drift_m(sample: Sample, severity: float, rng: np.random.Generator) -> Sample:
    """Each camera's stated place is moved by this distance in a random direction of its own."""
    if sample.camera is None:
        return sample
    direction = rng.normal(size=(len(sample.camera.names), 3))
    poses = sample.camera.ego_T_cam_N44.copy()
    poses[:, :3, 3] += severity * direction / np.linalg.norm(direction, axis=1, keepdims=True)
    return replace(sample, camera=replace(sample.camera, ego_T_cam_N44=poses))


@register(
    'spatial_misalignment', 'alignment', (1, 2, 3), 'level, degrees about each axis', MULTICORRUPT,
    'multicorrupt', sensors=('lidar',))
def spatial_misalignment(sample: Sample, severity: float, rng: np.random.Generator) -> Sample:
    """In 20, 40, 60 percent of the frames the cloud is turned and moved.

    By 1, 2, 3 degrees about each axis, and by 2 m to the right.
    """
    happens = rng.uniform() < _PROBABILITIES[int(severity) - 1]
    if sample.lidar is None or not happens:
        return sample
    turn = np.eye(3)
    for axis in np.eye(3):
        turn = turn @ rotation_about(axis, -np.deg2rad(severity))

    points = sample.lidar.points_P6.copy()
    turn_ego = _EGO_R_LIDAR @ turn @ _EGO_R_LIDAR.T
    shift_ego = _EGO_R_LIDAR @ [_MISPLACED_M, 0, 0]
    points[:, XYZ] = (points[:, XYZ] - LIDAR_PLACE_M) @ turn_ego.T + LIDAR_PLACE_M + shift_ego
    return replace(sample, lidar=LidarPoints(points))


@register(
    'temporal_misalignment', 'alignment', (1, 2, 3), 'level', MULTICORRUPT, 'multicorrupt',
    sensors=('lidar',), needs=('previous',), suites={'memory': (1, 2, 3)})
def temporal_misalignment(
    sample: Sample, severity: float, rng: np.random.Generator, previous: Previous
) -> Sample:
    """In 20, 40, 60 percent of the frames the LiDAR gives the key frame before, as if it were new."""
    happens = rng.uniform() < _PROBABILITIES[int(severity) - 1]
    return _late_lidar(sample, 1, previous) if happens else sample


@register(
    'camera_late', 'alignment', (1, 2, 3), 'key frames (half a second each)', OURS, 'alignment',
    sensors=('camera',), needs=('previous',), suites={'memory': (1, 2, 3)})
def camera_late(sample: Sample, severity: float, rng: np.random.Generator, previous: Previous) -> Sample:
    """All pictures are old but stamped as new; at the start of a drive as old as there are."""
    old = _frames_ago(sample, int(severity), previous)
    if sample.camera is None or old.camera is None:
        return sample
    if old.camera.images_NHW3.shape != sample.camera.images_NHW3.shape:
        raise ValueError(
            f'corruption camera_late: frame {sample.frame.token} has images of '
            f'{sample.camera.image_size_hw}, the one before {old.camera.image_size_hw}; corrupt before the '
            'images are resized'
        )
    late = replace(
        sample.camera, images_NHW3=old.camera.images_NHW3,
        present_N=sample.camera.present_N & old.camera.present_N, sizes_N2=old.camera.sizes_N2)
    return replace(sample, camera=late)


@register(
    'lidar_late', 'alignment', (1, 2, 3), 'key frames (half a second each)', OURS, 'alignment',
    sensors=('lidar',), needs=('previous',), suites={'memory': (1, 2, 3)})
def lidar_late(sample: Sample, severity: float, rng: np.random.Generator, previous: Previous) -> Sample:
    """The whole cloud is old but stamped as new; at the start of a drive as old as there is."""
    return _late_lidar(sample, int(severity), previous)


@register(
    'moment_lost', 'alignment', (1, 2, 3), 'sixths of all frames', OURS, 'alignment', sensors=(),
    suites={'memory': (1, 2, 3)})
def moment_lost(sample: Sample, severity: float, rng: np.random.Generator) -> Sample:
    """With a probability of 1/6, 2/6, 3/6 no sensor gives anything; a model that remembers still answers."""
    if rng.uniform() >= severity / 6:
        return sample
    return keep_sensors(sample, ())


def _late_lidar(sample: Sample, frames: int, previous: Previous) -> Sample:
    old = _frames_ago(sample, frames, previous)
    return sample if sample.lidar is None or old.lidar is None else replace(sample, lidar=old.lidar)


def _frames_ago(sample: Sample, frames: int, previous: Previous) -> Sample:
    for _ in range(frames):
        sample = previous(sample) or sample
    return sample
