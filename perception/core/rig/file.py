"""Rig files: the sensors of one car as JSON (docs/rig.md says every field, unit and frame)."""
from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..files import file_name, write_text
from ..lens import Distortion
from ..reading import BadFile, decoding, read_text
from .plain import unique_json
from .sensors import FORWARD_T_OPTICAL, CameraSensor, LidarSensor, RadarSensor, SensorRig

__all__ = ['load_rig', 'write_rig', 'rig_record', 'DEFAULT_RIG_PATH']

DEFAULT_RIG_PATH = Path(__file__).with_name('rig_nuscenes.json')

FARTHEST_M = 100.0
"""Of a sensor from the origin of its car."""
LARGEST_IMAGE_PX = 20_000
MOST_BEAMS = 1024
MOST_AZIMUTHS = 100_000
RIG_MIB = 4

KINDS = ('cameras', 'lidars', 'radars')
POSE_FIELDS = ('xyz_m', 'yaw_deg', 'pitch_deg', 'roll_deg')
CAMERA_FIELDS = ('size_hw', 'fx', 'fy', 'cx', 'cy', 'distortion', *POSE_FIELDS)
LIDAR_FIELDS = (
    'beams', 'azimuths', 'bottom_elevation_deg', 'top_elevation_deg', 'max_range_m', *POSE_FIELDS)
RADAR_FIELDS = (
    'near_half_angle_deg', 'near_range_m', 'far_half_angle_deg', 'far_range_m', *POSE_FIELDS)


# -------------------------------------------------------------------- fields of one sensor

@dataclass(frozen=True)
class _Fields:
    """The fields of one sensor; what it cannot have becomes an error that names file, sensor and field.

    Attributes:
        path: the rig file.
        place: 'cameras.CAM_FRONT'.
        values: as they stand in the file.
    """

    path: Path
    place: str
    values: dict[str, Any]

    def refuse(self, field: str, expected: str) -> BadFile:
        """The error for a field."""
        found = f'found {self.values[field]!r:.100}' if field in self.values else 'it is missing'
        return BadFile(self.path, f'{self.place}.{field}: {found}, expected {expected}')

    def number(self, field: str, low: float, high: float, default: float | None = None) -> float:
        """A finite number within limits, both included."""
        value = self.values.get(field, default)
        if not _is_number(value) or not low <= value <= high:
            raise self.refuse(field, f'a number from {low:g} to {high:g}')
        return float(value)

    def whole(self, field: str, low: int, high: int) -> int:
        """A whole number within limits, both included."""
        value = self.values.get(field)
        if type(value) is not int or not low <= value <= high:
            raise self.refuse(field, f'a whole number from {low} to {high}')
        return value

    def numbers(self, field: str, count: int) -> list[Any]:
        """A list of so many numbers."""
        value = self.values.get(field)
        if not (isinstance(value, list) and len(value) == count and all(map(_is_number, value))):
            raise self.refuse(field, f'a list of {count} numbers')
        return value

    def pose(self, optical: bool = False) -> np.ndarray:
        """`ego_T_sensor` (4, 4); `optical` says that the sensor has camera axes."""
        xyz_m = self.numbers('xyz_m', 3)
        if max(map(abs, xyz_m)) > FARTHEST_M:
            raise self.refuse('xyz_m', f'metres on a car, at most {FARTHEST_M:g}')

        yaw = np.deg2rad(self.number('yaw_deg', -360, 360))
        pitch, roll = (np.deg2rad(self.number(f'{name}_deg', -180, 180, 0.0)) for name in ('pitch', 'roll'))
        pose = np.eye(4)
        pose[:3, :3] = _turned(yaw, pitch, roll) @ (FORWARD_T_OPTICAL if optical else np.eye(3))
        pose[:3, 3] = xyz_m
        return pose


def _is_number(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return abs(value) < 1e12  # NaN is not


def _turned(yaw: float, pitch: float, roll: float) -> np.ndarray:
    """Rotation (3, 3) about z by yaw after about y by pitch after about x by roll, radians."""
    cos_y, sin_y = np.cos(yaw), np.sin(yaw)
    cos_p, sin_p = np.cos(pitch), np.sin(pitch)
    turn = np.array([[cos_y, -sin_y, 0.0], [sin_y, cos_y, 0.0], [0.0, 0.0, 1.0]])
    nod = np.array([[cos_p, 0.0, sin_p], [0.0, 1.0, 0.0], [-sin_p, 0.0, cos_p]])
    if roll == 0:
        return turn @ nod

    cos_r, sin_r = np.cos(roll), np.sin(roll)
    return turn @ nod @ np.array([[1.0, 0.0, 0.0], [0.0, cos_r, -sin_r], [0.0, sin_r, cos_r]])


def _camera(name: str, fields: _Fields) -> CameraSensor:
    fx, fy = (fields.number(field, 1e-3, 1e6) for field in ('fx', 'fy'))
    cx, cy = (fields.number(field, -1e6, 1e6) for field in ('cx', 'cy'))
    size_hw = tuple(fields.numbers('size_hw', 2))
    if not all(type(side) is int and 0 < side <= LARGEST_IMAGE_PX for side in size_hw):
        raise fields.refuse('size_hw', f'rows and columns, whole numbers from 1 to {LARGEST_IMAGE_PX}')

    K = np.array([[fx, 0.0, cx], [0.0, fy, cy], [0.0, 0.0, 1.0]])
    distortion = Distortion.from_record(
        fields.values.get('distortion'), f'{fields.path}: {fields.place}.distortion')
    return CameraSensor(name, size_hw, K, fields.pose(optical=True), distortion)


def _lidar(name: str, fields: _Fields) -> LidarSensor:
    beams = fields.whole('beams', 2, MOST_BEAMS)
    low_deg, high_deg = (fields.number(f'{end}_elevation_deg', -90, 90) for end in ('bottom', 'top'))
    if low_deg >= high_deg:
        raise fields.refuse('top_elevation_deg', f'more than bottom_elevation_deg ({low_deg:g})')

    elevations_rad = np.linspace(np.deg2rad(low_deg), np.deg2rad(high_deg), beams)
    azimuths, range_m = fields.whole('azimuths', 4, MOST_AZIMUTHS), fields.number('max_range_m', 0.1, 10_000)
    return LidarSensor(name, elevations_rad, azimuths, range_m, fields.pose())


def _radar(name: str, fields: _Fields) -> RadarSensor:
    usual = RadarSensor(name, fields.pose())
    if not set(fields.values) & {field for field in RADAR_FIELDS if field not in POSE_FIELDS}:
        return usual

    angles_rad = {
        f'{part}_half_angle_rad': np.deg2rad(fields.number(
            f'{part}_half_angle_deg', 0.1, 180, np.rad2deg(getattr(usual, f'{part}_half_angle_rad'))))
        for part in ('near', 'far')}
    ranges_m = {
        field: fields.number(field, 0.1, 10_000, getattr(usual, field))
        for field in ('near_range_m', 'far_range_m')}
    return RadarSensor(name, usual.ego_T_radar, **angles_rad, **ranges_m)


_READERS = {
    'cameras': (_camera, CAMERA_FIELDS), 'lidars': (_lidar, LIDAR_FIELDS), 'radars': (_radar, RADAR_FIELDS)}


# -------------------------------------------------------------------- the file

def load_rig(path: str | Path = DEFAULT_RIG_PATH) -> SensorRig:
    """Read a rig file: any number of cameras and radars, at most one LiDAR, at least one sensor.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is no JSON, or a sensor lacks a field, has an unknown or an impossible one, or
            two have one name; names the file, the sensor and the field.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f'{path}: no such rig file')

    text = read_text(path, RIG_MIB)
    with decoding(path, 'JSON'):
        content = unique_json(path, text)
    return _rig_of(path, content)


def _rig_of(path: Path, content: Any) -> SensorRig:
    if not isinstance(content, dict):
        raise BadFile(path, f'found {type(content).__name__}, expected an object with {", ".join(KINDS)}')
    _check_known(path, 'the file', content, ('description', *KINDS))

    sensors = {kind: _read_kind(path, kind, content.get(kind, {})) for kind in KINDS}
    names = [name for found in sensors.values() for name in found]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise BadFile(path, f'found the name {twice[0]!r} for sensors of two kinds, expected one for each')
    if not names:
        raise BadFile(path, f'found no sensor, expected one or more in {", ".join(KINDS)}')
    if len(sensors['lidars']) > 1:
        raise BadFile(path, f'lidars: found {", ".join(sensors["lidars"])}, expected at most one LiDAR')
    return SensorRig(**sensors)


def _read_kind(path: Path, kind: str, records: Any) -> dict[str, Any]:
    read, known = _READERS[kind]
    if not isinstance(records, dict):
        raise BadFile(path, f'{kind}: found {type(records).__name__}, expected an object of sensors by name')

    sensors = {}
    for name, record in records.items():
        file_name(name, f'{path}: {kind}')
        if not isinstance(record, dict):
            raise BadFile(path, f'{kind}.{name}: found {record!r:.100}, expected an object of fields')
        _check_known(path, f'{kind}.{name}', record, known)
        sensors[name] = read(name, _Fields(path, f'{kind}.{name}', record))
    return sensors


def _check_known(path: Path, place: str, record: dict, known: Sequence[str]) -> None:
    for field in record:
        if field not in known:
            raise BadFile(path, f'{place}: unknown field {field!r:.100}, expected some of {", ".join(known)}')


# -------------------------------------------------------------------- writing

def write_rig(rig: SensorRig, path: str | Path, description: str = '') -> None:
    """Write a rig as a file that `load_rig` reads; it is whole or not there.

    Raises:
        ValueError: a rig that `load_rig` would refuse; nothing is written.
    """
    record = ({'description': description} if description else {}) | rig_record(rig)
    _rig_of(Path(path), record)
    write_text(path, json.dumps(record, indent=2) + '\n')


def rig_record(rig: SensorRig) -> dict[str, Any]:
    """The content of a rig's file: angles and positions to nine decimals."""
    cameras = {
        name: {
            'size_hw': list(camera.size_hw), 'fx': camera.K_33[0, 0].item(), 'fy': camera.K_33[1, 1].item(),
            'cx': camera.K_33[0, 2].item(), 'cy': camera.K_33[1, 2].item(),
            **({'distortion': camera.distortion.to_record()} if camera.distortion else {}),
            **_pose_record(camera.ego_T_cam, optical=True)}
        for name, camera in rig.cameras.items()}
    lidars = {
        name: {
            'beams': len(lidar.elevations_rad), 'azimuths': lidar.azimuths,
            'bottom_elevation_deg': _degrees(lidar.elevations_rad[0]),
            'top_elevation_deg': _degrees(lidar.elevations_rad[-1]), 'max_range_m': lidar.max_range_m,
            **_pose_record(lidar.ego_T_lidar)}
        for name, lidar in rig.lidars.items()}

    radars = {}
    for name, radar in rig.radars.items():
        views = {
            'near_half_angle_deg': _degrees(radar.near_half_angle_rad), 'near_range_m': radar.near_range_m,
            'far_half_angle_deg': _degrees(radar.far_half_angle_rad), 'far_range_m': radar.far_range_m}
        radars[name] = views | _pose_record(radar.ego_T_radar)
    return {'cameras': cameras, 'lidars': lidars, 'radars': radars}


def _degrees(angle_rad: float) -> float:
    return round(math.degrees(angle_rad), 9)


def _pose_record(ego_T_sensor: np.ndarray, optical: bool = False) -> dict[str, Any]:
    """Position and angles of a pose, as `_Fields.pose` reads them."""
    turned = ego_T_sensor[:3, :3] @ (FORWARD_T_OPTICAL.T if optical else np.eye(3))
    level = math.hypot(turned[0, 0], turned[1, 0])
    pitch = math.atan2(-turned[2, 0], level)

    # looking straight up or down, yaw and roll turn about the same axis
    if level < 1e-9:
        yaw, roll = math.atan2(-turned[0, 1], turned[1, 1]), 0.0
    else:
        yaw, roll = math.atan2(turned[1, 0], turned[0, 0]), math.atan2(turned[2, 1], turned[2, 2])
    xyz_m = [round(value, 9) for value in ego_T_sensor[:3, 3].tolist()]
    return {
        'xyz_m': xyz_m, 'yaw_deg': _degrees(yaw), 'pitch_deg': _degrees(pitch), 'roll_deg': _degrees(roll)}
