"""Voxel loops: marking surfaces, filling bodies, and walking sight lines through the grid.

The grid is (X, Y, Z) in the ego frame as in Occ3D (Tian et al. 2023, arXiv 2304.14365): [-40, 40] x [-40, 40] x [-1, 5.4]
metres in cells of 0.4 m, index = floor((position - low) / 0.4). Shape letters: F faces, X Y Z voxels.
"""
from __future__ import annotations

import math

import numpy as np
from numba import njit

__all__ = ['SHAPE_XYZ', 'LOW_M', 'VOXEL_M', 'mark_surfaces', 'fill_columns', 'look_at_faces', 'look_through_border',
           'walk_reference']

SHAPE_XYZ = (200, 200, 16)
LOW_M = (-40.0, -40.0, -1.0)
VOXEL_M = 0.4
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
        for corner in range(3):
            x, y, z = triangles[face, corner, 0], triangles[face, corner, 1], triangles[face, corner, 2]
            for axis in range(3):
                p[corner, axis] = (ego_T_local[axis, 0] * x + ego_T_local[axis, 1] * y + ego_T_local[axis, 2] * z
                                   + ego_T_local[axis, 3] - LOW_M[axis]) / VOXEL_M
        if _outside(p, semantics.shape):
            continue
        _sample_face(p, face_class[face], class_rank, semantics)


@njit(cache=True, nogil=True)
def _outside(p, shape):
    for axis in range(3):
        if min(p[0, axis], p[1, axis], p[2, axis]) >= shape[axis] or max(p[0, axis], p[1, axis], p[2, axis]) < 0.0:
            return True
    return False


@njit(cache=True, nogil=True)
def _clip_row(p, e1, e2, b, shape):
    """The part [first, last] of the row at ``b`` (0 to 1 - b along e1) that lies inside the grid."""
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
        e1[axis], e2[axis] = p[1, axis] - p[0, axis], p[2, axis] - p[0, axis]
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
    """Fill each column of ``shell`` (X, Y, Z) uint8 between its lowest and highest mark with ``label``."""
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


@njit(cache=True, nogil=True)
def _walk(start, end, blocked, mask):
    """Walk the voxels from ``start`` to ``end`` (voxel units; Amanatides and Woo 1987), marking those passed.

    Stops after marking the first blocked voxel; True when the voxel of ``end`` was reached.
    """
    t_in, t_out = 0.0, 1.0
    for axis in range(3):
        d = end[axis] - start[axis]
        if abs(d) < 1e-12:
            if start[axis] < 0.0 or start[axis] >= blocked.shape[axis]:
                return False
            continue
        t0, t1 = -start[axis] / d, (blocked.shape[axis] - start[axis]) / d
        t_in, t_out = max(t_in, min(t0, t1)), min(t_out, max(t0, t1))
    if t_in > t_out:
        return False
    x, y, z, sx, sy, sz = 0, 0, 0, 1, 1, 1
    dx, dy, dz = end[0] - start[0], end[1] - start[1], end[2] - start[2]
    x = min(max(int(math.floor(start[0] + dx * t_in)), 0), blocked.shape[0] - 1)
    y = min(max(int(math.floor(start[1] + dy * t_in)), 0), blocked.shape[1] - 1)
    z = min(max(int(math.floor(start[2] + dz * t_in)), 0), blocked.shape[2] - 1)
    sx, sy, sz = (1 if dx > 0 else -1), (1 if dy > 0 else -1), (1 if dz > 0 else -1)
    gx, gy, gz = 1.0 / max(abs(dx), 1e-12), 1.0 / max(abs(dy), 1e-12), 1.0 / max(abs(dz), 1e-12)
    tx = ((x + (sx > 0)) - start[0]) * gx * sx
    ty = ((y + (sy > 0)) - start[1]) * gy * sy
    tz = ((z + (sz > 0)) - start[2]) * gz * sz
    while True:
        mask[x, y, z] = 1
        t = min(tx, ty, tz)
        if t >= t_out - 1e-9:
            return True
        if blocked[x, y, z]:
            return False
        if tx <= ty and tx <= tz:
            x += sx
            tx += gx
            if x < 0 or x >= blocked.shape[0]:
                return False
        elif ty <= tz:
            y += sy
            ty += gy
            if y < 0 or y >= blocked.shape[1]:
                return False
        else:
            z += sz
            tz += gz
            if z < 0 or z >= blocked.shape[2]:
                return False


@njit(cache=True, nogil=True)
def _sees(view, start, end):
    """True when the direction from ``start`` to ``end`` (voxel units, ego axes) lies in the field of view.

    ``view`` (5, 3) are unit-free inward normals of a camera's pyramid; or, when its last row is zero, a LiDAR's
    lowest and highest tan(elevation) in the first row.
    """
    x, y, z = end[0] - start[0], end[1] - start[1], end[2] - start[2]
    if view[4, 0] == 0.0 and view[4, 1] == 0.0 and view[4, 2] == 0.0:
        rho = math.sqrt(x * x + y * y)
        return view[0, 0] * rho <= z <= view[0, 1] * rho
    for plane in range(5):
        if view[plane, 0] * x + view[plane, 1] * y + view[plane, 2] * z < 0.0:
            return False
    return True


@njit(cache=True, nogil=True)
def look_at_faces(start, view, blocked, mask):
    """From ``start`` (3,) in voxel units look at the open faces of all blocked voxels that are not yet marked.

    Marks in ``mask`` (X, Y, Z) uint8 the voxels passed and met.
    """
    end = np.empty(3)
    neighbour = np.empty(3, np.int64)
    for x in range(blocked.shape[0]):
        for y in range(blocked.shape[1]):
            for z in range(blocked.shape[2]):
                if not blocked[x, y, z] or mask[x, y, z]:
                    continue
                for axis in range(3):
                    neighbour[0], neighbour[1], neighbour[2] = x, y, z
                    side = 1 if start[axis] > neighbour[axis] + 0.5 else -1
                    end[0], end[1], end[2] = x + 0.5, y + 0.5, z + 0.5
                    end[axis] += 0.499 * side
                    neighbour[axis] += side
                    if (0 <= neighbour[axis] < blocked.shape[axis]
                            and blocked[neighbour[0], neighbour[1], neighbour[2]]):
                        continue
                    if _sees(view, start, end):
                        _walk(start, end, blocked, mask)


@njit(cache=True, nogil=True)
def look_through_border(start, view, blocked, mask):
    """From ``start`` look towards the border voxels of the grid, marking the voxels passed.

    First all of the four sides, then those of the top that no sight line has passed yet.
    """
    end = np.empty(3)
    nx, ny, nz = blocked.shape
    for x in range(nx):
        for y in range(0, ny, 1 if x == 0 or x == nx - 1 else ny - 1):
            for z in range(nz):
                end[0], end[1], end[2] = x + 0.5, y + 0.5, z + 0.5
                if _sees(view, start, end):
                    _walk(start, end, blocked, mask)
    for x in range(nx):
        for y in range(ny):
            end[0], end[1], end[2] = x + 0.5, y + 0.5, nz - 0.5
            if not mask[x, y, nz - 1] and _sees(view, start, end):
                _walk(start, end, blocked, mask)


def walk_reference(start_3: np.ndarray, end_3: np.ndarray, blocked_XYZ: np.ndarray) -> np.ndarray:
    """The voxels a sight line passes, by dense sampling: (X, Y, Z) bool, up to and with the first blocked one."""
    mask = np.zeros(blocked_XYZ.shape, bool)
    count = int(np.linalg.norm(end_3 - start_3) * 500) + 2
    for share in np.linspace(0.0, 1.0, count):
        cell = np.floor(start_3 + share * (end_3 - start_3)).astype(int)
        if np.all(cell >= 0) and np.all(cell < blocked_XYZ.shape):
            mask[tuple(cell)] = True
            if blocked_XYZ[tuple(cell)]:
                break
    return mask
