"""What the infos must say, looked at once when a file is read or written: nothing later has to doubt it.

A frame's numbers are checked together, as arrays over all its sensors and boxes. Every refusal is an
`InfosError` that names the file, the frame and the field.
"""
from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...core.contracts import CENTRE, FARTHEST_M, LIDAR_LIMITS, SIZE, TIME_LAG, VELOCITY, YAW
from ...core.files import file_name, relative_path
from .records import BoxRecords, CameraRecord, FrameRecord, InfosError, Json, SensorRecord

FARTHEST_SENSOR_M = 1000.0
"""From the car's origin, its own motion since an earlier sweep included."""
FARTHEST_BOX_M = 10_000.0
LARGEST_BOX_M = 500.0
FASTEST_MPS = 200.0
LONGEST_FOCAL_PX = 1e6
MOST_PIXELS = 20_000
"""Of one side of an image."""
LARGEST_IMAGE_PX = 64 * 1024 ** 2
ROTATION_TOLERANCE = 1e-2
LATEST_US = 2 ** 53
"""Below it microseconds are whole numbers in every format."""


# -------------------------------------------------------------------- headers and index

def check_header(path: Path, header: Json) -> Json:
    """The first line of a scene's file, checked.

    Raises:
        InfosError: a field is absent or of another form.
    """
    _check_kinds(path, '', header, {'tokens': list}, required=True)
    _check_kinds(path, '', header, {
        'scene': str, 'location': str, 'has_map': bool, 'annotated': bool, 'class_counts': dict,
        'left_out': dict, 'frames_with': dict, 'channels': dict, 'image_sizes': dict})
    _check_tokens(path, 'tokens', header['tokens'])
    _check_counts(path, header)
    if 'scene' in header:
        named(path, lambda: file_name(header['scene'], 'scene'))
    return header


def check_index(path: Path, index: Json) -> Json:
    """The content of `index.json`, checked.

    Raises:
        InfosError: a field is absent or of another form.
    """
    _check_kinds(path, '', index, {
        'version': str, 'lidar_sweeps': int, 'radar_sweeps': int, 'splits': dict, 'scenes': dict,
        'class_counts': dict, 'left_out': dict}, required=True)
    for split, tokens in index['splits'].items():
        _check_tokens(path, f'splits.{split}', tokens)

    for name, scene in index['scenes'].items():
        named(path, lambda name=name: file_name(name, 'scenes'))
        _check_kinds(path, f'scenes.{name}.', scene, {
            'location': str, 'tokens': list, 'has_map': bool, 'annotated': bool}, required=True)
        _check_tokens(path, f'scenes.{name}.tokens', scene['tokens'])

    _check_counts(path, index)
    known = {token for scene in index['scenes'].values() for token in scene['tokens']}
    for split, tokens in index['splits'].items():
        unknown = next((token for token in tokens if token not in known), None)
        if unknown is not None:
            raise InfosError(f'{path}: splits.{split}: {unknown!r} is a frame of no scene')
    return index


def _check_kinds(
    path: Path, owner: str, content: Any, kinds: Mapping[str, type], required: bool = False
) -> None:
    if not isinstance(content, dict):
        raise InfosError(f'{path}: {owner[:-1]}: found {type(content).__name__}, expected an object')
    for name, kind in kinds.items():
        if name not in content and not required:
            continue
        found = content.get(name)
        # True is an int for Python, not for us
        if not isinstance(found, kind) or (kind is int and isinstance(found, bool)):
            words = f'found {found!r:.80}' if name in content else 'is absent'
            raise InfosError(f'{path}: {owner}{name}: {words}, expected {kind.__name__}')


def _check_tokens(path: Path, owner: str, tokens: Any) -> None:
    if not isinstance(tokens, list) or not all(isinstance(token, str) for token in tokens):
        raise InfosError(f'{path}: {owner}: expected a list of sample tokens')
    if len(set(tokens)) != len(tokens):
        raise InfosError(f'{path}: {owner}: a sample token stands in it twice')


def _check_counts(path: Path, content: Json) -> None:
    """Counts of boxes per token and class, and of what was left out."""
    counts = content.get('class_counts', {})
    tables = [content.get('left_out', {}), *counts.values()]
    for table in tables:
        numbers = table.values() if isinstance(table, dict) else [None]
        if not all(type(number) is int and 0 <= number < 2 ** 31 for number in numbers):
            raise InfosError(
                f'{path}: class_counts, left_out: found {table!r:.80}, expected names with counts'
            )


def named(path: Path, check: Callable[[], object]) -> None:
    """Run a check, its ValueError as an InfosError that names the file."""
    try:
        check()
    except InfosError:
        raise
    except ValueError as error:
        raise InfosError(f'{path}: {error}') from None


# -------------------------------------------------------------------- frames

def check_frame(path: Path, frame: FrameRecord) -> FrameRecord:
    """One frame, checked.

    Raises:
        InfosError: a number is not finite or out of its range, a pose does not turn, a camera's matrix is no
            camera's, a path leads out of the data root.
    """
    try:
        _check_words(frame)
        sensors = {f'cameras.{name}': camera for name, camera in frame.cameras.items()}
        sensors |= {f'lidar[{i}]': sweep for i, sweep in enumerate(frame.lidar)}
        for name, sweeps in frame.radars.items():
            sensors |= {f'radars.{name}[{i}]': sweep for i, sweep in enumerate(sweeps)}

        _check_sensors(sensors)
        _check_poses(frame, sensors)
        _check_cameras({name: camera for name, camera in sensors.items() if isinstance(camera, CameraRecord)})
        if frame.boxes is not None:
            _check_boxes(frame.boxes)
    except (TypeError, ValueError, OverflowError) as error:
        raise InfosError(f'{path}: frame {frame.token!r:.80}: {error}') from None
    return frame


def _check_words(frame: FrameRecord) -> None:
    file_name(frame.token, 'token')
    for name in ('scene', 'location', 'previous', 'next'):
        word = getattr(frame, name)
        if word != '':
            file_name(word, name)
    for name in ('lidarseg', 'occupancy'):
        if getattr(frame, name) is not None:
            relative_path(getattr(frame, name), name)
    _check_times(['timestamp_us'], [frame.timestamp_us])


def _check_sensors(sensors: Mapping[str, SensorRecord]) -> None:
    for name, sensor in sensors.items():
        relative_path(sensor.file, f'{name}.file')
        if not isinstance(sensor.missing, (bool, np.bool_)) or not isinstance(sensor.token, str):
            raise ValueError(
                f'{name}: found missing {sensor.missing!r:.40}, token {sensor.token!r:.40}, expected true or '
                'false, and text'
            )

    names = list(sensors)
    _check_times([f'{name}.timestamp_us' for name in names], [s.timestamp_us for s in sensors.values()])
    lags = np.array([sensor.time_lag_s for sensor in sensors.values()], dtype=np.float64)
    _check_range(lambda i: f'{names[i]}.time_lag_s', lags, *LIDAR_LIMITS[TIME_LAG])


def _check_times(names: Sequence[str], times_us: Sequence[Any]) -> None:
    for name, time_us in zip(names, times_us, strict=True):
        whole = isinstance(time_us, (int, np.integer)) and not isinstance(time_us, bool)
        if not whole or not 0 <= time_us < LATEST_US:
            raise ValueError(f'{name}: found {time_us!r:.40}, expected whole microseconds, 0 to 2^53')


def _check_range(name_of: Callable[[int], str], values: np.ndarray, low: float, high: float) -> None:
    """All `values` are in a range; NaN is in none. `name_of` names their rows."""
    outside = ~((values >= low) & (values <= high))
    if outside.any():
        where = tuple(np.argwhere(outside)[0])
        raise ValueError(
            f'{name_of(int(where[0]))}: found {values[where]:g}, expected a number from {low:g} to {high:g}'
        )


def _check_poses(frame: FrameRecord, sensors: Mapping[str, SensorRecord]) -> None:
    """Every transform turns and moves; those in the car by no more than a car's length and way."""
    in_car = {f'{name}.ego_T_sensor': sensor.ego_T_sensor for name, sensor in sensors.items()}
    in_world = {'global_T_ego': frame.global_T_ego}
    for name, sensor in sensors.items():
        if sensor.own_ego_T_sensor is not None:
            in_car[f'{name}.own_ego_T_sensor'] = sensor.own_ego_T_sensor
        if sensor.global_T_own_ego is not None:
            in_world[f'{name}.global_T_own_ego'] = sensor.global_T_own_ego

    for poses, farthest_m in ((in_car, FARTHEST_SENSOR_M), (in_world, FARTHEST_M)):
        if not poses:
            continue
        names, matrices = list(poses), np.array(list(poses.values()), dtype=np.float64)
        _check_range(names.__getitem__, matrices[:, :3, 3], -farthest_m, farthest_m)
        _check_range(names.__getitem__, matrices[:, :3, :3], -1 - ROTATION_TOLERANCE, 1 + ROTATION_TOLERANCE)
        _check_turns(names, matrices[:, :3, :3])


def _check_turns(names: Sequence[str], rotations: np.ndarray) -> None:
    off = np.abs(rotations @ rotations.transpose(0, 2, 1) - np.eye(3)).max((1, 2))
    off = np.maximum(off, np.abs(np.linalg.det(rotations) - 1))
    if (off > ROTATION_TOLERANCE).any():
        row = int(off.argmax())
        raise ValueError(f'{names[row]}: found a matrix that is {off[row]:g} off, expected a rotation')


def _check_cameras(cameras: Mapping[str, CameraRecord]) -> None:
    if not cameras:
        return
    names = list(cameras)
    K_N33 = np.array([camera.K_33 for camera in cameras.values()], dtype=np.float64)
    _check_range(lambda i: f'{names[i]}.K', K_N33, -LONGEST_FOCAL_PX, LONGEST_FOCAL_PX)
    _check_range(
        lambda i: f'{names[i]}.K, focal length', K_N33[:, [0, 1], [0, 1]], 1e-3, LONGEST_FOCAL_PX)

    wrong = (K_N33[:, 2] != (0, 0, 1)).any(1) | (K_N33[:, 1, 0] != 0)
    if wrong.any():
        raise ValueError(f'{names[int(wrong.argmax())]}.K: expected rows (fx, s, cx), (0, fy, cy), (0, 0, 1)')

    for name, camera in cameras.items():
        for side in ('width_px', 'height_px'):
            size = getattr(camera, side)
            if not isinstance(size, (int, np.integer)) or not 1 <= size <= MOST_PIXELS:
                raise ValueError(f'{name}.{side}: found {size!r:.40}, expected pixels, 1 to {MOST_PIXELS}')
        if camera.width_px * camera.height_px > LARGEST_IMAGE_PX:
            raise ValueError(
                f'{name}: found an image of {camera.width_px} x {camera.height_px}, expected at most '
                f'{LARGEST_IMAGE_PX} pixels'
            )


def _check_boxes(boxes: BoxRecords) -> None:
    rows = boxes.boxes_M9
    velocity = np.where(np.isnan(rows[:, VELOCITY]), 0, rows[:, VELOCITY])  # NaN: not known
    columns = {
        'centre': (rows[:, CENTRE], -FARTHEST_BOX_M, FARTHEST_BOX_M),
        'size': (rows[:, SIZE], 1e-6, LARGEST_BOX_M),
        'yaw': (rows[:, YAW], -1e4, 1e4),
        'velocity': (velocity, -FASTEST_MPS, FASTEST_MPS),
        'visibility': (boxes.visibility_M, 0, 4),
        'lidar_points': (boxes.num_lidar_points_M, -1, 2 ** 31 - 1),
        'radar_points': (boxes.num_radar_points_M, -1, 2 ** 31 - 1)}
    for name, (values, low, high) in columns.items():
        _check_range(lambda i, name=name: f'boxes[{i}].{name}', values, low, high)

    for column in ('categories', 'tokens', 'instances', 'attributes'):
        if not all(isinstance(word, str) for word in getattr(boxes, column)):
            raise ValueError(f'boxes.{column}: expected text for every box')
