"""CAN-bus messages of a scene in the format of the nuScenes CAN-bus expansion, in its units.

What the car's motion tells is computed from it: acceleration, rotation, the steering of a single-track model
without slip, wheel speeds. Pedals follow the acceleration linearly. What the world does not have (battery,
sun, cruise control) is a constant.
"""
from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...core.nuscenes.tables import rotation_quaternions
from ..scene.scene import WorldScene
from ..scene.track import EgoTrajectory

PERIOD_US = 10_000
GRAVITY_M_PER_S2 = 9.81
ROUTE_STEP_M = 1.0

# Renault Zoe, the car of nuScenes
WHEELBASE_M = 2.588
TRACK_M = 1.51
WHEEL_RADIUS_M = 0.31
STEERING_RATIO = 15.2
MASS_KG = 1500.0

# below this speed the wheels are taken as straight: the ratio of turning to driving means nothing
STANDING_M_PER_S = 0.3
FULL_PEDAL_M_PER_S2 = 4.0

Message = dict[str, Any]


@dataclass(frozen=True)
class Motion:
    """How the car moves at one moment.

    Attributes:
        utime: microseconds.
        xyz_m, quaternion: place and orientation (w, x, y, z), global.
        accel_m_per_s2: forward, left, up in ego, as an accelerometer feels it, gravity included.
        speed_m_per_s: forward.
        rotation_rate: rad/s about the car's axes, counter-clockwise.
        travelled_m: since the scene began.
    """

    utime: int
    xyz_m: list[float]
    quaternion: list[float]
    accel_m_per_s2: list[float]
    speed_m_per_s: float
    rotation_rate: list[float]
    travelled_m: float

    @property
    def yaw_rate(self) -> float:
        """Rate of turning to the left, rad/s."""
        return self.rotation_rate[2]

    @property
    def wheel_angle_rad(self) -> float:
        """Angle of the front wheels, to the left positive."""
        if self.speed_m_per_s < STANDING_M_PER_S:
            return 0.0
        return float(np.arctan(WHEELBASE_M * self.yaw_rate / self.speed_m_per_s))

    @property
    def steering_rad(self) -> float:
        """Angle of the steering wheel, to the left positive."""
        return STEERING_RATIO * self.wheel_angle_rad

    @property
    def pedals(self) -> tuple[float, float]:
        """Throttle and brake, each 0 to 1."""
        share = self.accel_m_per_s2[0] / FULL_PEDAL_M_PER_S2
        return float(np.clip(share, 0, 1)), float(np.clip(-share, 0, 1))

    def wheel_rpm(self, left_m: float, front: bool) -> float:
        """Turns a minute of the wheel that lies so far to the left of the middle."""
        along = self.speed_m_per_s - self.yaw_rate * left_m
        across = self.yaw_rate * WHEELBASE_M if front else 0.0
        return float(np.hypot(along, across) / WHEEL_RADIUS_M * 60 / (2 * np.pi))


def motions(scene: WorldScene, stride: int = 1) -> list[Motion]:
    """The car's motion over the scene, every `stride` times `PERIOD_US` from its start."""
    period_us = stride * PERIOD_US
    time_us_N = np.arange(int(round(scene.duration_s * 1e6)) // period_us + 1) * period_us
    ego, t_s_N = scene.ego, time_us_N * 1e-6
    pose_N44 = ego.pose_at(t_s_N)
    speed_N = ego.speed_at(t_s_N)

    # what holds the car up against gravity is felt too; (N, 3) along the car's axes
    felt_N3 = ego.acceleration_at(t_s_N) + [0.0, 0.0, GRAVITY_M_PER_S2]
    accel_N3 = np.einsum('nij,ni->nj', pose_N44[:, :3, :3], felt_N3)
    travelled_N = np.concatenate([[0.0], np.cumsum(speed_N[:-1] * period_us * 1e-6)])
    columns = (
        scene.start_timestamp_us + time_us_N, pose_N44[:, :3, 3], rotation_quaternions(pose_N44[:, :3, :3]),
        accel_N3, speed_N, ego.rotation_rate_at(t_s_N), travelled_N)
    return [Motion(*row) for row in zip(*(column.tolist() for column in columns), strict=True)]


def pose_message(motion: Motion) -> Message:
    """`pose`: acceleration (m/s^2), rotation rate (rad/s) and velocity (m/s) in ego; the rest is global.

    Orientation is (w, x, y, z).
    """
    return {
        'accel': motion.accel_m_per_s2,
        'orientation': motion.quaternion,
        'pos': motion.xyz_m,
        'rotation_rate': motion.rotation_rate,
        'utime': motion.utime,
        'vel': [motion.speed_m_per_s, 0.0, 0.0]}


def _imu_message(motion: Motion) -> Message:
    return {
        'linear_accel': motion.accel_m_per_s2,
        'q': motion.quaternion,
        'rotation_rate': motion.rotation_rate,
        'utime': motion.utime}


def _steering_message(motion: Motion) -> Message:
    """Radians of the steering wheel."""
    return {'utime': motion.utime, 'value': motion.steering_rad}


def _monitor_message(motion: Motion) -> Message:
    """Kilometres per hour and degrees; pedals in the car's own steps (brake to 126, throttle to 1000)."""
    throttle, brake = motion.pedals
    return {
        'available_distance': 200.0, 'battery_level': 80.0,
        'brake': 126 * brake, 'brake_switch': 2 if brake > 0 else 1,
        'gear_position': 7, 'left_signal': 0, 'right_signal': 0,
        'rear_left_rpm': motion.wheel_rpm(TRACK_M / 2, front=False),
        'rear_right_rpm': motion.wheel_rpm(-TRACK_M / 2, front=False),
        'steering': float(np.degrees(motion.steering_rad)), 'steering_speed': 0.0,
        'throttle': 1000 * throttle, 'utime': motion.utime,
        'vehicle_speed': 3.6 * motion.speed_m_per_s, 'yaw_rate': float(np.degrees(motion.yaw_rate))}


def _sensors_message(motion: Motion) -> Message:
    """Voltages of the pedals' sensors, and the steering from -1 (left) to 1."""
    throttle, brake = motion.pedals
    return {
        'brake_sensor': 0.166 + 0.465 * brake, 'steering_sensor': -motion.steering_rad / (2.5 * np.pi),
        'throttle_sensor': 0.105 + 0.306 * throttle, 'utime': motion.utime}


def _vehicle_message(motion: Motion) -> Message:
    """Wheel speeds in turns a minute, torque in newton metres at the wheels, degrees, kilometres per hour."""
    side = TRACK_M / 2
    wheels = {'FL': (side, True), 'FR': (-side, True), 'RL': (side, False), 'RR': (-side, False)}
    torque = MASS_KG * motion.accel_m_per_s2[0] * WHEEL_RADIUS_M
    steering_deg = float(np.degrees(motion.steering_rad))

    return {
        **{f'{name}_wheel_speed': motion.wheel_rpm(*place) for name, place in wheels.items()},
        'left_solar': 0.0, 'right_solar': 0.0, 'pedal_cc': 100 * motion.pedals[0],
        'longitudinal_accel': motion.accel_m_per_s2[0], 'transversal_accel': motion.accel_m_per_s2[1],
        'meanEffTorque': torque, 'requestedTorqueAfterProc': torque, 'regen': max(0.0, -torque),
        'odom': motion.travelled_m, 'odom_speed': 3.6 * motion.speed_m_per_s,
        'steer_corrected': steering_deg, 'steer_offset_can': 0.0, 'steer_raw': steering_deg,
        'utime': motion.utime}


MESSAGES: Mapping[str, tuple[int, Callable[[Motion], Message]]] = {
    'ms_imu': (1, _imu_message), 'pose': (2, pose_message), 'steeranglefeedback': (1, _steering_message),
    'vehicle_monitor': (50, _monitor_message), 'zoe_veh_info': (1, _vehicle_message),
    'zoesensors': (1, _sensors_message)}
"""Kind of message -> how many times `PERIOD_US` lie between two of them, and what makes one."""


def pose_messages(scene: WorldScene) -> list[Message]:
    """The `pose` messages of a scene, 50 a second."""
    return [pose_message(motion) for motion in motions(scene, MESSAGES['pose'][0])]


def can_bus_files(scene: WorldScene) -> dict[str, Any]:
    """All kinds of messages of a scene, with `meta` (their statistics) and `route`."""
    moments = motions(scene)
    files: dict[str, Any] = {
        kind: [make(motion) for motion in moments[::stride]] for kind, (stride, make) in MESSAGES.items()}

    files['meta'] = {kind: message_statistics(messages) for kind, messages in files.items()}
    files['route'] = route_message(scene.ego)
    return files


def message_statistics(messages: Sequence[Message]) -> Message:
    """What `meta` says of one kind: number, frequency (Hz), timespan (s), and each field's statistics."""
    span_s = 1e-6 * (messages[-1]['utime'] - messages[0]['utime'])
    statistics = {}
    for field in messages[0]:
        values = np.array([message[field] for message in messages], dtype=np.float64)
        measures = {'max': values.max(0), 'mean': values.mean(0), 'min': values.min(0), 'std': values.std(0)}
        statistics[field] = {name: measure.tolist() for name, measure in measures.items()}
    return {
        'message_count': len(messages), 'message_freq': (len(messages) - 1) / span_s if span_s else 0.0,
        'timespan': span_s, 'var_stats': statistics}


def route_message(ego: EgoTrajectory) -> list[list[float]]:
    """The driven route as global (x, y) points in metres, at least a metre apart."""
    xy = ego.xyz_T3[:, :2]
    travelled = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(xy, axis=0), axis=1))])
    steps = np.arange(0.0, travelled[-1] + 1e-9, ROUTE_STEP_M)
    return [[float(np.interp(s, travelled, xy[:, 0])), float(np.interp(s, travelled, xy[:, 1]))]
            for s in steps]
