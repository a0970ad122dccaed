"""Smooth plane curves as dense polylines: length, heading, offsets and pieces."""
from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np


@dataclass(frozen=True)
class Curve:
    """A polyline dense enough (about 1 m or less) to pass for a smooth curve.

    Attributes:
        points_K2: (K, 2) metres, K >= 2, no two neighbours alike.
    """

    points_K2: np.ndarray

    @cached_property
    def s_K(self) -> np.ndarray:
        """(K,) distance along the curve."""
        return np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(self.points_K2, axis=0), axis=1))])

    @cached_property
    def yaw_K(self) -> np.ndarray:
        """(K,) continuous heading at the points (central differences)."""
        tangent = np.gradient(self.points_K2, self.s_K, axis=0)
        return np.unwrap(np.arctan2(tangent[:, 1], tangent[:, 0]))

    @property
    def length_m(self) -> float:
        """Length of the whole curve."""
        return float(self.s_K[-1])

    def at(self, s_m: np.ndarray | float) -> tuple[np.ndarray, np.ndarray]:
        """Positions (..., 2) and headings (...,) at distances `s_m` (held at the ends)."""
        xy = np.stack([np.interp(s_m, self.s_K, self.points_K2[:, axis]) for axis in (0, 1)], axis=-1)
        return xy, np.interp(s_m, self.s_K, self.yaw_K)

    def beside(self, s_m: np.ndarray | float, left_m: np.ndarray | float) -> tuple[np.ndarray, np.ndarray]:
        """Positions and headings `left_m` to the left of the curve at `s_m`."""
        xy, yaw = self.at(s_m)
        return xy + np.stack([-np.sin(yaw), np.cos(yaw)], axis=-1) * np.asarray(left_m)[..., None], yaw

    def offset(self, left_m: float) -> Curve:
        """The parallel curve `left_m` to the left."""
        normal = np.stack([-np.sin(self.yaw_K), np.cos(self.yaw_K)], axis=1)
        return Curve(self.points_K2 + left_m * normal)

    def piece(self, start_m: float, stop_m: float, step_m: float = 1.0) -> Curve:
        """The curve between two distances, sampled afresh."""
        count = max(2, int(np.ceil((stop_m - start_m) / step_m)) + 1)
        return Curve(self.at(np.linspace(start_m, stop_m, count))[0])

    def reversed(self) -> Curve:
        """The same curve walked the other way."""
        return Curve(self.points_K2[::-1])

    def joined(self, other: Curve) -> Curve:
        """This curve followed by `other`, which starts where this one ends."""
        return Curve(np.concatenate([self.points_K2, other.points_K2[1:]]))

    def strip(self, right_m: float, left_m: float) -> np.ndarray:
        """(2K, 2) outline of the band between two offsets (both counted to the left)."""
        return np.concatenate([self.offset(right_m).points_K2, self.offset(left_m).points_K2[::-1]])


def bezier(start_xy: np.ndarray, start_yaw: float, end_xy: np.ndarray, end_yaw: float, reach: float,
           step_m: float = 0.5) -> Curve:
    """A cubic curve between two poses.

    Args:
        start_xy: (2,) metres.
        start_yaw: heading there.
        end_xy: (2,) metres.
        end_yaw: heading there.
        reach: length of the handles over the chord; 0.39 gives nearly an arc.
        step_m: distance of neighbouring points.
    """
    chord = float(np.linalg.norm(end_xy - start_xy))
    handle0 = start_xy + reach * chord * np.array([np.cos(start_yaw), np.sin(start_yaw)])
    handle1 = end_xy - reach * chord * np.array([np.cos(end_yaw), np.sin(end_yaw)])
    u = np.linspace(0.0, 1.0, 101)[:, None]
    dense = ((1 - u) ** 3 * start_xy + 3 * (1 - u) ** 2 * u * handle0 + 3 * (1 - u) * u ** 2 * handle1
             + u ** 3 * end_xy)
    curve = Curve(dense)
    return curve.piece(0.0, curve.length_m, step_m)
