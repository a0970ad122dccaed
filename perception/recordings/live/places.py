"""Where the car is right now: poses go on a little beyond the newest, as a frame cannot wait for the next."""
from __future__ import annotations

from collections import deque

import numpy as np

from ..drive.mapping import DriveMapping
from ..drive.places import DrivePlaces
from ..messages.poses import plain_frame
from ..messages.values import stamp_of
from ..order import BagMessage
from .poses import LivePoses

_WAITING = 100


class LivePlaces(DrivePlaces):
    """Poses and fixed transforms as they stream in; memory is bounded.

    Args:
        mapping: names of frames and topics.
    """

    def __init__(self, mapping: DriveMapping) -> None:
        super().__init__(mapping)
        self.poses = LivePoses()
        # times of tf whose pose needs transforms that have not come yet
        self._waiting: deque[int] = deque(maxlen=_WAITING)

    def add(self, message: BagMessage) -> None:
        """Take a message of tf or odometry.

        Raises:
            ValueError: it is damaged, or of another car's frame.
        """
        super().add(message)
        for time_ns in self._times_of(message):
            if time_ns not in self._waiting:
                self._waiting.append(time_ns)

        known = {time_ns: super(LivePlaces, self).global_T_ego(time_ns) for time_ns in sorted(self._waiting)}
        for time_ns, pose in known.items():
            if pose is not None:
                self.poses.add(time_ns, pose)
                self._waiting.remove(time_ns)
        if known:
            self.forget_before(max(known))

    def global_T_ego(self, time_ns: int) -> np.ndarray | None:
        """The car's pose `(4, 4)`, beyond the newest one by its motion; None where none is known yet."""
        return self.poses.at(time_ns)

    def _times_of(self, message: BagMessage) -> list[int]:
        """The times of the car's poses that a message may tell."""
        poses = self.mapping.poses
        if poses.topic:
            return [stamp_of(message.decode().header)] if message.topic.name == poses.topic else []
        if 'static' in message.topic.name:
            return []
        moving = [entry for entry in message.decode().transforms if plain_frame(entry.child_frame_id)]
        return [stamp_of(entry.header) for entry in moving]
