"""CAN-bus messages of a scene in the format of the nuScenes CAN-bus expansion: `pose` and `route`."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..scene.scene import WorldScene
from ..scene.track import EgoTrajectory
from .tables import yaw_quaternion

POSE_PERIOD_US = 20_000
GRAVITY_M_PER_S2 = 9.81
ROUTE_STEP_M = 1.0


def pose_messages(scene: WorldScene) -> list[dict[str, Any]]:
    """The `pose` messages of a scene, 50 a second.

    They hold acceleration (m/s^2), orientation, position, rotation rate (rad/s), microseconds and velocity
    (m/s). Acceleration is what an accelerometer feels, gravity included; it, the rotation rate and the
    velocity are in the ego frame, orientation (w, x, y, z) and position in the global frame.
    """
    count = int(round(scene.duration_s * 1e6)) // POSE_PERIOD_US + 1
    return [_pose_message(scene.ego, index * POSE_PERIOD_US, scene.start_timestamp_us)
            for index in range(count)]


def _pose_message(ego: EgoTrajectory, time_us: int, start_timestamp_us: int) -> dict[str, Any]:
    t_s = time_us * 1e-6
    xyz, yaw = ego.xyz_yaw_at(t_s)
    global_T_ego = ego.pose_at(t_s)
    accel_ego = global_T_ego[:3, :3].T @ np.asarray(ego.acceleration_at(t_s))
    return {'accel': [float(accel_ego[0]), float(accel_ego[1]), float(accel_ego[2]) + GRAVITY_M_PER_S2],
            'orientation': yaw_quaternion(yaw),
            'pos': [float(value) for value in xyz],
            'rotation_rate': [0.0, 0.0, float(ego.yaw_rate_at(t_s))],
            'utime': start_timestamp_us + time_us,
            'vel': [float(ego.speed_at(t_s)), 0.0, 0.0]}


def route_message(ego: EgoTrajectory) -> list[list[float]]:
    """The driven route as global (x, y) points in metres, at least a metre apart."""
    xy = ego.xyz_T3[:, :2]
    travelled = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(xy, axis=0), axis=1))])
    steps = np.arange(0.0, travelled[-1] + 1e-9, ROUTE_STEP_M)
    return [[float(np.interp(s, travelled, xy[:, 0])), float(np.interp(s, travelled, xy[:, 1]))]
            for s in steps]
