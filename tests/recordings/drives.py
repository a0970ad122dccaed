"""Small drives as bags: a car goes straight past a pole, which cameras, LiDAR and radar see."""
from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from perception.core.lens import Distortion
from perception.recordings.export.messages import RosMessages

NS = 1_000_000_000
START = 1_700_000_000 * NS
SPEED = 10.0
POLE = np.array([30.0, 4.0, 1.0])
SIZE_HW = (24, 40)
K = np.array([[30.0, 0, 19.5], [0, 30.0, 11.5], [0, 0, 1]])
LENS = Distortion('kannala_brandt', (0.01, 0.0, 0.0, 0.0))
POINT = np.dtype([('x', '<f4'), ('y', '<f4'), ('z', '<f4'), ('strength', '<u2'), ('t', '<u4')])
POSES = {
    'lidar': {'translation': [1.0, 0.0, 1.5], 'rotation': [1, 0, 0, 0]},
    'left_optical': {'translation': [1.5, 0.5, 1.2], 'rotation': [0.5, -0.5, 0.5, -0.5]},
    'right_optical': {'translation': [1.5, -0.5, 1.2], 'rotation': [0.5, -0.5, 0.5, -0.5]},
    'radar': {'translation': [3.0, 0.0, 0.2], 'rotation': [1, 0, 0, 0]}}
HEIGHT = 0.3
"""Of base_link above the ground."""

MAPPING = {
    'name': 'trip', 'poses': {'topic': '/odom', 'base': 'base_link', 'base_height_m': HEIGHT},
    'cameras': {
        'CAM_LEFT': {'topic': '/left/image_raw', 'info': '/left/camera_info'},
        'CAM_RIGHT': {'topic': '/right/image/compressed', 'info': '/right/camera_info'}},
    'lidar': {'topic': '/points', 'fields': {'intensity': 'strength'}, 'intensity_scale': 0.25},
    'radars': {'RADAR_FRONT': {'topic': '/radar', 'frame': 'radar'}},
    'key_frames': {'scene_s': 1.0}, 'pictures': 'png'}


class Drive:
    """The messages of a drive of some seconds: LiDAR 10 Hz, cameras 20 Hz, radar 10 Hz, poses 50 Hz."""

    def __init__(self, seconds: float = 2.0) -> None:
        self.ros = RosMessages()
        self.seconds = seconds

    def base(self, time_ns: int) -> dict:
        return {'translation': [SPEED * (time_ns - START) / NS, 0.0, 0.0], 'rotation': [1, 0, 0, 0]}

    def times(self, period_ns: int, offset_ns: int = 0) -> Iterator[int]:
        return iter(range(START + offset_ns, START + int(self.seconds * NS) + 1, period_ns))

    def pole_from_lidar(self, time_ns: int) -> np.ndarray:
        car_x = self.base(time_ns)['translation'][0]
        return POLE - [car_x, 0, 0] - POSES['lidar']['translation']

    def cloud(self, time_ns: int) -> np.ndarray:
        """Fifty points on the pole, over the tenth of a second before the message's time... and after."""
        points = np.zeros(50, POINT)
        for i in range(50):
            offset_ns = i * 2_000_000
            points[i] = (*self.pole_from_lidar(time_ns + offset_ns), 400, offset_ns)
        return points

    def messages(self) -> list[tuple[str, int, Any]]:
        ros = self.ros
        rows = [('/tf_static', START - 10, ros.transforms(START, 'base_link', POSES))]
        rows += [
            ('/odom', t, ros.odometry(t, 'odom', 'base_link', self.base(t)))
            for t in range(START - NS // 5, START + int((self.seconds + 0.4) * NS), NS // 50)]
        rows += [('/points', t, ros.cloud(t, 'lidar', self.cloud(t))) for t in self.times(NS // 10)]

        for i, t in enumerate(self.times(NS // 20, 7_000_000)):
            picture = np.full((*SIZE_HW, 3), (i % 256, 40, 80), np.uint8)
            rows.append(('/left/camera_info', t, ros.camera_info(t, 'left_optical', SIZE_HW, K, LENS)))
            rows.append(('/left/image_raw', t, ros.image(t, 'left_optical', picture)))
            rows.append(('/right/camera_info', t, ros.camera_info(t, 'right_optical', SIZE_HW, K, None)))
            packed = ros.packed_image(t, 'right_optical', png(picture), 'png')
            rows.append(('/right/image/compressed', t, packed))
        rows += [('/radar', t, ros.cloud(t, '', self.targets(t))) for t in self.times(NS // 10, 31_000_000)]
        return sorted(rows, key=lambda row: row[1])

    def targets(self, time_ns: int) -> np.ndarray:
        """The pole, as a radar sees it come nearer."""
        targets = np.zeros(1, np.dtype([(n, '<f4') for n in ('x', 'y', 'z', 'vx', 'vy', 'rcs')]))
        car_x = self.base(time_ns)['translation'][0]
        place = POLE - [car_x, 0, 0] - POSES['radar']['translation']
        targets[0] = (*place, -SPEED, 0.0, 3.0)
        return targets


def png(picture: np.ndarray) -> bytes:
    import cv2
    return cv2.imencode('.png', picture[..., ::-1])[1].tobytes()


def write_drive(folder: Path, rows: list[tuple[str, int, Any]], plugin: str = 'MCAP') -> Path:
    from rosbags.rosbag2 import StoragePlugin, Writer
    ros, topics = RosMessages(), {}
    with Writer(folder, version=8, storage_plugin=StoragePlugin[plugin]) as writer:
        for topic, time_ns, message in rows:
            if topic not in topics:
                topics[topic] = writer.add_connection(topic, message.__msgtype__, typestore=ros.store)
            writer.write(topics[topic], time_ns + 3_000_000, ros.serialized(message))
    return folder
