"""Rig files: the sensors of one car as JSON."""
from __future__ import annotations

from pathlib import Path

import numpy as np

from ..reading import read_json
from .sensors import CameraSensor, LidarSensor, RadarSensor, SensorRig

__all__ = ['load_rig', 'DEFAULT_RIG_PATH']

DEFAULT_RIG_PATH = Path(__file__).with_name('rig_nuscenes.json')

FARTHEST_M = 100.0
"""Of a sensor from the origin of its car."""
LARGEST_IMAGE_PX = 20_000
MOST_BEAMS = 1024
MOST_AZIMUTHS = 100_000

_FORWARD_T_OPTICAL = np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])
"""Camera axes (x right, y down, z forward) written in vehicle axes (x forward, y left, z up)."""


def _pose(record: dict, optical: bool = False) -> np.ndarray:
    """`ego_T_sensor` (4, 4) of a record; `optical` says that the sensor has camera axes."""
    yaw, pitch = np.deg2rad(record['yaw_deg']), np.deg2rad(record.get('pitch_deg', 0.0))
    cos_y, sin_y = np.cos(yaw), np.sin(yaw)
    cos_p, sin_p = np.cos(pitch), np.sin(pitch)
    turn = np.array([[cos_y, -sin_y, 0.0], [sin_y, cos_y, 0.0], [0.0, 0.0, 1.0]])
    nod = np.array([[cos_p, 0.0, sin_p], [0.0, 1.0, 0.0], [-sin_p, 0.0, cos_p]])
    pose = np.eye(4)
    pose[:3, :3] = turn @ nod @ (_FORWARD_T_OPTICAL if optical else np.eye(3))
    pose[:3, 3] = record['xyz_m']
    if not (np.isfinite(pose).all() and np.abs(pose).max() < FARTHEST_M):
        raise ValueError(f'xyz_m, yaw_deg, pitch_deg: expected finite numbers on a car, found {record}')
    return pose


def _camera(name: str, record: dict) -> CameraSensor:
    K = np.array([[record['fx'], 0.0, record['cx']], [0.0, record['fy'], record['cy']], [0.0, 0.0, 1.0]])
    if not (np.isfinite(K).all() and K[0, 0] > 0 and K[1, 1] > 0):
        raise ValueError(f'{name}: fx, fy, cx, cy must be finite, fx and fy positive, found {record}')

    height, width = record['size_hw']
    for side in (height, width):
        if type(side) is not int or not 0 < side <= LARGEST_IMAGE_PX:
            raise ValueError(f'{name}: size_hw: expected 1 to {LARGEST_IMAGE_PX} pixels, found {side!r}')
    return CameraSensor(name, (height, width), K, _pose(record, optical=True))


def _lidar(name: str, record: dict) -> LidarSensor:
    low, high = np.deg2rad(record['bottom_elevation_deg']), np.deg2rad(record['top_elevation_deg'])
    beams, azimuths, range_m = (record[key] for key in ('beams', 'azimuths', 'max_range_m'))
    if not (low < high and 1 < beams <= MOST_BEAMS and 3 < azimuths <= MOST_AZIMUTHS and 0 < range_m < 1e4):
        raise ValueError(
            f'{name}: expected 2 to {MOST_BEAMS} beams, 4 to {MOST_AZIMUTHS} azimuths, a rising elevation '
            f'range and max_range_m above 0, found {record}'
        )
    elevations = np.linspace(low, high, beams)
    return LidarSensor(name, elevations, int(azimuths), float(range_m), _pose(record))


def load_rig(path: str | Path = DEFAULT_RIG_PATH) -> SensorRig:
    """Read a rig file (`perception/core/rig/rig_nuscenes.json` shows the format).

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is no JSON, or a sensor lacks a field or has an impossible one; names the file
            and the field.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f'{path}: no such rig file')

    content = read_json(path)
    try:
        cameras = {name: _camera(name, record) for name, record in content['cameras'].items()}
        lidars = {name: _lidar(name, record) for name, record in content['lidars'].items()}
        radars = {name: RadarSensor(name, _pose(record)) for name, record in content['radars'].items()}
    except KeyError as error:
        raise ValueError(f'{path}: field {error} is missing') from error
    except (ArithmeticError, ValueError, TypeError, AttributeError) as error:
        raise ValueError(f'{path}: not a rig file: {error}') from error

    if len(lidars) != 1:
        raise ValueError(f'{path}: exactly one LiDAR is expected in "lidars", found {list(lidars)}')
    return SensorRig(cameras, lidars, radars)
