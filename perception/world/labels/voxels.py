"""Voxel loops: marking surfaces and filling bodies (sight lines through the grid are in `core/voxels.py`).

The grid is (X, Y, Z) in the ego frame as in Occ3D (Tian et al. 2023, arXiv 2304.14365): [-40, 40] x [-40, 40]
x [-1, 5.4] metres in cells of 0.4 m, index = floor((position - low) / 0.4). Shape letters: F faces, X Y Z
voxels.
"""
from __future__ import annotations

import math

import numpy as np
from numba import njit

from ...core.protocols import OCCUPANCY_LOW_M as LOW_M
from ...core.protocols import OCCUPANCY_VOXEL_M as VOXEL_M

__all__ = ['mark_surfaces', 'fill_columns']

_SAMPLE_M = 0.1


@njit(cache=True, nogil=True)
def mark_surfaces(triangles, face_class, class_rank, ego_T_local, semantics):
    """Sample every face at steps of 0.1 m and mark the voxels it passes; the higher rank wins a shared voxel.

    Args:
        triangles: (F, 3, 3) float32, local frame.
        face_class: (F,) uint8 class of each face.
        class_rank: (18,) int; a mark replaces classes of lower rank.
        ego_T_local: (4, 4).
        semantics: (X, Y, Z) uint8, updated.
    """
    p = np.empty((3, 3))
    for face in range(len(triangles)):
        # the corners in voxels
        for corner in range(3):
            x, y, z = triangles[face, corner, 0], triangles[face, corner, 1], triangles[face, corner, 2]
            for axis in range(3):
                p[corner, axis] = (
                    ego_T_local[axis, 0] * x
                    + ego_T_local[axis, 1] * y
                    + ego_T_local[axis, 2] * z
                    + ego_T_local[axis, 3]
                    - LOW_M[axis]
                ) / VOXEL_M

        if not _outside(p, semantics.shape):
            _sample_face(p, face_class[face], class_rank, semantics)


@njit(cache=True, nogil=True)
def _outside(p, shape):
    """Whether a face lies wholly beyond one side of the grid."""
    for axis in range(3):
        low = min(p[0, axis], p[1, axis], p[2, axis])
        high = max(p[0, axis], p[1, axis], p[2, axis])
        if low >= shape[axis] or high < 0.0:
            return True
    return False


@njit(cache=True, nogil=True)
def _clip_row(p, e1, e2, b, shape):
    """The part [first, last] of the row at `b` (0 to 1 - b along e1) that lies inside the grid."""
    first, last = 0.0, 1.0 - b
    for axis in range(3):
        start = p[0, axis] + b * e2[axis]
        if abs(e1[axis]) < 1e-12:
            if start < 0.0 or start >= shape[axis]:
                return 0.0, -1.0
            continue
        t0, t1 = -start / e1[axis], (shape[axis] - start) / e1[axis]
        first, last = max(first, min(t0, t1)), min(last, max(t0, t1))
    return first, last


@njit(cache=True, nogil=True)
def _sample_face(p, label, class_rank, semantics):
    """Rows parallel to the edge 0-1, steps along each row; both at most 0.1 m."""
    e1, e2 = np.empty(3), np.empty(3)
    for axis in range(3):
        e1[axis] = p[1, axis] - p[0, axis]
        e2[axis] = p[2, axis] - p[0, axis]

    long = max(math.sqrt(e1[0] * e1[0] + e1[1] * e1[1] + e1[2] * e1[2]), 1e-9)
    rows = int(math.sqrt(e2[0] * e2[0] + e2[1] * e2[1] + e2[2] * e2[2]) * VOXEL_M / _SAMPLE_M) + 1
    step = _SAMPLE_M / (long * VOXEL_M)

    for i in range(rows + 1):
        b = i / rows
        first, last = _clip_row(p, e1, e2, b, semantics.shape)
        steps = int((last - first) / step) + 1 if last >= first else -1

        for j in range(steps + 1):
            a = first + (last - first) * j / steps
            x = int(math.floor(p[0, 0] + a * e1[0] + b * e2[0]))
            y = int(math.floor(p[0, 1] + a * e1[1] + b * e2[1]))
            z = int(math.floor(p[0, 2] + a * e1[2] + b * e2[2]))
            if 0 <= x < semantics.shape[0] and 0 <= y < semantics.shape[1] and 0 <= z < semantics.shape[2]:
                if class_rank[label] > class_rank[semantics[x, y, z]]:
                    semantics[x, y, z] = label


@njit(cache=True, nogil=True)
def fill_columns(shell, label, class_rank, semantics):
    """Fill each column of `shell` (X, Y, Z) uint8 between its lowest and highest mark with `label`."""
    for x in range(shell.shape[0]):
        for y in range(shell.shape[1]):
            low, high = -1, -1
            for z in range(shell.shape[2]):
                if shell[x, y, z]:
                    high = z
                    if low < 0:
                        low = z
            for z in range(low, high + 1):
                if low >= 0 and class_rank[label] >= class_rank[semantics[x, y, z]]:
                    semantics[x, y, z] = label
