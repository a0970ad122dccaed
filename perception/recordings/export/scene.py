"""A scene of a root in nuScenes format, written as a bag message by message, with the mapping to read it."""
from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ...core.files import path_below, write_json
from ...core.lens import Distortion
from ...core.nuscenes.radar_file import read_radar_pcd
from ...core.reading import BadFile, decoding, read_file, read_json
from ..drive.mapping import LIDAR
from .messages import RosMessages

MAPPING_NAME = 'mapping.json'
SENSOR_MIB = 64
FIXED, BASE = 'map', 'base_link'
TABLES = ('scene', 'sample', 'sample_data', 'calibrated_sensor', 'sensor', 'ego_pose')
_POINT = np.dtype([(name, '<f4') for name in ('x', 'y', 'z', 'intensity', 'ring')])
_RADAR_FIELDS = {'vx': 'vx_comp', 'vy': 'vy_comp'}


@dataclass(frozen=True)
class ExportOptions:
    """What is written.

    Attributes:
        sweeps: measurements between key frames too.
        raw_images: as sensor_msgs/Image; else the files' own bytes as CompressedImage.
        storage: 'mcap' or 'sqlite3'.
        repeat: play the scene so often, one time after the other.
    """

    sweeps: bool = False
    raw_images: bool = False
    storage: str = 'mcap'
    repeat: int = 1


class SceneTables:
    """The rows of one scene.

    Args:
        root: in nuScenes format.
        version: name of the folder with the tables.
        scene: name of the scene, None for the first.

    Raises:
        BadFile: a table is not there or damaged, or has no such scene.
    """

    def __init__(self, root: Path, version: str, scene: str | None = None) -> None:
        self.root = root
        tables = {name: read_json(root / version / f'{name}.json') for name in TABLES}
        with decoding(root / version, 'the tables of nuScenes'):
            self._choose(tables, root / version / 'scene.json', scene)

    def _choose(self, tables: dict[str, Any], path: Path, scene: str | None) -> None:
        names = [row['name'] for row in tables['scene']]
        self.name = scene or next(iter(names), '')
        if self.name not in names:
            raise BadFile(path, f'found no scene {scene!r}, there are: {", ".join(names)}')

        token = next(row['token'] for row in tables['scene'] if row['name'] == self.name)
        samples = {row['token'] for row in tables['sample'] if row['scene_token'] == token}
        self.rows = sorted(
            (row for row in tables['sample_data'] if row['sample_token'] in samples),
            key=lambda row: row['timestamp'])
        self.calibrations = {row['token']: row for row in tables['calibrated_sensor']}
        self.channels = {row['token']: (row['channel'], row['modality']) for row in tables['sensor']}
        wanted = {row['ego_pose_token'] for row in self.rows}
        self.poses = {row['token']: row for row in tables['ego_pose'] if row['token'] in wanted}

        # what a row names must be there before a bag is begun
        for row in self.rows:
            self.channel(row), self.poses[row['ego_pose_token']]

    def calibration(self, row: dict) -> dict:
        """The calibrated_sensor of a sample_data row."""
        return self.calibrations[row['calibrated_sensor_token']]

    def channel(self, row: dict) -> tuple[str, str]:
        """Channel and modality of a sample_data row."""
        return self.channels[self.calibration(row)['sensor_token']]


def export_scene(tables: SceneTables, out: Path, options: ExportOptions) -> Path:
    """Write a scene as a ROS 2 bag, and beside its files the mapping to read it.

    Args:
        tables: of the scene.
        out: folder of the bag; must not be there.
        options: what to write.

    Returns:
        The mapping's file.

    Raises:
        FileExistsError: there is something at `out`. BadFile: a sensor file is damaged.
    """
    ros = RosMessages()
    from rosbags.rosbag2 import StoragePlugin, Writer

    if out.exists():
        raise FileExistsError(17, 'is there already, expected a new folder', str(out))
    part = out.with_name(f'.{out.name}.part') / out.name
    shutil.rmtree(part.parent, ignore_errors=True)
    part.parent.mkdir(parents=True)
    try:
        with Writer(part, version=8, storage_plugin=StoragePlugin[options.storage.upper()]) as writer:
            connections: dict[str, Any] = {}
            for topic, time_ns, message in _messages(ros, tables, options):
                if topic not in connections:
                    kind = message.__msgtype__
                    connections[topic] = writer.add_connection(topic, kind, typestore=ros.store)
                writer.write(connections[topic], time_ns, ros.serialized(message))
        write_json(part / MAPPING_NAME, scene_mapping(tables), indent=1)
        part.replace(out)
    finally:
        shutil.rmtree(part.parent, ignore_errors=True)
    return out / MAPPING_NAME


def topic_of(channel: str) -> str:
    """'/cam_front' of CAM_FRONT."""
    return f'/{channel.lower()}'


def scene_mapping(tables: SceneTables) -> dict[str, Any]:
    """A mapping for the bag of a scene, as plain values."""
    kinds = dict(sorted({tables.channel(row) for row in tables.rows}))
    cameras = {
        channel: {'topic': f'{topic_of(channel)}/image', 'info': f'{topic_of(channel)}/camera_info'}
        for channel, kind in kinds.items() if kind == 'camera'}
    radars = {
        channel: {'topic': topic_of(channel), 'fields': _RADAR_FIELDS, 'over_ground': True}
        for channel, kind in kinds.items() if kind == 'radar'}

    content = {'name': tables.name, 'poses': {'topic': '/odom', 'base': BASE}, 'cameras': cameras,
               'radars': radars}
    return content | ({'lidar': {'topic': topic_of(LIDAR)}} if LIDAR in kinds else {})


def _messages(
    ros: RosMessages, tables: SceneTables, options: ExportOptions
) -> Iterator[tuple[str, int, Any]]:
    """(topic, time, message) in the order of time."""
    rows = [row for row in tables.rows if row['is_key_frame'] or options.sweeps]
    if not rows:
        return
    records = {tables.channel(row)[0].lower(): tables.calibration(row) for row in rows}
    first_us, last_us = rows[0]['timestamp'], rows[-1]['timestamp']
    yield '/tf_static', first_us * 1000, ros.transforms(first_us * 1000, BASE, records)

    for turn in range(options.repeat):
        # half a second from the end of one time to the beginning of the next
        later_ns = turn * (last_us - first_us + 500_000) * 1000
        given_ns = -1
        for row in rows:
            time_ns = row['timestamp'] * 1000 + later_ns
            if time_ns != given_ns:
                pose = tables.poses[row['ego_pose_token']]
                yield '/odom', time_ns, ros.odometry(time_ns, FIXED, BASE, pose)
                given_ns = time_ns
            yield from _measurement(ros, tables, row, time_ns, options)


def _measurement(
    ros: RosMessages, tables: SceneTables, row: dict, time_ns: int, options: ExportOptions
) -> Iterator[tuple[str, int, Any]]:
    channel, kind = tables.channel(row)
    frame, topic = channel.lower(), topic_of(channel)
    path = path_below(tables.root, row['filename'])
    data = read_file(path, SENSOR_MIB)

    if kind == 'lidar':
        if len(data) % _POINT.itemsize:
            raise BadFile(path, f'found {len(data)} bytes, expected {_POINT.itemsize} for each point')
        yield topic, time_ns, ros.cloud(time_ns, frame, np.frombuffer(data, _POINT))
    elif kind == 'radar':
        yield topic, time_ns, ros.cloud(time_ns, frame, read_radar_pcd(data))
    else:
        calibration = tables.calibration(row)
        lens = Distortion.from_record(calibration.get('distortion'), f'{channel}.distortion')
        size_hw = row['height'], row['width']
        K = np.array(calibration['camera_intrinsic'], dtype=np.float64)
        yield f'{topic}/camera_info', time_ns, ros.camera_info(time_ns, frame, size_hw, K, lens)
        yield f'{topic}/image', time_ns, _picture(ros, path, data, time_ns, frame, options)


def _picture(
    ros: RosMessages, path: Path, data: bytes, time_ns: int, frame: str, options: ExportOptions
) -> Any:
    if not options.raw_images:
        return ros.packed_image(time_ns, frame, data, 'jpeg' if data.startswith(b'\xff\xd8') else 'png')
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    if pixels is None:
        raise BadFile(path, 'the image decoder refused it')
    return ros.image(time_ns, frame, pixels[..., ::-1])
