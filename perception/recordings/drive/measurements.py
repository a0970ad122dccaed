"""One measurement of a recording to the bytes of its file in nuScenes format."""
from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from ...core.contracts import LIDAR_LIMITS
from ...core.nuscenes.radar_file import radar_pcd_bytes
from ...core.rig.view import looks_at_sky
from ..messages.camera_info import CameraModel, camera_model
from ..messages.images import packed_image, rgb_image
from ..messages.points import point_columns
from ..messages.poses import compensated
from ..messages.radar import radar_targets
from ..order import BagMessage
from .mapping import DriveMapping, SensorSource
from .places import DrivePlaces, frame_of
from .sync import Placed


@dataclass(frozen=True)
class WrittenForm:
    """What is written of a measurement.

    Attributes:
        content: bytes of its file.
        ego_T_sensor: `(4, 4)`.
        end: of a picture's name, else ''.
        size_hw: of a picture.
        camera: its calibration, for a picture.
    """

    content: bytes
    ego_T_sensor: np.ndarray
    end: str = ''
    size_hw: tuple[int, int] = (0, 0)
    camera: CameraModel | None = None


class Lost(ValueError):
    """A measurement that cannot be written; says why in words that are the same for its like."""


class Measurements:
    """Turns the messages of mapped topics into files.

    Args:
        mapping: which topic is which sensor.
        places: where the car is.

    Attributes:
        infos: {channel: its last CameraInfo's camera}.
        uncompensated: {channel: sweeps with times of points but no poses for them}.
    """

    def __init__(self, mapping: DriveMapping, places: DrivePlaces) -> None:
        self.mapping, self.places = mapping, places
        self.infos: dict[str, CameraModel] = {}
        self.uncompensated: dict[str, int] = {}

    def add_info(self, channel: str, message: BagMessage) -> None:
        """Take a CameraInfo.

        Raises:
            BadMessage: it is no calibration.
        """
        self.infos[channel] = camera_model(message.decode(), self.mapping.cameras[channel].rectified)

    def written(self, placed: Placed) -> WrittenForm:
        """The file of a measurement.

        Raises:
            Lost: a damaged message, no pose at its time, or nothing that says where the sensor sits.
        """
        source = self.mapping.sensors[placed.channel]
        try:
            content = placed.message.decode()
            ego_T_sensor = self.places.ego_T_sensor(source, frame_of(content))
            if ego_T_sensor is None:
                frame = source.frame or frame_of(content)
                raise Lost(
                    f'{placed.channel}: nothing says where the frame {frame!r} lies from '
                    f'{self.mapping.poses.base!r} (no such fixed transform in tf, no pose in the mapping)')

            make = {'camera': self._picture, 'lidar': self._points, 'radar': self._targets}
            return make[self.mapping.kind_of(placed.channel)](placed, source, content, ego_T_sensor)
        except Lost:
            raise
        except ValueError as error:
            raise Lost(f'{placed.channel}: {error}') from error

    def _picture(
        self, placed: Placed, source: SensorSource, content: Any, ego_T_sensor: np.ndarray
    ) -> WrittenForm:
        camera = self.infos.get(placed.channel) if source.K_33 is None else CameraModel(
            source.size_hw, source.K_33, source.lens)
        if camera is None:
            raise Lost(f'{placed.channel}: no CameraInfo before it on {source.info}')
        check_optical(ego_T_sensor, source.frame or frame_of(content))
        if hasattr(content, 'format'):
            data, kind, size_hw = packed_image(content)
            end = '.jpg' if kind == 'jpeg' else '.png'
        else:
            pixels = rgb_image(content)
            size_hw, end = pixels.shape[:2], '.png' if self.mapping.pictures == 'png' else '.jpg'
            quality = [] if end == '.png' else [cv2.IMWRITE_JPEG_QUALITY, self.mapping.jpeg_quality]
            _, packed = cv2.imencode(end, pixels[..., ::-1], quality)
            data = packed.tobytes()

        if camera.size_hw[0] and camera.size_hw != size_hw:
            raise Lost(
                f'{placed.channel}: its images have {size_hw[1]} x {size_hw[0]} pixels, its calibration says '
                f'{camera.size_hw[1]} x {camera.size_hw[0]}')
        return WrittenForm(data, ego_T_sensor, end, size_hw, camera)

    def _points(
        self, placed: Placed, source: SensorSource, content: Any, ego_T_sensor: np.ndarray
    ) -> WrittenForm:
        rows, compensates = sweep_rows(content, source, self.places, placed.time_ns, ego_T_sensor)
        if not compensates:
            self.uncompensated[placed.channel] = self.uncompensated.get(placed.channel, 0) + 1
        if not len(rows):
            raise Lost(f'{placed.channel}: a sweep without points')
        return WrittenForm(rows.astype('<f4').tobytes(), ego_T_sensor)

    def _targets(
        self, placed: Placed, source: SensorSource, content: Any, ego_T_sensor: np.ndarray
    ) -> WrittenForm:
        velocity = self.places.sensor_velocity(ego_T_sensor, placed.time_ns)
        if velocity is None:
            raise Lost(f'{placed.channel}: no poses from which its own velocity could be known')
        targets = radar_targets(content, velocity, source.fields, source.over_ground)
        return WrittenForm(radar_pcd_bytes(targets), ego_T_sensor)


def check_optical(ego_T_cam: np.ndarray, frame: str) -> None:
    """Refuse a camera that looks into the sky.

    Raises:
        ValueError: says what its frame is taken for.
    """
    if looks_at_sky(ego_T_cam):
        raise ValueError(
            f'the z of its frame {frame!r} points up, so it is the body (x forward), expected the optical '
            'frame (x right, y down, z forward): name that as `frame`, or say its pose')


def sweep_rows(
    content: Any, source: SensorSource, places: DrivePlaces, time_ns: int, ego_T_sensor: np.ndarray
) -> tuple[np.ndarray, bool]:
    """The points of a PointCloud2 as if all had been measured at its time.

    Returns:
        float32 `(P, 5)`: x, y, z in the sensor's frame, intensity 0..255, ring; and False where points have
        times but there are no poses for them.

    Raises:
        BadMessage: it is damaged.
    """
    columns = point_columns(content, source.fields)
    xyz, known = columns.xyz_P3, True
    if columns.time_s_P is not None and len(xyz):
        times = time_ns + np.round(columns.time_s_P * 1e9).astype(np.int64)
        knots = places.sensor_knots(ego_T_sensor, time_ns, int(times.min()), int(times.max()))
        known = knots is not None
        xyz = compensated(xyz, times, knots) if known else xyz

    rows = np.empty((len(xyz), 5), np.float32)
    rows[:, :3] = xyz
    rows[:, 3] = np.clip(columns.intensity_P * source.intensity_scale, *LIDAR_LIMITS[3])
    rows[:, 4] = np.clip(columns.ring_P, 0, LIDAR_LIMITS[4][1])
    return rows, known
