"""Messages of mapped topics -> what a running model reads: images, points, targets with their calibration."""
from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..decoding import MessageDecoder
from ..drive.mapping import DriveMapping, SensorSource
from ..drive.measurements import check_optical, sweep_rows
from ..drive.places import frame_of
from ..drive.streams import TF_TOPICS
from ..messages.camera_info import CameraModel, camera_model
from ..messages.images import rgb_image, rgb_of_packed
from ..messages.radar import radar_targets
from ..order import BagMessage
from ..storage.records import RawMessage
from .places import LivePlaces

_TARGET_COLUMNS = ('x', 'y', 'z', 'vx_comp', 'vy_comp', 'rcs')


@dataclass(frozen=True)
class SensorReading:
    """A decoded measurement with its calibration.

    Attributes:
        values: of a camera uint8 RGB `(H, W, 3)`; of a LiDAR points `(P, 4 or 5)`: x, y, z in its own frame,
            intensity 0..255, ring; of a radar rows `(P, 6)`: x, y, z, vx, vy (own motion compensated), RCS in
            its own frame.
        ego_T_sensor: `(4, 4)` m.
        K_33: of a camera, pixels of this image.
        lens: of a camera that is no pinhole, see `Perception.sample`.
    """

    values: np.ndarray
    ego_T_sensor: np.ndarray
    K_33: np.ndarray | None = None
    lens: Any = None


class LiveReadings:
    """Hears the messages of one car, in the order in which they come.

    Args:
        mapping: which topic is which sensor.

    Attributes:
        places: where the car is.
        damaged: {topic: messages of poses or calibrations that could not be used}.
    """

    def __init__(self, mapping: DriveMapping) -> None:
        self.mapping = mapping
        self.places = LivePlaces(mapping)
        self.damaged: Counter[str] = Counter()

        self._decoder = MessageDecoder()
        self._infos: dict[str, CameraModel] = {}
        self._channels = {source.topic: channel for channel, source in mapping.sensors.items()}
        self._info_channels: dict[str, list[str]] = {}
        for channel, source in mapping.cameras.items():
            if source.info:
                self._info_channels.setdefault(source.info, []).append(channel)
        self._pose_topics = {*TF_TOPICS, mapping.poses.topic} - {''}

    @property
    def topics(self) -> set[str]:
        """Every topic that is heard."""
        return {*self._channels, *self._info_channels, *self._pose_topics}

    def is_measurement(self, topic: str) -> bool:
        """Whether a sensor's measurements come on a topic; poses and calibrations do on others."""
        return topic in self._channels

    def hear(self, raw: RawMessage) -> tuple[str, BagMessage] | None:
        """Take a message: a measurement comes back with its channel, undecoded; the rest is kept here."""
        stamp_ns = self._decoder.stamp_ns(raw.topic, raw.data)
        message = BagMessage(
            raw.topic, stamp_ns or raw.log_ns, raw.log_ns, 0, stamp_ns is not None, raw.data, self._decoder)
        name = raw.topic.name
        if name in self._channels:
            return self._channels[name], message

        try:
            if name in self._pose_topics:
                self.places.add(message)
            elif name in self._info_channels:
                content = message.decode()
                for channel in self._info_channels[name]:
                    self._infos[channel] = camera_model(content, self.mapping.cameras[channel].rectified)
        except ValueError:
            self.damaged[name] += 1
        return None

    def read(self, channel: str, message: BagMessage) -> SensorReading:
        """A measurement with its calibration; the same values as an import writes.

        Raises:
            ValueError: a damaged message, or one of a sensor that is not calibrated yet.
        """
        source = self.mapping.sensors[channel]
        content = message.decode()
        ego_T_sensor = self.places.ego_T_sensor(source, frame_of(content))
        if ego_T_sensor is None:
            raise ValueError(
                f'nothing says (yet) where the frame {source.frame or frame_of(content)!r} lies from '
                f'{self.mapping.poses.base!r}')

        kind = self.mapping.kind_of(channel)
        if kind == 'camera':
            return self._image(channel, source, content, ego_T_sensor)
        if kind == 'lidar':
            rows, _ = sweep_rows(content, source, self.places, message.time_ns, ego_T_sensor)
            return SensorReading(rows, ego_T_sensor)

        own = self.places.sensor_velocity(ego_T_sensor, message.time_ns)
        if own is None:
            raise ValueError('no poses (yet) from which its own velocity could be known')
        targets = radar_targets(content, own, source.fields, source.over_ground)
        return SensorReading(np.stack([targets[name] for name in _TARGET_COLUMNS], 1), ego_T_sensor)

    def _image(
        self, channel: str, source: SensorSource, content: Any, ego_T_sensor: np.ndarray
    ) -> SensorReading:
        if source.K_33 is not None:
            camera = CameraModel(source.size_hw, source.K_33, source.lens)
        elif channel in self._infos:
            camera = self._infos[channel]
        else:
            raise ValueError(f'no CameraInfo (yet) on {source.info}')
        check_optical(ego_T_sensor, source.frame or frame_of(content))

        image = rgb_of_packed(content) if hasattr(content, 'format') else rgb_image(content)
        if camera.size_hw[0] and camera.size_hw != image.shape[:2]:
            raise ValueError(
                f'its image has {image.shape[1]} x {image.shape[0]} pixels, its calibration says '
                f'{camera.size_hw[1]} x {camera.size_hw[0]}')
        return SensorReading(image, ego_T_sensor, camera.K_33, camera.lens)
