"""Points counted inside boxes, as the devkit's `points_in_box` decides it: faces belong to the box."""

from __future__ import annotations

import numpy as np
from numba import njit


def count_points_in_boxes(points_P3: np.ndarray, xyz_M3: np.ndarray, yaw_M: np.ndarray,
                          lwh_M3: np.ndarray) -> np.ndarray:
    """How many points lie in each box.

    Args:
        points_P3: (P, 3) metres.
        xyz_M3: (M, 3) box centres, same frame.
        yaw_M: (M,) radians.
        lwh_M3: (M, 3) length, width, height.

    Returns:
        (M,) int64.
    """
    arrays = (points_P3, xyz_M3, yaw_M, lwh_M3)
    points, xyz, yaw, lwh = (np.ascontiguousarray(array, np.float64) for array in arrays)
    return _count(points.reshape(-1, 3), xyz.reshape(-1, 3), np.cos(yaw), np.sin(yaw), lwh.reshape(-1, 3) / 2)


@njit(cache=True)
def _count(points, xyz, cos, sin, half):  # numba: plain loops over boxes and points
    counts = np.zeros(len(xyz), np.int64)
    for m in range(len(xyz)):
        radius = half[m, 0] + half[m, 1]
        for p in range(len(points)):
            dx = points[p, 0] - xyz[m, 0]
            dy = points[p, 1] - xyz[m, 1]
            if abs(dx) > radius or abs(dy) > radius or abs(points[p, 2] - xyz[m, 2]) > half[m, 2]:
                continue
            forward = cos[m] * dx + sin[m] * dy
            left = cos[m] * dy - sin[m] * dx
            if abs(forward) <= half[m, 0] and abs(left) <= half[m, 1]:
                counts[m] += 1
    return counts


def count_points_in_boxes_reference(points_P3: np.ndarray, xyz_M3: np.ndarray, yaw_M: np.ndarray,
                                    lwh_M3: np.ndarray) -> np.ndarray:
    """Reference implementation of `count_points_in_boxes`."""
    counts = []
    for xyz, yaw, lwh in zip(xyz_M3, yaw_M, lwh_M3, strict=True):
        cos, sin = np.cos(yaw), np.sin(yaw)
        box_R_global = np.array([[cos, sin, 0], [-sin, cos, 0], [0, 0, 1]])
        in_box_P3 = (np.asarray(points_P3, np.float64) - xyz) @ box_R_global.T
        counts.append(np.sum(np.all(np.abs(in_box_P3) <= np.asarray(lwh) / 2, axis=1)))
    return np.array(counts, np.int64)
