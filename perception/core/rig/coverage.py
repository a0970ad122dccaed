"""What the sensors of a rig see of the ground around the car, and what none of them does."""
from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..geometry import invert, transform_points
from ..lens.projection import lens_project, lens_unproject
from .sensors import CameraSensor, LidarSensor, RadarSensor, SensorRig

__all__ = ['GroundCoverage', 'ground_coverage', 'camera_sees', 'view_angles_rad', 'RINGS_M']

RINGS_M = (0.0, 5.0, 10.0, 20.0, 30.0, 50.0)
"""Borders of rings around the ego origin."""
REACH_M = 50.0
CELL_M = 0.5


@dataclass(frozen=True)
class GroundCoverage:
    """Which places of flat ground are seen; the car itself hides nothing here.

    Attributes:
        x_m, y_m: centres of rows and columns: x forward, y to the left.
        by_camera, by_lidar: bool (X, Y).
    """

    x_m: np.ndarray
    y_m: np.ndarray
    by_camera: np.ndarray
    by_lidar: np.ndarray

    def unseen(self, seen_XY: np.ndarray, rings_m: Sequence[float] = RINGS_M) -> list[float]:
        """Share of each ring of distance that is not seen."""
        distance_m = np.hypot(self.x_m[:, None], self.y_m)
        shares = []
        for low_m, high_m in zip(rings_m[:-1], rings_m[1:], strict=True):
            ring = (distance_m >= low_m) & (distance_m < high_m)
            shares.append(float((~seen_XY[ring]).mean()))
        return shares


def ground_coverage(rig: SensorRig, reach_m: float = REACH_M, cell_m: float = CELL_M) -> GroundCoverage:
    """Look at every cell of flat ground (ego z = 0) around the car."""
    axis_m = np.arange(-reach_m + cell_m / 2, reach_m, cell_m)
    x, y = np.meshgrid(axis_m, axis_m, indexing='ij')
    points = np.stack([x, y, np.zeros_like(x)], -1).reshape(-1, 3)

    seen = [np.zeros(len(points), bool), np.zeros(len(points), bool)]
    for camera in rig.cameras.values():
        seen[0] |= camera_sees(camera, points)
    for lidar in rig.lidars.values():
        seen[1] |= lidar_reaches(lidar, points)
    return GroundCoverage(axis_m, axis_m, *(mask.reshape(x.shape) for mask in seen))


def camera_sees(camera: CameraSensor, points_ego: np.ndarray) -> np.ndarray:
    """Which points (P, 3) come to a pixel of a camera: bool (P,)."""
    points_cam = transform_points(invert(camera.ego_T_cam), points_ego)
    pixels, depth_m = lens_project(camera.K_33, points_cam, camera.distortion)
    with np.errstate(invalid='ignore'):
        inside = (pixels > -0.5) & (pixels < np.array(camera.size_hw[::-1]) - 0.5)
    return inside.all(1) & (depth_m > 0)


def lidar_reaches(lidar: LidarSensor, points_ego: np.ndarray) -> np.ndarray:
    """Which points (P, 3) lie between the outer beams of a LiDAR and within its range: bool (P,)."""
    points = transform_points(invert(lidar.ego_T_lidar), points_ego)
    range_m = np.linalg.norm(points, axis=1)
    elevation_rad = np.arcsin(np.clip(points[:, 2] / np.maximum(range_m, 1e-9), -1, 1))
    low, high = lidar.elevations_rad[[0, -1]]
    return (elevation_rad >= low) & (elevation_rad <= high) & (range_m <= lidar.max_range_m)


def view_angles_rad(sensor: CameraSensor | RadarSensor) -> tuple[float, float]:
    """The directions in ego between which a sensor sees: right border and left border, the left the larger.

    A camera's are those of its middle row's ends, or of its lens's field where that ends before;
    where all of that row is dark, both are the direction of its sight.
    """
    if isinstance(sensor, RadarSensor):
        yaw = math.atan2(*sensor.ego_T_radar[[1, 0], 0])
        return yaw - sensor.near_half_angle_rad, yaw + sensor.near_half_angle_rad

    row = sensor.K_33[1, 2]
    columns = np.linspace(-0.5, sensor.size_hw[1] - 0.5, 401)
    pixels = np.stack([columns, np.full_like(columns, row)], 1)
    rays = lens_unproject(sensor.K_33, pixels, np.ones(len(pixels)), sensor.distortion)
    rays = rays[np.isfinite(rays).all(1)]
    sight = sensor.ego_T_cam[:3, 2]
    yaw = math.atan2(sight[1], sight[0])
    if not len(rays):  # no pixel of that row lies within the lens's field
        return yaw, yaw

    # angles to the right of the axis, which may pass 90 degrees through a fisheye
    to_right = np.arctan2(rays[[0, -1], 0], rays[[0, -1], 2])
    return yaw - float(to_right.max()), yaw - float(to_right.min())
