"""Points counted inside boxes, as the devkit's `points_in_box` decides it: faces belong to the box."""

from __future__ import annotations

import numpy as np
from numba import njit


def count_points_in_boxes(points_P3: np.ndarray, pose_M44: np.ndarray, lwh_M3: np.ndarray) -> np.ndarray:
    """How many points lie in each box.

    Args:
        points_P3: (P, 3) metres.
        pose_M44: (M, 4, 4) of the boxes in the frame of the points, origin at the centre.
        lwh_M3: (M, 3) length, width, height.

    Returns:
        (M,) int64.
    """
    arrays = (points_P3, pose_M44, lwh_M3)
    points, pose, lwh = (np.ascontiguousarray(array, np.float64) for array in arrays)
    return _count(points.reshape(-1, 3), pose.reshape(-1, 4, 4), lwh.reshape(-1, 3) / 2)


@njit(cache=True)
def _count(points, pose, half):  # numba: plain loops over boxes and points
    counts = np.zeros(len(pose), np.int64)
    for m in range(len(pose)):
        radius = half[m, 0] + half[m, 1] + half[m, 2]
        for p in range(len(points)):
            dx = points[p, 0] - pose[m, 0, 3]
            dy = points[p, 1] - pose[m, 1, 3]
            dz = points[p, 2] - pose[m, 2, 3]
            if abs(dx) > radius or abs(dy) > radius or abs(dz) > radius:
                continue

            inside = True
            for axis in range(3):
                along = pose[m, 0, axis] * dx + pose[m, 1, axis] * dy + pose[m, 2, axis] * dz
                inside &= abs(along) <= half[m, axis]
            counts[m] += inside
    return counts


def count_points_in_boxes_reference(points_P3: np.ndarray, pose_M44: np.ndarray,
                                    lwh_M3: np.ndarray) -> np.ndarray:
    """Reference implementation of `count_points_in_boxes`."""
    counts = []
    for pose, lwh in zip(pose_M44, lwh_M3, strict=True):
        in_box_P3 = (np.asarray(points_P3, np.float64) - pose[:3, 3]) @ pose[:3, :3]
        counts.append(np.sum(np.all(np.abs(in_box_P3) <= np.asarray(lwh) / 2, axis=1)))
    return np.array(counts, np.int64)
