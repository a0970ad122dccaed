"""Table rows of one scene of a drive, made while its measurements are written and linked at the end."""
from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

import numpy as np

from ...core.lens import Distortion
from ...core.nuscenes.tables import SCENE_TABLES, Row, link, token
from .sync import Placed

ENDS = {'camera': '', 'lidar': '.pcd.bin', 'radar': '.pcd'}
"""End of a file's name, by kind; a picture brings its own."""


class DriveRows:
    """The rows of one scene by table.

    Args:
        drive: name of the drive.
        scene: name of the scene.
        location: name of the place.
    """

    def __init__(self, drive: str, scene: str, location: str) -> None:
        self.drive, self.scene, self.location = drive, scene, location
        self.tables: dict[str, list[Row]] = {name: [] for name in SCENE_TABLES if name != 'lidarseg'}
        self._calibrated: set[str] = set()
        self._samples: dict[int, int] = {}

    def _token(self, *words: object) -> str:
        return token(self.drive, self.scene, *words)

    def add_calibration(
        self, channel: str, ego_T_sensor: np.ndarray, K_33: np.ndarray | None = None,
        lens: Distortion | None = None,
    ) -> None:
        """Add the calibration of a sensor, once."""
        if channel in self._calibrated:
            return
        self._calibrated.add(channel)
        row = {
            'token': self._token('calibrated_sensor', channel), 'sensor_token': token('sensor', channel),
            **pose_fields(ego_T_sensor), 'camera_intrinsic': [] if K_33 is None else K_33.tolist()}
        if lens is not None:
            row['distortion'] = lens.to_record()
        self.tables['calibrated_sensor'].append(row)

    def add_measurement(
        self, placed: Placed, kind: str, end: str, global_T_ego: np.ndarray,
        size_hw: tuple[int, int] = (0, 0),
    ) -> str:
        """Add a measurement and the car's pose at its time; gives the name of its file.

        Args:
            placed: the measurement.
            kind: 'camera', 'lidar' or 'radar'.
            end: of the name of a picture, '.jpg' or '.png'.
            global_T_ego: `(4, 4)` at its time.
            size_hw: of a picture in pixels.
        """
        microseconds = placed.time_ns // 1000
        folder = 'samples' if placed.is_key_frame else 'sweeps'
        name = f'{folder}/{placed.channel}/{self.scene}__{placed.channel}__{microseconds}{ENDS[kind] or end}'

        row_token = self._token('sample_data', placed.channel, placed.time_ns)
        self.tables['ego_pose'].append(
            {'token': row_token, 'timestamp': microseconds, **pose_fields(global_T_ego)})
        self.tables['sample_data'].append({
            'token': row_token, 'sample_token': placed.key_frame, 'ego_pose_token': row_token,
            'calibrated_sensor_token': self._token('calibrated_sensor', placed.channel),
            'timestamp': microseconds, 'fileformat': end.lstrip('.') or 'pcd',
            'is_key_frame': placed.is_key_frame, 'height': size_hw[0], 'width': size_hw[1],
            'filename': name, 'prev': '', 'next': ''})
        return name

    def add_key_frame(self, index: int, time_ns: int) -> None:
        """Add a key frame at the time of its reference; once for each of its measurements."""
        self._samples[index] = time_ns // 1000

    @property
    def key_frames(self) -> int:
        """How many there are."""
        return len(self._samples)

    def finish(self) -> dict[str, list[Row]]:
        """Link everything and return all rows by table. A scene without a key frame has none."""
        # a key frame whose every measurement was lost leaves no sample
        filled = {row['sample_token'] for row in self.tables['sample_data'] if row['is_key_frame']}
        samples = {index: self._samples[index] for index in sorted(self._samples) if index in filled}
        if not samples:
            return {name: [] for name in self.tables}

        tokens = {index: self._token('sample', index) for index in samples}
        self.tables['sample'] = [
            {'token': tokens[index], 'timestamp': time, 'prev': '', 'next': '',
             'scene_token': self._token('scene')} for index, time in samples.items()]
        link(self.tables['sample'])
        self._link_measurements(tokens)
        self._add_scene(list(tokens.values()), next(iter(samples.values())))
        return self.tables

    def _link_measurements(self, tokens: dict[int, str]) -> None:
        """A sweep belongs to the next key frame there is, those behind the last to that one."""
        groups: dict[str, list[Row]] = {}
        for row in self.tables['sample_data']:
            index = next((i for i in tokens if i >= row['sample_token']), max(tokens))
            row['sample_token'] = tokens[index]
            groups.setdefault(row['calibrated_sensor_token'], []).append(row)
        for rows in groups.values():
            link(sorted(rows, key=lambda row: row['timestamp']))

    def _add_scene(self, tokens: list[str], first_us: int) -> None:
        day = datetime.fromtimestamp(first_us * 1e-6, timezone.utc).date().isoformat()
        log = token(self.drive, 'log')
        self.tables['log'].append({
            'token': log, 'logfile': self.drive, 'vehicle': 'own car', 'date_captured': day,
            'location': self.location})
        self.tables['scene'].append({
            'token': self._token('scene'), 'log_token': log, 'nbr_samples': len(tokens),
            'first_sample_token': tokens[0], 'last_sample_token': tokens[-1], 'name': self.scene,
            'description': f'recording {self.drive}'})


def pose_fields(a_T_b: np.ndarray) -> dict[str, Any]:
    """`translation` and `rotation` (w, x, y, z) of a record of the tables."""
    from scipy.spatial.transform import Rotation
    x, y, z, w = Rotation.from_matrix(a_T_b[:3, :3]).as_quat().tolist()
    return {'translation': a_T_b[:3, 3].tolist(), 'rotation': [w, x, y, z]}


def scene_name(drive: str, number: int) -> str:
    """`<drive>-0001` of scene 0."""
    return f'{drive}-{number + 1:04d}'
