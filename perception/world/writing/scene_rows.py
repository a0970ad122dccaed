"""The table rows of one scene, made while its measurements are recorded and linked at the end."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timezone

import numpy as np

from ...core.lens import Distortion
from ...core.nuscenes.tables import SCENE_TABLES, Row, link, rotation_quaternion, token
from ..labels.annotations import Annotation
from ..scene.scene import WorldScene
from ..sensors.timing import Measurement, key_time_us

VEHICLE = 'synthetic'
FILE_FORMATS = {'camera': ('jpg', '.jpg'), 'lidar': ('pcd', '.pcd.bin'), 'radar': ('pcd', '.pcd')}
"""Value of `fileformat` and end of the file name, by modality."""


class SceneRows:
    """The rows of one scene by table.

    Args:
        scene: the scene.
        seed: the world's seed; part of every token, so that two worlds share none.
        key_frames: number of key frames.
        version: name of the table folder, which the lidarseg file names contain.
    """

    def __init__(self, scene: WorldScene, seed: int, key_frames: int, version: str) -> None:
        self.scene, self.seed, self.version = scene, seed, version
        self.tables: dict[str, list[Row]] = {name: [] for name in SCENE_TABLES}
        self.sample_tokens = [self._token('sample', index) for index in range(key_frames)]
        self._add_scene()

    def _token(self, *words: object) -> str:
        return token(self.seed, self.scene.name, *words)

    def _add_scene(self) -> None:
        scene = self.scene
        log_token = token(self.seed, 'log', scene.log_name)
        captured = datetime.fromtimestamp(scene.start_timestamp_us * 1e-6, timezone.utc).date()
        self.tables['log'].append({'token': log_token, 'logfile': scene.log_name, 'vehicle': VEHICLE,
                                   'date_captured': captured.isoformat(), 'location': scene.location})
        self.tables['scene'].append({'token': self._token('scene'), 'log_token': log_token,
                                     'nbr_samples': len(self.sample_tokens),
                                     'first_sample_token': self.sample_tokens[0],
                                     'last_sample_token': self.sample_tokens[-1],
                                     'name': scene.name, 'description': scene.description})
        self.tables['sample'] = [{'token': sample, 'timestamp': scene.start_timestamp_us + key_time_us(index),
                                  'prev': '', 'next': '', 'scene_token': self._token('scene')}
                                 for index, sample in enumerate(self.sample_tokens)]

    def add_sensor(
        self,
        channel: str,
        ego_T_sensor: np.ndarray,
        K_33: np.ndarray | None,
        distortion: Distortion | None = None,
    ) -> None:
        """Add the calibration of one sensor.

        Args:
            channel: name of the sensor.
            ego_T_sensor: (4, 4).
            K_33: intrinsics of the written image in pixels, None for a LiDAR or radar.
            distortion: the lens; None for a pinhole, and nothing is written of it.
        """
        from pyquaternion import Quaternion
        rotation = Quaternion(matrix=np.asarray(ego_T_sensor, np.float64)[:3, :3], rtol=1e-5, atol=1e-6)
        self.tables['calibrated_sensor'].append({
            'token': self._token('calibrated_sensor', channel), 'sensor_token': token('sensor', channel),
            'translation': [float(value) for value in ego_T_sensor[:3, 3]],
            'rotation': [float(value) for value in rotation.elements],
            'camera_intrinsic': [] if K_33 is None else np.asarray(K_33, np.float64).tolist(),
            **({} if distortion is None else {'distortion': distortion.to_record()})})

    def add_measurement(
        self, measurement: Measurement, modality: str, size_hw: tuple[int, int] = (0, 0)
    ) -> str:
        """Add a measurement and the ego's pose at its time.

        Args:
            measurement: which sensor measures, and when.
            modality: `camera`, `lidar` or `radar`.
            size_hw: size of the image in pixels, zeros for other sensors.

        Returns:
            The name of its file inside the world.
        """
        timestamp = self.scene.start_timestamp_us + measurement.time_us
        file_format, suffix = FILE_FORMATS[modality]
        folder = 'samples' if measurement.is_key_frame else 'sweeps'
        stem = f'{self.scene.log_name}__{measurement.channel}__{timestamp}'
        name = f'{folder}/{measurement.channel}/{stem}{suffix}'

        # every measurement has a pose of its own, so one token serves both rows
        row_token = self._token('sample_data', measurement.channel, measurement.time_us)
        global_T_ego = self.scene.ego.pose_at(measurement.time_s)
        self.tables['ego_pose'].append(
            {
                'token': row_token, 'timestamp': timestamp,
                'rotation': rotation_quaternion(global_T_ego[:3, :3]),
                'translation': [float(value) for value in global_T_ego[:3, 3]]}
        )
        self.tables['sample_data'].append(
            {
                'token': row_token, 'sample_token': self.sample_tokens[measurement.key_frame],
                'ego_pose_token': row_token,
                'calibrated_sensor_token': self._token('calibrated_sensor', measurement.channel),
                'timestamp': timestamp, 'fileformat': file_format, 'is_key_frame': measurement.is_key_frame,
                'height': size_hw[0], 'width': size_hw[1], 'filename': name, 'prev': '', 'next': ''}
        )
        return name

    def add_lidarseg(self, measurement: Measurement) -> str:
        """Add the point labels of a LiDAR key frame and return the name of their file."""
        data_token = self._token('sample_data', measurement.channel, measurement.time_us)
        name = f'lidarseg/{self.version}/{data_token}_lidarseg.bin'
        self.tables['lidarseg'].append(
            {'token': data_token, 'sample_data_token': data_token, 'filename': name}
        )
        return name

    def add_annotations(self, key_frame: int, annotations: Sequence[Annotation]) -> None:
        """Add the boxes of one key frame; key frames come in order."""
        for annotation in annotations:
            # nuScenes writes sizes as width, length, height
            length, width, height = (float(value) for value in annotation.track.size_lwh_m)
            attributes = [annotation.attribute] if annotation.attribute else []
            index = annotation.track.index

            self.tables['sample_annotation'].append({
                'token': self._token('annotation', key_frame, index),
                'sample_token': self.sample_tokens[key_frame],
                'instance_token': self._token('instance', index),
                'visibility_token': annotation.visibility,
                'attribute_tokens': [token('attribute', name) for name in attributes],
                'translation': [float(value) for value in annotation.global_T_box[:3, 3]],
                'size': [width, length, height],
                'rotation': rotation_quaternion(annotation.global_T_box[:3, :3]),
                'prev': '', 'next': '',
                'num_lidar_pts': annotation.num_lidar_pts,
                'num_radar_pts': annotation.num_radar_pts})

    def finish(self) -> dict[str, list[Row]]:
        """Link measurements and annotations, add the instances, and return all rows by table."""
        link(self.tables['sample'])
        for measurements in _grouped(self.tables['sample_data'], 'calibrated_sensor_token').values():
            link(sorted(measurements, key=lambda row: row['timestamp']))

        category_of = {self._token('instance', track.index): track.category for track in self.scene.tracks}
        for instance, boxes in _grouped(self.tables['sample_annotation'], 'instance_token').items():
            link(boxes)
            self.tables['instance'].append({
                'token': instance, 'category_token': token('category', category_of[instance]),
                'nbr_annotations': len(boxes), 'first_annotation_token': boxes[0]['token'],
                'last_annotation_token': boxes[-1]['token']})
        return self.tables


def _grouped(rows: Sequence[Row], column: str) -> dict[str, list[Row]]:
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(row[column], []).append(row)
    return groups
