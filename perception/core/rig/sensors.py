"""The car's sensors: where they sit and what they can see.

Sizes are (rows, columns).
"""
from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ..lens import Distortion

__all__ = ['CameraSensor', 'LidarSensor', 'RadarSensor', 'SensorRig', 'FORWARD_T_OPTICAL']

FORWARD_T_OPTICAL = np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])
"""Camera axes (x right, y down, z forward) written in vehicle axes (x forward, y left, z up)."""


@dataclass(frozen=True)
class CameraSensor:
    """A camera.

    Attributes:
        name: nuScenes channel, e.g. `CAM_FRONT`.
        size_hw: native image size in pixels.
        K_33: native intrinsics; the centre of the top-left pixel is (0, 0).
        ego_T_cam: (4, 4); camera frame x right, y down, z forward.
        distortion: what its lens does; None for a pinhole.
    """

    name: str
    size_hw: tuple[int, int]
    K_33: np.ndarray
    ego_T_cam: np.ndarray
    distortion: Distortion | None = None

    def intrinsics_for(self, size_hw: tuple[int, int]) -> np.ndarray:
        """(3, 3) intrinsics of the same view drawn at `size_hw`.

        Pixel areas scale, so the centres of pixels shift by half a pixel.
        """
        scale_y, scale_x = size_hw[0] / self.size_hw[0], size_hw[1] / self.size_hw[1]
        K = self.K_33.copy()
        K[0, :2] *= scale_x
        K[1, :2] *= scale_y
        K[0, 2] = (self.K_33[0, 2] + 0.5) * scale_x - 0.5
        K[1, 2] = (self.K_33[1, 2] + 0.5) * scale_y - 0.5
        return K


@dataclass(frozen=True)
class LidarSensor:
    """A spinning LiDAR; its frame is x right, y forward, z up when `ego_T_lidar` turns by -90 degrees.

    Attributes:
        elevations_rad: (beams,) rising; ring i of a scan is beam i, as in nuScenes (0 = lowest).
        azimuths: columns per turn.
        max_range_m: nothing is returned from beyond.
    """

    name: str
    elevations_rad: np.ndarray
    azimuths: int
    max_range_m: float
    ego_T_lidar: np.ndarray


@dataclass(frozen=True)
class RadarSensor:
    """A 77 GHz radar; frame x forward, y left, z up. Fields of view follow the public ARS 408 data sheet."""

    name: str
    ego_T_radar: np.ndarray
    near_half_angle_rad: float = np.deg2rad(60.0)
    near_range_m: float = 70.0
    far_half_angle_rad: float = np.deg2rad(9.0)
    far_range_m: float = 200.0


@dataclass(frozen=True)
class SensorRig:
    """All sensors of one car, by name, in file order."""

    cameras: dict[str, CameraSensor]
    lidars: dict[str, LidarSensor]
    radars: dict[str, RadarSensor]

    @cached_property
    def lidar(self) -> LidarSensor:
        """The one LiDAR.

        Raises:
            ValueError: the car has none.
        """
        if not self.lidars:
            sensors = ', '.join([*self.cameras, *self.radars])
            raise ValueError(f'lidars: found none beside {sensors}, expected one LiDAR for this')
        return next(iter(self.lidars.values()))
