"""Where the car and its sensors are at any time of a recording, from tf, odometry and the mapping."""
from __future__ import annotations

from typing import Any

import numpy as np

from ...core.geometry import invert, make_transform
from ..messages.poses import PoseTrack, TransformTree, odometry_pose, plain_frame
from ..order import BagMessage
from .mapping import DriveMapping, SensorSource

KNOT_NS = 10_000_000
VELOCITY_STEP_NS = 50_000_000
KEPT_NS = 10_000_000_000


class DrivePlaces:
    """Poses as they stream in.

    Args:
        mapping: names of frames and topics.
    """

    def __init__(self, mapping: DriveMapping) -> None:
        self.mapping = mapping
        self.tree = TransformTree(mapping.poses.longest_gap_s)
        self._odometry = PoseTrack(mapping.poses.longest_gap_s)
        height = np.array([0.0, 0.0, -mapping.poses.base_height_m])
        self._base_T_ego = make_transform(np.eye(3), height)

    def add(self, message: BagMessage) -> None:
        """Take a message of tf or odometry.

        Raises:
            ValueError: it is damaged, or of another car's frame.
        """
        content = message.decode()
        if message.topic.name != self.mapping.poses.topic:
            self.tree.add(content, fixed='static' in message.topic.name)
            return

        _, child, time_ns, pose = odometry_pose(content)
        base = self.mapping.poses.base
        if child and child != base:
            base_T_child = self.tree.at(base, child, None)
            if base_T_child is None:
                raise ValueError(
                    f'{message.topic.name}: found poses of the frame {child!r}, expected {base!r} '
                    '(poses.base) or one that tf_static connects with it')
            pose = pose @ invert(base_T_child)
        self._odometry.add(time_ns, pose)

    def forget_before(self, time_ns: int) -> None:
        """Forget poses of long before a time."""
        self._odometry.forget_before(time_ns - KEPT_NS)
        self.tree.forget_before(time_ns - KEPT_NS)

    def clear(self) -> None:
        """Forget all poses over time, as the clock is another one."""
        self._odometry = PoseTrack(self.mapping.poses.longest_gap_s)
        self.tree.forget_moving()

    def global_T_ego(self, time_ns: int) -> np.ndarray | None:
        """The car's pose `(4, 4)`; None where none is known then."""
        poses = self.mapping.poses
        pose = self._odometry.at(time_ns) if poses.topic else self.tree.at(poses.fixed, poses.base, time_ns)
        return None if pose is None else pose @ self._base_T_ego

    def ego_T_sensor(self, source: SensorSource, frame: str) -> np.ndarray | None:
        """Where a sensor sits `(4, 4)`; None where neither mapping nor tf tells (yet).

        Args:
            source: the sensor.
            frame: of its messages, where the mapping names none.
        """
        base_T_sensor = source.base_T_sensor
        if base_T_sensor is None:
            own = source.frame or plain_frame(frame)
            base_T_sensor = self.tree.at(self.mapping.poses.base, own, None) if own else None
        return None if base_T_sensor is None else invert(self._base_T_ego) @ base_T_sensor

    def sensor_knots(
        self, ego_T_sensor: np.ndarray, time_ns: int, first_ns: int, last_ns: int
    ) -> list[tuple[int, np.ndarray]] | None:
        """Transforms from the sensor at moments of a sweep to the sensor at one time; None without poses."""
        global_T_now = self.global_T_ego(time_ns)
        if global_T_now is None:
            return None
        now_T_global = invert(global_T_now @ ego_T_sensor)
        steps = max(2, -(-(last_ns - first_ns) // KNOT_NS) + 1)

        knots = []
        for moment in np.linspace(first_ns, last_ns, steps).astype(np.int64).tolist():
            global_T_then = self.global_T_ego(moment)
            if global_T_then is not None:
                knots.append((moment, now_T_global @ global_T_then @ ego_T_sensor))
        return knots or None

    def sensor_velocity(self, ego_T_sensor: np.ndarray, time_ns: int) -> np.ndarray | None:
        """The sensor's own velocity over ground `(3,)` in its own axes (m/s), over a tenth of a second."""
        moments = [time_ns - VELOCITY_STEP_NS, time_ns, time_ns + VELOCITY_STEP_NS]
        poses = [(moment, self.global_T_ego(moment)) for moment in moments]
        known = [(moment, pose @ ego_T_sensor) for moment, pose in poses if pose is not None]
        if len(known) < 2:
            return None
        (first_ns, first), (last_ns, last) = known[0], known[-1]
        over_ground = (last[:3, 3] - first[:3, 3]) / ((last_ns - first_ns) * 1e-9)
        return known[len(known) // 2][1][:3, :3].T @ over_ground


def frame_of(content: Any) -> str:
    """The frame in a message's header; '' where its type has none."""
    header = getattr(content, 'header', None)
    return plain_frame(getattr(header, 'frame_id', ''))
