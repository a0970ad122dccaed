"""A first mapping from the topics and types of a recording, for a person to correct."""
from __future__ import annotations

import re
from collections.abc import Mapping
from os.path import commonprefix
from typing import Any

from ...core.protocols import RADARS
from ..messages.poses import plain_frame
from ..recording import Recording
from ..storage.records import BagTopic
from .streams import TF_TOPICS

IMAGES = ('sensor_msgs/msg/CompressedImage', 'sensor_msgs/msg/Image')
CLOUD = 'sensor_msgs/msg/PointCloud2'
LOOKED_AT = 500
"""Messages of tf that are read for the names of frames."""


def suggest_mapping(recording: Recording) -> dict[str, Any]:
    """A mapping as plain values: all images, the largest LiDAR topic, radars, odometry or tf.

    Raises:
        ValueError: neither an image nor a point cloud is there.
    """
    topics = recording.topics
    cameras = _cameras(topics)
    radars = [t.name for t in topics.values() if _is_radar(t)][:len(RADARS)]
    clouds = [t for t in topics.values() if t.type == CLOUD and t.name not in radars]
    if not cameras and not clouds:
        raise ValueError(
            f'{recording.path}: found neither images nor point clouds, there are: {", ".join(topics)}')

    mapping: dict[str, Any] = {
        'name': re.sub(r'[^\w-]+', '_', recording.path.stem).strip('_-')[:100] or 'drive',
        'poses': _poses(recording), 'cameras': cameras}
    if clouds:
        mapping['lidar'] = {'topic': max(clouds, key=lambda t: t.count or 0).name}
    if radars:
        mapping['radars'] = {name: {'topic': topic} for name, topic in zip(RADARS, radars, strict=False)}
    return mapping


def _is_radar(topic: BagTopic) -> bool:
    return topic.type.startswith('radar_msgs/') or (topic.type == CLOUD and 'radar' in topic.name.lower())


def _cameras(topics: Mapping[str, BagTopic]) -> dict[str, Any]:
    """A camera a picture topic; of one that is there raw and compressed, the compressed."""
    pictures = {t.name for t in topics.values() if t.type in IMAGES and 'depth' not in t.name.lower()}
    packed = {name.rsplit('/', 1)[0] for name in pictures if name.endswith('/compressed')}
    infos = [t.name for t in topics.values() if t.type == 'sensor_msgs/msg/CameraInfo']

    cameras: dict[str, Any] = {}
    for name in sorted(pictures - packed):
        parts = [p for p in name.strip('/').split('/') if p not in ('image', 'image_raw', 'compressed')]
        words = re.sub(r'[^A-Z0-9]+', '_', '_'.join(parts).upper()).strip('_')
        channel = words if words.startswith('CAM') else f'CAM_{words}'
        while channel in cameras:
            channel += '_2'
        near = max(infos, key=lambda info: len(commonprefix([info, name])), default=None)
        cameras[channel] = {'topic': name, **({'info': near} if near else {})}
        if 'rect' in name:
            cameras[channel]['rectified'] = True
    return cameras


def _poses(recording: Recording) -> dict[str, Any]:
    """Odometry where there is some; else tf, from the frame above all others to a usual name of the car."""
    for topic in recording.topics.values():
        if topic.type == 'nav_msgs/msg/Odometry' and topic.count != 0:
            first = next(recording.messages([topic.name]), None)
            child = plain_frame(first.decode().child_frame_id) if first else ''
            return {'topic': topic.name, 'base': child or 'base_link', 'base_height_m': 0.0}

    children, parents = set(), set()
    known = [name for name in TF_TOPICS if name in recording.topics]
    for number, message in enumerate(recording.messages(known) if known else ()):
        if number == LOOKED_AT:
            break
        for entry in message.decode().transforms:
            children.add(plain_frame(entry.child_frame_id))
            parents.add(plain_frame(entry.header.frame_id))
    tops = sorted(parents - children) or ['odom']
    cars = [name for name in ('base_footprint', 'base_link', 'ego', 'vehicle', 'car') if name in children]
    return {'fixed': tops[0], 'base': (cars or ['base_link'])[0], 'base_height_m': 0.0}
