"""What messages are made of: stamps, poses, colours."""
from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

EGO_FRAME = 'base_link'
"""The car's frame in messages: x forward, y left, z up, on the ground below the rear axle."""


@dataclass(frozen=True)
class OutputOptions:
    """What is written of predictions.

    Attributes:
        frame_id: name of the ego frame.
        score_threshold: boxes and lanes below it are not drawn; the list of detections has all of them.
        prefix: of all topics.
    """

    frame_id: str = EGO_FRAME
    score_threshold: float = 0.3
    prefix: str = '/perception'

    def __post_init__(self) -> None:
        if not self.frame_id:
            raise ValueError("OutputOptions.frame_id: expected a frame's name, found ''")
        if not 0 <= self.score_threshold <= 1:
            raise ValueError(
                f'OutputOptions.score_threshold: expected 0 to 1, found {self.score_threshold!r}')
        if not self.prefix.startswith('/'):
            raise ValueError(f"OutputOptions.prefix: expected '/name', found {self.prefix!r}")


def time_of(stamp_ns: int) -> dict[str, int]:
    """`builtin_interfaces/Time` of nanoseconds."""
    seconds, nanoseconds = divmod(int(stamp_ns), 1_000_000_000)
    return {'sec': seconds, 'nanosec': nanoseconds}


def header(stamp_ns: int, frame_id: str) -> dict[str, Any]:
    """`std_msgs/Header`."""
    return {'stamp': time_of(stamp_ns), 'frame_id': frame_id}


def vector(xyz: Iterable[float]) -> dict[str, float]:
    """`geometry_msgs/Point` or `Vector3` of x, y and, where it is given, z."""
    return dict(zip('xyz', map(float, xyz), strict=False))


def pose(xyz: Iterable[float] = (0, 0, 0), yaw_rad: float = 0.0) -> dict[str, Any]:
    """`geometry_msgs/Pose` at x, y, z, turned by `yaw_rad` about +z."""
    half = float(yaw_rad) / 2
    return {'position': vector(xyz), 'orientation': {'z': math.sin(half), 'w': math.cos(half)}}


def rgba(rgb: Sequence[int], alpha: float = 1.0) -> dict[str, float]:
    """`std_msgs/ColorRGBA` or `foxglove_msgs/Color` of 0..255."""
    return {**dict(zip('rgb', (value / 255 for value in rgb), strict=True)), 'a': alpha}


def key_values(values: Mapping[str, object]) -> list[dict[str, str]]:
    """`foxglove_msgs/KeyValuePair[]`; numbers with three decimals."""
    return [
        {'key': key, 'value': f'{value:.3f}' if isinstance(value, float | np.floating) else str(value)}
        for key, value in values.items()]
